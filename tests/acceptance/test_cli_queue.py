"""Acceptance: `queue`, `worker` and `index --no-wait` in processes of their own, against the emulated provider."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo
from paid_helpers import Paid, small_repository
from waiting import wait_until


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator(faults=Faults(job_seconds=0.05)) as running:
        yield running


@pytest.fixture
def cli(tmp_path: Path, emulator: GeminiEmulator) -> Paid:
    return Paid(tmp_path, emulator)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return small_repository(tmp_path / "demo")


def no_wait(cli: Paid, repo: GitRepo) -> None:
    """Submit the repository in a batch job and come back at once."""
    done = cli.paid("index", repo.path, "--mode", "batch", "--no-wait", "--json")
    assert done.code == 0, done.err
    assert done.json["status"] == "embedding"
    assert "queue sync" in done.err


def counts(cli: Paid) -> dict[str, int]:
    return dict(cli.sql("SELECT state, count(*) FROM embeddings GROUP BY state"))


def test_a_run_that_did_not_wait_is_finished_by_queue_sync(cli: Paid, repo: GitRepo, emulator: GeminiEmulator) -> None:
    no_wait(cli, repo)
    status = cli.paid("queue", "status", "--json").json
    assert set(status) == {
        "pending", "processing", "ready", "failed", "batches", "throttled_until", "throttle_reason",
    }  # fmt: skip
    assert status["processing"] == 6
    assert status["batches"] == {
        "pending_submission": 0, "submitting": 0, "processing": 1, "retry_scheduled": 0, "completed": 0, "failed": 0,
        "cancelled": 0,
    }  # fmt: skip
    assert "6 processing" in cli.paid("queue", "status").out
    emulator.finish()
    synced = cli.paid("queue", "sync", "--json")
    assert synced.code == 0, synced.err
    assert (synced.json["completed"], synced.json["texts_ready"], synced.json["indexes_finished"]) == (1, 6, 1)
    assert cli.paid("search", "value number 3", "--json").json[0]["path"].startswith("f")
    assert set(emulator.paid.values()) == {1}
    examined = cli.paid("doctor", "--remote", "--json")
    assert examined.code == 0
    assert [row for row in examined.json if row["status"] in {"warning", "error"}] == []


def test_the_worker_ends_with_0_on_sigterm_and_gives_back_its_claims(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    emulator.faults.stuck = True
    no_wait(cli, repo)
    worker = cli.start("worker", "start", "--interval", "1", env=cli.settings)
    before = emulator.requests["get_batch"]

    def looked() -> bool:
        assert worker.poll() is None, worker.communicate()
        return emulator.requests["get_batch"] > before

    wait_until(looked, "the worker looks at the job")
    worker.send_signal(signal.SIGTERM)
    _, told = worker.communicate(timeout=30)
    assert worker.returncode == 0, told
    assert cli.sql("SELECT count(*) FROM batches WHERE owner IS NOT NULL") == [(0,)]
    assert counts(cli) == {"processing": 6}


def test_the_worker_that_runs_once_finishes_what_is_back(cli: Paid, repo: GitRepo, emulator: GeminiEmulator) -> None:
    no_wait(cli, repo)
    emulator.finish()
    cli.sql("UPDATE batches SET next_at = 0")
    assert cli.paid("worker", "start", "--once").code == 0
    assert counts(cli) == {"ready": 6}
    assert cli.sql("SELECT status FROM jobs") == [("succeeded",)]


def test_failed_texts_come_back_with_retry_and_flush_respects_the_queue_size(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    emulator.fail_next("job", "all_rows_failed")
    no_wait(cli, repo)
    emulator.finish()
    synced = cli.paid("queue", "sync", "--json")
    assert synced.json["texts_failed"] == 6
    assert synced.code == 3
    assert counts(cli) == {"failed": 6}
    retried = cli.paid("queue", "retry", "--json")
    assert (retried.code, retried.json["requeued"]) == (0, 6)
    assert cli.paid("queue", "retry").out == "No text has failed.\n"
    few = cli.paid("queue", "flush", "--json").json
    assert (few["submitted"], few["waiting"]) == (0, 6)
    assert "--force" in few["reason"]
    forced = cli.paid("queue", "flush", "--force")
    assert forced.code == 0, forced.err
    assert "Submitted 1 batch jobs" in forced.out
    emulator.finish()
    assert cli.paid("queue", "sync").code == 0
    assert counts(cli) == {"ready": 6}
    assert cli.sql("SELECT status FROM jobs") == [("succeeded",)]


def test_jobs_of_the_provider_are_shown_beside_ours_and_a_lost_one_can_be_cancelled(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    emulator.faults.stuck = True
    no_wait(cli, repo)
    ours = cli.paid("queue", "remote", "--json").json
    assert [(job["relation"], job["rows"]) for job in ours] == [("ours", 6)]
    cli.sql("UPDATE batches SET remote_name = 'batches/other'")
    lost = cli.paid("queue", "remote", "--json").json[0]
    assert lost["relation"] == "lost"
    told = cli.paid("queue", "remote").out
    assert "lost" in told
    assert lost["name"] in told, "names are printed whole, to be copied"
    warned = next(row for row in cli.paid("doctor", "--remote", "--json").json if row["check"] == "remote_jobs")
    assert (warned["status"], warned["count"]) == ("warning", 1)
    assert cli.paid("queue", "remote", "--cancel", lost["name"]).code == 0
    assert emulator.live_jobs() == []
    assert cli.paid("queue", "remote", "--delete", lost["name"], "--json").json == []


def test_a_provider_out_of_reach_is_exit_1_with_a_sentence_and_nothing_is_lost(cli: Paid, repo: GitRepo) -> None:
    no_wait(cli, repo)
    away = {"CODECHUNK_EMBEDDING__BASE_URL": "http://127.0.0.1:9"}
    done = cli.paid("queue", "sync", **away)
    assert done.code == 1
    assert "nothing is lost" in done.err
    assert "Traceback" not in done.err
    assert counts(cli) == {"processing": 6}


def test_without_a_key_the_queue_says_what_to_set_and_its_status_needs_none(cli: Paid) -> None:
    done = cli.run("queue", "sync")
    assert done.code == 2
    assert "CODECHUNK_GEMINI_API_KEY" in done.err
    assert cli.run("queue", "status").code == 0


def test_waiting_shows_each_state_of_the_batch_job_on_a_line_of_its_own(cli: Paid, repo: GitRepo) -> None:
    done = cli.paid("index", repo.path, "--mode", "batch")
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if line.startswith("batch job ")]
    assert ": completed (succeeded), 6 of 6 rows" in lines[-1]
    assert "mode" in done.err
    assert "batch: --mode batch" in done.err


def test_more_than_max_cost_is_exit_1_before_anything_is_sent(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    done = cli.paid("index", repo.path, "--max-cost", "0.00000001")
    assert done.code == 1
    assert "$" in done.err
    assert not emulator.paid
