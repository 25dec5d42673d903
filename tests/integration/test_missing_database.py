"""A state database that is gone is never replaced by an empty one: that would buy every text again."""

from pathlib import Path

import pytest
from cli_helpers import Cli
from git_helpers import GitRepo


@pytest.fixture
def indexed(tmp_path: Path) -> tuple[Cli, GitRepo]:
    cli, repo = Cli(tmp_path), GitRepo(tmp_path / "repo")
    repo.commit({"a.py": "def work(value):\n    return value + 1\n"})
    cli.index(repo.path)
    return cli, repo


@pytest.mark.parametrize("empty", [False, True])
def test_a_missing_database_beside_its_vectors_is_refused_with_the_mend(
    indexed: tuple[Cli, GitRepo], empty: bool
) -> None:
    cli, repo = indexed
    for path in cli.data.glob("state.db*"):
        path.unlink()
    if empty:
        (cli.data / "state.db").touch()
    done = cli.run("index", repo.path, "--test-embeddings")
    assert done.code == 1
    assert ("is empty" if empty else "is missing") in done.err
    assert f"remove {cli.data / 'chroma'} to start anew" in done.err
    assert not (cli.data / "state.db").exists() or (cli.data / "state.db").stat().st_size == 0


def test_the_newest_backup_is_named_when_there_is_one(indexed: tuple[Cli, GitRepo]) -> None:
    cli, repo = indexed
    saved = (cli.data / "state.db").read_bytes()
    for path in cli.data.glob("state.db*"):
        path.unlink()
    (cli.data / "state.db.backup-0001").write_bytes(saved)
    done = cli.run("index", repo.path, "--test-embeddings")
    assert done.code == 1
    assert "copy state.db.backup-0001 back to state.db" in done.err
    (cli.data / "state.db.backup-0001").rename(cli.data / "state.db")
    assert cli.index(repo.path)["status"] == "succeeded"


def test_a_person_who_removes_the_vectors_too_starts_anew(indexed: tuple[Cli, GitRepo]) -> None:
    cli, repo = indexed
    for path in cli.data.glob("state.db*"):
        path.unlink()
    for path in sorted((cli.data / "chroma").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert cli.index(repo.path)["chunks"]["new"] == 1
