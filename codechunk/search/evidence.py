"""What speaks for each candidate: its words, its meaning, its names, its file. A row of numbers for each. Pure.

The numbers are of one size (mostly 0 to 1) and mean the same for every question and model, so that one set of weights
(codechunk.search.weights) can be learned for them.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from codechunk.search.content import content_of, is_entry
from codechunk.search.question import Question
from codechunk.state import FoundChunk, IndexRow
from codechunk.text.stems import stems
from codechunk.text.words import index_words

# Of a file's chunks each counts half as much as the one before, and the rest is too little to matter.
FILE_DECAY, FILE_CHUNKS = 0.5, 6
# Share of meaning where words and meaning are joined to weigh a file.
MEANING = 0.4
# BM25 over the words that were found of a file: saturation and length as usual, a symbol's words twice.
_K1, _B, _SYMBOL_TIMES = 1.2, 0.6, 2
# A chunk of so many words counts as long; most are shorter.
_LONG_WORDS = 400
# A word of a path meets a query's word that begins like it ("caching", "cache"), a little less than the same word.
_BEGINS_ALIKE, _SHORTEST_ALIKE = 0.8, 4
_TYPES = frozenset({"class", "struct", "interface", "module", "enum", "type"})
_LAST_NAME = re.compile(r"::|[.#]|, | > ")
# Comments that begin a line, in most languages; directives of C's preprocessor are none.
_COMMENT = re.compile(
    r"^[ \t]*(?:/\*.*?(?:\*/|\Z)|\{-.*?(?:-\}|\Z)|(?:@\w+ )?r?\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)"
    r"|(?://|#(?![ \t]*(?:include|define|ifn?def|if|endif|else|elif|pragma|undef)\b)|--|;;|%)[^\n]*)",
    re.M | re.S,
)

NAMES = (
    "words",
    "meaning",
    "words and meaning",
    "words covered",
    "covered by symbol",
    "covered by last name",
    "last name asked for",
    "last name covers and is asked for",
    "covered by comments",
    "defines a name of the sentence",
    "type named by a word",
    "is a type",
    "is a block",
    "is a section",
    "two words are in its symbol",
    "length",
    "covered by file name",
    "file name asked for",
    "whole file name asked for",
    "covered by folders",
    "covered by last folder",
    "file's chunks found",
    "file's best meaning",
    "file's words",
    "file covers",
    "file covers all",
    "tests",
    "documentation",
    "data",
    "entry",
    "depth",
    "two words are its file name",
)
"""What each column says; the order of `codechunk.search.weights`."""


@dataclass(slots=True)
class Candidate:
    """A chunk that may answer.

    Attributes:
        words: its BM25 score as a share of the best one's; 0 when no word of the query is in it.
        meaning: its similarity, 0 for the least similar candidate and 1 for the most similar one.
    """

    index: IndexRow
    chunk: FoundChunk
    words: float
    meaning: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for the candidates.

    Attributes:
        rows: shape (candidates, NAMES).
        words: for each candidate the numbers of the query's stems that it has, in path, symbol or text.
    """

    rows: NDArray[np.float32]
    words: Sequence[set[int]]


def evidence(question: Question, candidates: Sequence[Candidate]) -> Evidence:
    """Weigh the candidates of one question against each other."""
    if not candidates:
        return Evidence(np.zeros((0, len(NAMES)), np.float32), [])
    seen = [_Seen(candidate.chunk) for candidate in candidates]
    numbers = _numbers_of(question, seen)
    for one in seen:
        one.count(numbers, len(question.stems))
    rarity = _rarity(seen, len(question.stems))
    files = _files(candidates, seen, rarity)
    query = _Query(question, numbers, rarity)
    paths: dict[str, list[float]] = {}
    rows = []
    for candidate, one in zip(candidates, seen, strict=True):
        path = candidate.chunk.path
        if path not in paths:
            paths[path] = query.path_row(path, candidate.chunk.language)
        rows.append(query.chunk_row(candidate, one) + query.order(paths[path], files[candidate.chunk.source_id]))
    return Evidence(np.asarray(rows, np.float32), [one.all for one in seen])


