"""The Gemini edge through the emulator, with the real SDK between them: whole journeys, and replies that get lost."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gemini_emulator import GeminiEmulator, vector_of
from numpy.typing import NDArray
from waiting import wait_until

from codechunk.errors import Denied, Missing, ProviderError, RateLimited, Rejected, Unavailable
from codechunk.providers.gemini.client import Gemini
from codechunk.providers.gemini.facts import MODELS
from codechunk.providers.gemini.form import Form

DIMENSIONS = 128
TEXTS = [
    "def a(): pass",
    'quote " and \\ back',
    "日本語\u2028next",
    "\x00\x1b[31m",
    "lone \ud800 surrogate",
    "x" * 5_000,
]
KEYS = [f"chunk_{number:032x}" for number in range(len(TEXTS))]


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator(key="a-key-of-the-emulator") as made:
        yield made


def open_gemini(
    emulator: GeminiEmulator, model: str = MODELS[0], *, api_key: str | None = None, api_version: str | None = None
) -> Gemini:
    return Gemini(
        api_key=api_key or emulator.key,
        form=Form(model, DIMENSIONS),
        base_url=emulator.url,
        api_version=api_version,
        timeout_s=5,
    )


@pytest.fixture
def gemini(emulator: GeminiEmulator) -> Iterator[Gemini]:
    with open_gemini(emulator) as made:
        yield made


def expected(text: str, form: Form) -> NDArray[np.float64]:
    vector = np.array(vector_of(form.sent(text), form.dimensions, form.model), dtype=np.float64)
    length: float = np.linalg.norm(vector).item()
    return vector / length


def counted(emulator: GeminiEmulator, kind: str, times: int) -> bool:
    """Whether there were exactly so many requests. The emulator counts one after it has answered: wait for that."""
    wait_until(lambda: emulator.requests[kind] >= times, f"{times} requests of {kind}")
    return emulator.requests[kind] == times


def input_file(folder: Path, form: Form) -> Path:
    path = folder / "in.jsonl"
    path.write_bytes(b"".join(form.line(key, text) for key, text in zip(KEYS, TEXTS, strict=True)))
    return path


@pytest.mark.parametrize("model", MODELS)
def test_direct_vectors_are_those_of_the_texts_with_length_one(emulator: GeminiEmulator, model: str) -> None:
    form = Form(model, DIMENSIONS)
    with open_gemini(emulator, model) as gemini:
        made = gemini.embed(TEXTS)
        query = gemini.embed_query("where?")
        assert gemini.count_tokens("x" * 100) >= 100 / 3.6
    assert made.tokens is not None
    assert made.tokens > 250
    for text, vector in zip(TEXTS, made.vectors, strict=True):
        assert np.allclose(vector, expected(text, form), atol=1e-6)
    assert np.allclose(np.linalg.norm(made.vectors, axis=1), 1, atol=1e-6)
    assert np.allclose(query, expected("where?", form.for_queries()), atol=1e-6)
    assert set(emulator.paid) == {*map(form.sent, TEXTS), form.for_queries().sent("where?")}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_a_batch_goes_from_a_file_to_vectors_by_key(
    emulator: GeminiEmulator, tmp_path: Path, model: str, version: str
) -> None:
    form = Form(model, DIMENSIONS)
    path = input_file(tmp_path, form)
    with open_gemini(emulator, model, api_version=version) as gemini:
        file = gemini.upload(path, display_name="codechunk/1/in")
        assert file.active
        assert (file.sha256, file.size_bytes) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        assert gemini.files_named("codechunk/1/in") == [file]
        job = gemini.create_batch(file.name, display_name="codechunk/1", priority=3)
        assert (job.display_name, job.state, job.model) == ("codechunk/1", "pending", model)
        job = gemini.batch(job.name)
        assert (job.state, job.rows, job.rows_failed, job.error) == ("succeeded", len(TEXTS), 0, None)
        assert job.age_s is not None
        assert 0 <= job.age_s < 60
        assert [listed.name for listed in gemini.batches()] == [job.name]
        assert job.result_file is not None
        gemini.download(job.result_file, tmp_path / "out.jsonl")
        gemini.delete_file(job.result_file)
        gemini.delete_file(file.name)
        gemini.delete_file(file.name)
        gemini.cancel_batch(job.name)
        gemini.delete_batch(job.name)
        gemini.delete_batch(job.name)
        with pytest.raises(Missing):
            gemini.batch(job.name)
        assert gemini.files_named("codechunk/1/in") == []
    rows = {row["key"]: row["response"] for row in map(json.loads, (tmp_path / "out.jsonl").read_bytes().splitlines())}
    for key, text in zip(KEYS, TEXTS, strict=True):
        assert np.allclose(form.vector(rows[key]["embedding"]["values"]), expected(text, form), atol=1e-6)
    assert set(emulator.paid.values()) == {1}


def test_lists_are_read_to_their_last_page(emulator: GeminiEmulator, gemini: Gemini, tmp_path: Path) -> None:
    emulator.faults.page_size_max = 2
    path = input_file(tmp_path, Form(MODELS[0], DIMENSIONS))
    files = [gemini.upload(path, display_name=f"in/{number}") for number in range(5)]
    jobs = [gemini.create_batch(file.name, display_name=f"job/{n}") for n, file in enumerate(files)]
    assert {job.name for job in gemini.batches()} == {job.name for job in jobs}
    assert [file.name for file in gemini.files_named("in/0")] == [files[0].name]


@pytest.mark.parametrize("fault", ["lost_before", "lost_after", "hang_up", "unavailable", "garbage", "empty_reply"])
def test_create_is_sent_once_and_a_job_that_was_made_is_found_in_the_list(
    emulator: GeminiEmulator, gemini: Gemini, tmp_path: Path, fault: str
) -> None:
    file = gemini.upload(input_file(tmp_path, Form(MODELS[0], DIMENSIONS)), display_name="in")
    emulator.fail_next("create", fault)
    with pytest.raises(Unavailable) as caught:
        gemini.create_batch(file.name, display_name="codechunk/7")
    assert caught.value.sent
    assert counted(emulator, "create", 1)
    made = 1 if fault in {"lost_after", "garbage", "empty_reply"} else 0
    assert [job.display_name for job in gemini.batches()] == ["codechunk/7"] * made


@pytest.mark.parametrize(
    ("state", "ours"),
    [
        ("BATCH_STATE_FAILED", "failed"),
        ("BATCH_STATE_EXPIRED", "expired"),
        ("BATCH_STATE_CANCELLED", "cancelled"),
        ("BATCH_STATE_PARTIALLY_SUCCEEDED", "partially_succeeded"),
        ("BATCH_STATE_ON_HOLIDAY", "unknown"),
    ],
)
def test_every_end_of_a_job_is_told(
    emulator: GeminiEmulator, gemini: Gemini, tmp_path: Path, state: str, ours: str
) -> None:
    emulator.faults.stuck = True
    file = gemini.upload(input_file(tmp_path, Form(MODELS[0], DIMENSIONS)), display_name="in")
    name = gemini.create_batch(file.name, display_name="job").name
    emulator.set_state(name, state)
    job = gemini.batch(name)
    assert (job.state, job.state_name) == (ours, state)
    assert (job.error is not None) == (ours in {"failed", "expired", "cancelled"})


def test_both_kinds_of_429_are_told_apart(emulator: GeminiEmulator, gemini: Gemini, tmp_path: Path) -> None:
    emulator.faults.enqueued_token_cap = 10
    file = gemini.upload(input_file(tmp_path, Form(MODELS[0], DIMENSIONS)), display_name="in")
    with pytest.raises(RateLimited) as full:
        gemini.create_batch(file.name, display_name="job")
    assert full.value.retry_after_s is None
    emulator.faults.retry_delay = "1.5s"
    emulator.fail_next("embed", "rate_limited")
    with pytest.raises(RateLimited) as soon:
        gemini.embed(["a"])
    assert soon.value.retry_after_s == 1.5


def test_a_wrong_key_is_denied_and_poison_is_rejected(emulator: GeminiEmulator, gemini: Gemini) -> None:
    with open_gemini(emulator, api_key="some-other-key") as wrong, pytest.raises(Denied) as caught:
        wrong.embed(["a"])
    assert "some-other-key" not in str(caught.value)
    emulator.faults.poison = {"arsenic"}
    with pytest.raises(Rejected):
        gemini.embed(["soup", "arsenic soup"])
    assert not emulator.paid


def test_what_has_expired_is_missing(emulator: GeminiEmulator, gemini: Gemini, tmp_path: Path) -> None:
    file = gemini.upload(input_file(tmp_path, Form(MODELS[0], DIMENSIONS)), display_name="in")
    emulator.expire_files()
    with pytest.raises(Missing):
        gemini.create_batch(file.name, display_name="job")
    with pytest.raises(Missing):
        gemini.download(file.name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_upload_of_several_pieces_arrives_whole(emulator: GeminiEmulator, gemini: Gemini, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    line = Form(MODELS[0], DIMENSIONS).line("k", "x" * 10_000)
    path.write_bytes(line * (18_000_000 // len(line)))
    file = gemini.upload(path, display_name="big")
    assert counted(emulator, "upload_chunk", 3)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_chance_breaks_nothing_but_with_our_errors(emulator: GeminiEmulator, tmp_path: Path) -> None:
    """Whatever the emulator can do to a request, what comes out is a good answer or one of our errors."""
    path = input_file(tmp_path, Form(MODELS[0], DIMENSIONS))
    emulator.faults.probability, emulator.faults.stall_s, emulator.faults.trickle_s = 0.4, 0.02, 0.02
    failures = []
    with open_gemini(emulator) as gemini:
        for round_ in range(40):
            try:
                file = gemini.upload(path, display_name=f"in/{round_}")
                job = gemini.create_batch(file.name, display_name=f"job/{round_}")
                job = gemini.batch(job.name)
                if job.result_file is not None:
                    gemini.download(job.result_file, tmp_path / "out.jsonl")
                assert len(gemini.embed(TEXTS).vectors) == len(TEXTS)
                assert list(gemini.batches())
                gemini.delete_batch(job.name)
            except ProviderError as exc:
                failures.append(str(exc))
    assert 10 < len(failures) <= 40
    assert not [message for message in failures if emulator.key in message]
