"""Query -> ranked chunks: meaning (vectors, space by space) and words (BM25), joined by their scores.

Small vectors, big answers: definition-sized chunks are ranked, and each answer is widened by its neighbours
in the same file up to a budget of tokens. The numbers were tuned on the tuning set of `scripts/bench retrieval`
(docs/benchmarks.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

import numpy as np

from codechunk.documents import Answer
from codechunk.search.path_glob import PathGlob
from codechunk.state import Filter, FoundChunk, IndexRow, State
from codechunk.state.embeddings import Vectors
from codechunk.text.notebook_text import NOTEBOOK
from codechunk.text.words import query_words
from codechunk.vectors import exact

# Share of meaning in a chunk's score, the rest is for words. Scores, not ranks, are joined: how much better the first
# is than the second says something that reciprocal rank fusion throws away (+.016 MRR on both sets).
MEANING = 0.4
# A chunk gains up to this share of the best score when other chunks of its file were found too.
FILE = 0.2
# Of a file's chunks each counts half as much as the one before, and the rest is too little to matter.
FILE_DECAY, FILE_CHUNKS = 0.5, 6
# How often a question is asked anew because a run published meanwhile.
ASKED_AGAIN = 3
CANDIDATES = 100
# Tokens of the best answer; the n-th holds a share of 1 / sqrt(n) of them, so that ten answers are 4,000 tokens.
CONTEXT_TOKENS = 750
# Neighbours on each side that an answer can take in.
REACH = 16
# Chroma is asked for more than are used: of the true 100 nearest among 14,000 chunks of redis it finds 96 when asked
# for 100, 99.3 when asked for 300, at a few milliseconds more.
NEIGHBOURS = 300
# With a filter: how many neighbours are asked for, and how many of them must pass to be trusted as the nearest.
FILTERED_NEIGHBOURS = 1_000
ENOUGH = 50
# cl100k tokens of code per character, when a chunk was not counted: 3.6 bytes per token (measured on redis).
CHARACTERS_PER_TOKEN = 3.6

# (index id, chunk id, score), best first.
Ranking = list[tuple[int, str, float]]
AskStore = Callable[[IndexRow, Vectors, int], list[tuple[str, float]] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What somebody looks for.

    `context`: tokens that the best answer may hold, its hit and the code around it (later ones hold less, see
    CONTEXT_TOKENS); 0 for the hits alone.
    """

    text: str
    limit: int = 10
    languages: Sequence[str] = ()
    kinds: Sequence[str] = ()
    path: str | None = None
    context: int = CONTEXT_TOKENS


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
    nearest: AskStore,
) -> list[Answer]:
    """The best answers over all given indexes.

    Args:
        vector_of: the query's vector for each space id, of unit length.
        nearest: asks the vector store for (chunk id, similarity) of an index, best first; None when the
            store cannot be asked now, and then the vectors in the state database are compared one by one.

    When a run publishes meanwhile, what was found may be swept away under the question: it is asked again of what is
    published now. Two processes or threads may publish as often as they like, so not for ever.
    """
    for _ in range(ASKED_AGAIN):
        answers = _search_once(state, indexes, query, vector_of, nearest)
        published = {index.id: index for index in state.catalog.indexes()}
        now = [published[index.id] for index in indexes if index.id in published]
        if [index.published for index in now] == [index.published for index in indexes]:
            return answers
        indexes = now
    return _search_once(state, indexes, query, vector_of, nearest)


def _search_once(
    state: State,
    indexes: Sequence[IndexRow],
    query: Query,
    vector_of: Mapping[int, Vectors],
    nearest: AskStore,
) -> list[Answer]:
    wanted = _filter(state, indexes, query)
    by_words = state.lookup.by_words([index.id for index in indexes], query_words(query.text), wanted, limit=CANDIDATES)
    by_meaning = _by_meaning(state, indexes, vector_of, wanted, nearest, by_words)
    hits = _hits(state, indexes, _joined_scores(by_words, by_meaning), wanted)
    _reward_files(hits)
    literal = {chunk_id: rank for rank, (_, chunk_id, _) in enumerate(by_words)}
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


