"""Every fault of the emulator, seen through the real SDK; the ledger must tell what was really sold in spite of it."""

import contextlib
import json
import urllib.error
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from emulator.driving import DIMENSIONS, ONE, client_of, raw, submit, vectors_in
from emulator.faults import Chance
from gemini_emulator import JOB_FAULTS, REQUEST_FAULTS, Faults, GeminiEmulator, vector_of
from google import genai
from google.genai import errors, types

pytestmark = pytest.mark.filterwarnings("ignore::google.genai._common.ExperimentalWarning")


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator() as running:
        yield running


@pytest.fixture
def client(emulator: GeminiEmulator) -> Iterator[genai.Client]:
    with client_of(emulator) as made:
        yield made


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("rate_limited", errors.ClientError, 429),
        ("quota_full", errors.ClientError, 429),
        ("unavailable", errors.ServerError, 503),
        ("unavailable_after", errors.ServerError, 503),
        ("internal_empty", errors.ServerError, 500),
        ("bad_gateway", errors.ServerError, 502),
        ("request_timeout", errors.ClientError, 408),
        ("not_found", errors.ClientError, 404),
        ("denied", errors.ClientError, 403),
    ],
)
def test_a_reply_with_an_error_is_one_request_and_has_an_effect_only_when_said(
    emulator: GeminiEmulator, client: genai.Client, fault: str, kind: type[errors.APIError], code: int
) -> None:
    emulator.fail_next("embed", fault)
    with pytest.raises(kind) as caught:
        client.models.embed_content(model=ONE, contents="x")
    assert caught.value.code == code
    assert emulator.log == [("embed", f"/v1/models/{ONE}:batchEmbedContents", code)]
    assert emulator.paid == emulator.lost == ({"x": 1} if fault == "unavailable_after" else {})
    if fault == "rate_limited":
        assert caught.value.details["error"]["details"][-1]["retryDelay"] == "0.1s"
    client.models.embed_content(model=ONE, contents="x")


@pytest.mark.parametrize(("fault", "sold"), [("lost_before", 0), ("lost_after", 1), ("hang_up", 0)])
def test_a_lost_reply_is_a_transport_error_and_sold_only_after_the_effect(
    emulator: GeminiEmulator, client: genai.Client, fault: str, sold: int
) -> None:
    emulator.fail_next("embed", fault)
    with pytest.raises(httpx2.TransportError):
        client.models.embed_content(model=ONE, contents="x")
    assert emulator.requests["embed"] == 1
    assert emulator.paid["x"] == emulator.lost["x"] == sold
    assert emulator.log[0][2] == 0


def test_a_garbled_an_empty_and_a_late_reply_took_effect(emulator: GeminiEmulator, client: genai.Client) -> None:
    emulator.fail_next("embed", "garbage")
    with pytest.raises(json.JSONDecodeError):
        client.models.embed_content(model=ONE, contents="a")
    emulator.fail_next("embed", "empty_reply")
    assert client.models.embed_content(model=ONE, contents="b").embeddings is None
    emulator.faults.stall_s = 0.5
    emulator.fail_next("embed", "stall")
    with client_of(emulator, timeout=200) as hasty, pytest.raises(httpx2.ReadTimeout):
        hasty.models.embed_content(model=ONE, contents="c")
    emulator.faults.trickle_s = 0.2
    emulator.fail_next("embed", "trickle")
    reply = client.models.embed_content(model=ONE, contents="d")
    assert reply.embeddings
    assert reply.embeddings[0].values == vector_of("d", 3072)
    assert emulator.paid == {"a": 1, "b": 1, "c": 1, "d": 1}


@pytest.mark.parametrize("fault", ["bad_vectors", "zero_vector", "wrong_dimension", "wrong_count"])
def test_bad_vectors_in_a_direct_reply_are_not_sold(emulator: GeminiEmulator, client: genai.Client, fault: str) -> None:
    emulator.fail_next("embed", fault)
    reply = client.models.embed_content(model=ONE, contents=["a", "b"], config={"output_dimensionality": DIMENSIONS})
    values = [item.values or [] for item in reply.embeddings or []]
    assert values[0] == vector_of("a", DIMENSIONS)
    assert len(values) == 1 or values[1] != vector_of("b", DIMENSIONS)
    assert not emulator.paid


def test_create_that_took_effect_before_503_is_made_twice_by_the_retries_of_the_sdk(
    emulator: GeminiEmulator, tmp_path: Path
) -> None:
    retries = types.HttpRetryOptions(attempts=3, initial_delay=0.01, max_delay=0.02)
    with client_of(emulator, retry_options=retries) as client:
        emulator.fail_next("create", "unavailable_after")
        submit(client, tmp_path, ["a"])
    assert len(emulator.jobs) == 2


