"""The outline of a reStructuredText file: a section per heading, named by the path of headings above it."""

import re
from collections.abc import Iterator

from codechunk.chunking.nested import Part, nested_outline
from codechunk.chunking.rules import LEAST_INK
from codechunk.chunking.source import Outline, Source
from codechunk.text.chunks import Kind

_LINE = re.compile(rb"[^\n]*\n?")
_RULE = re.compile(rb"([!-/:-@\[-`{-~])\1*[ \t\r]*\n?\Z")
_LEAST_RULE = 2
_TITLE_CHARS = 80
# Paragraphs and list items: inside of whatever section they are in.
_PARAGRAPH, _INDENTED = 100, 101


def rest_outline(source: Source, *, max_tokens: int) -> Outline:
    """Sections by underlined headings, levels in the order of their first use; inside a section, paragraphs.

    A rule is a heading's only where its text is not indented and no longer than it (a column of grace, as in
    docutils' warnings); so neither literal blocks nor tables make headings. The label above a heading is its part.
    """
    return nested_outline(
        source,
        _parts(source),
        max_tokens=max_tokens,
        least_ink=LEAST_INK,
        kind=Kind.SECTION,
        roomy=False,
        open_from=0,
    )


def _parts(source: Source) -> Iterator[Part]:
    data = source.data
    styles: list[tuple[bytes, bool]] = []
    lines = _lines(data, source.start)
    label = -1
    skip = 0
    blank_before = True
    for number, (start, line) in enumerate(lines):
        if number < skip:
            continue
        heading = _heading(lines, number)
        if heading is not None:
            title, style, height = heading
            if style not in styles:
                styles.append(style)
            begin = label if label >= 0 else start
            yield Part(begin, styles.index(style), _text(title))
            skip, label, blank_before = number + height, -1, True
            continue
        if not line.strip():
            blank_before = True
            continue
        if line.startswith(b".. _") and line.rstrip().endswith(b":"):
            label = start if label < 0 else label
        elif blank_before or line[:1] not in b" \t":
            label = -1
        if blank_before and label < 0:
            yield Part(start, _PARAGRAPH if line[:1] not in b" \t" else _INDENTED)
        blank_before = False


def _lines(data: bytes, start: int) -> list[tuple[int, bytes]]:
    found = []
    while start < len(data):
        match = _LINE.match(data, start)
        line = match[0] if match else b""
        found.append((start, line))
        start += len(line)
    return found


def _heading(lines: list[tuple[int, bytes]], number: int) -> tuple[bytes, tuple[bytes, bool], int] | None:
    """Title, style and number of lines of the heading that begins with this line, or None."""
    line = lines[number][1]
    below = lines[number + 1][1] if number + 1 < len(lines) else b""
    last = lines[number + 2][1] if number + 2 < len(lines) else b""
    rule, under = _rule(line), _rule(below)
    if rule and not under and below.strip() and _rule(last) == rule and _covers(line, below.strip()):
        return below, (rule, True), 3
    if under and not rule and line[:1] not in b" \t\r\n" and _covers(below, line.strip()):
        above = lines[number - 1][1] if number else b""
        # The first row of a simple table, or the end of a paragraph: no heading.
        if not above.strip():
            return line, (under, False), 2
    return None


def _rule(line: bytes) -> bytes:
    """The character that the line is a rule of, or nothing."""
    match = _RULE.match(line) if len(line) > _LEAST_RULE else None
    return match[1] if match else b""


def _covers(rule: bytes, title: bytes) -> bool:
    wide = len(title.decode("utf-8", "replace"))
    return len(rule.strip()) >= min(wide - 1, 4)


def _text(raw: bytes) -> str:
    start = raw[: 4 * _TITLE_CHARS].decode("utf-8", "replace")
    title = re.sub(r":[\w:+.-]+:`([^`<]*)[^`]*`", r"\1", start)
    return " ".join(title.replace("`", "").split())[:_TITLE_CHARS]