def _joined_scores(by_words: Ranking, by_meaning: Sequence[Ranking]) -> dict[str, tuple[int, float]]:
    """Chunk id -> index id, and its score: the mean of what words and meaning say, each between 0 and 1.

    The words' best counts 1. Of the meanings the least similar candidate counts 0, because similarities of unlike texts
    begin anywhere (a convex combination: Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid
    Retrieval", 2023). A chunk that two refs have in different spaces counts once, where it is best.
    """
    places: dict[str, int] = {}
    meaning: dict[str, float] = {}
    words: dict[str, float] = {}
    for ranking in by_meaning:
        high, low = (ranking[0][2], ranking[-1][2]) if ranking else (0.0, 0.0)
        for index_id, chunk_id, similarity in ranking:
            share = (similarity - low) / (high - low) if high > low else 1.0
            meaning[chunk_id] = max(meaning.get(chunk_id, 0.0), share)
            places.setdefault(chunk_id, index_id)
    for index_id, chunk_id, score in by_words:
        words[chunk_id] = score / by_words[0][2] if by_words[0][2] > 0 else 1.0
        places[chunk_id] = index_id
    return {
        chunk_id: (index_id, MEANING * meaning.get(chunk_id, 0.0) + (1 - MEANING) * words.get(chunk_id, 0.0))
        for chunk_id, index_id in places.items()
    }


def _hits(
    state: State, indexes: Sequence[IndexRow], scores: Mapping[str, tuple[int, float]], wanted: Filter
) -> list[_Hit]:
    """The ranked chunks themselves, each from the index it was found in."""
    hits = []
    for index in indexes:
        ids = [chunk_id for chunk_id, (index_id, _) in scores.items() if index_id == index.id]
        found = state.lookup.chunks(index.published, ids, wanted)
        hits += [_Hit(index, chunk, scores[chunk_id][1]) for chunk_id, chunk in found.items()]
    return hits


def _reward_files(hits: Sequence[_Hit]) -> None:
    """Raise the scores of chunks whose file holds other good ones; the best possible score stays 1."""
    by_file: dict[int, list[float]] = {}
    for hit in hits:
        by_file.setdefault(hit.chunk.source_id, []).append(hit.score)
    worth = {
        source_id: sum(score * FILE_DECAY**place for place, score in enumerate(sorted(scores)[: -FILE_CHUNKS - 1 : -1]))
        for source_id, scores in by_file.items()
    }
    best_file, best = max(worth.values(), default=0.0), max((hit.score for hit in hits), default=0.0)
    for hit in hits:
        share = worth[hit.chunk.source_id] / best_file if best_file > 0 else 0.0
        hit.score = (hit.score + FILE * best * share) / (1 + FILE)


def _filter(state: State, indexes: Sequence[IndexRow], query: Query) -> Filter:
    sources = None
    if query.path is not None:
        glob = PathGlob.parse(query.path)
        sources = frozenset(
            source
            for index in indexes
            for path, source in state.lookup.files(index.published, containing=glob.pieces())
            if glob.matches(path)
        )
    return Filter(languages=tuple(query.languages), kinds=tuple(query.kinds), sources=sources)


