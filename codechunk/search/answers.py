"""Ranked chunks -> answers: a file is ranked once, by its best chunk, and shows its best spans within a budget.

Small vectors, big answers: definition-sized chunks are ranked, and each span is widened by its neighbours in the same
file. Which spans are shown is decided over all files together, so that a file with much to say does not take the room
of the others; measured on the tuning sets of `scripts/bench retrieval` (docs/benchmarks.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

from codechunk.documents import Answer, Matched, Span
from codechunk.search.content import content_of
from codechunk.search.definitions import defines
from codechunk.search.links import absolute_path, permalink
from codechunk.search.question import Question
from codechunk.state import FoundChunk, IndexRow, State
from codechunk.state.lookup import OutlinedChunk
from codechunk.text.notebook_text import NOTEBOOK

# Tokens of the best span; the n-th holds a share of 1 / sqrt(n) of them.
CONTEXT_TOKENS = 750
# Tokens of all spans, as a multiple of the best one's: ten answers are some 4,000 tokens.
BUDGET = 5.0
# Neighbours on each side that a span can take in.
REACH = 16
# cl100k tokens of code per byte, when a chunk was not counted: 3.6 bytes per token (measured on redis).
BYTES_PER_TOKEN = 3.6


@dataclass(slots=True)
class Hit:
    """A ranked chunk.

    Attributes:
        words: the numbers of the query's stems that are in it.
        meaning: its share of meaning, see Candidate.
    """

    index: IndexRow
    chunk: FoundChunk
    score: float
    words: set[int]
    meaning: float


@dataclass(slots=True)
class _Taken:
    """Consecutive chunks around a hit, by first and last ordinal."""

    hit: Hit
    first: int
    last: int


@dataclass(slots=True)
class _File:
    """What is shown of one file, its best span first."""

    spans: list[_Taken] = field(default_factory=list)
    used: set[int] = field(default_factory=set)


def answers(
    state: State,
    question: Question,
    ranked: Sequence[Hit],
    *,
    limit: int,
    context: int,
    also: Mapping[str, Sequence[str]] | None = None,
) -> list[Answer]:
    """The first `limit` files with their spans.

    Args:
        ranked: best first.
        context: tokens that the best span may hold, its hit and the code around it; 0 for the hits alone.
        also: where else the code of a chunk is, by its id.
    """
    outline = _outline(state, ranked, limit)
    files = _chosen(ranked, outline, limit, context)
    chunks = {(hit.chunk.source_id, hit.chunk.ordinal): hit.chunk for hit in ranked}
    missing = [
        (span.hit.chunk.source_id, ordinal)
        for file in files
        for span in file.spans
        for ordinal in range(span.first, span.last + 1)
        if (span.hit.chunk.source_id, ordinal) not in chunks
    ]
    chunks |= state.lookup.rows([outline[place].row for place in missing])
    return [_answer(question, file, rank, chunks, also or {}) for rank, file in enumerate(files, start=1)]


def _outline(state: State, ranked: Sequence[Hit], limit: int) -> dict[tuple[int, int], OutlinedChunk]:
    """The surroundings of the hits in the files that are shown."""
    sources = set(list(dict.fromkeys(hit.chunk.source_id for hit in ranked))[:limit])
    ordinals = [hit.chunk.ordinal for hit in ranked if hit.chunk.source_id in sources]
    if not ordinals:
        return {}
    return state.lookup.outline(sorted(sources), min(ordinals) - REACH, max(ordinals) + REACH)


def _chosen(
    ranked: Sequence[Hit], outline: Mapping[tuple[int, int], OutlinedChunk], limit: int, context: int
) -> list[_File]:
    """The files that are shown: spans are taken in the order of their hits while the budget lasts.

    Files that come after it show their best chunk alone.
    """
    scores = {(hit.chunk.source_id, hit.chunk.ordinal): hit.score for hit in ranked}
    files: dict[int, _File] = {}
    left = BUDGET * (context or CONTEXT_TOKENS) * limit / 10
    count = 0
    for hit in ranked:
        source, ordinal = hit.chunk.source_id, hit.chunk.ordinal
        file = files.get(source)
        if file is None:
            if len(files) == limit:
                continue
            file = files[source] = _File()
        elif left <= 0 or ordinal in file.used:
            continue
        # The first spans are the likeliest, so they may take more of what a reader (or an agent) has room for.
        room = int(context / sqrt(count + 1)) if left > 0 else 0
        first, last, size = _widened(hit.chunk, room, file.used, outline, scores)
        file.spans.append(_Taken(hit, first, last))
        file.used.update(range(first, last + 1))
        left -= size
        count += 1
        if left <= 0 and len(files) == limit:
            break
    return list(files.values())


def _widened(
    chunk: FoundChunk,
    room: int,
    used: set[int],
    outline: Mapping[tuple[int, int], OutlinedChunk],
    scores: Mapping[tuple[int, int], float],
) -> tuple[int, int, int]:
    """First and last ordinal of the chunk and its neighbours while all of them fit in `room` tokens, and their tokens.

    Of the two next ones first that of the same definition, then that which was found with the better score, then
    what follows.
    """
    source = chunk.source_id
    size = _tokens(chunk.tokens, len(chunk.text.encode()))
    first = last = chunk.ordinal

    def worth(near: OutlinedChunk) -> tuple[bool, float, bool]:
        same = near.symbol is not None and near.symbol == chunk.symbol
        return same, scores.get((source, near.ordinal), float("-inf")), near.ordinal > chunk.ordinal

    while True:
        fitting = [
            near
            for ordinal in (first - 1, last + 1)
            if abs(ordinal - chunk.ordinal) <= REACH
            and ordinal not in used
            and (near := outline.get((source, ordinal))) is not None
            and size + _size(near) <= room
        ]
        if not fitting:
            return first, last, size
        best = max(fitting, key=worth)
        size += _size(best)
        first, last = min(first, best.ordinal), max(last, best.ordinal)


def _size(chunk: OutlinedChunk) -> int:
    return _tokens(chunk.tokens, chunk.size_bytes)


def _tokens(counted: int | None, size_bytes: int) -> int:
    return counted if counted is not None else int(size_bytes / BYTES_PER_TOKEN) + 1


def _answer(
    question: Question,
    file: _File,
    rank: int,
    found: Mapping[tuple[int, int], FoundChunk],
    also: Mapping[str, Sequence[str]],
) -> Answer:
    best, *others = [_span(taken, found) for taken in file.spans]
    hit = file.spans[0].hit
    index, chunk = hit.index, hit.chunk
    return Answer(
        score=best.score,
        repository=index.repository,
        ref=index.ref,
        commit=index.commit or "",
        path=chunk.path,
        language=chunk.language,
        kind=best.kind,
        symbol=best.symbol,
        start_line=best.start_line,
        end_line=best.end_line,
        text=best.text,
        chunk_ids=best.chunk_ids,
        hit_lines=best.hit_lines,
        file_rank=rank,
        content=content_of(chunk.path, chunk.language),
        matched=_matched(question, hit),
        url=permalink(index, chunk.path, best.start_line, best.end_line),
        absolute_path=absolute_path(index, chunk.path),
        spans=others,
        also=also.get(chunk.chunk_id, ()),
    )


def _matched(question: Question, hit: Hit) -> Matched:
    return Matched(
        words=[question.stems[number] for number in sorted(hit.words)],
        symbol=defines(question, hit.chunk) > 0,
        meaning=round(hit.meaning, 4) if hit.meaning > 0 else None,
    )


def _span(taken: _Taken, found: Mapping[tuple[int, int], FoundChunk]) -> Span:
    chunk = taken.hit.chunk
    every = (found.get((chunk.source_id, ordinal)) for ordinal in range(taken.first, taken.last + 1))
    chunks = [one for one in every if one is not None]
    return Span(
        score=round(taken.hit.score, 4),
        kind=chunk.kind,
        symbol=chunk.symbol,
        start_line=chunks[0].start_line,
        end_line=chunks[-1].end_line,
        text=_joined(chunks),
        chunk_ids=[one.chunk_id for one in chunks],
        hit_lines=(chunk.start_line, chunk.end_line),
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
