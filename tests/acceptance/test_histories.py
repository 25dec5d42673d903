"""Random histories: after every commit the index that was carried along equals one made from scratch.

Chunk by chunk, vector by vector, in SQLite, in the words and in Chroma; and every text is embedded once at most. By
hand, with other histories than CI has: HISTORIES=200 scripts/test tests/acceptance/test_histories.py
"""

import itertools
import os
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from history_helpers import ALIKE, BRANCHES, REASONS, TWINS, History, Story, Tree, histories
from hypothesis import HealthCheck, Phase, given, settings

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.documents import to_json
from codechunk.indexing import cut
from codechunk.pool.pool import ChunkPool, ParseResult, ParseTask
from codechunk.process.stop import Stop
from codechunk.progress import Silence
from codechunk.search.ranking import Query
from codechunk.state.checks import Checks
from codechunk.vectors.chroma import ChromaStore

WRITTEN = {"reasons": REASONS, "twins": TWINS, "alike": ALIKE, "branches": BRANCHES}
EXAMPLES, FEW = 16, 4  # drawn by chance; more than a few is long
BY_HAND = int(os.environ.get("HISTORIES", "0"))
QUERIES = ["retry socket", "twice_parser value", "caf", "TOKEN", "window ledger names"]

LIVE = "JOIN files f ON f.source_id = s.id WHERE f.index_id = :index AND f.to_generation IS NULL"
CHUNKS = f"JOIN sources s ON s.id = c.source_id {LIVE}"
# What is published of an index, without row numbers, generations and times.
PUBLISHED = {
    "files": "SELECT path, blob, size_bytes, status, reason FROM files"
    " WHERE index_id = :index AND to_generation IS NULL ORDER BY path",
    "sources": "SELECT f.path, s.path, s.blob, s.language, s.status, s.reason, s.fallback, s.secrets"
    f" FROM sources s {LIVE} ORDER BY f.path",
    "chunks": "SELECT f.path, c.ordinal, c.chunk_id, c.kind, c.symbol, c.start_line, c.end_line, c.start_byte,"
    f" c.end_byte, c.header, c.text, c.tokens, c.text_sha FROM chunks c {CHUNKS} ORDER BY f.path, c.ordinal",
    "words": "SELECT f.path, c.ordinal, w.path, w.symbol, w.body FROM chunk_words w"
    f" JOIN chunks c ON c.id = w.rowid {CHUNKS} ORDER BY f.path, c.ordinal",
    "vectors": "SELECT DISTINCT c.text_sha, e.state, e.error, v.vector FROM chunks c"
    " JOIN embeddings e ON e.text_sha = c.text_sha JOIN vectors v ON v.embedding_id = e.id"
    f" {CHUNKS} ORDER BY c.text_sha",
    "stored": "SELECT i.chunk_id, e.text_sha FROM index_chunks i JOIN embeddings e ON e.id = i.embedding_id"
    " WHERE i.index_id = :index ORDER BY i.chunk_id",
}
# Rows that nothing published needs: there are none of them after a run.
LEFT_OVER = {
    "files of other generations": "SELECT f.path FROM files f JOIN indexes i ON i.id = f.index_id"
    " WHERE f.from_generation > i.generation OR f.to_generation IS NOT NULL",
    "contents without a file": "SELECT path FROM sources WHERE id NOT IN (SELECT source_id FROM files"
    " WHERE source_id IS NOT NULL)",
    "chunks without a content": "SELECT id FROM chunks WHERE source_id NOT IN (SELECT id FROM sources)",
    "words without a chunk": "SELECT rowid FROM chunk_words WHERE rowid NOT IN (SELECT id FROM chunks)",
    "texts that still wait": "SELECT id FROM embeddings WHERE state != 'ready'",
    "jobs that did not succeed": "SELECT id, status FROM jobs WHERE status != 'succeeded'",
}
MATCHES = (
    "SELECT f.path, c.ordinal FROM chunk_words JOIN chunks c ON c.id = chunk_words.rowid"
    f" {CHUNKS} AND chunk_words MATCH :word ORDER BY f.path, c.ordinal"
)


