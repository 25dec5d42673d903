"""Workflow: texts that have no vector ask for one. How vectors reach the store is in `vector_session`."""

from collections.abc import Callable, Sequence

from codechunk.progress import Reporter
from codechunk.state import IndexRow, SizedSource, State
from codechunk.state.embeddings import Vectors
from codechunk.workspace.vector_session import SOURCES_AT_ONCE, slices

TEXTS_AT_ONCE = 500

Embed = Callable[[Sequence[str]], Vectors]


def request(*, state: State, index: IndexRow, sources: Sequence[SizedSource], job_id: str) -> None:
    """Let every text of these contents that has no vector wait for one, on behalf of a run of index."""
    for some in slices(sources, SOURCES_AT_ONCE):
        state.embeddings.request(index.space_id, [source.id for source in some], job_id=job_id)


def missing(state: State, index: IndexRow, sources: Sequence[SizedSource]) -> tuple[int, int]:
    """How many texts of these contents are still to be sent, each once, and their tokens by our count or estimate."""
    tokens: dict[str, int] = {}
    for some in slices(sources, SOURCES_AT_ONCE):
        tokens.update(state.embeddings.missing(index.space_id, [source.id for source in some]))
    return len(tokens), sum(tokens.values())


def embed(
    *,
    state: State,
    index: IndexRow,
    sources: Sequence[SizedSource],
    make: Embed,
    job_id: str,
    reporter: Reporter,
) -> int:
    """Give every text of these contents that has no vector one made here, and store it. Returns how many were made."""
    reporter.stage("Embedding", sum(source.chunks for source in sources), "chunks")
    made = 0
    for some in slices(sources, SOURCES_AT_ONCE):
        ids = [source.id for source in some]
        state.embeddings.request(index.space_id, ids, job_id=job_id)
        pending = state.embeddings.pending(index.space_id, ids)
        for texts in slices(pending, TEXTS_AT_ONCE):
            state.embeddings.save([item.embedding_id for item in texts], make([item.text for item in texts]))
        made += len(pending)
        reporter.advance(sum(source.chunks for source in some))
    return made
