"""The state database: schema, upgrades, locks, and what is true of its rows."""

import sqlite3
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from engine_helpers import open_state, state_target
from forked import CHILDREN
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

import codechunk.state.migrations
from codechunk.errors import Overtaken, StateError
from codechunk.indexing.run import recorded
from codechunk.state import CutFile, Filter, Generation, IndexRow, JobRow, PlannedFile, Space, State
from codechunk.state.database import KNOWN_REVISIONS, SCHEMA_REVISION
from codechunk.state.tables import metadata
from codechunk.text.chunks import Chunk, Kind, chunk_ids
from codechunk.text.words import index_words

pytestmark = pytest.mark.both_databases

SPACE = Space(provider="synthetic", model="m", dimensions=4, task="t", header_version=1)


@pytest.fixture
def state(tmp_path: Path):
    with open_state(tmp_path) as opened:
        yield opened


def chunk(path: str, text: str, symbol: str | None = None, tokens: int | None = 3) -> Chunk:
    return Chunk(
        path=path, language="python", kind=Kind.FUNCTION, symbol=symbol, start_line=1, end_line=2, start_byte=0,
        end_byte=len(text), text=text, tokens=tokens,
    )  # fmt: skip


def cut(state: State, index: IndexRow, number: int, files: dict[str, list[Chunk]]) -> None:
    """Write the generation of this number with these files, cut and saved."""
    rows = [PlannedFile(path=path, blob=path, size_bytes=1, reason=None) for path in files]
    state.contents.write_plan(index.at(number), rows)
    unread = state.contents.unread(index.at(number), repository_id=index.repository_id, fingerprint="f")
    parts = [
        CutFile(
            file_id=file.id, path=file.path, blob=file.blob, status="chunked", language="python",
            chunks=files[file.path], chunk_ids=chunk_ids(index.url, files[file.path]),
            words=[index_words(c.text) for c in files[file.path]],
        )
        for file in list(unread)
    ]  # fmt: skip
    state.contents.save(index.repository_id, "f", parts)


def open_index(state: State, ref: str = "main") -> IndexRow:
    return state.catalog.open_index(url="https://host.invalid/o/n", names=["o/n"], ref=ref, space=SPACE)


@pytest.mark.sqlite_only
def test_the_newest_migration_is_the_one_the_program_expects() -> None:
    scripts = ScriptDirectory(str(Path(codechunk.state.migrations.__file__).parent))
    assert scripts.get_current_head() == SCHEMA_REVISION
    assert {script.revision for script in scripts.walk_revisions()} == set(KNOWN_REVISIONS)


def test_the_migrations_make_exactly_the_tables_of_the_code(state: State) -> None:
    with state.database.read() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_name": lambda name, kind, _: kind != "table" or not name.startswith("chunk_words")},
        )
        assert compare_metadata(context, metadata) == []


@pytest.mark.sqlite_only
def test_every_table_and_column_says_what_it_is() -> None:
    for table in metadata.sorted_tables:
        assert table.comment, table.name
        obvious = {"id", "embedding_id", "index_id", "chunk_id"}
        assert not [c.name for c in table.columns if not c.comment and c.name not in obvious], table.name


@pytest.mark.sqlite_only
def test_every_table_can_be_made_in_postgresql() -> None:
    for table in metadata.sorted_tables:
        assert f"CREATE TABLE {table.name}" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


@pytest.mark.sqlite_only
def test_sqlite_runs_with_the_settings_that_keep_data(state: State) -> None:
    with state.database.read() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "page_size")
        }
    assert settings == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000, "page_size": 16_384,
    }  # fmt: skip
    assert state.database.path is not None
    assert state.database.path.stat().st_mode & 0o777 == 0o600


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    with open_state(tmp_path) as state, state.database.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StateError, match="newer codechunk"):
        State(state_target(tmp_path))


@pytest.mark.sqlite_only
def test_a_read_only_database_and_garbage_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "state.db").mkdir()
    with pytest.raises(StateError, match="cannot be opened"):
        State(tmp_path / "state.db")
    (tmp_path / "other.db").write_bytes(b"garbage" * 4096)
    with pytest.raises(StateError, match="damaged"):
        State(tmp_path / "other.db")


@pytest.mark.sqlite_only
def test_a_damaged_page_is_found_by_the_quick_check(state: State, tmp_path: Path) -> None:
    index = open_index(state)
    cut(state, index, 1, {f"f{n}.py": [chunk(f"f{n}.py", "text " * 300)] for n in range(40)})
    state.close()
    file = tmp_path / "state.db"
    sqlite3.connect(file).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    data = bytearray(file.read_bytes())
    middle = len(data) // 2 // 16_384 * 16_384
    data[middle : middle + 16_384] = b"\xff" * 16_384
    file.write_bytes(data)
    with pytest.raises(StateError, match="damaged"), State(f"sqlite:///{file}") as broken:
        broken.database.quick_check()


