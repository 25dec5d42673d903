"""Query -> answers: candidates by words, by meaning and by name; evidence for each; weights; the best ones as files.

What a query asks for is read first (`question`), what speaks for each candidate is put into numbers (`evidence`), and
the weights of these numbers were learned (`weights`): on the tuning halves of `scripts/bench search-quality` and
`scripts/bench retrieval`, see docs/benchmarks.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from codechunk.documents import Answer
from codechunk.providers import SYNTHETIC
from codechunk.search.answers import CONTEXT_TOKENS, Hit, answers
from codechunk.search.content import Content, content_of
from codechunk.search.definitions import defines, names_one
from codechunk.search.evidence import Candidate, Evidence, evidence
from codechunk.search.filters import filter_of
from codechunk.search.once import once
from codechunk.search.question import Question, read
from codechunk.search.scope import is_early
from codechunk.search.weights import VALUES
from codechunk.state import Filter, FoundChunk, Generation, IndexRow, State
from codechunk.state.embeddings import Vectors
from codechunk.text.words import index_words
from codechunk.vectors import exact

# How often a question is asked anew because a run published meanwhile.
ASKED_AGAIN = 3
# Candidates by words and by meaning; definitions of a name; chunks with a text in quotes.
BY_WORDS, BY_MEANING, BY_SYMBOL, BY_PHRASE = 110, 70, 60, 30
# What the definition of the symbol that is asked for gains: more than all other evidence together can say.
DEFINED = 2.0
# The same for the file that is asked for by its path, and for a text in quotes, by the share that is found.
PATH_ASKED, QUOTED = 3.0, 1.0
# What a file gains whose kind is asked for: tests, examples, documentation, data.
KIND_ASKED = 0.3
# Chunks of a file that is asked for.
FIRST_OF_FILE = 3
# What a definition is worth in files that are no code.
DEFINITIONS_ELSEWHERE = 0.3
# Chroma is asked for more than are used: of the true 100 nearest among 14,000 chunks of redis it finds 96 when asked
# for 100, 99.3 when asked for 300, at a few milliseconds more.
NEIGHBOURS = 300
# With a filter: how many neighbours are asked for, and how many of them must pass to be trusted as the nearest.
FILTERED_NEIGHBOURS = 1_000
ENOUGH = 50
# The vectors of so few files are compared sooner than neighbours are sorted out.
FEW_FILES = 50
# Weighed evidence -> score: these two make .5 of what half of the time answers, on the tuning halves.
MIDDLE, STEEPNESS = 0.77, 4.0
# A file with a smaller share of the words proves nothing: every question of the tuning half has one with more, of
# questions about another repository three in four have.
ENOUGH_WORDS = 0.33

# (index id, chunk id, score), best first.
Ranking = list[tuple[int, str, float]]
AskStore = Callable[[IndexRow, Vectors, int], list[tuple[str, float]] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What somebody looks for.

    `paths`: globs as in .gitignore, one of which a file must match; those with a `!` in front exclude. `content`: kinds
    of files, see codechunk.search.content. Empty sequences do not restrict.

    `context`: tokens that the best answer may hold, its hit and the code around it (later ones hold less, see
    CONTEXT_TOKENS); 0 for the hits alone. `anyway`: answer with the nearest code even when nothing matches well.
    """

    text: str
    limit: int = 10
    languages: Sequence[str] = ()
    kinds: Sequence[str] = ()
    paths: Sequence[str] = ()
    content: Sequence[Content] = ()
    context: int = CONTEXT_TOKENS
    anyway: bool = False


def search(
    state: State,
    indexes: Sequence[IndexRow],
    query: Query,
    *,
    vector_of: Mapping[int, Vectors],
    nearest: AskStore,
    absent_from: Generation | None = None,
) -> list[Answer]:
    """The best answers over all given indexes.

    Args:
        vector_of: the query's vector for each space id, of unit length; an index whose space is not there is searched
            by words alone.
        nearest: asks the vector store for (chunk id, similarity) of an index, best first; None when the
            store cannot be asked now, and then the vectors in the state database are compared one by one.
        absent_from: only chunks that this generation has not; None: all.

    When a run publishes meanwhile, what was found may be swept away under the question: it is asked again of what is
    published now. Two processes or threads may publish as often as they like, so not for ever.
    """
    for _ in range(ASKED_AGAIN):
        found = _search_once(state, indexes, query, vector_of, nearest, absent_from)
        published = {index.id: index for index in state.catalog.indexes()}
        now = [published.get(index.id, index) for index in indexes if index.id in published or is_early(index)]
        if [index.published for index in now] == [index.published for index in indexes]:
            return found
        indexes = now
    return _search_once(state, indexes, query, vector_of, nearest, absent_from)


