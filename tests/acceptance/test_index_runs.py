"""Runs of index that meet: one waits for the jobs of another, is published by another process, or follows a killed one.

Each test says how the fault showed itself that a reader of the paid path found.
"""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import Cli
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo
from paid_helpers import FUNCTION, Paid, small_repository
from waiting import wait_until

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.progress import Silence
from codechunk.state.queue import Queue
from codechunk.vectors.chroma import ChromaStore

# ---------------------------------------------------------------- one after the other, and side by side


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
        again = "SELECT status FROM jobs WHERE attempts = 2"
        wait_until(lambda: cli.sql(again) == [("embedding",)], "the second run waits")
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

    def taken_in() -> bool:  # a job is looked at a second after it was submitted, and not before
        worked = cli.paid("worker", "start", "--once")
        assert (worked.code, "does not balance" in worked.err) == (1, True), worked.err
        return cli.sql("SELECT count(*) FROM embeddings WHERE state = 'processing'") == [(0,)]

    wait_until(taken_in, "the results are taken in")


def test_a_finished_run_is_left_for_later_while_another_process_writes_vectors(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    """The worker stood still for ten minutes, with results waiting at the provider."""
    assert cli.paid("index", repo.path, *BATCH).code == 0
    emulator.finish()
    with ChromaStore.reserve(directory=cli.data / "chroma", url=None, write=True):
        synced = cli.paid("queue", "sync", "--json")
        assert (synced.code, synced.json["texts_ready"], synced.json["indexes_finished"]) == (0, 6, 0)
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
    killed = cli.run("index", repo.path, "--test-embeddings", env={"CODECHUNK_CRASH": "5"})
    assert killed.code == -signal.SIGKILL
    assert "crash point 5: vectors stored" in killed.err
    assert cli.sql("SELECT count(*) FROM index_chunks") == [(7,)]
    # A Chroma server looks as it did before; an embedded one does not, so it is made to.
    loaded = load_config(config_file=None, flags={"data_dir": str(cli.data)}, environ={}, cwd=tmp_path)
    cli.sql("UPDATE index_stores SET stamp = ?", App(loaded).workspace.vector_backend.look())
    repo.git("reset", "-q", "--hard", first)
    assert cli.index(repo.path)["mode_reason"] != "nothing changed"
    assert cli.sql("SELECT count(*) FROM index_chunks") == [(6,)]
