"""What `doctor` finds: each check is shown a database that is sound but for one thing, and must name that thing."""

import contextlib
import hashlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import open_state, state_target

from codechunk.config.settings import Config
from codechunk.errors import IndexBusy, VectorStoreError
from codechunk.state import BatchRow, CutFile, IndexRow, JobRow, PlannedFile, Space, State
from codechunk.text.chunks import Chunk, Kind, chunk_ids
from codechunk.text.words import index_words
from codechunk.vectors.chroma import ChromaDirectory, ChromaStore
from codechunk.views import doctor
from codechunk.views.doctor import Finding, check_invariants
from codechunk.workspace.vector_session import Gate, VectorSession

pytestmark = pytest.mark.both_databases

DIMENSIONS = 4
SPACE = Space(provider="gemini", model="gemini-embedding-001", dimensions=DIMENSIONS, task="t", header_version=1)
LEASE_S = 300.0
STORE = "directory of the tests"
KEY = "not-a-real-key-but-a-secret-0123456789"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    (tmp_path / "data").mkdir(mode=0o700)
    with open_state(tmp_path / "data") as opened:
        yield opened


def chunk(path: str, text: str) -> Chunk:
    return Chunk(
        path=path, language="python", kind=Kind.FUNCTION, symbol=None, start_line=1, end_line=2, start_byte=0,
        end_byte=len(text), text=text, tokens=3,
    )  # fmt: skip


def open_index(state: State, ref: str = "main") -> IndexRow:
    return state.catalog.open_index(url="https://host.invalid/o/n", names=["o/n"], ref=ref, space=SPACE)


def cut(state: State, index: IndexRow, texts: dict[str, str]) -> list[int]:
    """The next generation of the index: one file and chunk a text. Returns its contents."""
    rows = [PlannedFile(path=path, blob=path, size_bytes=1, reason=None) for path in texts]
    state.contents.write_plan(index.next, rows)
    unread = state.contents.unread(index.next, repository_id=index.repository_id, fingerprint="f")
    parts = []
    for file in list(unread):
        chunks = [chunk(file.path, texts[file.path])]
        parts.append(
            CutFile(
                file_id=file.id, path=file.path, blob=file.blob, status="chunked", language="python", chunks=chunks,
                chunk_ids=chunk_ids(index.url, chunks), words=[index_words(c.text) for c in chunks],
            )
        )  # fmt: skip
    state.contents.save(index.repository_id, "f", parts)
    return [source.id for source in state.contents.new_sources(index.next, all_files=True)]


def begin(state: State, ref: str, texts: dict[str, str]) -> tuple[IndexRow, JobRow, list[int]]:
    """A run that has cut its files and asked for vectors."""
    index = open_index(state, ref)
    job = state.catalog.start_job(index.id, "c" * 40, redo=False)
    sources = cut(state, index, texts)
    state.embeddings.request(index.space_id, sources, job_id=job.id)
    return index, job, sources


def vectors_of(count: int) -> np.ndarray:
    return np.eye(DIMENSIONS, dtype=np.float32)[np.arange(count) % DIMENSIONS]


def publish(state: State, index: IndexRow, job: JobRow, sources: list[int]) -> IndexRow:
    """Buy the vectors directly, put them in the collection, publish."""
    texts = state.queue.claim(index.space_id, "me|1|2|3", most=100, lease_s=LEASE_S, job_id=job.id)
    ids = [text.embedding_id for text in texts]
    state.queue.save_direct(ids, vectors_of(len(ids)), tokens=[3] * len(ids), requests=len(ids))
    store = state.stores.open(STORE, claims=False)
    storable = state.stores.storable(index.id, index.space_id, sources, store_id=store)
    assert storable is not None
    state.stores.mark_stored(index.id, storable.chunk_ids, storable.embedding_ids, store_id=store)
    state.catalog.publish(index.next, commit=job.commit, fingerprint="f", whole=True, store_id=store)
    state.catalog.finish_job(job.id, status="succeeded")
    return state.catalog.refreshed(index)


def submit(state: State, index: IndexRow, job: JobRow) -> BatchRow:
    """A batch job with the run's texts, out at the provider."""
    planned = state.batches.plan(
        index.space_id, prefix="cc", priority=0, most_texts=100, most_tokens=None, job_id=job.id
    )
    assert planned is not None
    batch = state.batches.claim_one(planned.id, "me|1|2|3", lease_s=LEASE_S)
    assert batch is not None
    now = time.time()
    return state.batches.record(
        batch,
        release=True,
        state="processing",
        upload_began_at=now,
        file_name="files/a",
        create_began_at=now,
        remote_name="batches/a",
        remote_state="running",
        submitted_at=now,
        next_at=now + 30,
    )


