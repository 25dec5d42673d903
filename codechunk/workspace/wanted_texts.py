"""The texts of an index that have no vector yet: counted, and asked for.

How vectors reach the store is in `vector_session`.
"""

from collections.abc import Sequence

from codechunk.slices import slices
from codechunk.state import IndexRow, SizedSource, State
from codechunk.workspace.vector_session import SOURCES_AT_ONCE


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