class Home:
    """A data directory with synthetic vectors, and what is in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        flags = {"data_dir": str(folder), "embedding.provider": "synthetic", "embedding.dimensions": 128}
        self.app = App(load_config(config_file=None, flags=flags, environ={"HOME": str(folder)}, cwd=folder.parent))

    def index(self, source: str, branch: str, *, full: bool = False) -> dict[str, Any]:
        """Index a branch. Returns the document."""
        with self.app as app:
            document = app.index(IndexRequest(source=source, ref=branch, jobs=1, full=full), Silence())
        values: dict[str, Any] = to_json(document)
        return values

    def published(self, branch: str) -> dict[str, list[Any]]:
        """Everything that must be equal however the index of a branch came about."""
        with closing(sqlite3.connect(self.folder / "state.db")) as database:
            found = database.execute("SELECT id, collection FROM indexes WHERE ref = ?", [branch]).fetchall()
            assert len(found) == 1, found
            number, collection = found[0]
            what = {name: database.execute(query, {"index": number}).fetchall() for name, query in PUBLISHED.items()}
            for word in ("retry", "twice", "self", "alpha"):
                what[f"chunks with {word}"] = database.execute(MATCHES, {"index": number, "word": word}).fetchall()
        what["chroma"] = self._chroma(collection)
        return what

    def _chroma(self, collection: str) -> list[tuple[str, bytes]]:
        """Ids with the bytes of their vectors."""
        with ChromaStore.open(directory=self.folder / "chroma", url=None, write=False) as store:
            chroma = store.collection(collection)._chroma
            assert chroma is not None
            got = chroma.get(include=["embeddings"])
        vectors = np.asarray(got["embeddings"], dtype=np.float32)
        return sorted((id_, vectors[number].tobytes()) for number, id_ in enumerate(got["ids"]))

    def left_over(self) -> dict[str, list[Any]]:
        """Rows of the database that should not be there, by what is wrong with them."""
        with closing(sqlite3.connect(self.folder / "state.db")) as database:
            rows = {name: database.execute(query).fetchall() for name, query in LEFT_OVER.items()}
        return {name: found for name, found in rows.items() if found}

    def embedded(self) -> set[str]:
        """The texts that were ever embedded here."""
        with closing(sqlite3.connect(self.folder / "state.db")) as database:
            return {sha for (sha,) in database.execute("SELECT text_sha FROM embeddings WHERE state = 'ready'")}

    def answers(self, repository: str) -> list[list[tuple[Any, ...]]]:
        """What searches answer, scores rounded."""
        with self.app.searcher(repository, Silence()) as ask:
            return [
                [
                    (answer.path, answer.start_line, answer.end_line, answer.text, round(answer.score, 3))
                    for answer in ask(Query(text=text, limit=50))
                ]
                for text in QUERIES
            ]

    def complaints(self) -> list[str]:
        """What doctor's checks of the database find."""
        with self.app as app:
            findings = Checks(app.workspace.state.database).findings(now=1e12, max_job_age_s=1e12)
        return [finding.message for finding in findings if finding.status in {"error", "warning"}]


class Scratch:
    """Indexes made from nothing; of equal trees one, for an index is made of a tree alone."""

    def __init__(self, empty: Path, folder: Path, source: str) -> None:
        self._empty, self._folder, self._source = empty, folder, source
        self._made: dict[tuple[str, str], tuple[dict[str, list[Any]], dict[str, Any], Home]] = {}

    def index(self, branch: str, tree: Tree) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        """What the index of a branch holds, and its document."""
        key = branch, repr(sorted(tree.items()))
        if key not in self._made:
            home = Home(Path(shutil.copytree(self._empty, self._folder / f"scratch{len(self._made)}")))
            document = home.index(self._source, branch)
            self._made[key] = home.published(branch), document, home
        published, document, self.home = self._made[key]
        return published, document


