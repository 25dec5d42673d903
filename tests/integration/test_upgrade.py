"""A data directory that an older version left: today's code goes on with it, and buys and makes nothing again."""

import os
import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Cli
from git_helpers import GitRepo
from old_state import VERSIONS, old_data

from codechunk.app import App
from codechunk.config.load import load_config
from codechunk.errors import StateError
from codechunk.indexing.publish import settle
from codechunk.progress import Silence
from codechunk.state import State
from codechunk.state.database import SCHEMA_REVISION, Database
from codechunk.views.doctor import check_invariants

# The versions that cut files as today's does: their index is used as it is. Those of others are cut again.
CUT_ALIKE = ("0003",)


class Old(Cli):
    """Today's command in the data directory of an older version."""

    def __init__(self, schema: str, root: Path) -> None:
        super().__init__(root)
        self.schema = schema
        self.repo: GitRepo
        self.data, self.repo = old_data(schema, root)

    def environment(self, extra: dict[str, str] | None = None) -> dict[str, str]:  # type: ignore[override]
        return super().environment({"CODECHUNK_EMBEDDING__DIMENSIONS": "128", **(extra or {})})

    def vectors(self) -> list[tuple[object, ...]]:
        """Every stored vector by its text."""
        return self.sql(
            "SELECT e.text_sha, v.vector FROM vectors v JOIN embeddings e ON e.id = v.embedding_id ORDER BY 1"
        )


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Old:
    return Old(request.param, tmp_path)


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        found: str = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
        return found


def test_the_schema_is_upgraded_with_a_backup_beside_it_and_every_row_is_sound(old: Old) -> None:
    before = old.vectors()
    assert before
    with State(old.data / "state.db") as state:
        assert not [finding for finding in check_invariants(state) if finding.status == "error"]
    assert revision(old.data / "state.db") == SCHEMA_REVISION
    backup = old.data / f"state.db.backup-{old.schema}"
    if old.schema == SCHEMA_REVISION:
        assert not backup.exists()
    else:
        assert revision(backup) == old.schema
    assert old.vectors() == before


OLDER = [schema for schema in VERSIONS if schema != SCHEMA_REVISION]


