"""Acceptance: `jobs` and `estimate` in processes of their own, and the status of a job as its chunks say it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo
from paid_helpers import FUNCTION, Paid, small_repository


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator(faults=Faults(stuck=True)) as running:
        yield running


@pytest.fixture
def cli(tmp_path: Path, emulator: GeminiEmulator) -> Paid:
    return Paid(tmp_path, emulator)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return small_repository(tmp_path / "demo")


def out_at_the_provider(cli: Paid, repo: GitRepo, *arguments: str) -> str:
    """A run whose texts are in a batch job that never ends by itself. Returns the job's id."""
    done = cli.paid("index", repo.path, "--mode", "batch", "--no-wait", "--json", *arguments)
    assert done.code == 0, done.err
    job_id: str = done.json["job_id"]
    return job_id


def test_a_job_is_embedding_while_its_texts_are_out_and_succeeded_when_they_are_back(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    job_id = out_at_the_provider(cli, repo)
    listed = cli.paid("jobs", "list", "--json").json
    assert [(job["id"], job["status"]) for job in listed] == [(job_id, "embedding")]
    assert listed[0]["chunks"] == {"total": 6, "ready": 0, "pending": 0, "processing": 6, "failed": 0}
    shown = cli.paid("jobs", "show", job_id[:4]).out
    for word in (job_id, "embedding", "demo@main", "6 processing", "batches/", "0/6", "pending"):
        assert word in shown, word
    emulator.finish()
    assert cli.paid("queue", "sync").code == 0
    back = cli.paid("jobs", "show", job_id, "--json").json
    assert back["status"] == "succeeded"
    assert back["chunks"]["ready"] == 6
    assert [(batch["state"], batch["rows"], batch["done"]) for batch in back["batches"]] == [("completed", 6, 6)]
    assert back["batches"][0]["cost_usd"] > 0
    assert (back["failed_chunks"], back["failed_files"]) == ([], [])


def test_a_job_written_down_as_succeeded_is_not_while_a_chunk_of_it_waits(cli: Paid, repo: GitRepo) -> None:
    cli.index(repo.path)
    assert cli.run("jobs", "list", "--json").json[0]["status"] == "succeeded"
    cli.sql("UPDATE embeddings SET state = 'pending' WHERE id = 1")
    assert cli.run("jobs", "list", "--json").json[0]["status"] == "embedding"
    cli.sql("UPDATE embeddings SET state = 'failed', error = 'no' WHERE id = 1")
    failed = cli.run("jobs", "show", cli.sql("SELECT id FROM jobs")[0][0], "--json").json
    assert failed["status"] == "partial"
    assert [chunk["reason"] for chunk in failed["failed_chunks"]] == ["no"]
    assert cli.run("doctor").code == 1


def test_a_cancelled_job_ends_its_batch_job_at_the_provider(cli: Paid, repo: GitRepo, emulator: GeminiEmulator) -> None:
    job_id = out_at_the_provider(cli, repo)
    done = cli.paid("jobs", "cancel", job_id, "--json")
    assert done.code == 0, done.err
    assert done.json["status"] == "cancelled"
    assert len(done.json["batches_cancelled"]) == 1
    assert done.json["batches_kept"] == []
    assert emulator.live_jobs() == []
    assert cli.paid("jobs", "list", "--json").json[0]["status"] == "cancelled"
    again = cli.paid("jobs", "cancel", job_id)
    assert again.code == 2
    assert "ended already" in again.err


def test_a_cancelled_job_can_be_resumed_to_its_end(cli: Paid, repo: GitRepo, emulator: GeminiEmulator) -> None:
    job_id = out_at_the_provider(cli, repo)
    assert cli.paid("jobs", "cancel", job_id).code == 0
    assert cli.paid("queue", "sync").code in {0, 3}
    emulator.faults.stuck = False
    done = cli.paid("jobs", "resume", job_id, "--json")
    assert done.code == 0, done.err
    assert (done.json["job_id"], done.json["status"]) == (job_id, "succeeded")


def test_a_batch_job_that_another_job_needs_goes_on_when_the_first_is_cancelled(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    repo.git("branch", "other")
    out_at_the_provider(cli, repo)
    second = out_at_the_provider(cli, repo, "--ref", "other")
    told = cli.paid("jobs", "cancel", second, "--json").json
    assert told["batches_cancelled"] == []
    assert "other jobs need its texts" in told["batches_kept"][0]["reason"]
    assert len(emulator.live_jobs()) == 1


def test_texts_that_wait_for_one_job_alone_are_dropped_with_it(cli: Paid, repo: GitRepo) -> None:
    cli.index(repo.path, "--ref", "main")
    repo.commit({"g.py": FUNCTION.format(77)}, "more")
    away = {"CODECHUNK_EMBEDDING__BASE_URL": "http://127.0.0.1:9"}
    done = cli.paid("index", repo.path, "--mode", "batch", "--no-wait", **away)
    assert done.code in {0, 1}
    job_id = cli.sql("SELECT id FROM jobs ORDER BY started_at DESC")[0][0]
    cli.sql("UPDATE embeddings SET state = 'pending', batch_id = NULL WHERE state = 'processing'")
    told = cli.paid("jobs", "cancel", job_id, **away)
    assert told.code == 0, told.err
    assert "7 waiting texts were dropped" in told.out
    assert cli.sql("SELECT DISTINCT state FROM embeddings") == [("ready",)]


def test_a_job_is_resumed_to_its_end(cli: Paid, repo: GitRepo, emulator: GeminiEmulator) -> None:
    job_id = out_at_the_provider(cli, repo)
    emulator.faults.stuck = False
    emulator.finish()
    done = cli.paid("jobs", "resume", job_id, "--json")
    assert done.code == 0, done.err
    assert (done.json["job_id"], done.json["status"]) == (job_id, "succeeded")
    assert set(emulator.paid.values()) == {1}
    over = cli.paid("jobs", "resume", job_id)
    assert over.code == 2
    assert "it succeeded" in over.err


def test_an_unknown_job_is_exit_2_and_a_job_of_another_model_says_so(cli: Paid, repo: GitRepo) -> None:
    for command in ("show", "resume", "cancel"):
        assert cli.run("jobs", command, "abc").code in {1, 2}
    unknown = cli.run("jobs", "show", "abc")
    assert unknown.code == 2
    assert "jobs list" in unknown.err
    job_id = out_at_the_provider(cli, repo)
    other = cli.paid("jobs", "resume", job_id, CODECHUNK_EMBEDDING__DIMENSIONS="256")
    assert other.code == 2
    assert "128 dimensions" in other.err


def test_an_estimate_counts_duplicates_and_prices_gemini_without_a_key(cli: Paid, repo: GitRepo) -> None:
    repo.commit({"copy/f0.py": FUNCTION.format(0)}, "a copy")
    estimate = cli.run("estimate", repo.path, "--json")
    assert estimate.code == 0, estimate.err
    told = estimate.json
    assert set(told) == {
        "repository", "url", "ref", "commit", "files", "chunks", "tokens", "texts", "duplicates", "texts_to_embed",
        "tokens_to_embed", "model", "mode", "price",
    }  # fmt: skip
    assert (told["chunks"], told["texts"], told["duplicates"], told["texts_to_embed"]) == (7, 6, 1, 6)
    assert told["tokens_to_embed"] < told["tokens"]
    assert told["mode"] == "sequential"
    price = told["price"]
    assert price["direct"] == pytest.approx(told["tokens_to_embed"] * 0.15 / 1e6)
    assert price["batch"] == pytest.approx(price["direct"] / 2)
    assert price["as_of"] >= "2026-11-20"


def test_what_is_embedded_already_costs_nothing_and_synthetic_vectors_do_not_count(cli: Paid, repo: GitRepo) -> None:
    synthetic = {"CODECHUNK_EMBEDDING__PROVIDER": "synthetic"}
    cli.index(repo.path)
    told = cli.paid("estimate", repo.path, **synthetic)
    assert "6 texts" in told.out
    assert "makes synthetic vectors" in told.out
    assert cli.paid("index", repo.path, "--mode", "sequential").code == 0
    assert cli.paid("estimate", repo.path, "--json", **synthetic).json["texts_to_embed"] == 0
