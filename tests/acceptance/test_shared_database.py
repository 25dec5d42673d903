"""Two data directories, two Chromas, one PostgreSQL: what a Chroma directory holds is a fact of that directory."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from git_helpers import GitRepo
from paid_helpers import small_repository
from postgres_helpers import PostgresServer, postgres_server
from sqlalchemy import create_engine
from told_helpers import Told

import codechunk.state.migrations
from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.documents import to_json
from codechunk.errors import IndexBusy, StateError
from codechunk.indexing.publish import Publication
from codechunk.progress import Silence
from codechunk.search.ranking import Query
from codechunk.state import Copy, State
from codechunk.state.database import MOST_CONNECTIONS, AdvisoryLock, Database
from codechunk.state.tables import metadata
from codechunk.upkeep.garbage import collect
from codechunk.vectors.chroma import ChromaStore


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as started:
        yield started


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    made = server.new_database(empty=True)
    yield made
    server.drop(made)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return small_repository(tmp_path / "demo")


class Machine:
    """A machine with a data directory of its own, on the database of all."""

    def __init__(self, data: Path, url: str) -> None:
        self.data = data
        flags = {"data_dir": str(data), "state.url": url, "embedding.provider": "synthetic"}
        self.app = App(load_config(config_file=None, flags=flags, environ=os.environ, cwd=data.parent))
        self.told: list[str] = []

    def index(self, source: Path) -> Any:
        reporter = Told()
        document = self.app.index(IndexRequest(source=str(source), jobs=1), reporter)
        self.told = reporter.sentences
        return to_json(document)

    def search(self, query: str) -> list[str]:
        """The paths of the answers."""
        reporter = Told()
        answers = self.app.search(Query(text=query), repository=None, reporter=reporter)
        self.told = reporter.sentences
        return [answer.path for answer in answers]

    def ids(self) -> list[str]:
        """What is in its Chroma."""
        with self.app.workspace.vector_session() as session, session.reading() as store:
            assert isinstance(store, ChromaStore)
            found = [store._get(name) for name in store.names()]
            return sorted(id_ for raw in found if raw is not None for id_ in raw.get(include=[])["ids"])


@pytest.fixture
def machines(tmp_path: Path, url: str) -> Iterator[tuple[Machine, Machine]]:
    made = Machine(tmp_path / "one", url), Machine(tmp_path / "two", url)
    yield made
    for machine in made:
        machine.app.close()


def test_each_data_directory_builds_its_own_chroma_and_neither_disturbs_the_other(
    machines: tuple[Machine, Machine], repo: GitRepo
) -> None:
    one, two = machines
    first = one.index(repo.path)
    second = two.index(repo.path)
    assert second["status"] == first["status"] == "succeeded"
    assert second["embedding"]["texts_sent"] == 0, "the vectors are shared"
    assert one.ids() == two.ids()
    assert len(two.ids()) == first["chunks"]["total"]
    for machine in (one, two, one):
        assert machine.index(repo.path)["mode_reason"] == "nothing changed"
        assert machine.told == []
        assert machine.search("value")
        assert machine.told == []


def test_what_one_publishes_the_other_follows_without_building_anew(
    machines: tuple[Machine, Machine], repo: GitRepo
) -> None:
    one, two = machines
    one.index(repo.path)
    two.index(repo.path)
    repo.commit({"only_now.py": "def only_now(value):\n    return value * 3\n"}, delete=["f1.py"])
    changed = one.index(repo.path)
    assert one.ids() != two.ids()
    assert two.search("only_now")[0] == "only_now.py"
    assert two.told == [f"The vector index of demo@{changed['ref']} follows what another data directory has published."]
    assert two.ids() == one.ids()
    assert len(two.ids()) == changed["chunks"]["total"]
    assert two.search("only_now")[0] == "only_now.py"
    assert two.told == []
    assert two.index(repo.path)["mode_reason"] == "nothing changed"
    for machine in (one, two):
        assert {found.check: found.message for found in machine.app.doctor() if found.status == "error"} == {}


def test_a_run_in_a_directory_that_is_behind_takes_out_what_the_other_swept(
    machines: tuple[Machine, Machine], repo: GitRepo
) -> None:
    one, two = machines
    one.index(repo.path)
    two.index(repo.path)
    repo.commit({}, delete=["f1.py"])
    one.index(repo.path)
    repo.commit({"late.py": "def late(value):\n    return value * 5\n"})
    last = two.index(repo.path)
    assert last["status"] == "succeeded"
    assert len(two.ids()) == last["chunks"]["total"]
    one.search("late")
    assert one.ids() == two.ids()


def test_a_repository_is_indexed_by_one_machine_at_a_time(machines: tuple[Machine, Machine], repo: GitRepo) -> None:
    one, two = (machine.app.workspace for machine in machines)
    with one.alone_with(url=str(repo.path), repository="demo"):
        with (
            pytest.raises(IndexBusy, match="demo is being indexed by this process already"),
            two.alone_with(url=str(repo.path), repository="demo"),
        ):
            pass
        with two.alone_with(url="another", repository="other"):
            pass
    with two.alone_with(url=str(repo.path), repository="demo"):
        pass


def test_an_advisory_lock_is_free_when_its_connection_dies(url: str) -> None:
    one, two = Database(url), Database(url)
    held, wanted = one.advisory_lock("a name"), two.advisory_lock("a name")
    assert not held.held()
    assert held.take()
    assert held.held()
    assert not wanted.take(wait_s=0.01)
    assert not wanted.held()
    end_locks(url)
    assert wanted.take(wait_s=30)
    assert not held.held()
    assert wanted.held()
    held.release()
    assert not held.held()
    wanted.release()
    one.close()
    two.close()


def end_locks(url: str) -> None:
    """Do what a restart of a pooler or a broken network does: end the connections that hold locks."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize("late", ["before the lock is looked at", "after that"])
