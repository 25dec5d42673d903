"""One content, one answer: what several refs or repositories have word for word appears once, and names the others."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from codechunk.search.answers import Hit
from codechunk.state import IndexRow, State

# A shorter text may well be the same by chance, and says little; it stays where it is.
LEAST_CHARACTERS = 40


def once(
    state: State, indexes: Sequence[IndexRow], ranked: Sequence[Hit]
) -> tuple[Sequence[Hit], Mapping[str, Sequence[str]]]:
    """The hits without those whose text a better one of another index has, and where else the others are.

    Copies within one index stay: they are that repository's own.

    Args:
        ranked: best first.

    Returns:
        Hits, and chunk id -> places as `repository@ref:path`.
    """
    if len(indexes) == 1:
        return ranked, {}
    also: dict[str, list[str]] = defaultdict(list)
    first: dict[str, Hit] = {}
    kept = []
    for hit in ranked:
        text = hit.chunk.text.strip()
        best = first.setdefault(text, hit) if len(text) >= LEAST_CHARACTERS else hit
        if best.index.id == hit.index.id:
            kept.append(hit)
        else:
            also[best.chunk.chunk_id].append(_place(hit.index, hit.chunk.path))
    for hit, index, path in _of_other_refs(state, indexes, kept):
        also[hit.chunk.chunk_id].append(_place(index, path))
    return kept, {chunk_id: list(dict.fromkeys(places)) for chunk_id, places in also.items()}


def _of_other_refs(state: State, indexes: Sequence[IndexRow], hits: Sequence[Hit]) -> list[tuple[Hit, IndexRow, str]]:
    """The hits that other refs of their repository have under the same id, with these refs."""
    if len({index.repository_id for index in indexes}) == len(indexes):
        return []
    by_id = {index.id: index for index in indexes}
    of_chunk = {hit.chunk.chunk_id: hit for hit in hits}
    holders = state.lookup.holders(list(by_id), list(of_chunk))
    return [
        (of_chunk[chunk_id], by_id[index_id], path)
        for chunk_id, index_id, path in holders
        if of_chunk[chunk_id].index.id != index_id
    ]


def _place(index: IndexRow, path: str) -> str:
    return f"{index.repository}@{index.ref}:{path}"
