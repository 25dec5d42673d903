"""When searches switch to a new commit: when its last vector has come, or at once if that was asked for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo
from paid_helpers import FUNCTION, Paid, small_repository

NEW = 'def quite_new_purpose(value):\n    """Say what the parrot did."""\n    return value\n'


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator(key="key-of-the-test", faults=Faults()) as made:
        yield made


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return small_repository(tmp_path / "demo")


@pytest.fixture
def cli(tmp_path: Path, emulator: GeminiEmulator, repo: GitRepo) -> Paid:
    """Six functions are indexed; then one is added, one changed, one deleted, and batch jobs end no more."""
    made = Paid(tmp_path, emulator)
    assert made.paid("index", repo.path, "--mode", "sequential").code == 0
    repo.commit({"new.py": NEW, "f1.py": FUNCTION.format("eleven").replace("+ eleven", "+ 11")}, delete=["f2.py"])
    emulator.faults.stuck = True
    return made


def paths(cli: Paid, query: str) -> set[str]:
    done = cli.paid("search", query, "--json", "-k", "20", "--context", "0")
    assert done.code == 0, done.err
    return {answer["path"] for answer in json.loads(done.out)}


def test_searches_stay_on_the_old_commit_until_the_last_vector_has_come(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    done = cli.paid("index", repo.path, "--mode", "batch", "--no-wait", "--json")
    assert (done.code, done.json["status"]) == (0, "embedding"), done.err
    assert done.json["changes"]["texts"]["out"] == 2
    assert not done.json["published"]
    plan = cli.paid("index", repo.path, "--dry-run", "--json").json["chunks"]
    assert (plan["texts_to_embed"], plan["texts_out"]) == (0, 2), "what is on its way is not sent again"
    before = paths(cli, "return value number of the great table; what the parrot did")
    assert "new.py" not in before
    assert "f2.py" in before
    emulator.faults.stuck = False
    emulator.finish()
    assert cli.paid("queue", "sync").code == 0
    after = paths(cli, "return value number of the great table; what the parrot did")
    assert "new.py" in after
    assert "f2.py" not in after


def test_published_early_the_new_commit_is_found_by_words_and_by_vectors_when_they_come(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    done = cli.paid("index", repo.path, "--mode", "batch", "--no-wait", "--publish-partial", "--json")
    assert (done.code, done.json["status"]) == (0, "embedding"), done.err
    assert "2 of its chunks are found by their words only" in done.err
    assert done.json["published"]
    early = paths(cli, "what the parrot did; return value of the great table")
    assert "new.py" in early
    assert "f2.py" not in early
    emulator.faults.stuck = False
    emulator.finish()
    assert cli.paid("queue", "sync").code == 0
    (job,) = [job for job in json.loads(cli.paid("jobs", "list", "--json").out) if job["commit"] == repo.sha]
    assert job["status"] == "succeeded"
    shown = json.loads(cli.paid("jobs", "show", job["id"], "--json").out)
    assert shown["chunks"]["ready"] == shown["chunks"]["total"] == 6
    assert cli.sql("SELECT count(*) FROM index_chunks") == [(6,)], "with the two that came late, without what is gone"
    assert cli.sql("SELECT whole FROM indexes") == [(1,)]
    again = cli.paid("index", repo.path, "--json")
    assert again.json["mode_reason"] == "nothing changed"
    assert set(emulator.paid.values()) == {1}


def test_a_commit_after_one_that_was_published_early_is_whole_in_the_end(
    cli: Paid, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    assert cli.paid("index", repo.path, "--mode", "batch", "--no-wait", "--publish-partial").code == 0
    emulator.faults.stuck = False
    emulator.finish()
    repo.commit({"last.py": FUNCTION.format(99)})
    done = cli.paid("index", repo.path, "--mode", "sequential", "--json")
    assert (done.code, done.json["status"]) == (0, "succeeded"), done.err
    assert done.json["chunks"]["ready"] == done.json["chunks"]["total"] == 7
    assert cli.sql("SELECT count(*) FROM index_chunks") == [(7,)]
    assert set(emulator.paid.values()) == {1}