class SharedPool:
    """A pool of children that outlives the runs: its start takes longer than cutting these small files."""

    def __init__(self) -> None:
        self._pool: ChunkPool | None = None
        self._wishes: dict[str, Any] = {}

    def __call__(self, *, stop: Stop, **wishes: Any) -> "SharedPool":
        del stop  # one for each run, and nobody stops these
        if wishes != self._wishes:
            self.end()
            self._pool, self._wishes = ChunkPool(**wishes), wishes
        return self

    def start(self) -> None:
        """As the pool: the first child, if there is none."""
        assert self._pool is not None
        self._pool.start()

    def run(self, tasks: Iterable[ParseTask]) -> Iterator[ParseResult]:
        """As the pool."""
        assert self._pool is not None
        return self._pool.run(tasks)

    def close(self) -> None:
        """The next run goes on with it."""

    def end(self) -> None:
        """End the children."""
        if self._pool is not None:
            self._pool.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in which the database has its tables already."""
    home = Home(tmp_path_factory.mktemp("empty") / "data")
    with home.app as app:
        app.workspace.state.catalog.indexes()
    return home.folder


@pytest.fixture(scope="module")
def new_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    numbers = itertools.count()
    root = tmp_path_factory.mktemp("histories")
    return lambda: Path(tempfile.mkdtemp(dir=root, prefix=f"{next(numbers)}-"))


@pytest.fixture(scope="module", autouse=True)
def shared_pool() -> Iterator[None]:
    pool = SharedPool()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cut, "ChunkPool", pool)
        yield
    pool.end()


@cache
def drawn() -> list[History]:
    """The same histories in every run, as many as EXAMPLES says."""
    found: list[History] = []

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, phases=[Phase.generate])
    @given(history=histories())
    def collect(history: History) -> None:
        found.append(history)

    collect()
    return found[:EXAMPLES]


# One test each, so that several processes share them.
@pytest.mark.parametrize("history", WRITTEN.values(), ids=WRITTEN.keys())
def test_after_every_commit_of_a_written_history_the_index_equals_one_made_from_scratch(
    history: History, empty: Path, new_folder: Callable[[], Path]
) -> None:
    assert_carried_along(history, empty, new_folder())


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=[pytest.mark.long] * (number >= FEW)) for number in range(EXAMPLES)]
)
def test_after_every_commit_of_a_random_history_the_index_equals_one_made_from_scratch(
    number: int, empty: Path, new_folder: Callable[[], Path]
) -> None:
    assert_carried_along(drawn()[number], empty, new_folder())


if BY_HAND:

    @settings(max_examples=BY_HAND, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(history=histories())
    def test_other_histories_of_chance(history: History, empty: Path, new_folder: Callable[[], Path]) -> None:
        assert_carried_along(history, empty, new_folder())


def assert_carried_along(history: History, empty: Path, folder: Path) -> None:
    """Index a repository after every step of a history, and beside it from scratch."""
    story = Story(folder / "repo")
    story.begin(history.first)
    source = f"file://{story.folder}" if history.remote else str(story.folder)
    carried = Home(Path(shutil.copytree(empty, folder / "data")))
    seen: dict[str, dict[str, list[Any]]] = {}
    fresh = Scratch(empty, folder, source)
    document: dict[str, Any] = {}
    for number, step in enumerate([None, *history.steps]):
        branch = "main" if step is None else story.take(step)
        tree = story.trees[story.heads[branch]]
        print(f"{number}: {branch} at {story.heads[branch][:8]}, {step or 'begin'}")
        print("   " + ", ".join(f"{path} {mode}" for path, (mode, _) in sorted(tree.items())))
        known = carried.embedded()
        document = carried.index(source, branch, full=step is not None and step.what == "full")
        expected, expected_document = fresh.index(branch, tree)
        before, after = seen.get(branch), carried.published(branch)
        assert_equal(after, expected)
        seen[branch] = after
        for other in seen.keys() - {branch}:
            assert_equal(carried.published(other), seen[other])
        assert {id_ for id_, _ in after["chroma"]} == {row[2] for row in after["chunks"]}
        assert carried.left_over() == {}
        assert_document(document, expected_document, before, after)
        assert document["embedding"]["texts_sent"] == len({row[12] for row in after["chunks"]} - known)
    assert_answers(carried, fresh.home, document["repository"], document["ref"], alone=len(seen) == 1)
    assert carried.complaints() == []
    shutil.rmtree(folder)


def assert_equal(carried: dict[str, list[Any]], scratch: dict[str, list[Any]]) -> None:
    """Every row the same; what differs is shown, not everything."""
    assert carried.keys() == scratch.keys()
    for name, rows in carried.items():
        more, less = Counter(rows) - Counter(scratch[name]), Counter(scratch[name]) - Counter(rows)
        few = {side: sorted(found, key=repr)[:3] for side, found in (("carried", more), ("scratch", less))}
        assert not any(few.values()), (name, few)
        assert rows == scratch[name], (name, "in another order")


def assert_document(
    document: dict[str, Any],
    expected: dict[str, Any],
    before: dict[str, list[Any]] | None,
    after: dict[str, list[Any]],
) -> None:
    """The numbers told are those of the scratch index, and the changes those between the two states."""
    for part, names in {
        "files": ("discovered", "indexed", "skipped", "failed", "skipped_by_reason"),
        "chunks": ("total", "ready", "pending", "processing", "failed"),
        "tokens": ("mode", "counted", "total", "estimated"),
        "secrets": ("mode", "found", "files"),
    }.items():
        for name in names:
            assert document[part][name] == expected[part][name], (part, name)
    assert document["status"] == "succeeded"
    old = {name: [] for name in after} if before is None else before
    was, now = {row[2] for row in old["chunks"]}, {row[2] for row in after["chunks"]}
    told = document["chunks"]
    assert (told["new"], told["deleted"], told["reused"]) == (len(now - was), len(was - now), len(now & was))
    old_files, new_files = ({row[0]: row[1] for row in side["files"]} for side in (old, after))
    assert document["files"]["deleted"] == len(old_files.keys() - new_files.keys())
    if "changes" in document:
        assert_changes(document["changes"], old_files, new_files, len(old["chunks"]), len(after["chunks"]))


def assert_changes(
    told: dict[str, Any], old: dict[str, str], new: dict[str, str], old_chunks: int, new_chunks: int
) -> None:
    """Files are told apart by path and blob; of chunks each is counted once on both sides."""
    came = Counter(blob for path, blob in new.items() if path not in old)
    went = Counter(blob for path, blob in old.items() if path not in new)
    moved = (came & went).total()
    changed = sum(old[path] != blob for path, blob in new.items() if path in old)
    assert told["files"] == {
        "added": came.total() - moved,
        "changed": changed,
        "moved": moved,
        "deleted": went.total() - moved,
        "unchanged": len(new) - came.total() - changed,
    }
    chunks = told["chunks"]
    assert all(number >= 0 for number in chunks.values())
    stayed = chunks["changed"] + chunks["moved"] + chunks["reused"]
    assert stayed + chunks["added"] == new_chunks
    assert stayed + chunks["deleted"] == old_chunks


def assert_answers(carried: Home, scratch: Home, repository: str, branch: str, *, alone: bool) -> None:
    """Searches answer the same. Beside another ref words weigh differently: then what is found, not how well."""
    one, other = carried.answers(f"{repository}@{branch}"), scratch.answers(f"{repository}@{branch}")
    if not alone:
        one, other = ([sorted(answer[:1] for answer in found) for found in side] for side in (one, other))
        one, other = ([set(found) for found in side] for side in (one, other))
    assert one == other