def open_at_once(url: str | Path, barrier, results) -> None:
    barrier.wait()
    try:
        State(url).close()
        results.put("ok")
    except Exception as exc:  # noqa: BLE001 - the test wants to see any
        results.put(repr(exc))


def test_several_processes_may_make_the_database_at_the_same_instant(tmp_path: Path) -> None:
    barrier, results = CHILDREN.Barrier(4), CHILDREN.Queue()
    url = state_target(tmp_path, empty=True)
    processes = [CHILDREN.Process(target=open_at_once, args=(url, barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert outcomes == ["ok"] * 4


def test_repositories_of_the_same_name_get_different_names(state: State) -> None:
    first = state.catalog.open_index(url="https://a.invalid/o/n", names=["o/n", "a/o/n"], ref="m", space=SPACE)
    second = state.catalog.open_index(url="https://b.invalid/o/n", names=["o/n", "b/o/n"], ref="m", space=SPACE)
    third = state.catalog.open_index(url="https://c.invalid/o/n", names=["o/n"], ref="m", space=SPACE)
    assert [first.repository, second.repository, third.repository] == [
        "o/n",
        "b/o/n",
        "https://c.invalid/o/n",
    ]
    assert len({first.collection, second.collection, third.collection}) == 3


def test_other_spaces_and_refs_are_other_indexes(state: State) -> None:
    other = Space(provider="gemini", model="m", dimensions=4, task="t", header_version=1)
    ids = {
        state.catalog.open_index(url="u", names=["n"], ref=ref, space=space).id
        for ref in ("main", "dev")
        for space in (SPACE, other)
    }
    assert len(ids) == 4
    assert open_index(state).id == open_index(state).id


def test_a_run_writes_the_generation_after_the_published_one_and_publishes_it(state: State) -> None:
    index = open_index(state)
    assert index.published == Generation(index_id=index.id, space_id=index.space_id, number=0)
    assert index.next == index.at(1) != index.published
    state.catalog.publish(index.next, commit="c1", fingerprint="f", whole=True)
    after = state.catalog.refreshed(index)
    assert after.published == index.next
    assert after.next == index.at(2)


def test_a_run_that_was_overtaken_publishes_nothing(state: State) -> None:
    """Two runs that know nothing of each other: the lock of the first one was lost."""
    first = open_index(state)
    slow = state.catalog.start_job(first.id, "c1", redo=False)
    fast = state.catalog.start_job(first.id, "c2", redo=False)

    def publish(index: IndexRow, job: JobRow | None) -> int:
        return state.catalog.publish(
            index.next, commit="c1", fingerprint="f", whole=True, job=job, since=index.publications
        )

    with pytest.raises(Overtaken, match="o/n@main was not published by this run"):
        publish(first, slow)  # superseded, although nobody has published yet
    assert state.catalog.refreshed(first) == first
    number = state.catalog.publish(first.next, commit="c2", fingerprint="f", whole=True, job=fast, since=0)
    assert number == 1
    after = state.catalog.refreshed(first)
    for job in (slow, fast, None):
        with pytest.raises(Overtaken, match="the same command goes on from there"):
            publish(first, job)
    with pytest.raises(Overtaken):
        state.catalog.publish(first.at(3), commit="c1", fingerprint="f", whole=True)
    state.catalog.lose_job(slow, "too late")
    state.catalog.finish_job(slow.id, status="failed", error="too late")
    assert state.catalog.refreshed(first) == after
    assert [(job.commit, job.status) for job, _ in state.catalog.jobs()] == [("c2", "running"), ("c1", "superseded")]
    # Once more the same generation: its failures were fixed.
    assert publish(replace(after, published=first.published), fast) == 2


def test_a_run_whose_job_another_process_took_up_publishes_nothing_and_leaves_the_job_alone(state: State) -> None:
    index = open_index(state)
    slow = state.catalog.start_job(index.id, "c1", redo=False)
    fast = state.catalog.start_job(index.id, "c1", redo=False)
    assert (slow.id, fast.attempts) == (fast.id, 2)
    with pytest.raises(Overtaken), recorded(state, slow):
        state.catalog.publish(index.next, commit="c1", fingerprint="f", whole=True, job=slow, since=0)
    assert [job.status for job, _ in state.catalog.jobs()] == ["running"]
    state.catalog.publish(index.next, commit="c1", fingerprint="f", whole=True, job=fast, since=0)


def test_generations_of_two_indexes_with_one_number_do_not_mix(state: State) -> None:
    main, dev = open_index(state), open_index(state, "dev")
    cut(state, main, 1, {"a.py": [chunk("a.py", "one")]})
    cut(state, dev, 1, {"b.py": [chunk("b.py", "two"), chunk("b.py", "three")]})
    assert [path for path, _ in state.lookup.files(main.next)] == ["a.py"]
    assert [path for path, _ in state.lookup.files(dev.next)] == ["b.py"]
    assert [state.embeddings.ledger(index.next)["pending"] for index in (main, dev)] == [1, 2]
    state.catalog.publish(dev.next, commit="c", fingerprint="f", whole=True)
    state.contents.abandon(dev.next)
    state.catalog.sweep(dev.next)
    assert list(state.lookup.files(dev.next)) == []
    assert [path for path, _ in state.lookup.files(main.next)] == ["a.py"]
    assert state.catalog.refreshed(main).published == main.published


def test_readers_stay_on_the_published_generation_until_the_switch(state: State) -> None:
    index = open_index(state)
    cut(state, index, 1, {"a.py": [chunk("a.py", "def alpha(): pass", "alpha")]})
    assert state.catalog.indexes() == []
    state.catalog.publish(index.at(1), commit="c1", fingerprint="f", whole=True)
    assert [path for path, _ in state.lookup.files(index.at(1))] == ["a.py"]
    known = state.contents.known_files(index.at(1))
    cut(state, index, 2, {"b.py": [chunk("b.py", "def beta(): pass", "beta")]})
    state.contents.retire(index.at(2), [known["a.py"].id])
    assert [path for path, _ in state.lookup.files(index.at(1))] == ["a.py"]
    assert state.lookup.by_words([index.id], ["beta"], Filter(), limit=5) == []
    assert [path for path, _ in state.lookup.files(index.at(2))] == ["b.py"]
    state.catalog.publish(index.at(2), commit="c2", fingerprint="f", whole=True)
    state.catalog.sweep(index.at(2))
    state.catalog.drop_unused_sources(index.repository_id)
    with state.database.read() as connection:
        for table in ("files", "sources", "chunks", *(["chunk_words"] if state.database.is_sqlite else [])):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() == 1, table


def test_an_abandoned_generation_never_shows_and_is_swept(state: State) -> None:
    index = open_index(state)
    cut(state, index, 1, {"a.py": [chunk("a.py", "def alpha(): pass")]})
    state.catalog.publish(index.at(1), commit="c1", fingerprint="f", whole=True)
    known = state.contents.known_files(index.at(1))
    cut(state, index, 2, {"wrong.py": [chunk("wrong.py", "def wrong(): pass")]})
    state.contents.retire(index.at(2), [known["a.py"].id])
    state.contents.abandon(index.at(2))
    for number in (1, 2, 3):
        assert [path for path, _ in state.lookup.files(index.at(number))] == ["a.py"]
    assert not state.contents.has_rubbish(index.at(1))
    assert state.contents.has_rubbish(index.at(2))


def test_equal_texts_are_one_embedding_in_one_space(state: State) -> None:
    index = open_index(state)
    same = "def same(): pass"
    cut(
        state,
        index,
        1,
        {"a.py": [chunk("a.py", same)], "b.py": [chunk("b.py", same), chunk("b.py", "x = 1")]},
    )
    sources = [source.id for source in state.contents.new_sources(index.at(1), all_files=True)]
    assert state.embeddings.request(index.space_id, sources) == 2
    assert state.embeddings.request(index.space_id, sources) == 0
    waiting = state.queue.claim(index.space_id, "me", most=10, lease_s=60.0)
    assert [item.text for item in waiting] == [same, "x = 1"]


def test_vectors_come_back_as_they_were_stored_and_chroma_gets_the_same(state: State) -> None:
    index = open_index(state)
    cut(state, index, 1, {"a.py": [chunk("a.py", "one"), chunk("a.py", "two")]})
    sources = [source.id for source in state.contents.new_sources(index.at(1), all_files=True)]
    state.embeddings.request(index.space_id, sources)
    values = np.array([[1, 0, 0, 0], [0.6, 0.8, 0, 0]], dtype=np.float32)
    assert state.embeddings.ledger(index.at(1))["pending"] == 2
    waiting = state.queue.claim(index.space_id, "me", most=10, lease_s=60.0)
    ids = [item.embedding_id for item in waiting]
    state.queue.save_direct(ids, values, tokens=[None, None], requests=0, free=True)
    store = state.stores.open("here", claims=False)
    storable = state.stores.storable(index.id, index.space_id, sources, store_id=store)
    assert storable is not None
    assert np.abs(storable.vectors - values).max() < 3e-4
    assert state.embeddings.ledger(index.at(1), store_id=store)["unstored"] == 2
    state.stores.mark_stored(index.id, storable.chunk_ids, storable.embedding_ids, store_id=store)
    assert state.stores.storable(index.id, index.space_id, sources, store_id=store) is None
    assert state.stores.held(index.id, store) == 2
    probes = dict(state.stores.probes(index.id, store, 8))
    assert set(probes) == set(storable.chunk_ids)
    for number, chunk_id in enumerate(storable.chunk_ids):
        assert (probes[chunk_id] == storable.vectors[number]).all()
    ledger = state.embeddings.ledger(index.at(1), store_id=store)
    assert ledger == {"pending": 0, "processing": 0, "ready": 2, "failed": 0, "unstored": 0}


def test_unknown_token_counts_are_null_and_never_zero(state: State) -> None:
    index = open_index(state)
    cut(state, index, 1, {"a.py": [chunk("a.py", "four", tokens=None), chunk("a.py", "fourfour", tokens=7)]})
    assert state.contents.token_sums(index.at(1)) == (2, 1, 7, 12, 8)
    [[(row, text)]] = state.contents.uncounted(index.at(1), page=10)
    assert text == "four"
    state.contents.save_counts([(row, 1)])
    assert state.contents.token_sums(index.at(1)) == (2, 2, 8, 12, 12)


@pytest.mark.sqlite_only
def test_words_are_found_whole_in_parts_and_stemmed(state: State) -> None:
    index = open_index(state)
    cut(
        state, index, 1,
        {"net/retryPolicy.py": [chunk("net/retryPolicy.py", "def schedule_retries(maxAttempts): pass", "schedule")]},
    )  # fmt: skip
    state.catalog.publish(index.at(1), commit="c", fingerprint="f", whole=True)
    for word in ("schedule", "retries", "retry", "scheduleretries", "attempts", "attempt", "policy"):
        assert state.lookup.by_words([index.id], [word], Filter(), limit=5), word
    assert not state.lookup.by_words([index.id], ["unrelated"], Filter(), limit=5)
    assert not state.lookup.by_words([index.id], ["retry"], Filter(languages=("go",)), limit=5)
    assert not state.lookup.by_words([index.id], ["retry"], Filter(sources=frozenset()), limit=5)
    assert state.lookup.by_words([index.id], ['"quoted" OR (', "retry"], Filter(), limit=5)


def test_an_interrupted_job_of_the_same_commit_is_taken_up_and_another_commit_is_a_new_one(
    state: State,
) -> None:
    index = open_index(state)
    first = state.catalog.start_job(index.id, "c1", redo=False)
    assert state.catalog.interrupted_jobs() == 1
    again = state.catalog.start_job(index.id, "c1", redo=False)
    assert (again.id, again.attempts) == (first.id, 2)
    state.catalog.finish_job(first.id, status="succeeded", report={"a": 1})
    assert state.catalog.interrupted_jobs() == 0
    assert state.catalog.start_job(index.id, "c1", redo=False).id != first.id
    assert state.catalog.start_job(index.id, "c2", redo=False).attempts == 1


@pytest.mark.sqlite_only
def test_the_disk_being_full_is_a_sentence(tmp_path: Path) -> None:
    with State(tmp_path / "state.db") as state:
        index = open_index(state)
        with state.database.read() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        # every connection of the pool sees the limit: SQLite's own way to run out of disk
        with state.database.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")
        big = {f"f{n}.py": [chunk(f"f{n}.py", f"text {n} " * 3000)] for n in range(50)}
        with pytest.raises(StateError, match="disk is full"):
            cut(state, index, 1, big)


@pytest.mark.sqlite_only
def test_postgresql_without_its_driver_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # Python's own way to say "not installed"
    with pytest.raises(StateError, match=r"codechunk\[postgres\]"):
        State("postgresql://nobody@127.0.0.1/nothing")


@pytest.mark.sqlite_only
def test_the_planner_knows_the_shape_of_a_large_database_from_the_first_row(state: State) -> None:
    with state.database.read() as connection:
        indexes = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'")}
        known = {row[0] for row in connection.exec_driver_sql("SELECT idx FROM sqlite_stat1")}
        assert known
        assert known <= indexes
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN SELECT chunks.chunk_id, vectors.vector FROM chunks"
            " JOIN embeddings ON embeddings.text_sha = chunks.text_sha AND embeddings.space_id = 1"
            " JOIN vectors ON vectors.embedding_id = embeddings.id WHERE chunks.source_id IN (1, 2, 3)"
        ).fetchall()
    assert [row[3].split()[1] for row in plan] == ["chunks", "embeddings", "vectors"]