def _by_meaning(
    state: State,
    indexes: Sequence[IndexRow],
    vector_of: Mapping[int, Vectors],
    wanted: Filter,
    nearest: AskStore,
    by_words: Ranking,
) -> list[Ranking]:
    """One ranking for each vector space, by similarity over all indexes in it.

    Similarities of two models, or of two numbers of dimensions, say nothing about each other: each space has its own
    scale.
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
    nearest: AskStore,
    by_words: Ranking,
) -> Ranking:
    """Chunks by similarity over indexes of one space; a chunk that several refs have counts once.

    What the words found is compared exactly: among thousands of chunks that are alike an HNSW search misses half of the
    nearest, and nothing that is not similar at all gets a rank.
    """
    found = [
        (similarity, number, index.id, chunk_id)
        for number, index in enumerate(indexes)
        for chunk_id, similarity in _nearest_in(state, index, vector, wanted, nearest)
    ]
    for number, index in enumerate(indexes):
        ids = [chunk_id for index_id, chunk_id, _ in by_words if index_id == index.id]
        stored_of = state.lookup.vectors_of(index.id, index.space_id, ids)
        found += [(float(stored @ vector), number, index.id, chunk_id) for chunk_id, stored in stored_of.items()]
    ranking: dict[str, tuple[int, float]] = {}
    for similarity, _, index_id, chunk_id in sorted(found, key=lambda item: (-item[0], item[1], item[3])):
        if similarity > 0:
            ranking.setdefault(chunk_id, (index_id, similarity))
    return [(index_id, chunk_id, similarity) for chunk_id, (index_id, similarity) in ranking.items()][:CANDIDATES]


def _nearest_in(
    state: State, index: IndexRow, vector: Vectors, wanted: Filter, nearest: AskStore
) -> list[tuple[str, float]]:
    """(chunk id, similarity) in one index, best first.

    Chroma's own filter costs 20 to 65 times a plain query (reliability.md, 1). So a filtered search asks for
    more neighbours and keeps those that pass; when too few do, all stored vectors that pass are compared.
    """
    found = nearest(index, vector, FILTERED_NEIGHBOURS if wanted else NEIGHBOURS)
    if found is not None:
        if not wanted:
            return found[:CANDIDATES]
        passing = state.lookup.chunks(index.published, [chunk_id for chunk_id, _ in found], wanted)
        if len(passing) >= ENOUGH:
            return [pair for pair in found if pair[0] in passing][:CANDIDATES]
    return scan(state, index, vector, wanted, CANDIDATES)


def scan(state: State, index: IndexRow, vector: Vectors, wanted: Filter, limit: int) -> list[tuple[str, float]]:
    """The nearest chunks by comparing with every stored vector: (chunk id, cosine similarity), best first."""
    pages = state.lookup.vectors(index.published, wanted)
    return exact.nearest(pages, vector[np.newaxis], limit)[0]


def _spans(state: State, ranked: Sequence[_Hit], query: Query) -> list[_Span]:
    """Widen the best hits, each chunk in at most one answer."""
    scores = {(hit.chunk.source_id, hit.chunk.ordinal): hit.score for hit in ranked}
    spans: list[_Span] = []
    taken: dict[int, set[int]] = {}
    for hit in ranked:
        if len(spans) == query.limit:
            break
        used = taken.setdefault(hit.chunk.source_id, set())
        if hit.chunk.ordinal in used:
            continue
        # The first answers are the likeliest, so they may take more of what a reader (or an agent) has room for.
        room = int(query.context / sqrt(len(spans) + 1))
        span = _Span(hit, _widen(state, hit.chunk, room, used, scores))
        used.update(chunk.ordinal for chunk in span.chunks)
        spans.append(span)
    return spans


def _widen(
    state: State, chunk: FoundChunk, room: int, used: set[int], scores: Mapping[tuple[int, int], float]
) -> list[FoundChunk]:
    """The chunk and its neighbours while all of them fit in `room` tokens.

    Of the two next ones first that of the same definition, then that which was found with the better score, then
    what follows.
    """
    left = room - _size(chunk)
    if left <= 0:
        return [chunk]
    around = {
        near.ordinal: near
        for near in state.lookup.neighbours(chunk.source_id, chunk.ordinal - REACH, chunk.ordinal + REACH)
    }
    around.setdefault(chunk.ordinal, chunk)  # its content may have been swept meanwhile
    first = last = chunk.ordinal

    def worth(near: FoundChunk) -> tuple[bool, float, bool]:
        same = near.symbol is not None and near.symbol == chunk.symbol
        return same, scores.get((near.source_id, near.ordinal), 0.0), near.ordinal > chunk.ordinal

    while True:
        fitting = [
            near
            for ordinal in (first - 1, last + 1)
            if (near := around.get(ordinal)) is not None and ordinal not in used and _size(near) <= left
        ]
        if not fitting:
            return [around[ordinal] for ordinal in range(first, last + 1)]
        best = max(fitting, key=worth)
        left -= _size(best)
        first, last = min(first, best.ordinal), max(last, best.ordinal)


def _size(chunk: FoundChunk) -> int:
    return chunk.tokens if chunk.tokens is not None else int(len(chunk.text) / CHARACTERS_PER_TOKEN) + 1


def _answer(span: _Span) -> Answer:
    hit, chunks = span.hit, span.chunks
    return Answer(
        score=round(hit.score, 4),
        repository=hit.index.repository,
        ref=hit.index.ref,
        commit=hit.index.commit or "",
        path=hit.chunk.path,
        language=hit.chunk.language,
        kind=hit.chunk.kind,
        symbol=hit.chunk.symbol,
        start_line=chunks[0].start_line,
        end_line=chunks[-1].end_line,
        text=_joined(chunks),
        chunk_ids=[chunk.chunk_id for chunk in chunks],
        hit_lines=(hit.chunk.start_line, hit.chunk.end_line),
    )


def _joined(chunks: Sequence[FoundChunk]) -> str:
    """The texts with the blank lines between them, which belong to no chunk, put back (white space on them is not).

    Between the cells of a notebook there are outputs and images, which nobody wants to read: a line break.
    """
    parts = [chunks[0].text]
    for before, after in pairwise(chunks):
        if before.language == NOTEBOOK:
            gap = "\n"
        elif before.end_line == after.start_line:
            gap = " " * (after.start_byte - before.end_byte)
        elif before.text.endswith("\n"):
            gap = "\n" * max(0, after.start_line - before.end_line - 1)
        else:
            gap = "\n" * (after.start_line - before.end_line)
        parts.append(gap + after.text)
    return "".join(parts)