@pytest.mark.parametrize("old", OLDER, indirect=True)
def test_of_two_processes_that_upgrade_at_once_one_does_and_the_other_waits_for_it(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, second_looked = old.data / "state.db", threading.Event()
    real_backup, real_revision = Database._backup, Database._revision
    backups: list[str] = []
    failures: list[Exception] = []

    def open_second() -> None:
        try:
            State(path).close()
        except Exception as exc:
            failures.append(exc)
            raise

    second = threading.Thread(target=open_second)

    def watched_revision(self: Database) -> str | None:
        found = real_revision(self)
        if threading.current_thread() is second:
            second_looked.set()
        return found

    def watched_backup(self: Database, revision: str) -> None:
        backups.append(revision)
        if len(backups) == 1:
            second.start()
            assert second_looked.wait(60)  # it has seen the old schema
        real_backup(self, revision)

    monkeypatch.setattr(Database, "_revision", watched_revision)
    monkeypatch.setattr(Database, "_backup", watched_backup)
    State(path).close()
    second.join(60)
    assert failures == []
    assert backups == [old.schema]
    assert revision(path) == SCHEMA_REVISION
    assert revision(old.data / f"state.db.backup-{old.schema}") == old.schema


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes: as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("old", OLDER, indirect=True)
def test_without_room_for_the_backup_nothing_is_upgraded_and_no_half_backup_is_left(old: Old) -> None:
    path, backup = old.data / "state.db", old.data / f"state.db.backup-{old.schema}"
    backup.write_bytes(b"of an earlier attempt")
    with files_of_at_most(70_000), pytest.raises(StateError, match=r"cannot be made .*the database is as it was"):
        State(path)
    assert revision(path) == old.schema
    assert backup.read_bytes() == b"of an earlier attempt"
    assert sorted(file.name for file in old.data.glob("state.db.*")) == [backup.name, "state.db.upgrade"]
    State(path).close()
    assert revision(path) == SCHEMA_REVISION
    assert revision(backup) == old.schema
    assert backup.stat().st_mode & 0o777 == 0o600


def test_search_answers_from_the_index_as_it_was_left(old: Old) -> None:
    (first, *_) = old.search("first high water of a day in a harbour")
    assert (first["path"], first["ref"]) == ("tides/harbour.py", "main")
    assert "harbour.delay" in first["text"]


def test_an_unchanged_run_makes_no_vector(old: Old) -> None:
    before = old.vectors()
    document = old.index(old.repo.path, "--ref", "main")
    assert document["embedding"]["texts_sent"] == 0
    assert document["chunks"]["ready"] == document["chunks"]["total"] == 3
    assert old.vectors() == before


@pytest.mark.parametrize("old", CUT_ALIKE, indirect=True)
def test_an_unchanged_run_uses_an_index_of_the_same_cutting_as_it_is(old: Old) -> None:
    contents = old.sql("SELECT id, path, blob, fingerprint FROM sources ORDER BY id")
    first = old.run("index", old.repo.path, "--ref", "main", "--test-embeddings")
    assert first.code == 0, first.err
    assert "rebuilt" not in first.err
    assert old.sql("SELECT id, path, blob, fingerprint FROM sources ORDER BY id") == contents
    # The directory was unpacked, so that its vectors were looked at once; now there is nothing to do any more.
    published = old.sql("SELECT generation, updated_at FROM indexes")
    again = old.run("index", old.repo.path, "--ref", "main", "--test-embeddings")
    assert again.code == 0, again.err
    assert old.sql("SELECT generation, updated_at FROM indexes") == published


def test_a_run_over_a_new_commit_sends_only_what_it_brings(old: Old) -> None:
    old.repo.commit({"tides/wind.py": "def beaufort(knots):\n    return scale[knots]\n"}, "fourth")
    document = old.index(old.repo.path, "--ref", "main")
    assert document["embedding"]["texts_sent"] == 1
    assert document["chunks"]["total"] == 4


def test_a_vector_index_that_was_lost_is_made_anew_from_vectors_of_the_older_version(old: Old) -> None:
    before = old.vectors()
    for path in sorted((old.data / "chroma").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    document = old.index(old.repo.path, "--ref", "main")
    assert document["embedding"]["texts_sent"] == 0
    assert old.vectors() == before
    assert old.search("high water")


def test_runs_of_the_older_version_are_listed_and_shown(old: Old) -> None:
    listed = old.run("jobs", "list", "--json")
    assert listed.code == 0, listed.err
    jobs = listed.json
    assert [(job["ref"], job["status"]) for job in jobs] == [
        ("dev", "embedding"), ("main", "succeeded"), ("main", "succeeded"),
    ]  # fmt: skip
    assert jobs[0]["chunks"] == {"total": 4, "ready": 0, "pending": 0, "processing": 4, "failed": 0}
    assert jobs[1]["chunks"]["ready"] == 3
    for job in jobs:
        shown = old.run("jobs", "show", job["id"], "--json")
        assert shown.code == 0, shown.err
        assert shown.json["cost"]["currency"] == "USD"
        assert shown.json["mode"] in {"batch", "sequential"}
        assert old.run("jobs", "show", job["id"]).code == 0


def test_a_run_that_waited_for_its_batch_job_is_published_when_its_vectors_come(old: Old) -> None:
    flags = {"data_dir": str(old.data)}
    app = App(load_config(config_file=None, flags=flags, environ=old.environment({**os.environ}), cwd=old.root))
    state = app.workspace.state
    ((job, index),) = state.catalog.embedding_jobs()
    assert (index.ref, index.published.number) == ("dev", 0)
    waiting = [row for (row,) in old.sql("SELECT id FROM embeddings WHERE state = 'processing' ORDER BY id")]
    values = np.eye(128, dtype=np.float32)[: len(waiting)]
    state.queue.save_direct(waiting, values, tokens=[20] * len(waiting), requests=1)
    assert settle(app.workspace, Silence()) == 1
    ended = state.catalog.job(job.id)
    assert ended is not None
    assert ended[0].status == "succeeded"
    assert (ended[1].published.number, ended[1].commit) == (1, job.commit)
