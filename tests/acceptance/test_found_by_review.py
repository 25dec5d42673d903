"""Faults that a reader of the paid path found, each with the way it showed itself."""

import json
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_helpers import TEXTS, Bench, bench, spoil
from cli_helpers import Cli
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo
from paid_helpers import FUNCTION, Paid, small_repository
from queue_helpers import stored_vectors

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.errors import CodechunkError
from codechunk.indexing.run import recorded
from codechunk.progress import Silence
from codechunk.providers.gemini.replies import remote_job
from codechunk.sending.worker import MOST_UNREACHABLE
from codechunk.state.queue import Queue
from codechunk.vectors.chroma import VectorStore

# ---------------------------------------------------------------- what the provider sends


def test_a_job_that_succeeded_without_a_result_file_is_not_bought_again_for_ever(tmp_path: Path) -> None:
    """Its texts waited at once and without a count: every turn bought them again."""
    with bench(tmp_path) as made:
        machine = made.machine(max_retries=2)
        for _ in range(10):
            machine.plan()
            machine.submit()
            for job in made.jobs:
                made.emulator.finish(job.name)
                job.result_file = None
            machine.poll()
        assert made.emulator.requests["create"] == 3
        assert made.states["processing"] == 0
        assert made.row.state == "failed"


def changed(made: Bench, change: Any) -> None:
    """The result of the only job with `change` applied to its first line."""

    def lines(found: list[bytes]) -> bytes:
        first = json.loads(found[0])
        change(first)
        return b"".join([json.dumps(first).encode() + b"\n", *found[1:]])

    spoil(made, made.jobs[0], lines)


@pytest.mark.parametrize("count", [10**30, "9" * 40, -5, True])
def test_a_count_of_tokens_that_is_none_costs_nothing_but_the_count(tmp_path: Path, count: object) -> None:
    """A number larger than the database holds was an exception of the driver, at every look again."""
    with bench(tmp_path) as made:
        machine = made.out()
        changed(made, lambda line: line["response"].update(tokenCount=count))
        machine.poll()
        assert made.row.state == "completed"
        assert made.sql("SELECT count(*) FROM embeddings WHERE tokens IS NULL") == [(1,)]
        made.check()


@pytest.mark.parametrize("words", ["half of a pair: \ud800", "a zero: \0 in it"])
def test_an_error_with_characters_no_database_takes_is_recorded_without_them(tmp_path: Path, words: str) -> None:
    """A lone surrogate ended the worker at every look again."""
    with bench(tmp_path) as made:
        machine = made.out(max_retries=0)

        def fail(line: Any) -> None:
            del line["response"]
            line["error"] = {"code": 3, "message": words}

        changed(made, fail)
        machine.poll()
        assert made.row.state == "completed"
        assert made.states == {"ready": 9, "failed": 1}
        (error,) = made.sql("SELECT error FROM embeddings WHERE state = 'failed'")
        assert str(error[0]).startswith(words[:7])
        assert "\0" not in str(error[0])


def test_words_of_the_provider_about_a_job_can_be_stored() -> None:
    operation = {"name": "batches/1", "done": True, "metadata": {"displayName": "a\udc00b"}}
    job = remote_job({**operation, "error": {"code": 13, "message": "half of a pair: \ud800, a zero: \0"}}, {})
    assert "half of a pair: ?, a zero: " in str(job.error)
    assert job.display_name == "a?b"
    assert str(job.error).isprintable()


# ---------------------------------------------------------------- disks, people, many jobs


def test_no_room_for_the_file_of_a_batch_job_is_a_sentence_and_nothing_is_lost(tmp_path: Path) -> None:
    """It was a traceback: only the polling half expected a full disk."""
    with bench(tmp_path) as made:
        machine = made.planned()
        made.batches_folder.mkdir()
        (made.batches_folder / f"{made.row.id}.jsonl").mkdir()
        with pytest.raises(CodechunkError, match="nothing was sent"):
            machine.submit()
        assert made.emulator.requests["create"] == 0
        made.sound()
        (made.batches_folder / f"{made.row.id}.jsonl").rmdir()
        made.finish(machine)
        made.check()


