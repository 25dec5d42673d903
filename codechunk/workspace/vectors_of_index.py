"""Workflow: texts that wait become vectors in the state database, and from there reach Chroma.

The order is what keeps work safe: a vector is stored before its text is marked ready, Chroma is written
before the chunk is marked as stored there, and new chunks are in before old ones go.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TypeVar

from codechunk.progress import Reporter
from codechunk.state import IndexRow, SizedSource, State
from codechunk.vectors.chroma import Collection

# Contents handled together. A content is at most git.max_file_size, so this bounds memory.
SOURCES_AT_ONCE = 48
DELETE_AT_ONCE = 5_000
# How many stored vectors must find themselves before a collection is trusted.
PROBES = 16

T = TypeVar("T")


def is_whole(state: State, index: IndexRow) -> bool:
    """Whether every chunk of the published generation is known to have its vector, and Chroma to hold it.

    Then a run looks at what it brings in and at nothing else. It is not known after a run with failures, after a
    collection was lost, and after a run that was abandoned: it may have put other vectors under the ids of kept chunks.
    """
    return index.whole and index.vectors_stamp is not None and not state.contents.has_abandoned(index.id)


def unsettled(state: State, index: IndexRow, generation: int) -> list[SizedSource]:
    """Contents whose chunks may lack a vector in the generation: new ones, or all if the published one is not whole."""
    return state.contents.new_sources(index.id, generation, all_files=not is_whole(state, index))


def ledger(state: State, index: IndexRow, generation: int) -> dict[str, int]:
    """How many chunks of the generation are in each state; see `Embeddings.ledger`."""
    return state.embeddings.ledger(
        index.id, index.space_id, generation, rest_is_ready=is_whole(state, index) and generation > index.generation
    )


def request(*, state: State, index: IndexRow, sources: Sequence[SizedSource], job_id: str) -> None:
    """Let every text of these contents that has no vector wait for one, on behalf of a run of index."""
    for some in _slices(sources, SOURCES_AT_ONCE):
        state.embeddings.request(index.space_id, [source.id for source in some], job_id=job_id)


def missing(state: State, index: IndexRow, sources: Sequence[SizedSource]) -> tuple[int, int]:
    """How many texts of these contents are still to be sent, each once, and their tokens by our count or estimate."""
    tokens: dict[str, int] = {}
    for some in _slices(sources, SOURCES_AT_ONCE):
        tokens.update(state.embeddings.missing(index.space_id, [source.id for source in some]))
    return len(tokens), sum(tokens.values())


def store(
    *,
    state: State,
    index: IndexRow,
    sources: Sequence[SizedSource],
    collection: Collection,
    reporter: Reporter,
    stage: str = "Storing",
) -> int:
    """Put the chunks of these contents that have a vector in the collection. Returns how many were new there.

    One thread: Chroma's upsert holds Python's lock (measured), so a second one would gain nothing.
    """
    reporter.stage(stage, sum(source.chunks for source in sources), "chunks")
    stored = 0
    for some in _slices(sources, SOURCES_AT_ONCE):
        storable = state.embeddings.storable(index.id, index.space_id, [source.id for source in some])
        if storable is not None:
            collection.upsert(storable.chunk_ids, storable.vectors)
            state.embeddings.mark_stored(index.id, storable.chunk_ids, storable.embedding_ids)
            stored += len(storable.chunk_ids)
        reporter.advance(sum(source.chunks for source in some))
    return stored


def remove(state: State, index: IndexRow, collection: Collection, chunk_ids: Sequence[str]) -> None:
    """Take chunks out of the collection, then out of the record of what it holds."""
    for some in _slices(chunk_ids, DELETE_AT_ONCE):
        collection.delete(some)
        state.embeddings.mark_deleted(index.id, some)


def check(state: State, index: IndexRow, collection: Collection) -> str | None:
    """Whether the collection holds what it should: None, or in one clause what is wrong with it."""
    return collection.check(expected=state.embeddings.held(index.id), probes=state.embeddings.probes(index.id, PROBES))


def verify(state: State, index: IndexRow, collection: Collection) -> str | None:
    """`check` with every vector instead of a sample: for a collection that somebody else may have put there.

    An older copy of it may hold as many, and all but a few as they should be. 50,000 vectors take about three seconds.
    """
    expected = state.embeddings.held(index.id)
    pages = state.embeddings.held_vectors(index.id)
    troubles = (collection.check(expected=expected, probes=page) for page in chain(pages, [[]]))
    return next((trouble for trouble in troubles if trouble is not None), None)


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
