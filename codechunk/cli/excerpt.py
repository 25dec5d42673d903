"""Which lines of an answer are worth a line of the screen. Pure.

The definition is shown first, then the lines of the hit that hold most of what was asked for. Words that few lines
of the hit have count more than those on every line.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from codechunk.documents import Answer
from codechunk.text.stems import stems
from codechunk.text.words import index_words

# A line that says nothing about the code below it. `#define` and `#include` do; Markdown's `# Title` is no comment.
_COMMENT = re.compile(r"""\s*(?://|/\*|\*(?=\s|/|$)|--|;;|\"\"\"|'''|#(?!\w)|<!--|@|\[)""")
_WORDLESS = re.compile(r"[\W_]*")
_NAME = re.compile(r"[^\W\d]\w*")
# What a file says in words, where a leading `#`, `*` or `-` is no comment.
PROSE = frozenset(["markdown", "rst", "text", "plain", "asciidoc", "org"])


# A definition names its symbol early; a later piece of a long one only mentions it.
FIRST_LINES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the file: its number from 1, its code, and whether it belongs to what was found."""

    number: int
    code: str
    hit: bool


def lines_of(answer: Answer) -> list[Line]:
    """All lines of the best span."""
    first, last = answer.hit_lines
    return [
        Line(number=number, code=code.rstrip("\r"), hit=first <= number <= last)
        for number, code in enumerate(answer.text.rstrip("\n").split("\n"), start=answer.start_line)
    ]


def telling_line(answer: Answer, lines: Sequence[Line]) -> Line:
    """The line that stands for the answer: where the symbol is defined, else the first that is no comment."""
    hits = [line for line in lines if line.hit and line.code.strip()] or list(lines)
    if answer.language in PROSE or answer.content == "docs":
        return next((line for line in hits if not _WORDLESS.fullmatch(line.code)), hits[0])
    code = [line for line in hits if not _COMMENT.match(line.code)]
    names = _NAME.findall((answer.symbol or "").split(", ")[0])
    if names:
        word = re.compile(rf"(?<!\w){re.escape(names[-1])}(?!\w)")
        defined = next((line for line in code[:FIRST_LINES] if word.search(line.code)), None)
        if defined is not None:
            return defined
    return next((line for line in code if not _WORDLESS.fullmatch(line.code)), hits[0])


def best_lines(answer: Answer, rows: int) -> list[Line]:
    """At most `rows` lines of the best span, in order: the telling one, and those with most of what was asked for.

    When the whole hit fits, the lines after it are shown too, as context.
    """
    lines = lines_of(answer)
    told = telling_line(answer, lines)
    if rows <= 1:
        return [told][:rows]
    hits = _trimmed([line for line in lines if line.hit])
    if len(hits) <= rows:
        after = [line for line in lines if line.number > answer.hit_lines[1]]
        return hits + _trimmed(after[: rows - len(hits)])
    worth = _worth(answer, hits)
    # The telling line is shown in any case: a window that holds it may be one line longer.
    windows = [hits[start : start + rows] for start in range(len(hits))]
    windows = [window if told in window else window[: rows - 1] for window in windows]
    # Of two windows that say the same, the one that goes on from the telling line is read with less effort.
    chosen = max(
        windows,
        key=lambda window: (sum(worth[line.number] for line in window), -abs(window[0].number - told.number)),
    )
    chosen = _trimmed(chosen)
    return chosen if told in chosen else sorted([told, *chosen], key=lambda line: line.number)


def _worth(answer: Answer, lines: Sequence[Line]) -> dict[int, float]:
    """Line number -> how much of the question is on the line."""
    asked = set(answer.matched.words)
    words_of = {line.number: set(index_words(line.code).split()) for line in lines}
    stem_of = stems(word for words in words_of.values() for word in words)
    found = {number: {stem_of[word] for word in words} & asked for number, words in words_of.items()}
    frequency = {word: sum(word in words for words in found.values()) for word in asked}
    return {number: sum(1 / sqrt(frequency[word]) for word in words) for number, words in found.items()}


def _trimmed(lines: Sequence[Line]) -> list[Line]:
    """The lines without blank ones at both ends."""
    full = [index for index, line in enumerate(lines) if line.code.strip()]
    return list(lines[full[0] : full[-1] + 1]) if full else []