def test_a_cancelled_job_whose_results_are_gone_is_not_sent_again(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.out()
        assert machine.cancel(made.row.id)
        job = made.jobs[0]
        job.state, job.result_file = "BATCH_STATE_SUCCEEDED", "files/gone"
        made.emulator.fail_next("download", "not_found", times=100)
        machine.poll()
        made.grow_older(60)  # the second look believes it
        machine.poll()
        machine.plan()
        machine.submit()
        assert made.row.state == "cancelled"
        assert made.emulator.requests["create"] == 1
        made.sound()


def test_one_job_that_cannot_be_looked_at_does_not_end_the_wait_for_others(tmp_path: Path) -> None:
    """Six turns in a row with any failed look counted as a provider that is gone, however many looks went well."""
    with bench(tmp_path, faults=Faults(job_seconds=600.0)) as made:
        worker = made.worker(max_texts=1)
        made.state.batches.plan(made.space_id, prefix="codechunk", priority=0, most_texts=1, most_tokens=None)
        looks = 2 * MOST_UNREACHABLE
        job_id = str(made.sql("SELECT job_id FROM embeddings")[0][0])

        def still_open() -> int:
            nonlocal looks
            looks -= 1
            if looks > 0:
                made.emulator.fail_next("get_batch", "unavailable")
            else:
                made.emulator.finish()
            return made.states["pending"] + made.states["processing"]

        worker.wait_for(job_id, still_open=still_open, batches=True)
        made.check()


def test_a_vector_for_a_text_that_nobody_wants_any_more_is_no_crash(tmp_path: Path) -> None:
    """After a sleep longer than the lease another process may have forgotten the text: exit 70."""
    with bench(tmp_path, TEXTS[:2]) as made:
        first, second = made.state.queue.claim(made.space_id, "somebody", most=2, lease_s=60)
        made.change(f"DELETE FROM embeddings WHERE id = {first.embedding_id}")
        reply = made.gemini.embed([first.text, second.text])
        made.state.queue.save_direct(
            [first.embedding_id, second.embedding_id], reply.vectors, tokens=[None, None], requests=1
        )
        assert made.states == {"ready": 1}
        assert set(stored_vectors(made.state)) == {TEXTS[1]}


def test_every_batch_job_is_known_however_many_there_were(tmp_path: Path) -> None:
    """From the 1,001st on, the oldest passed for somebody else's: it could be deleted with its results in it."""
    with bench(tmp_path) as made:
        made.out()
        made.change(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
            "INSERT INTO batches (id, space_id, state, display_name, texts, tokens, priority, cancelled_by_user,"
            " submissions, failures, rows_ok, rows_failed, rows_ignored, billed_tokens, fence, created_at, next_at)"
            f" SELECT 'x' || i, {made.space_id}, 'processing', 'y' || i, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9e9, 9e9"
            " FROM n"
        )
        worker = made.worker()
        assert worker.cancel_remote(made.jobs[0].name)
        assert made.sql("SELECT count(*) FROM batches WHERE cancelled_by_user") == [(1,)]


def test_forgetting_a_text_does_not_look_at_every_stored_chunk(tmp_path: Path) -> None:
    """The foreign key had no index: 1,000 texts beside 90,000 stored chunks kept everybody waiting for 12 seconds."""
    with bench(tmp_path) as made:
        plans = made.sql("EXPLAIN QUERY PLAN DELETE FROM embeddings WHERE id = 1")
        claim = "SELECT id FROM embeddings WHERE job_id = 'x' AND state = 'pending' ORDER BY id"
        plans += made.sql(f"EXPLAIN QUERY PLAN {claim}")
        steps = [str(plan[-1]) for plan in plans]
        assert len(steps) >= 3
        assert not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]


# ---------------------------------------------------------------- runs of index


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator(faults=Faults(job_seconds=600.0)) as running:
        yield running


@pytest.fixture
def cli(tmp_path: Path, emulator: GeminiEmulator) -> Paid:
    return Paid(tmp_path, emulator)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return small_repository(tmp_path / "demo")


BATCH = ("--mode", "batch", "--no-wait", "--json")


def test_a_second_run_that_shall_not_wait_does_not_wait_for_the_jobs_of_the_first(cli: Paid, repo: GitRepo) -> None:
    """With nothing new to send it was sequential, and waited for hours with the vector index locked."""
    assert cli.paid("index", repo.path, *BATCH).code == 0
    again = cli.start("index", repo.path, "--no-wait", "--json", env=cli.settings)
    try:
        out, err = again.communicate(timeout=30)
    finally:
        again.kill()
    assert again.returncode == 0, err
    assert json.loads(out)["status"] == "embedding"


