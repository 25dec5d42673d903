"""What every provider with batch jobs promises of them, the same for all of them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batch_helpers import SETTINGS
from engine_helpers import open_state
from provider_subjects import OPENERS, Subject
from queue_helpers import add_texts, by_text, stored_vectors

from codechunk import providers
from codechunk.errors import Missing
from codechunk.providers import BatchResult
from codechunk.providers.batch_words import RemoteJob
from codechunk.sending.batch import BatchJobs
from codechunk.sending.calibration import Calibrator
from codechunk.sending.owner import new_owner

WITH_BATCH_JOBS = ["gemini", "tiny"]
TEXTS = [f"def number_{n}(value):\n    return value * {n}" for n in range(7)]
# Names are the provider's; these have the shape of each one's.
NOBODY = {"gemini": ("batches/nobody", "files/nobody"), "tiny": ("job-99", "file-nobody")}
on_every_subject = pytest.mark.parametrize("subject", WITH_BATCH_JOBS, indirect=True)


def test_every_provider_that_has_batch_jobs_is_judged_here(outside: None) -> None:
    assert [name for name in sorted(OPENERS) if providers.get(name).batch is not None] == WITH_BATCH_JOBS
    assert set(OPENERS) == set(providers.names()), "a provider without a line in OPENERS is judged by nobody"


def requested(subject: Subject, folder: Path, texts: dict[str, str]) -> Path:
    """An input file with these texts by key."""
    path = folder / "in.jsonl"
    path.write_bytes(b"".join(subject.client.write_line(key, text) for key, text in texts.items()))
    return path


def created(subject: Subject, folder: Path, texts: dict[str, str], name: str = "codechunk-1") -> RemoteJob:
    file = subject.client.upload(requested(subject, folder, texts), display_name=f"{name}.in")
    job: RemoteJob = subject.client.create_batch(file.name, display_name=name)
    return job


def result_file(subject: Subject, folder: Path, texts: dict[str, str]) -> Path:
    """The result file of a job over these texts, downloaded."""
    job = created(subject, folder, texts)
    subject.finish()
    job = subject.client.batch(job.name)
    assert (job.state, job.ended) == ("succeeded", True)
    path = folder / "results.jsonl"
    subject.client.download(job.result_file, path)
    return path


def read(subject: Subject, path: Path) -> dict[str | None, BatchResult]:
    return {row.key: row for row in subject.client.read_results(path)}


TEXT_OF = {f"chunk_{number:032x}": text for number, text in enumerate(TEXTS)}


@on_every_subject
def test_a_request_is_one_line_whatever_is_in_the_text(subject: Subject) -> None:
    line = subject.client.write_line("chunk_ab", "a\nb\u2028c\u0085d\x00 \ud800")
    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) == 1
    assert b"chunk_ab" in line


@on_every_subject
def test_results_come_back_by_key_with_the_vectors_that_direct_calls_bring(subject: Subject, tmp_path: Path) -> None:
    found = read(subject, result_file(subject, tmp_path, TEXT_OF))
    assert found.keys() == TEXT_OF.keys()
    direct = dict(zip(TEXT_OF, subject.client.embed(TEXTS).vectors, strict=True))
    for key, row in found.items():
        assert row.vector is not None
        assert row.vector.dtype == np.float32
        assert row.vector.shape == (subject.settings.dimensions,)
        assert np.linalg.norm(row.vector) == pytest.approx(1.0, abs=1e-5)
        np.testing.assert_allclose(row.vector, direct[str(key)], atol=1e-5)
        assert row.error is None
        assert row.tokens is None or row.tokens > 0


@on_every_subject
def test_rows_in_another_order_twice_missing_and_unreadable_change_no_other_row(
    subject: Subject, tmp_path: Path
) -> None:
    path = result_file(subject, tmp_path, TEXT_OF)
    whole = read(subject, path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[3], b"no JSON\n", b"\n", lines[1], b"{}\n", lines[3], lines[2], lines[0][:-9]]))
    rows = list(subject.client.read_results(path))
    good = [row for row in rows if row.vector is not None]
    kept = [list(read_key(subject, tmp_path, lines[number])) for number in (3, 1, 3, 2)]
    assert [[row.key] for row in good] == kept
    for row in good:
        np.testing.assert_array_equal(row.vector, whole[row.key].vector)
    bad = [row for row in rows if row.vector is None]
    assert len(bad) == 3
    assert all(row.error for row in bad)


def read_key(subject: Subject, folder: Path, line: bytes) -> dict[str | None, BatchResult]:
    path = folder / "line.jsonl"
    path.write_bytes(line)
    return read(subject, path)


@on_every_subject
def test_an_empty_result_file_has_no_rows(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(b"\n  \n")
    assert list(subject.client.read_results(path)) == []


@on_every_subject
def test_a_refused_text_is_a_row_with_a_reason_and_the_others_have_vectors(subject: Subject, tmp_path: Path) -> None:
    assert subject.refused is not None
    found = read(subject, result_file(subject, tmp_path, {**TEXT_OF, "chunk_bad": subject.refused}))
    assert found["chunk_bad"].vector is None
    assert found["chunk_bad"].error
    assert all(found[key].vector is not None for key in TEXT_OF)


@on_every_subject
def test_an_upload_is_found_by_its_name_with_its_size_and_hash_until_it_is_deleted(
    subject: Subject, tmp_path: Path
) -> None:
    path = requested(subject, tmp_path, TEXT_OF)
    made = subject.client.upload(path, display_name="codechunk-7.in")
    (found,) = subject.client.files_named("codechunk-7.in")
    content = path.read_bytes()
    assert found.name == made.name
    assert (found.size_bytes, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert found.active
    assert subject.client.files_named("codechunk-8.in") == []
    subject.client.delete_file(made.name)
    assert subject.client.files_named("codechunk-7.in") == []
    subject.client.delete_file(made.name)  # gone already is fine


@on_every_subject
def test_a_job_is_listed_by_its_display_name_so_that_it_can_be_adopted(subject: Subject, tmp_path: Path) -> None:
    first = created(subject, tmp_path, TEXT_OF, "codechunk-1")
    second = created(subject, tmp_path, TEXT_OF, "codechunk-2")
    listed = {job.display_name: job.name for job in subject.client.batches()}
    assert listed == {"codechunk-1": first.name, "codechunk-2": second.name}
    assert not any(job.ended for job in subject.client.batches())


@on_every_subject
def test_a_cancelled_job_ends_so_and_may_be_cancelled_twice(subject: Subject, tmp_path: Path) -> None:
    job = created(subject, tmp_path, TEXT_OF)
    subject.client.cancel_batch(job.name)
    assert subject.client.batch(job.name).state == "cancelled"
    subject.client.cancel_batch(job.name)


@on_every_subject
def test_a_deleted_job_is_missing_and_may_be_deleted_twice(subject: Subject, tmp_path: Path) -> None:
    job = created(subject, tmp_path, TEXT_OF)
    subject.client.delete_batch(job.name)
    assert list(subject.client.batches()) == []
    with pytest.raises(Missing):
        subject.client.batch(job.name)
    subject.client.delete_batch(job.name)


@on_every_subject
def test_what_the_provider_does_not_know_is_missing_and_leaves_no_file(subject: Subject, tmp_path: Path) -> None:
    job, file = NOBODY[subject.provider.name]
    for call in (
        lambda: subject.client.batch(job),
        lambda: subject.client.download(file, tmp_path / "results.jsonl"),
        lambda: subject.client.create_batch(file, display_name="codechunk-1"),
    ):
        with pytest.raises(Missing, match=subject.provider.title):
            call()
    assert list(tmp_path.iterdir()) == []


def batch_jobs(subject: Subject, folder: Path, state: object, space_id: int, **changes: object) -> BatchJobs:
    model = subject.settings.model
    limits = subject.provider.batch
    assert limits is not None
    settings = replace(SETTINGS, max_texts=min(500, limits.texts or 500), max_bytes=limits.bytes)
    return BatchJobs(
        state=state,
        provider=subject.client,
        calibrator=Calibrator(state=state, space_id=space_id, model=model, limit_tokens=None),
        space_id=space_id,
        settings=replace(settings, **changes),
        directory=folder / "batches",
        owner=new_owner(),
    )


@on_every_subject
def test_through_batch_jobs_every_text_gets_its_own_vector(subject: Subject, tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        jobs = batch_jobs(subject, tmp_path, state, add_texts(state, TEXTS).space_id)
        assert jobs.plan() == 1
        assert jobs.submit().submitted == 1
        subject.finish()
        done = jobs.poll()
        assert (done.completed, done.texts_ready, done.texts_failed) == (1, len(TEXTS), 0)
        assert set(by_text(state, "paid").values()) == {"batch"}
        for text, vector in stored_vectors(state).items():
            np.testing.assert_allclose(vector, subject.client.embed([text]).vectors[0], atol=1e-3)


@on_every_subject
def test_a_file_larger_than_the_provider_takes_is_not_sent(subject: Subject, tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        jobs = batch_jobs(subject, tmp_path, state, add_texts(state, TEXTS).space_id, max_bytes=100)
        jobs.plan()
        jobs.submit()
        (row,) = state.batches.rows()
        assert row.state == "failed"
        assert "the provider takes 100" in str(row.error)
        assert list(subject.client.batches()) == []
        assert set(by_text(state, "route").values()) == {"direct"}
