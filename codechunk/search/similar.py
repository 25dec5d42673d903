"""Code that is like the code at a place: by the vector that is stored for it. Asks no provider."""

from collections.abc import Sequence

from codechunk.documents import Answer
from codechunk.errors import NotFound, UsageError
from codechunk.search.answers import Hit, answers
from codechunk.search.question import read
from codechunk.search.ranking import scan
from codechunk.state import Filter, FoundChunk, IndexRow, State
from codechunk.workspace.indexed_file import indexed_file
from codechunk.workspace.references import published

# Chunks looked at for each file that is wanted: files have several that are alike.
CHUNKS_PER_FILE = 5
# Further chunks than any file has.
_ALL = 1 << 30


def similar(state: State, place: str, *, repository: str | None, limit: int) -> list[Answer]:
    """The files that are most like the chunk at PATH:LINE, their scores the cosine similarity.

    Args:
        repository: NAME, NAME@REF, URL or path of the place, and of what is searched; None searches everything that
            has vectors of the same model.

    Raises:
        NotFound: as `indexed_file` does; or there is no code on that line, or its vector has not come yet.
        UsageError: no line is named.
    """
    file = indexed_file(state, place, repository=repository, ref=None)
    if file.first is None:
        raise UsageError(f"Name a line: {file.path}:LINE.")
    index = file.index
    chunk = _chunk_at(state, index, file.path, file.first)
    if chunk is None:
        raise NotFound(f"There is no code on line {file.first:,} of {file.path}.")
    vector = state.lookup.vectors_of(index.id, index.space_id, [chunk.chunk_id]).get(chunk.chunk_id)
    if vector is None:
        raise NotFound(f"The vector of {file.path}:{file.first} has not come yet; `codechunk queue status` tells more.")
    every = state.catalog.indexes() if repository is None else published(state, repository)
    # First the index of the place: what several refs have is shown of that one.
    members = sorted((one for one in every if one.space_id == index.space_id), key=lambda one: one.id != index.id)
    hits: dict[str, Hit] = {}
    for member in members:
        near = scan(state, member, vector, Filter(), limit * CHUNKS_PER_FILE)
        chunks = state.lookup.chunks(member.published, [chunk_id for chunk_id, _ in near], Filter())
        for chunk_id, similarity in near:
            if chunk_id != chunk.chunk_id and chunk_id in chunks and similarity > 0:
                hits.setdefault(chunk_id, _hit(member, chunks[chunk_id], similarity))
    ranked = sorted(
        hits.values(), key=lambda hit: (-hit.score, hit.index.repository, hit.chunk.path, hit.chunk.ordinal)
    )
    return answers(state, read(""), ranked, limit=limit, context=0)


def _hit(index: IndexRow, chunk: FoundChunk, similarity: float) -> Hit:
    return Hit(index=index, chunk=chunk, score=min(1.0, similarity), words=set(), meaning=similarity)


def _chunk_at(state: State, index: IndexRow, path: str, line: int) -> FoundChunk | None:
    """The chunk on the line: the smallest that holds it."""
    sources = [source for name, source in state.lookup.files(index.published, containing=(path,)) if name == path]
    outline = state.lookup.outline(sources, 0, _ALL)
    chunks: Sequence[FoundChunk] = list(state.lookup.rows([one.row for one in outline.values()]).values())
    holding = [chunk for chunk in chunks if chunk.start_line <= line <= chunk.end_line]
    return min(holding, key=lambda chunk: (chunk.end_line - chunk.start_line, chunk.ordinal), default=None)