class _Seen:
    """The words of a chunk, and which of them are the query's."""

    def __init__(self, chunk: FoundChunk) -> None:
        symbol = chunk.symbol or ""
        self.body = index_words(chunk.text).split()
        self.comments = index_words("\n".join(_COMMENT.findall(chunk.text))).split()
        self.symbol = index_words(symbol).split()
        self.last = index_words(_LAST_NAME.split(symbol)[-1]).split()
        self.path = index_words(chunk.path).split()
        self.length = len(self.body) + len(self.symbol) + len(self.path)

    def count(self, numbers: dict[str, int], words: int) -> None:
        """Find the query's words among them."""
        self.times = [0] * words
        for word in self.body:
            if word in numbers:
                self.times[numbers[word]] += 1
        self.in_symbol = {numbers[word] for word in self.symbol if word in numbers}
        self.in_comments = {numbers[word] for word in self.comments if word in numbers}
        in_path = {numbers[word] for word in self.path if word in numbers}
        self.all = {number for number, times in enumerate(self.times) if times} | self.in_symbol | in_path
        for number in self.in_symbol:
            self.times[number] += _SYMBOL_TIMES
        self.in_last = {numbers[word] for word in self.last if word in numbers}
        self.last_asked = sum(word in numbers for word in self.last) / len(self.last) if self.last else 0.0


def _numbers_of(question: Question, seen: Sequence[_Seen]) -> dict[str, int]:
    """Each word of the candidates that has the stem of a query's word -> that word's number.

    Stems begin as their words do, so that most words need no stem.
    """
    number_of = {stem: number for number, stem in enumerate(question.stems)}
    beginnings = {stem[:2] for stem in number_of}
    words = {word for one in seen for part in (one.body, one.symbol, one.path) for word in part}
    found = stems(word for word in words if word[:2] in beginnings)
    return {word: number_of[stem] for word, stem in found.items() if stem in number_of}


def _rarity(seen: Sequence[_Seen], words: int) -> list[float]:
    """Each query word's share of what the query says: the fewer candidates have it, the more. The sum is 1."""
    having = [sum(number in one.all for one in seen) for number in range(words)]
    weights = [math.log(1 + (len(seen) - count + 0.5) / (count + 0.5)) for count in having]
    whole = sum(weights) or 1.0
    return [weight / whole for weight in weights]


def _files(candidates: Sequence[Candidate], seen: Sequence[_Seen], rarity: Sequence[float]) -> dict[int, list[float]]:
    """Content -> what its candidates say together: chunks found, best meaning, words, covered, all covered."""
    members: dict[int, list[int]] = defaultdict(list)
    for place, candidate in enumerate(candidates):
        members[candidate.chunk.source_id].append(place)
    worth, words = {}, {}
    counts = {
        source: [sum(column) for column in zip(*(seen[place].times for place in places), strict=True)]
        for source, places in members.items()
    }
    size = {source: candidates[places[0]].chunk.file_characters for source, places in members.items()}
    mean = sum(size.values()) / len(size) or 1.0
    having = [sum(bool(times[number]) for times in counts.values()) for number in range(len(rarity))]
    weights = [math.log(1 + (len(counts) - count + 0.5) / (count + 0.5)) for count in having]
    for source, places in members.items():
        scores = sorted(
            (MEANING * candidates[place].meaning + (1 - MEANING) * candidates[place].words for place in places),
            reverse=True,
        )
        worth[source] = sum(score * FILE_DECAY**rank for rank, score in enumerate(scores[:FILE_CHUNKS]))
        norm = _K1 * (1 - _B + _B * size[source] / mean)
        words[source] = sum(
            weight * times * (_K1 + 1) / (times + norm)
            for weight, times in zip(weights, counts[source], strict=True)
            if times
        )
    most_worth, most_words = max(worth.values()) or 1.0, max(words.values()) or 1.0
    found = {}
    for source, places in members.items():
        covered = sum(share for share, times in zip(rarity, counts[source], strict=True) if times)
        best = max(candidates[place].meaning for place in places)
        found[source] = [worth[source] / most_worth, best, words[source] / most_words, covered, covered**4]
    return found