@pytest.fixture
def sound(state: State) -> State:
    """One published index, and a run whose texts are at the provider in a batch job."""
    publish(state, *begin(state, "main", {"a.py": "one", "b.py": "two", "c.py": "three"}))
    index, job, _ = begin(state, "dev", {"d.py": "four", "e.py": "five"})
    submit(state, index, job)
    state.catalog.finish_job(job.id, status="embedding")
    return state


def wrong(state: State) -> dict[str, Finding]:
    """What is not as it should be. On PostgreSQL three questions are skipped: they are about SQLite's file."""
    found = {finding.check: finding for finding in check_invariants(state) if finding.status != "ok"}
    skipped = {check for check, finding in found.items() if finding.status == "skipped"}
    assert skipped == (set() if state.database.is_sqlite else {"database_pages", "references", "words"})
    return {check: finding for check, finding in found.items() if check not in skipped}


def spoil(state: State, *statements: str) -> None:
    """Change the database behind the product's back, whatever its rows refer to. Blobs are written as in SQLite."""
    if state.database.path is None:
        with state.database.engine.begin() as server:
            server.exec_driver_sql("SET LOCAL session_replication_role = replica")
            for statement in statements:
                server.exec_driver_sql(re.sub("x'([0-9a-f]+)'", r"'\\x\1'::bytea", statement))
        return
    connection = sqlite3.connect(state.database.path, timeout=30)
    with contextlib.closing(connection), connection:
        for statement in statements:
            connection.execute(statement)


def test_a_sound_database_has_nothing_to_complain_of(sound: State) -> None:
    assert wrong(sound) == {}


def test_an_empty_database_has_nothing_to_complain_of(state: State) -> None:
    assert wrong(state) == {}


def test_texts_are_told_as_a_sum_that_balances(sound: State) -> None:
    told = {finding.check: finding for finding in check_invariants(sound)}["texts"]
    assert told.message == "5 texts = 0 pending + 2 processing + 3 ready + 0 failed"


READY = "(SELECT min(id) FROM embeddings WHERE state = 'ready')"
SENT = "(SELECT min(id) FROM embeddings WHERE state = 'processing')"
DAMAGE = {
    "texts": [f"UPDATE embeddings SET state = 'lost' WHERE id = {READY}"],
    "text_states": [f"UPDATE embeddings SET state = 'lost' WHERE id = {READY}"],
    "ready_texts_have_vectors": [f"UPDATE embeddings SET state = 'ready' WHERE id = {SENT}"],
    "vectors_are_used": [f"UPDATE embeddings SET state = 'failed' WHERE id = {READY}"],
    "vector_lengths": [f"UPDATE vectors SET vector = x'000000000000' WHERE embedding_id = {READY}"],
    "vector_values": [f"UPDATE vectors SET vector = x'0000000000000000' WHERE embedding_id = {READY}"],
    "texts_in_work_are_held": [f"UPDATE embeddings SET batch_id = NULL WHERE id = {SENT}"],
    "texts_are_sent_once": [f"UPDATE embeddings SET owner = 'me' WHERE id = {SENT}"],
    "batch_states": ["UPDATE batches SET state = 'lost'"],
    "intent_before_money": ["UPDATE batches SET create_began_at = NULL"],
    "one_remote_job_each": [
        "CREATE TEMP TABLE copy AS SELECT * FROM batches",
        "UPDATE copy SET id = 'x', display_name = 'x'",
        "INSERT INTO batches SELECT * FROM copy",
    ],
    "batches_end_whole": ["UPDATE batches SET finished_at = 1"],
    "published_chunks_have_texts": [
        "DELETE FROM index_chunks",
        f"DELETE FROM vectors WHERE embedding_id = {READY}",
        f"DELETE FROM embeddings WHERE id = {READY}",
    ],
    "published_files_were_read": ["UPDATE files SET status = 'planned' WHERE path = 'a.py'"],
    "published_indexes_have_commits": ["UPDATE indexes SET commit_sha = NULL"],
    "jobs_tell_the_truth": [
        f"DELETE FROM vectors WHERE embedding_id = {READY}",
        f"UPDATE embeddings SET state = 'pending' WHERE id = {READY}",
    ],
    "index_has_only_stored_vectors": [f"DELETE FROM vectors WHERE embedding_id = {READY}"],
}
DAMAGE_TO_SQLITE = {  # a server guards its references itself, and has no lexical index yet
    "references": ["UPDATE files SET index_id = 99 WHERE path = 'a.py'"],
    "words": ["DELETE FROM chunk_words WHERE rowid = 1"],
}