def _search_once(
    state: State,
    indexes: Sequence[IndexRow],
    query: Query,
    vector_of: Mapping[int, Vectors],
    nearest: AskStore,
    absent_from: Generation | None,
) -> list[Answer]:
    question = read(query.text)
    candidates = candidates_of(
        state, indexes, query, question, vector_of=vector_of, nearest=nearest, absent_from=absent_from
    )
    seen = evidence(question, candidates)
    ranked = ranked_hits(question, candidates, seen)
    if not query.anyway and not matches_well(question, ranked, seen.best_share):
        return []
    kept, also = once(state, indexes, ranked)
    return answers(state, question, kept, limit=query.limit, context=query.context, also=also)


def candidates_of(
    state: State,
    indexes: Sequence[IndexRow],
    query: Query,
    question: Question,
    *,
    vector_of: Mapping[int, Vectors],
    nearest: AskStore,
    absent_from: Generation | None = None,
) -> list[Candidate]:
    """Every chunk that is weighed: found by words, by meaning, by name, by path or as it is written."""
    ids = [index.id for index in indexes]
    wanted = state.lookup.narrowed(ids, _filter(query, absent_from))
    by_words = state.lookup.by_words(ids, question.words, wanted, limit=BY_WORDS)
    by_meaning = _by_meaning(state, indexes, vector_of, wanted, nearest, by_words)
    scores: dict[str, tuple[int, float, float]] = {}
    for ranking in by_meaning:
        high, low = (ranking[0][2], ranking[-1][2]) if ranking else (0.0, 0.0)
        for index_id, chunk_id, similarity in ranking:
            # The least similar candidate counts 0, because similarities of unlike texts begin anywhere (Bruch, Gai and
            # Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023).
            share = (similarity - low) / (high - low) if high > low else 1.0
            place, _, meaning = scores.get(chunk_id, (index_id, 0.0, 0.0))
            scores[chunk_id] = place, 0.0, max(meaning, share)
    for index_id, chunk_id, score in by_words:
        _, _, meaning = scores.get(chunk_id, (index_id, 0.0, 0.0))
        scores[chunk_id] = index_id, score / by_words[0][2] if by_words[0][2] > 0 else 1.0, meaning
    for index_id, chunk_id in _by_name(state, indexes, question, wanted):
        scores.setdefault(chunk_id, (index_id, 0.0, 0.0))
    found = _candidates(state, indexes, scores, wanted)
    return found + _of_path(state, indexes, question, wanted, found)


def _by_name(state: State, indexes: Sequence[IndexRow], question: Question, wanted: Filter) -> list[tuple[int, str]]:
    """Chunks that define a name that is asked for, or that hold a text in quotes: (index, chunk id)."""
    ids = [index.id for index in indexes]
    names = {question.symbol[-1]} if question.symbol else question.names
    words = [split[0] for name in sorted(names) if (split := index_words(name).split())]
    found = state.lookup.by_symbol(ids, words, partial(names_one, names), wanted, limit=BY_SYMBOL)
    for literal in question.literals:
        found += state.lookup.by_phrase(ids, index_words(literal).split(), wanted, limit=BY_PHRASE)
    return found


def _candidates(
    state: State, indexes: Sequence[IndexRow], scores: Mapping[str, tuple[int, float, float]], wanted: Filter
) -> list[Candidate]:
    """The chunks themselves, each from the index it was found in."""
    candidates = []
    for index in indexes:
        ids = [chunk_id for chunk_id, (index_id, _, _) in scores.items() if index_id == index.id]
        found = state.lookup.chunks(index.published, ids, wanted)
        candidates += [Candidate(index, chunk, *scores[chunk_id][1:]) for chunk_id, chunk in found.items()]
    return candidates


def _of_path(
    state: State, indexes: Sequence[IndexRow], question: Question, wanted: Filter, known: Sequence[Candidate]
) -> list[Candidate]:
    """The first chunks of the files that are asked for by their path."""
    if question.path is None:
        return []
    ids = {candidate.chunk.chunk_id for candidate in known}
    more = []
    for index in indexes:
        files = state.lookup.files(index.published, containing=(question.path,))
        sources = [source for path, source in files if is_path(question, path)][:BY_PHRASE]
        first = state.lookup.outline(sources, 0, FIRST_OF_FILE - 1)
        chunks = state.lookup.rows([chunk.row for chunk in first.values()])
        some = [chunk.chunk_id for chunk in chunks.values() if chunk.chunk_id not in ids]
        found = state.lookup.chunks(index.published, some, wanted)
        more += [Candidate(index, chunk, 0.0, 0.0) for chunk in found.values()]
    return more