class _Query:
    """The query as paths and chunks are held against it."""

    def __init__(self, question: Question, numbers: dict[str, int], rarity: Sequence[float]) -> None:
        self._question, self._numbers, self._rarity = question, numbers, rarity
        self._pairs = {one + other for one, other in pairwise(question.words)}
        self._spoken = {word.lower(): word for word in re.findall(r"[A-Za-z]{4,}", question.text)}

    def _share(self, numbers: set[int]) -> float:
        return sum(self._rarity[number] for number in numbers)

    def path_row(self, path: str, language: str) -> list[float]:
        """What a path says; columns from "covered by file name" on, without those of the file's chunks."""
        folders, _, name = path.rpartition("/")
        stem = name.rpartition(".")[0] or name
        covered, asked = self._name(index_words(stem).split())
        in_folders = {self._numbers[word] for word in index_words(folders).split() if word in self._numbers}
        last = index_words(folders.rpartition("/")[2]).split()
        in_last = {self._numbers[word] for word in last if word in self._numbers}
        content = content_of(path, language)
        wanted = content in self._question.about
        return [
            covered,
            asked,
            float(asked >= 0.99),
            self._share(in_folders),
            self._share(in_last),
            float(content == "tests" and not wanted),
            float(content == "docs" and not wanted),
            float(content == "data" and not wanted),
            float(is_entry(path)),
            path.count("/") / 5,
            float(re.sub(r"[_\-]", "", stem).lower() in self._pairs),
        ]

    @staticmethod
    def order(path_row: list[float], file_row: list[float]) -> list[float]:
        """Both in the order of NAMES."""
        return path_row[:5] + file_row + path_row[5:]

    def _name(self, words: Sequence[str]) -> tuple[float, float]:
        """(share of the query that a file's name says, share of the name that the query says)."""
        said, met = 0.0, set()
        for number, stem in enumerate(self._question.stems):
            same = [word for word in words if self._numbers.get(word) == number]
            alike = same or [
                word
                for word in words
                if min(len(word), len(stem)) >= _SHORTEST_ALIKE and (word.startswith(stem) or stem.startswith(word))
            ]
            if alike:
                said += self._rarity[number] * (1 if same else _BEGINS_ALIKE)
                met.update(alike)
        return said, len(met) / len(set(words)) if words else 0.0

    def chunk_row(self, candidate: Candidate, seen: _Seen) -> list[float]:
        """What the chunk itself says: the columns up to "length"."""
        chunk = candidate.chunk
        symbol = chunk.symbol or ""
        last = self._share(seen.in_last)
        names = {_LAST_NAME.split(one)[-1] for one in symbol.split(", ")}
        folded = symbol.lower().replace("_", "")
        is_type = chunk.kind in _TYPES
        return [
            candidate.words,
            candidate.meaning,
            candidate.words * candidate.meaning,
            self._share(seen.all),
            self._share(seen.in_symbol),
            last,
            seen.last_asked,
            last * seen.last_asked,
            self._share(seen.in_comments),
            float(not names.isdisjoint(self._question.names)),
            max((self._spoken_as(name) for name in names), default=0.0) if is_type else 0.0,
            float(is_type),
            float(chunk.kind == "block"),
            float(chunk.kind in {"section", "text"}),
            float(any(pair in folded for pair in self._pairs)) if folded else 0.0,
            min(seen.length, _LONG_WORDS) / _LONG_WORDS,
        ]

    def _spoken_as(self, name: str) -> float:
        spoken = self._spoken.get(name.lower())
        return 0.0 if spoken is None else 1.0 if spoken == name else 0.5
