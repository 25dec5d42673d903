"""Workflow: texts that wait become vectors in the state database, and from there reach Chroma.

The order is what keeps work safe: a vector is stored before its text is marked ready, Chroma is written
before the chunk is marked as stored there, and new chunks are in before old ones go.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from codechunk.progress import Reporter
from codechunk.state import IndexRow, State
from codechunk.state.embeddings import Vectors
from codechunk.vectors import Collection

# Contents handled together. A content is at most git.max_file_size, so this bounds memory.
SOURCES_AT_ONCE = 48
TEXTS_AT_ONCE = 500
DELETE_AT_ONCE = 5_000
# How many stored vectors must find themselves before a collection is trusted.
PROBES = 16

Embed = Callable[[Sequence[str]], Vectors]
T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Embedded:
    """What one run did."""

    texts: int = 0
    stored: int = 0


def embed_and_store(
    *,
    state: State,
    index: IndexRow,
    source_ids: Sequence[int],
    embed: Embed,
    collection: Collection,
    reporter: Reporter,
) -> Embedded:
    """Give every chunk of these contents a vector and put it in the collection.

    One thread: Chroma's upsert holds Python's lock (measured), so a second one would gain nothing.
    """
    done = Embedded()
    reporter.stage("Embedding", len(source_ids), "files")
    for some in _slices(source_ids, SOURCES_AT_ONCE):
        done.texts += _embed(state, index, some, embed)
        done.stored += _store(state, index, some, collection)
        reporter.advance(len(some))
    return done


def store(
    *, state: State, index: IndexRow, source_ids: Sequence[int], collection: Collection, reporter: Reporter
) -> int:
    """Put the chunks of these contents in the collection, from vectors that are stored already."""
    reporter.stage("Rebuilding", len(source_ids), "files")
    stored = 0
    for some in _slices(source_ids, SOURCES_AT_ONCE):
        stored += _store(state, index, some, collection)
        reporter.advance(len(some))
    return stored


def remove(state: State, index: IndexRow, collection: Collection, chunk_ids: Sequence[str]) -> None:
    """Take chunks out of the collection, then out of the record of what it holds."""
    for some in _slices(chunk_ids, DELETE_AT_ONCE):
        collection.delete(some)
        state.embeddings.mark_deleted(index.id, some)


def check(state: State, index: IndexRow, collection: Collection) -> str | None:
    """Whether the collection holds what it should: None, or in one clause what is wrong with it."""
    return collection.check(expected=state.embeddings.held(index.id), probes=state.embeddings.probes(index.id, PROBES))


def _embed(state: State, index: IndexRow, source_ids: Sequence[int], embed: Embed) -> int:
    state.embeddings.request(index.space_id, source_ids)
    pending = state.embeddings.pending(index.space_id, source_ids)
    for some in _slices(pending, TEXTS_AT_ONCE):
        values = embed([item.text for item in some])
        state.embeddings.save([item.embedding_id for item in some], values)
    return len(pending)


def _store(state: State, index: IndexRow, source_ids: Sequence[int], collection: Collection) -> int:
    storable = state.embeddings.storable(index.id, index.space_id, source_ids)
    if storable is None:
        return 0
    collection.upsert(storable.chunk_ids, storable.vectors)
    state.embeddings.mark_stored(index.id, storable.chunk_ids, storable.embedding_ids)
    return len(storable.chunk_ids)


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