def test_a_cut_download_and_a_refused_one_are_not_tried_again(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    name = submit(client, tmp_path, ["a" * 50] * 50)
    emulator.finish()
    output = name.replace("batches/", "files/batch-")
    emulator.fail_next("download", "cut")
    with pytest.raises(httpx2.RemoteProtocolError):
        client.files.download(file=output, destination=tmp_path / "out")
    emulator.fail_next("download", "unavailable")
    with pytest.raises(errors.ServerError):
        client.files.download(file=output)
    assert emulator.requests["download"] == 2
    assert vectors_in(client.files.download(file=output), ["a" * 50] * 50).total() == 50


def test_aimed_faults_may_wait_and_hit_several_times(emulator: GeminiEmulator, client: genai.Client) -> None:
    emulator.fail_next("list_files", "unavailable", times=2, skip=1)
    emulator.fail_next("any", "not_found")
    outcomes = []
    for _ in range(5):
        try:
            client.files.list()
            outcomes.append(200)
        except errors.APIError as exc:
            outcomes.append(exc.code)
    assert outcomes == [404, 503, 503, 200, 200]
    with pytest.raises(ValueError, match="no fault 'lost'"):
        emulator.fail_next("embed", "lost")


SOME_SOLD = {
    "rows_dropped", "row_errors", "row_errors_nested", "keys_missing", "keys_swapped", "partially_succeeded",
    "nan", "infinite", "zero", "wrong_dimension", "empty_vector", "truncated_line",
}  # fmt: skip
NONE_SOLD = {"all_rows_failed", "failed", "expired", "cancelled", "vanished", "no_result_file"}


def result_of(client: genai.Client, name: str) -> bytes:
    job = client.batches.get(name=name)
    return client.files.download(file=job.dest.file_name) if job.dest and job.dest.file_name else b""


# The SDK has no word for BATCH_STATE_PARTIALLY_SUCCEEDED and says so.
@pytest.mark.filterwarnings("ignore:BATCH_STATE_PARTIALLY_SUCCEEDED is not a valid JobState:UserWarning")
@pytest.mark.parametrize("fault", sorted(JOB_FAULTS))
def test_what_a_spoilt_job_sold_is_exactly_what_can_be_read_from_its_result(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path, fault: str
) -> None:
    texts = [f"text {number}" for number in range(20)]
    name = submit(client, tmp_path, texts)
    emulator.fail_next("job", fault)
    gone = {"vanished": 404, "no_result_file": 403}.get(fault)
    if gone is None:
        result = result_of(client, name)
    else:
        with pytest.raises(errors.ClientError) as caught:
            result_of(client, name)
        assert caught.value.code == gone
        result = b""
    assert vectors_in(result, texts) == emulator.paid
    assert emulator.live_jobs() == []
    sold = emulator.paid.total()
    if fault in NONE_SOLD:
        assert sold == 0
    elif fault in SOME_SOLD:
        assert 0 < sold < 20
    else:
        assert sold == 20
        assert result != b""
    lines = result.splitlines()
    visible = {
        "rows_shuffled": lambda: [json.loads(data)["key"] for data in lines] != [f"k{n}" for n in range(20)],
        "rows_duplicated": lambda: len(lines) > len(set(lines)),
        "unknown_keys": lambda: len(lines) > 20,
        "blank_lines": lambda: b"" in lines,
        "garbage_lines": lambda: b"not JSON" in result,
        "truncated_line": lambda: not result.endswith(b"\n"),
    }
    assert visible.get(fault, lambda: True)()


def test_late_rows_may_answer_under_each_others_key(
    emulator: GeminiEmulator, client: genai.Client, tmp_path: Path
) -> None:
    emulator.faults.late_rows_key_swap = True
    texts = [f"text {number}" for number in range(10)]
    name = submit(client, tmp_path, texts)
    emulator.finish()
    result = client.files.download(file=name.replace("batches/", "files/batch-"))
    assert vectors_in(result, texts) == Counter(texts[:5]) == emulator.paid


def test_chance_follows_the_seed_and_spares_what_it_shall() -> None:
    def outcomes(seed: int) -> list[tuple[str, str, int]]:
        faults = Faults(probability=0.5, kinds={"unavailable", "lost_before"}, spare={"list_files"})
        with GeminiEmulator(seed=seed, faults=faults) as emulator, client_of(emulator) as client:
            for _ in range(20):
                with contextlib.suppress(errors.ServerError, httpx2.TransportError):
                    client.models.embed_content(model=ONE, contents="x")
                client.files.list()
            return emulator.log

    first = outcomes(1)
    assert first == outcomes(1) != outcomes(2)
    assert {status for kind, _, status in first if kind == "embed"} == {0, 200, 503}
    assert {status for kind, _, status in first if kind == "list_files"} == {200}


def test_under_every_fault_at_once_the_emulator_itself_does_not_fail(tmp_path: Path) -> None:
    faults = Faults(probability=0.4, stall_s=0.01, trickle_s=0.01)
    with GeminiEmulator(seed=7, faults=faults) as emulator, client_of(emulator, timeout=2000) as client:
        for _ in range(60):
            try:
                name = submit(client, tmp_path, [f"text {number}" for number in range(5)])
                job = client.batches.get(name=name)
                client.files.download(file=str(job.dest and job.dest.file_name))
                client.models.embed_content(model=ONE, contents="x")
            except (errors.APIError, httpx2.TransportError, UserWarning, ValueError, KeyError, TypeError):
                continue
        assert len({status for _, _, status in emulator.log}) >= 6
        assert emulator.crashes == []


def test_a_bug_of_the_emulator_fails_the_test_that_met_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError"), GeminiEmulator() as emulator:
        monkeypatch.setattr(emulator._service, "list_files", lambda query: 1 / 0)
        with pytest.raises(urllib.error.HTTPError) as caught:
            raw(emulator, "v1/files")
        caught.value.close()


def test_chance_draws_what_no_client_can_notice_only_when_it_is_named() -> None:
    def drawn(kinds: set[str] | None) -> set[str | None]:
        chance, faults = Chance(3), Faults(probability=1.0, kinds=kinds)
        return {chance.draw(faults, kind) for kind in ("job", "embed") for _ in range(300)}

    hidden = {"keys_swapped", "denied", "not_found", "quota_full", "empty_reply"}
    assert not hidden & drawn(None)
    assert len(drawn(None)) > 20
    assert {"keys_swapped", "denied"} <= drawn({"keys_swapped", "denied"})


def test_every_fault_has_a_sentence() -> None:
    assert all(len(words) > 2 for words in (REQUEST_FAULTS | JOB_FAULTS).values())