def test_a_run_whose_lock_was_lost_publishes_nothing_over_what_another_machine_published(
    machines: tuple[Machine, Machine], repo: GitRepo, url: str, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    one, two = machines
    one.index(repo.path)
    old = repo.commit({"old.py": "def old(value):\n    return value * 3\n"})
    real = Publication._ledger
    overtaken: list[Any] = []

    def overtake(self: Publication, *arguments: Any, **more: Any) -> Any:
        """The vectors of the first machine are stored; then its lock goes, and another machine comes."""
        ledger = real(self, *arguments, **more)
        if not overtaken:
            overtaken.append(self)
            end_locks(url)
            repo.commit({"newer.py": "def newer(value):\n    return value * 5\n"})
            two.index(repo.path)
            if late == "after that":
                monkeypatch.setattr(AdvisoryLock, "held", lambda _self: True)
        return ledger

    monkeypatch.setattr(Publication, "_ledger", overtake)
    with pytest.raises(IndexBusy, match=r"was not published by this run.*the same command goes on from"):
        one.index(repo.path)
    monkeypatch.undo()
    state = one.app.workspace.state
    (index,) = state.catalog.indexes()
    assert index.commit == repo.sha != old
    assert index.published.number == 2
    states = {job.commit: job.status for job, _ in state.catalog.jobs()}
    assert (states[index.commit], states[old]) == ("succeeded", "superseded")
    assert one.search("newer")[0] == "newer.py"
    assert one.ids() == two.ids()
    assert one.index(repo.path)["mode_reason"] == "nothing changed"
    for machine in machines:
        assert {found.check: found.message for found in machine.app.doctor() if found.status == "error"} == {}


def test_connections_to_a_server_are_watched_and_not_more_than_the_sentence_says(url: str) -> None:
    database = Database(url)
    try:
        with ExitStack() as used:
            for _ in range(MOST_CONNECTIONS):
                connection = used.enter_context(database.read())
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            assert driver.info.get_parameters()["keepalives_idle"] == "30"
            database.engine.pool._timeout = 0.0  # type: ignore[attr-defined]
            with pytest.raises(StateError, match=f"at most {MOST_CONNECTIONS}"), database.read():
                pass
    finally:
        database.close()


def test_an_upgrade_keeps_what_one_store_held_and_the_first_directory_that_has_one_claims_it(url: str) -> None:
    older(url)
    with psycopg.connect(url) as connection:
        for statement in (
            "INSERT INTO repositories VALUES (1, 'demo', 'u', 0, 0)",
            "INSERT INTO spaces VALUES (1, 'synthetic', 'm', 4, 't', 1)",
            "INSERT INTO indexes (id, repository_id, ref, space_id, collection, generation, vectors_stamp, updated_at) "
            "VALUES (1, 1, 'main', 1, 'one', 3, 'look', 0), (2, 1, 'dev', 1, 'two', 2, NULL, 0), "
            "(3, 1, 'new', 1, 'three', 0, NULL, 0)",
            "INSERT INTO embeddings (id, space_id, text_sha, state, attempts) VALUES (7, 1, 'sha', 'ready', 1)",
            "INSERT INTO index_chunks VALUES (1, 'chunk', 7), (2, 'chunk', 7)",
        ):
            connection.execute(statement)
    with State(url) as state:
        with state.database.read() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert state.stores.open("without a directory", claims=False) != 1
        assert state.stores.open("directory", claims=True) == 1
        assert state.stores.open("another", claims=True) > 1
        assert [state.stores.held(index, 1) for index in (1, 2, 3)] == [1, 1, 0]
        assert state.stores.copy(1, 1) == Copy(stamp="look", behind=False)
        assert state.stores.copy(2, 1) == Copy(stamp=None, behind=True)
        assert not state.stores.copy(3, 1).complete


def test_gc_forgets_what_this_data_directory_had_once_and_nothing_of_another_one(
    machines: tuple[Machine, Machine], repo: GitRepo
) -> None:
    one, two = machines
    one.index(repo.path)
    two.index(repo.path)
    state = one.app.workspace.state
    [index] = state.catalog.indexes()
    assert collect(one.app.workspace, Silence()).copies == 0
    (one.data / "chroma.id").unlink()
    repo.commit({}, delete=["f1.py"])
    one.index(repo.path)
    two.index(repo.path)
    assert len(state.stores.others(None, place=None)) == 3
    counted = collect(one.app.workspace, Silence(), dry_run=True, drop_cache=True)
    assert (counted.copies, counted.vectors) == (1, 1)
    assert collect(two.app.workspace, Silence(), drop_cache=True).copies == 0, "it is not the one that had it"
    gone = collect(one.app.workspace, Silence(), drop_cache=True)
    assert (gone.copies, gone.vectors) == (1, 1)
    left = state.stores.others(None, place=None)
    assert [state.stores.held(index.id, store) for store in left] == [5, 5]
    for machine in machines:
        assert machine.index(repo.path)["mode_reason"] == "nothing changed"
        assert machine.told == []


def test_a_copied_data_directory_takes_a_name_of_its_own_and_trusts_nothing_of_the_copy(
    machines: tuple[Machine, Machine], repo: GitRepo, url: str, tmp_path: Path
) -> None:
    one, _ = machines
    one.index(repo.path)
    shutil.copytree(one.data, tmp_path / "copy")
    copy = Machine(tmp_path / "copy", url)
    try:
        [told] = [found.message for found in copy.app.doctor() if found.check == "vector_index"]
        assert f"came with a copy of {one.data}" in told
        assert copy.search("value")
        [sentence] = copy.told
        assert "rebuilding it from the state database" in sentence
        names = [(data / "chroma.id").read_text().split()[0] for data in (one.data, copy.data)]
        assert names[0] != names[1]
        repo.commit({"only_now.py": "def only_now(value):\n    return value * 3\n"}, delete=["f1.py"])
        assert one.index(repo.path)["status"] == "succeeded"
        assert copy.search("only_now")[0] == "only_now.py"
        for machine in (one, copy):
            assert machine.index(repo.path)["mode_reason"] == "nothing changed"
            assert machine.told == []
            assert len(machine.ids()) == 6
        assert [found.message for found in copy.app.doctor() if found.status == "error"] == []
    finally:
        copy.app.close()


def test_a_run_in_a_copied_data_directory_takes_a_name_of_its_own(
    machines: tuple[Machine, Machine], repo: GitRepo, url: str, tmp_path: Path
) -> None:
    one, _ = machines
    one.index(repo.path)
    shutil.copytree(one.data, tmp_path / "copy")
    copy = Machine(tmp_path / "copy", url)
    try:
        again = copy.index(repo.path)
        assert (again["status"], again["embedding"]["texts_sent"]) == ("succeeded", 0)
        assert len(one.app.workspace.state.stores.others(None, place=None)) == 2
        assert one.index(repo.path)["mode_reason"] == "nothing changed"
        assert one.told == []
    finally:
        copy.app.close()


def test_a_data_directory_that_was_moved_is_the_same_one(
    machines: tuple[Machine, Machine], repo: GitRepo, url: str, tmp_path: Path
) -> None:
    one, _ = machines
    one.index(repo.path)
    one.app.close()
    one.data.rename(tmp_path / "moved")
    moved = Machine(tmp_path / "moved", url)
    try:
        assert moved.index(repo.path)["mode_reason"] == "nothing changed"
        repo.commit({"late.py": "def late(value):\n    return value * 5\n"})
        assert moved.index(repo.path)["embedding"]["texts_sent"] == 1
        assert moved.told == []
        assert str(tmp_path / "moved") in (moved.data / "chroma.id").read_text()
        assert len(moved.app.workspace.state.stores.others(None, place=None)) == 1
    finally:
        moved.app.close()


def older(url: str) -> None:
    """The schema of the version before stores."""
    config = Config()
    config.set_main_option("script_location", str(Path(codechunk.state.migrations.__file__).parent))
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    engine.dispose()