def is_path(question: Question, path: str) -> bool:
    """Whether this is the file that is asked for: the path, or the end of it."""
    return question.path is not None and f"/{path}".endswith(f"/{question.path.lstrip('./')}")


def ranked_hits(question: Question, candidates: Sequence[Candidate], seen: Evidence) -> list[Hit]:
    """The candidates by what speaks for them, best first."""
    weighed = (seen.rows @ VALUES).tolist()
    if question.symbol or question.literals or question.path or question.about:
        weighed = [
            weight + named(question, candidate.chunk) for weight, candidate in zip(weighed, candidates, strict=True)
        ]
    hits = [
        Hit(
            index=candidate.index,
            chunk=candidate.chunk,
            score=1 / (1 + math.exp(STEEPNESS * (MIDDLE - weight))),
            words=words,
            meaning=candidate.meaning,
        )
        for candidate, words, weight in zip(candidates, seen.words, weighed, strict=True)
    ]
    hits.sort(key=lambda hit: (-hit.score, hit.index.repository, hit.chunk.path, hit.chunk.start_line, hit.index.id))
    return hits


def matches_well(question: Question, ranked: Sequence[Hit], best_share: float) -> bool:
    """Whether what was found is worth showing, or only the nearest of what there is.

    A path or a symbol has to be there, the symbol at least with all its words. Hash vectors know no other words than
    the query's: where no file has enough of these, nothing matches. Vectors of a model may know better: they are
    believed.
    """
    if not ranked:
        return False
    if question.path is not None and any(is_path(question, hit.chunk.path) for hit in ranked):
        return True
    if question.symbol:
        words = set(range(len(question.stems)))
        return any(words <= hit.words or defines(question, hit.chunk) for hit in ranked)
    return best_share >= ENOUGH_WORDS or any(hit.index.space.provider != SYNTHETIC for hit in ranked)


def named(question: Question, chunk: FoundChunk) -> float:
    """What a chunk gains because the query names it: its symbol, its path, its very text."""
    gain = defines(question, chunk) * DEFINED
    if gain and content_of(chunk.path, chunk.language) != "code":
        gain *= DEFINITIONS_ELSEWHERE
    if is_path(question, chunk.path):
        gain += PATH_ASKED
    if question.about and content_of(chunk.path, chunk.language) in question.about:
        gain += KIND_ASKED
    if question.literals:
        there = sum(literal in chunk.text for literal in question.literals)
        gain += QUOTED * there / len(question.literals)
    return gain


def _filter(query: Query, absent_from: Generation | None) -> Filter:
    wanted = filter_of(languages=query.languages, kinds=query.kinds, paths=query.paths, content=query.content)
    return replace(wanted, absent_from=absent_from)


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
        if space_id in vector_of
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
    return [(index_id, chunk_id, similarity) for chunk_id, (index_id, similarity) in ranking.items()][:BY_MEANING]


def _nearest_in(
    state: State, index: IndexRow, vector: Vectors, wanted: Filter, nearest: AskStore
) -> list[tuple[str, float]]:
    """(chunk id, similarity) in one index, best first.

    Chroma's own filter costs 20 to 65 times a plain query (reliability.md, 1). So a filtered search asks for
    more neighbours and keeps those that pass; when too few do, all stored vectors that pass are compared.
    """
    few = wanted.sources is not None and len(wanted.sources) <= FEW_FILES
    found = None if few else nearest(index, vector, FILTERED_NEIGHBOURS if wanted else NEIGHBOURS)
    if found is not None:
        if not wanted:
            return found[:BY_MEANING]
        passing = state.lookup.chunks(index.published, [chunk_id for chunk_id, _ in found], wanted)
        if len(passing) >= ENOUGH:
            return [pair for pair in found if pair[0] in passing][:BY_MEANING]
    return scan(state, index, vector, wanted, BY_MEANING)


def scan(state: State, index: IndexRow, vector: Vectors, wanted: Filter, limit: int) -> list[tuple[str, float]]:
    """The nearest chunks by comparing with every stored vector: (chunk id, cosine similarity), best first."""
    pages = state.lookup.vectors(index.published, wanted)
    return exact.nearest(pages, vector[np.newaxis], limit)[0]