def test_a_run_that_waits_for_jobs_of_another_keeps_nobody_from_the_vector_index(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator, tmp_path: Path
) -> None:
    assert cli.paid("index", repo.path, *BATCH).code == 0
    waits = cli.start("index", repo.path, env=cli.settings)
    try:
        deadline = time.monotonic() + 60
        while cli.sql("SELECT status FROM jobs WHERE attempts = 2") != [("embedding",)]:
            assert time.monotonic() < deadline, "it never waited"
            time.sleep(0.05)
        other = GitRepo(tmp_path / "other")
        other.commit({"a.py": "def another_one():\n    return 'nothing of the first'\n"}, "first")
        done = cli.paid("index", other.path, "--mode", "sequential", "--json")
        assert done.code == 0, done.err
        emulator.finish()
        _, err = waits.communicate(timeout=60)
        assert waits.returncode == 0, err
    finally:
        waits.kill()
    assert set(emulator.paid.values()) == {1}


def test_an_index_that_cannot_be_finished_keeps_no_other_from_being_finished(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator, tmp_path: Path
) -> None:
    """The worker told the error, and never looked at a batch job again; results are kept for two days only."""
    other = GitRepo(tmp_path / "other")
    other.commit({"a.py": "def another_one():\n    return 'nothing of the first'\n"}, "first")
    for source in (repo, other):
        assert cli.paid("index", source.path, *BATCH).code == 0
    emulator.finish()
    cli.sql(
        "UPDATE jobs SET plan = json_set(plan, '$.discovered', 99)"
        " WHERE started_at = (SELECT min(started_at) FROM jobs)"
    )
    assert cli.paid("queue", "sync").code == 1
    assert cli.sql("SELECT status FROM jobs ORDER BY started_at") == [("embedding",), ("succeeded",)]
    other.commit({"b.py": "def a_third_one():\n    return 'nothing of the others'\n"}, "second")
    assert cli.paid("index", other.path, *BATCH).code == 0
    emulator.finish()
    worked = cli.paid("worker", "start", "--once")
    assert (worked.code, "does not balance" in worked.err) == (1, True), worked.err
    assert cli.sql("SELECT count(*) FROM embeddings WHERE state = 'processing'") == [(0,)]


