"""Query -> ranked chunks: meaning (vectors, space by space) and words (BM25), joined by reciprocal rank fusion.

Small vectors, big answers: definition-sized chunks are ranked, and each answer is widened by its neighbours
in the same file up to a budget of tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from pathspec import GitIgnoreSpec

from codechunk.errors import UsageError
from codechunk.state import Filter, FoundChunk, IndexRow, State
from codechunk.state.embeddings import Vectors
from codechunk.words import query_words

# Reciprocal rank fusion: score = sum of 1 / (RRF_K + rank). 60 is the constant of Cormack, Clarke and
# Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods", SIGIR 2009.
RRF_K = 60
CANDIDATES = 100
# Chroma is asked for more than are used: of the true 100 nearest among 14,000 chunks of redis it finds 96 when asked
# for 100, 99.3 when asked for 300, at a few milliseconds more.
NEIGHBOURS = 300
# With a filter: how many neighbours are asked for, and how many of them must pass to be trusted as the nearest.
FILTERED_NEIGHBOURS = 1_000
ENOUGH = 50
# cl100k tokens of code per character, when a chunk was not counted: 3.6 bytes per token (measured on redis).
CHARACTERS_PER_TOKEN = 3.6

Nearest = Callable[[IndexRow, Vectors, int], list[tuple[str, float]] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What somebody looks for. `context`: tokens of neighbouring code that may be added around each hit."""

    text: str
    limit: int = 10
    languages: Sequence[str] = ()
    kinds: Sequence[str] = ()
    path: str | None = None
    context: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A span of code, with the symbol and kind of the chunk that earned its place."""

    score: float
    repository: str
    commit: str
    path: str
    language: str
    kind: str
    symbol: str | None
    start_line: int
    end_line: int
    text: str
    chunk_ids: list[str]


@dataclass(slots=True)
class _Hit:
    index: IndexRow
    chunk: FoundChunk
    score: float


@dataclass(slots=True)
class _Span:
    """Consecutive chunks of one content that make one answer."""

    hit: _Hit
    chunks: list[FoundChunk] = field(default_factory=list)


def search(
    state: State,
    indexes: Sequence[IndexRow],
    query: Query,
    *,
    vector_of: Mapping[int, Vectors],
    nearest: Nearest,
) -> list[Answer]:
    """The best answers over all given indexes.

    Args:
        vector_of: the query's vector for each space id, of unit length.
        nearest: asks the vector store for (chunk id, similarity) of an index, best first; None when the
            store cannot be asked now, and then the vectors in the state database are compared one by one.
    """
    wanted = _filter(state, indexes, query)
    by_words = state.lookup.by_words([index.id for index in indexes], query_words(query.text), wanted, limit=CANDIDATES)
    by_meaning = _by_meaning(state, indexes, vector_of, wanted, nearest, by_words)
    scores: dict[str, float] = {}
    places: dict[str, int] = {}
    for rankings in ([by_words], by_meaning):
        earned: dict[str, float] = {}
        for ranking in rankings:
            for rank, (index_id, chunk_id) in enumerate(ranking):
                # A chunk that two refs have in different spaces counts once, where it ranks best.
                earned[chunk_id] = max(earned.get(chunk_id, 0.0), 1 / (RRF_K + rank + 1))
                places.setdefault(chunk_id, index_id)
        for chunk_id, score in earned.items():
            scores[chunk_id] = scores.get(chunk_id, 0.0) + score
    hits = _hits(state, indexes, scores, places, wanted)
    literal = {chunk_id: rank for rank, (_, chunk_id) in enumerate(by_words)}
    ranked = sorted(
        hits,
        key=lambda hit: (
            -hit.score,
            literal.get(hit.chunk.chunk_id, CANDIDATES),
            hit.chunk.path,
            hit.chunk.start_line,
        ),
    )
    return [_answer(span) for span in _spans(state, ranked, query)]


def _hits(
    state: State, indexes: Sequence[IndexRow], scores: Mapping[str, float], places: Mapping[str, int], wanted: Filter
) -> list[_Hit]:
    """The ranked chunks themselves, each from the index it was found in."""
    best = 2 / (RRF_K + 1)  # first in both rankings: a score of 1
    hits = []
    for index in indexes:
        ids = [chunk_id for chunk_id, index_id in places.items() if index_id == index.id]
        found = state.lookup.chunks(index.id, index.generation, ids, wanted)
        hits += [_Hit(index, chunk, scores[chunk_id] / best) for chunk_id, chunk in found.items()]
    return hits


def _filter(state: State, indexes: Sequence[IndexRow], query: Query) -> Filter:
    sources = None
    if query.path is not None:
        try:
            pattern = GitIgnoreSpec.from_lines([query.path])
        except ValueError as exc:
            raise UsageError(f"--path {query.path!r} is not a glob: {exc}") from exc
        sources = frozenset(
            source
            for index in indexes
            for path, source in state.lookup.files(index.id, index.generation)
            if pattern.match_file(path)
        )
    return Filter(languages=tuple(query.languages), kinds=tuple(query.kinds), sources=sources)


def _by_meaning(
    state: State,
    indexes: Sequence[IndexRow],
    vector_of: Mapping[int, Vectors],
    wanted: Filter,
    nearest: Nearest,
    by_words: Sequence[tuple[int, str]],
) -> list[list[tuple[int, str]]]:
    """One ranking for each vector space, by similarity over all indexes in it.

    Similarities of two models, or of two numbers of dimensions, say nothing about each other: spaces are joined by
    rank, like words and meaning.
    """
    spaces: dict[int, list[IndexRow]] = {}
    for index in indexes:
        spaces.setdefault(index.space_id, []).append(index)
    return [
        _in_one_space(state, members, vector_of[space_id], wanted, nearest, by_words)
        for space_id, members in spaces.items()
    ]


def _in_one_space(
    state: State,
    indexes: Sequence[IndexRow],
    vector: Vectors,
    wanted: Filter,
    nearest: Nearest,
    by_words: Sequence[tuple[int, str]],
) -> list[tuple[int, str]]:
    """(index id, chunk id) by similarity over indexes of one space; a chunk that several refs have counts once.

    What the words found is compared exactly: among thousands of chunks that are alike an HNSW search misses half of the
    nearest, and nothing that is not similar at all gets a rank.
    """
    found = [
        (similarity, number, index.id, chunk_id)
        for number, index in enumerate(indexes)
        for chunk_id, similarity in _nearest_in(state, index, vector, wanted, nearest)
    ]
    for number, index in enumerate(indexes):
        ids = [chunk_id for index_id, chunk_id in by_words if index_id == index.id]
        exact = state.lookup.vectors_of(index.id, index.space_id, ids)
        found += [(float(stored @ vector), number, index.id, chunk_id) for chunk_id, stored in exact.items()]
    ranking: dict[str, int] = {}
    for similarity, _, index_id, chunk_id in sorted(found, key=lambda item: (-item[0], item[1], item[3])):
        if similarity > 0:
            ranking.setdefault(chunk_id, index_id)
    return [(index_id, chunk_id) for chunk_id, index_id in ranking.items()][:CANDIDATES]


def _nearest_in(
    state: State, index: IndexRow, vector: Vectors, wanted: Filter, nearest: Nearest
) -> list[tuple[str, float]]:
    """(chunk id, similarity) in one index, best first.

    Chroma's own filter costs 20 to 65 times a plain query (reliability.md, 1). So a filtered search asks for
    more neighbours and keeps those that pass; when too few do, all stored vectors that pass are compared.
    """
    found = nearest(index, vector, FILTERED_NEIGHBOURS if wanted else NEIGHBOURS)
    if found is not None:
        if not wanted:
            return found[:CANDIDATES]
        passing = state.lookup.chunks(index.id, index.generation, [chunk_id for chunk_id, _ in found], wanted)
        if len(passing) >= ENOUGH:
            return [pair for pair in found if pair[0] in passing][:CANDIDATES]
    return scan(state, index, vector, wanted, CANDIDATES)


def scan(state: State, index: IndexRow, vector: Vectors, wanted: Filter, limit: int) -> list[tuple[str, float]]:
    """The nearest chunks by comparing with every stored vector: (chunk id, cosine similarity), best first."""
    best: list[tuple[float, str]] = []
    for ids, vectors in state.lookup.vectors(index.id, index.space_id, index.generation, wanted):
        similarity = vectors @ vector
        top = np.argsort(-similarity, kind="stable")[:limit]
        best.extend((float(similarity[number]), ids[number]) for number in top)
        best = sorted(best, key=lambda pair: (-pair[0], pair[1]))[:limit]
    return [(chunk_id, similarity) for similarity, chunk_id in best]


def _spans(state: State, ranked: Sequence[_Hit], query: Query) -> list[_Span]:
    """Widen the best hits, each chunk in at most one answer."""
    spans: list[_Span] = []
    taken: dict[int, set[int]] = {}
    for hit in ranked:
        if len(spans) == query.limit:
            break
        used = taken.setdefault(hit.chunk.source_id, set())
        if hit.chunk.ordinal in used:
            continue
        span = _Span(hit, _widen(state, hit.chunk, query.context, used))
        used.update(chunk.ordinal for chunk in span.chunks)
        spans.append(span)
    return spans


def _widen(state: State, chunk: FoundChunk, budget: int, used: set[int]) -> list[FoundChunk]:
    """The chunk with neighbours, nearest first and alternately below and above, while the budget lasts."""
    if budget <= 0:
        return [chunk]
    reach = 8
    around = {
        near.ordinal: near
        for near in state.lookup.neighbours(chunk.source_id, chunk.ordinal - reach, chunk.ordinal + reach)
    }
    first = last = chunk.ordinal
    left = budget
    grown = True
    while grown:
        grown = False
        for ordinal in (last + 1, first - 1):
            near = around.get(ordinal)
            if near is None or ordinal in used or _size(near) > left:
                continue
            left -= _size(near)
            first, last = min(first, ordinal), max(last, ordinal)
            grown = True
    return [around[ordinal] for ordinal in range(first, last + 1)]


def _size(chunk: FoundChunk) -> int:
    return chunk.tokens if chunk.tokens is not None else int(len(chunk.text) / CHARACTERS_PER_TOKEN) + 1


def _answer(span: _Span) -> Answer:
    hit, chunks = span.hit, span.chunks
    return Answer(
        score=round(hit.score, 4),
        repository=hit.index.repository,
        commit=hit.index.commit or "",
        path=hit.chunk.path,
        language=hit.chunk.language,
        kind=hit.chunk.kind,
        symbol=hit.chunk.symbol,
        start_line=chunks[0].start_line,
        end_line=chunks[-1].end_line,
        text=_joined(chunks),
        chunk_ids=[chunk.chunk_id for chunk in chunks],
    )


def _joined(chunks: Sequence[FoundChunk]) -> str:
    """The texts with the blank lines between them, which belong to no chunk, put back (white space on them is not)."""
    parts = [chunks[0].text]
    for before, after in pairwise(chunks):
        if before.end_line == after.start_line:
            gap = " " * (after.start_byte - before.end_byte)
        elif before.text.endswith("\n"):
            gap = "\n" * max(0, after.start_line - before.end_line - 1)
        else:
            gap = "\n" * (after.start_line - before.end_line)
        parts.append(gap + after.text)
    return "".join(parts)
