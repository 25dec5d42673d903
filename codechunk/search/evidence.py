"""What speaks for each candidate: its words, its meaning, its names, its file. A row of numbers for each. Pure.

The numbers are of one size (mostly 0 to 1) and mean the same for every question and model, so that one set of weights
(codechunk.search.weights) can be learned for them.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from codechunk.search.content import content_of, is_entry
from codechunk.search.definitions import TYPES
from codechunk.search.question import Question
from codechunk.state import FoundChunk, IndexRow
from codechunk.text.stems import stems
from codechunk.text.words import index_words, names_in, subwords, words_of_name

# Of a file's chunks each counts half as much as the one before, and the rest is too little to matter.
FILE_DECAY, FILE_CHUNKS = 0.5, 6
# Share of meaning where words and meaning are joined to weigh a file.
MEANING = 0.4
# BM25 over the words that were found of a file: saturation and length as usual, a symbol's words twice.
_K1, _B, _SYMBOL_TIMES = 1.2, 0.6, 2
# A chunk of so many names counts as long; most are shorter.
_LONG_WORDS = 250
_SHORT_STEM = 2
# A word of a path meets a query's word that begins like it ("caching", "cache"), a little less than the same word.
_BEGINS_ALIKE, _SHORTEST_ALIKE = 0.8, 4
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
    "two words are its name",
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
_PROSE = [NAMES.index("is a section"), NAMES.index("documentation")]
_PROSE_FORGIVEN = 0.75


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
        best_share: the largest share of the query's stems that the candidates of one file have together.
    """

    rows: NDArray[np.float32]
    words: Sequence[set[int]]
    best_share: float


def evidence(question: Question, candidates: Sequence[Candidate]) -> Evidence:
    """Weigh the candidates of one question against each other."""
    if not candidates:
        return Evidence(np.zeros((0, len(NAMES)), np.float32), [], 0.0)
    seen = [_Seen(candidate.chunk) for candidate in candidates]
    numbers = _Numbers(question, seen)
    for one in seen:
        one.count(numbers)
    times = np.array([one.times for one in seen], np.float32).reshape(len(seen), len(question.stems))
    rarity = _rarity(np.array([[number in one.all for number in range(times.shape[1])] for one in seen], bool))
    files = _files(candidates, times, rarity)
    query = _Query(question, numbers, rarity.tolist())
    paths: dict[str, list[float]] = {}
    rows = []
    for candidate, one in zip(candidates, seen, strict=True):
        path = candidate.chunk.path
        if path not in paths:
            paths[path] = query.path_row(path, candidate.chunk.language)
        rows.append(query.chunk_row(candidate, one) + query.order(paths[path], files[candidate.chunk.source_id]))
    found = np.asarray(rows, np.float32)
    # Prose that has all the words of a question is what was asked for, more often than not.
    found[:, _PROSE] *= 1 - _PROSE_FORGIVEN * found[:, [NAMES.index("words covered")]] ** 2
    together: dict[int, set[int]] = defaultdict(set)
    for candidate, one in zip(candidates, seen, strict=True):
        together[candidate.chunk.source_id] |= one.all
    best_share = max(map(len, together.values())) / max(len(question.stems), 1)
    return Evidence(found, [one.all for one in seen], best_share)


class _Seen:
    """The names in a chunk, and which of the query's words are in them."""

    def __init__(self, chunk: FoundChunk) -> None:
        symbol = chunk.symbol or ""
        self._text = chunk.text
        self.body = names_in(chunk.text)
        self.symbol = names_in(symbol)
        self.last = names_in(_LAST_NAME.split(symbol)[-1])
        self.path = names_in(chunk.path)
        self.length = len(self.body) + len(self.symbol) + len(self.path)

    def count(self, numbers: "_Numbers") -> None:
        """Find the query's words among them."""
        known = numbers.of_name
        self.times = [0] * numbers.count
        for name in [name for name in self.body if name in known]:
            for number in known[name]:
                self.times[number] += 1
        self.in_comments: set[int] = set()
        if any(self.times):  # else the comments have none either
            for comment in _COMMENT.findall(self._text):
                self.in_comments.update(number for name in names_in(comment) for number in known.get(name, ()))
        self.in_symbol = {number for name in self.symbol for number in known.get(name, ())}
        self.all = {number for number, times in enumerate(self.times) if times} | self.in_symbol
        self.all.update(number for name in self.path for number in known.get(name, ()))
        for number in self.in_symbol:
            self.times[number] += _SYMBOL_TIMES
        self.in_last = {number for name in self.last for number in known.get(name, ())}
        words = [word for name in self.last for word in subwords(name)]
        self.last_asked = sum(word in numbers.of_word for word in words) / len(words) if words else 0.0


class _Numbers:
    """Which of the query's words a name has: the number of each in `Question.stems`.

    `of_name` knows every name of the candidates that has any, `of_word` the words of these names.
    """

    def __init__(self, question: Question, seen: Sequence[_Seen]) -> None:
        self.count = len(question.stems)
        number_of = {stem: number for number, stem in enumerate(question.stems)}
        # A word begins as its stem does, but for a last letter that a stem may have got (`hoping`: hope, `query`:
        # queri). Most names have no such beginning in them, and need not be cut.
        beginnings = {stem[:-1] if stem[-1] in "ei" and len(stem) > _SHORT_STEM else stem for stem in number_of}
        names = list({name for one in seen for part in (one.body, one.symbol, one.path) for name in part})
        # Beyond ASCII a stem has lost its accents, so that it begins no word: all of these are cut.
        cut = _having(names, beginnings) | {place for place, name in enumerate(names) if not name.isascii()}
        words = {names[place]: words_of_name(names[place]) for place in cut}
        maybe = re.compile("|".join(map(re.escape, sorted(beginnings))) or "(?!)")
        stem_of = stems(word for some in words.values() for word in some if maybe.match(word) or not word.isascii())
        self.of_word = {word: number_of[stem] for word, stem in stem_of.items() if stem in number_of}
        self.of_name = {
            name: found
            for name, some in words.items()
            if (found := tuple(self.of_word[word] for word in some if word in self.of_word))
        }