def test_a_finished_run_is_left_for_later_while_another_process_writes_vectors(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    """The worker stood still for ten minutes, with results waiting at the provider."""
    assert cli.paid("index", repo.path, *BATCH).code == 0
    emulator.finish()
    with VectorStore.reserve(directory=cli.data / "chroma", url=None, write=True):
        began_at = time.monotonic()
        synced = cli.paid("queue", "sync", "--json")
        assert (synced.code, synced.json["texts_ready"], synced.json["indexes_finished"]) == (0, 6, 0)
        assert time.monotonic() - began_at < 60
    assert cli.paid("queue", "sync", "--json").json["indexes_finished"] == 1


def test_index_after_queue_retry_sends_what_waits_of_the_last_run(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    """The text belonged to the reopened run, in a file the next one had no reason to look at: it waited for ever."""
    direct = ("--mode", "sequential", "--json")
    assert cli.paid("index", repo.path, *direct).code == 0
    repo.commit({"new.py": "def bad_one():\n    return 'poison'\n"}, "second")
    emulator.faults.poison = {"poison"}
    assert cli.paid("index", repo.path, *direct).code == 3
    emulator.faults.poison = set()
    assert cli.paid("queue", "retry", "--json").json["requeued"] == 1
    repo.commit({"third.py": "def third():\n    return 3\n"}, "third")
    waits = cli.start("index", repo.path, *direct, env=cli.settings)
    try:
        out, err = waits.communicate(timeout=60)
    finally:
        waits.kill()
    assert waits.returncode == 0, err
    assert json.loads(out)["chunks"]["ready"] == 8


def test_a_run_whose_texts_another_one_asks_for_too_is_not_published_with_holes(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between asking and looking another run took the texts over: none seemed open, so the rest was published."""
    assert cli.paid("index", repo.path, "--test-embeddings").code == 0

    def taken_over(self: Queue, job_id: str, *, fallen_back: bool = False) -> tuple[int, int]:
        found = wanted(self, job_id, fallen_back=fallen_back)
        cli.sql("UPDATE embeddings SET job_id = 'another' WHERE job_id = ?", job_id)
        return found

    wanted = Queue.wanted
    monkeypatch.setattr(Queue, "wanted", taken_over)
    flags = {"data_dir": str(cli.data)}
    app = App(load_config(config_file=None, flags=flags, environ=cli.settings, cwd=cli.root))
    document = app.index(IndexRequest(source=str(repo.path), mode="batch", wait=False, jobs=1), Silence())
    assert document.status == "embedding"
    assert cli.sql("SELECT generation FROM indexes ORDER BY id") == [(1,), (0,)]
    emulator.finish()


def test_an_interrupted_run_says_it_is_embedding_only_when_somebody_can_finish_it(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        ((job, _),) = made.state.catalog.jobs()
        for plan, status in ((None, "cancelled"), ("{}", "embedding")):
            if plan is not None:
                made.state.catalog.plan_job(job.id, plan)
            with pytest.raises(KeyboardInterrupt), recorded(made.state, job):
                raise KeyboardInterrupt
            assert made.sql("SELECT status FROM jobs") == [(status,)]


def test_a_404_for_a_job_that_the_list_still_has_is_not_believed(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.out(grace_s=0.0)
        made.emulator.fail_next("get_batch", "not_found", times=3)
        for _ in range(3):
            assert machine.poll().ended_badly == 0
            made.grow_older(60)
        made.finish(machine)
        assert made.emulator.requests["create"] == 1
        made.check()


def test_an_empty_result_file_of_a_job_with_results_is_downloaded_once_more(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.out()
        made.emulator.fail_next("download", "empty_reply")
        assert machine.poll().completed == 0
        made.grow_older(60)
        made.finish(machine)
        assert made.emulator.requests["create"] == 1
        made.check()


# ---------------------------------------------------------------- what is taken for granted


def test_an_older_vector_index_with_as_many_chunks_is_noticed(tmp_path: Path) -> None:
    """A restored copy: all but one vector as they should be, so that a sample and the count said nothing."""
    cli, repo = Cli(tmp_path), GitRepo(tmp_path / "demo")
    files = {f"f{number}.py": FUNCTION.format(number) for number in range(60)}
    repo.commit(files)
    cli.index(repo.path)
    shutil.copytree(cli.data / "chroma", tmp_path / "old")
    repo.commit({"f7.py": FUNCTION.format("zebra").replace("+ zebra", "+ 7")})
    cli.index(repo.path)
    shutil.rmtree(cli.data / "chroma")
    shutil.copytree(tmp_path / "old", cli.data / "chroma")
    done = cli.run("index", repo.path, "--test-embeddings", "--json")
    assert done.code == 0
    assert "is not sound" in done.err
    assert done.json["embedding"]["texts_sent"] == 0


def test_a_commit_whose_run_was_not_finished_does_not_get_the_document_of_another(tmp_path: Path) -> None:
    """Killed between publishing and writing the report down: the newest report was that of the commit before."""
    cli, repo = Cli(tmp_path), small_repository(tmp_path / "demo")
    cli.index(repo.path)
    repo.commit({"new.py": FUNCTION.format(99)})
    cli.index(repo.path)
    cli.sql("DELETE FROM jobs WHERE commit_sha = ?", repo.sha)
    document = cli.index(repo.path)
    assert document["commit"] == repo.sha
    assert document["chunks"]["total"] == 7


def test_a_commit_is_not_unchanged_while_a_killed_run_of_another_has_left_something(tmp_path: Path) -> None:
    """Its chunks may be in the vector index; only a run that looks takes them out."""
    cli, repo = Cli(tmp_path), small_repository(tmp_path / "demo")
    first = cli.index(repo.path)["commit"]
    repo.commit({"new.py": FUNCTION.format(99)})
    killed = cli.run("index", repo.path, "--test-embeddings", env={"CODECHUNK_CRASH": "1"})
    assert killed.code == -signal.SIGKILL
    assert cli.sql("SELECT count(*) FROM index_chunks") == [(7,)], "killed after the vectors were stored"
    # A Chroma server looks as it did before; an embedded one does not, so it is made to.
    loaded = load_config(config_file=None, flags={"data_dir": str(cli.data)}, environ={}, cwd=tmp_path)
    cli.sql("UPDATE indexes SET vectors_stamp = ?", App(loaded).workspace.stamp())
    repo.git("reset", "-q", "--hard", first)
    assert cli.index(repo.path)["mode_reason"] != "nothing changed"
    assert cli.sql("SELECT count(*) FROM index_chunks") == [(6,)]