@pytest.mark.sqlite_only
@pytest.mark.parametrize("check", DAMAGE_TO_SQLITE)
def test_what_must_never_be_in_a_sqlite_file_is_an_error_with_a_mend(sound: State, check: str) -> None:
    spoil(sound, *DAMAGE_TO_SQLITE[check])
    found = wrong(sound)[check]
    assert found.status == "error"
    assert found.count >= 1
    assert found.mend


@pytest.mark.parametrize("check", DAMAGE)
def test_what_must_never_be_is_an_error_with_a_mend(sound: State, check: str) -> None:
    spoil(sound, *DAMAGE[check])
    found = wrong(sound)[check]
    assert found.status == "error"
    assert found.count >= 1
    assert found.mend


def test_a_vector_that_is_not_finite_is_an_error(sound: State) -> None:
    for value in (np.nan, np.inf, -np.inf):
        stored = np.array([0, value, 0, 1], dtype="<f2").tobytes().hex()
        spoil(sound, f"UPDATE vectors SET vector = x'{stored}' WHERE embedding_id = {READY}")
        assert wrong(sound)["vector_values"].count == 1, value


WAITING = {
    "claims": ["UPDATE batches SET owner = 'me', lease_until = 0"],
    "batches_are_looked_at": ["UPDATE batches SET next_at = 1"],
    "batch_ages": ["UPDATE batches SET submitted_at = 1"],
    "batches_have_texts": ["UPDATE embeddings SET state = 'failed', error = 'no' WHERE state = 'processing'"],
    "waiting_times": ["UPDATE batches SET next_at = 99999999999"],
    "batches_of_texts_exist": [f"UPDATE embeddings SET batch_id = 'gone' WHERE id = {READY}"],
    "failed_texts": [f"UPDATE embeddings SET state = 'failed', error = 'too long' WHERE id = {SENT}"],
    "texts_bought_once": ["UPDATE batches SET rows_ok = 1"],
    "index_is_complete": ["DELETE FROM index_chunks"],
    "index_holds_nothing_old": [f"INSERT INTO index_chunks VALUES (1, 1, '{'0' * 32}', {READY})"],
    "texts_are_wanted": [
        "INSERT INTO embeddings (space_id, text_sha, state, attempts) VALUES (1, 'nobody', 'pending', 0)"
    ],
    "contents_are_used": [
        "UPDATE jobs SET status = 'succeeded'",
        "UPDATE files SET source_id = NULL, status = 'skipped' WHERE path = 'd.py'",
    ],
}


@pytest.mark.parametrize("check", WAITING)
def test_what_waits_for_somebody_is_a_warning_with_a_mend(sound: State, check: str) -> None:
    spoil(sound, *WAITING[check])
    found = wrong(sound)
    assert found[check].status == "warning"
    assert found[check].count >= 1
    assert found[check].mend
    assert not [finding for finding in found.values() if finding.status == "error"]


def test_failed_texts_are_told_with_their_reasons(sound: State) -> None:
    spoil(sound, f"UPDATE embeddings SET state = 'failed', error = 'too long' WHERE id = {SENT}")
    assert "1: too long" in wrong(sound)["failed_texts"].message


def test_a_lapsed_claim_of_a_text_counts_and_a_living_one_does_not(sound: State) -> None:
    index, job, _ = begin(sound, "other", {"f.py": "six"})
    sound.queue.claim(index.space_id, "me|1|2|3", most=1, lease_s=LEASE_S, job_id=job.id)
    assert wrong(sound) == {}
    spoil(sound, "UPDATE embeddings SET lease_until = 0 WHERE owner IS NOT NULL")
    assert wrong(sound)["claims"].count == 1


def test_every_question_is_proven_able_to_find_something() -> None:
    from codechunk.state.questions import QUESTIONS

    assert {question.check for question in QUESTIONS} - set(DAMAGE) - set(WAITING) == set()


# ---------------------------------------------------------------------- around the database