def _having(names: Sequence[str], parts: Iterable[str]) -> set[int]:
    """The places of the names that have one of these parts in them, in any case and across underscores.

    One long text is searched: to ask each name takes six times as long.
    """
    folded = [name.replace("_", "").lower() for name in names]
    text = "\n".join(folded)
    starts = list(accumulate((len(name) + 1 for name in folded), initial=0))
    found = set()
    for part in parts:
        at = text.find(part)
        while at >= 0:
            place = bisect_right(starts, at) - 1
            found.add(place)
            at = text.find(part, starts[place + 1])
    return found


def _rarity(having: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Each query word's share of what the query says: the fewer candidates have it, the more. The sum is 1.

    `having`: shape (candidates, words).
    """
    weights = _rare(having)
    return weights / (weights.sum() or 1.0)


def _rare(having: NDArray[np.bool_]) -> NDArray[np.float32]:
    """BM25's weight of words by how many of so many things have them."""
    counts = having.sum(axis=0)
    rare: NDArray[np.float32] = np.log(1 + (len(having) - counts + 0.5) / (counts + 0.5)).astype(np.float32)
    return rare


def _files(
    candidates: Sequence[Candidate], times: NDArray[np.float32], rarity: NDArray[np.float32]
) -> dict[int, list[float]]:
    """Content -> what its candidates say together: chunks found, best meaning, words, covered, all covered."""
    members: dict[int, list[int]] = defaultdict(list)
    for place, candidate in enumerate(candidates):
        members[candidate.chunk.source_id].append(place)
    counts = np.array([times[places].sum(axis=0) for places in members.values()])
    sizes = np.array([candidates[places[0]].chunk.file_characters for places in members.values()], np.float32)
    norm = _K1 * (1 - _B + _B * sizes / (sizes.mean() or 1.0))
    words = (_rare(counts > 0) * counts * (_K1 + 1) / (counts + norm[:, np.newaxis])).sum(axis=1)
    covered = (counts > 0) @ rarity
    worth = []
    for places in members.values():
        scores = sorted(
            (MEANING * candidates[place].meaning + (1 - MEANING) * candidates[place].words for place in places),
            reverse=True,
        )
        worth.append(sum(score * FILE_DECAY**rank for rank, score in enumerate(scores[:FILE_CHUNKS])))
    best = [max(candidates[place].meaning for place in places) for places in members.values()]
    most_worth, most_words = max(worth) or 1.0, words.max() or 1.0
    columns = np.stack([np.array(worth) / most_worth, np.array(best), words / most_words, covered, covered**4], axis=1)
    return dict(zip(members, columns.tolist(), strict=True))


class _Query:
    """The query as paths and chunks are held against it."""

    def __init__(self, question: Question, numbers: _Numbers, rarity: Sequence[float]) -> None:
        self._question, self._numbers, self._rarity = question, numbers.of_word, rarity
        self._pairs = {one + other for one, other in pairwise(question.words)}
        self._spoken = {word.lower(): word for word in re.findall(r"[A-Za-z]{4,}", question.text)}

    def _share(self, numbers: set[int]) -> float:
        return sum(self._rarity[number] for number in numbers)

    def path_row(self, path: str, language: str) -> list[float]:
        """What a path says; columns from "covered by file name" on, without those of the file's chunks."""
        folders, _, name = path.rpartition("/")
        stem = name.rpartition(".")[0] or name
        covered, asked = self._name(subwords(stem))
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
        said = 0.0
        met: set[str] = set()
        same = {number: word for word in words if (number := self._numbers.get(word)) is not None}
        long = [word for word in words if len(word) >= _SHORTEST_ALIKE]
        for number, stem in enumerate(self._question.stems):
            if number in same:
                said += self._rarity[number]
                met.update(word for word in words if self._numbers.get(word) == number)
            elif len(stem) >= _SHORTEST_ALIKE and (
                alike := [word for word in long if word.startswith(stem) or stem.startswith(word)]
            ):
                said += self._rarity[number] * _BEGINS_ALIKE
                met.update(alike)
        return said, len(met) / len(set(words)) if words else 0.0

    def chunk_row(self, candidate: Candidate, seen: _Seen) -> list[float]:
        """What the chunk itself says: the columns up to "length"."""
        chunk = candidate.chunk
        symbol = chunk.symbol or ""
        last = self._share(seen.in_last)
        names = {_LAST_NAME.split(one)[-1] for one in symbol.split(", ")}
        folded = symbol.lower().replace("_", "")
        is_type = chunk.kind in TYPES
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
            float(chunk.kind in {"section", "text"} and self._question.about.isdisjoint({"docs", "data"})),
            self._paired(names, folded),
            min(seen.length, _LONG_WORDS) / _LONG_WORDS,
        ]

    def _paired(self, names: set[str], folded: str) -> float:
        """Whether two words side by side are a name (`deep copy`: deepcopy), or half of it are within the symbol."""
        if not self._pairs.isdisjoint(name.lower().replace("_", "") for name in names):
            return 1.0
        return 0.5 if any(pair in folded for pair in self._pairs) else 0.0

    def _spoken_as(self, name: str) -> float:
        spoken = self._spoken.get(name.lower())
        return 0.0 if spoken is None else 1.0 if spoken == name else 0.5