def examine(
    data: Path,
    *,
    key: bool = True,
    secrets: tuple[str, ...] = (),
    broken: Exception | None = None,
    busy: bool = False,
) -> dict[str, Finding]:
    """The findings of the whole doctor that are not `ok`, by name; `broken` is what opening the store raises."""

    @contextlib.contextmanager
    def alone(_: IndexRow) -> Iterator[None]:
        if busy:
            raise IndexBusy("busy")
        yield

    class Directory(ChromaDirectory):
        def identity(self) -> str:
            return STORE

        def open(self, *, write: bool) -> ChromaStore:
            if broken is not None:
                raise broken
            return super().open(write=write)

    def open_session() -> VectorSession:
        return VectorSession(
            state=State(data / "state.db"),
            backend=Directory(data / "chroma"),
            gate=Gate(),
            alone=alone,
            claims=True,
        )

    found = doctor.doctor(
        config=Config(data_dir=data),
        secrets=secrets,
        has_key=key,
        open_state=lambda: State(state_target(data)),
        open_session=open_session,
        alone=alone,
    )
    return {finding.check: finding for finding in found if finding.status not in {"ok", "skipped"}}


def test_a_fresh_directory_is_well_and_only_misses_the_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert examine(data) == {}
    assert examine(data, key=False)["api_key"].status == "warning"


def test_a_missing_key_is_an_error_while_texts_wait_for_gemini(sound: State, tmp_path: Path) -> None:
    assert examine(tmp_path / "data", key=False)["api_key"].status == "error"


def test_a_key_in_the_database_or_in_a_log_is_an_error(sound: State, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert "own_secrets" not in examine(data, secrets=(KEY,))
    (data / "logs").mkdir(mode=0o700)
    log = data / "logs" / "codechunk.log"
    log.write_text("x" * (doctor.BLOCK_BYTES - 10) + KEY)  # across the border of two blocks
    log.chmod(0o600)
    assert "codechunk.log" in examine(data, secrets=(KEY,))["own_secrets"].message
    log.unlink()
    spoil(sound, f"UPDATE batches SET error = 'refused {KEY}'")
    found = examine(data, secrets=(KEY,))["own_secrets"]
    assert found.status == "error"
    assert KEY not in str(found)


def test_a_google_key_of_somebody_else_is_an_error_in_a_log_and_a_warning_in_the_database(
    sound: State, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    google = "AIza" + hashlib.sha256(b"x").hexdigest()[:35]
    spoil(sound, f"UPDATE batches SET error = '{google}'")
    assert examine(data)["google_keys"].status == "warning"
    (data / "logs").mkdir(mode=0o700)
    (data / "logs" / "codechunk.log").write_text(google)
    assert examine(data)["google_keys"].status == "error"


def test_a_directory_that_others_can_read_is_a_warning(sound: State, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.chmod(0o755)
    assert f"chmod -R go-rwx {data}" in examine(data)["data_directory"].mend


def test_a_vector_index_that_holds_less_than_it_should_is_a_warning(sound: State, tmp_path: Path) -> None:
    found = examine(tmp_path / "data")["vector_index"]
    assert found.status == "warning"
    assert "instead of 3" in found.message


def test_a_vector_index_in_use_is_no_fault_and_one_out_of_reach_is(sound: State, tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert "vector_index" not in examine(data, broken=IndexBusy("in use by pid 1"))
    assert examine(data, broken=VectorStoreError("no answer"))["vector_index"].status == "error"


def test_an_interrupted_run_is_told_unless_a_process_works_on_it(sound: State, tmp_path: Path) -> None:
    data = tmp_path / "data"
    begin(sound, "half", {"g.py": "seven"})
    assert "interrupted_runs" in examine(data)
    assert "interrupted_runs" not in examine(data, busy=True)


def test_a_run_that_only_waits_to_be_published_is_told(sound: State, tmp_path: Path) -> None:
    assert "runs_to_finish" not in examine(tmp_path / "data")
    sound.queue.save_direct([4, 5], vectors_of(2), tokens=[3, 3], requests=2)
    assert examine(tmp_path / "data")["runs_to_finish"].count == 1


def test_a_throttle_is_told_with_its_reason(sound: State, tmp_path: Path) -> None:
    sound.queue.raise_throttle(wait_s=lambda _: 60.0, reason="quota of enqueued tokens is full", quota=True)
    assert "quota of enqueued tokens is full" in examine(tmp_path / "data")["throttle"].message


@pytest.mark.sqlite_only
def test_a_damaged_database_is_a_finding_and_not_the_end(sound: State, tmp_path: Path) -> None:
    data = tmp_path / "data"
    sound.close()
    for file in data.glob("state.db*"):
        file.unlink()
    (data / "state.db").write_bytes(b"garbage" * 4096)
    assert "damaged" in examine(data)["state_database"].message
