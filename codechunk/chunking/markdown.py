"""The outline of a Markdown file: a section per heading, named by the path of headings above it."""

import re

from codechunk.chunking.source import Outline, Scope, Source
from codechunk.text.chunks import Kind

_LINE = re.compile(rb"[^\n]*\n?")
_FENCE = re.compile(rb" {0,3}(`{3,}|~{3,})(.*)", re.S)
_HEADING = re.compile(rb" {0,3}(#{1,6})(?=[ \t\r\n]|$)")
_UNDERLINE = re.compile(rb" {0,3}(=+|-{2,})[ \t\r]*\n?$")
_NOT_A_TITLE = re.compile(rb"[ \t]*(?:[-*+>|]|\d+[.)]|#|$)")
_ITEM = re.compile(rb"(?:[-*+|]|\d{1,9}[.)])[ \t]*\S")
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_ANCHOR = re.compile(r"<a\s[^<>]*>|</a>|\{#[^{}]*\}$")
_LOOKED_AT_CHARS = 400
_TITLE_CHARS = 80
# Depths of cuts.
_PARAGRAPH, _NEXT_ITEM, _IN_FENCE = 1, 2, 3


def markdown_outline(source: Source) -> Outline:
    """Sections by `#` and underlined headings outside of fences; inside a section, paragraphs.

    YAML front matter is part of what precedes the first heading. Where paragraphs are too large, lists are cut
    between their items, tables between rows and code in fences at its blank lines.
    """
    data = source.data
    root = Scope(None, Kind.SECTION, None, source.start)
    outline = Outline()
    outline.add(source.start, root, 0)
    levels: list[int] = []
    scope = root
    fence = b""
    previous_start, blank_before = source.start, True
    position = _front_matter_end(data, source.start)
    while position < len(data):
        match = _LINE.match(data, position)
        line = match.group() if match else b""
        start, position = position, position + len(line)
        blank = not line.strip()
        opening = _FENCE.match(line)
        if fence:
            if opening and opening[1].startswith(fence) and not opening[2].strip():
                fence = b""
            elif blank_before and not blank:
                _cut(outline, start, scope, _IN_FENCE)
        elif opening and not (opening[1][:1] == b"`" and b"`" in opening[2]):
            fence = opening[1]
            if blank_before:
                _cut(outline, start, scope, _PARAGRAPH)
        elif (heading := _heading(data, line, previous_start, start)) is not None:
            level, title, begin = heading
            while levels and levels[-1] >= level:
                levels.pop()
                scope = scope.parent or root
            levels.append(level)
            if begin > outline.cuts[-1]:
                begin = outline.begin_with_outer(begin, scope, source)
            scope = _section(scope, plain_title(source.text(*title)), begin)
            if outline.cuts and outline.cuts[-1] >= begin:
                outline.drop_last()
            outline.add(begin, scope, 0)
        elif not blank:
            if blank_before:
                _cut(outline, start, scope, _PARAGRAPH)
            elif _ITEM.match(line):
                _cut(outline, start, scope, _NEXT_ITEM)
        previous_start, blank_before = start, blank
    return outline


def plain_title(text: str) -> str:
    """A heading as one would say it: links by their words, without marks and anchors; at most 80 characters."""
    text = _LINK.sub(r"\1", text[:_LOOKED_AT_CHARS])
    return _ANCHOR.sub("", text).replace("`", "").replace("**", "").strip()[:_TITLE_CHARS]


def _cut(outline: Outline, start: int, scope: Scope, depth: int) -> None:
    if start > outline.cuts[-1]:
        outline.add(start, scope, depth)


def _section(parent: Scope, title: str, start: int) -> Scope:
    path = " > ".join(part for part in (parent.symbol, title) if part)
    return Scope(path or None, Kind.SECTION, parent, start, title=title)


def _heading(data: bytes, line: bytes, previous: int, start: int) -> tuple[int, tuple[int, int], int] | None:
    """Level, span of the title and start of the heading that this line makes, or None."""
    match = _HEADING.match(line)
    if match:
        body = line.rstrip()
        bare = body.rstrip(b"#")
        # Closing #s count only behind a space: "# C#" is about C#.
        body = bare if bare[-1:].isspace() or len(bare) < match.end() else body
        begin = len(line) - len(line[match.end() :].lstrip())
        end = max(len(body.rstrip()), begin)
        return len(match[1]), (start + begin, start + end), start
    underline = _UNDERLINE.match(line)
    above = data[previous:start]
    if underline and previous < start and above.strip() and not _NOT_A_TITLE.match(above):
        lead = len(above) - len(above.lstrip())
        return (
            (1 if underline[1][:1] == b"=" else 2),
            (previous + lead, previous + len(above.rstrip())),
            previous,
        )
    return None


def _front_matter_end(data: bytes, start: int) -> int:
    match = re.compile(rb"---[ \t\r]*\n(?:.*\n)*?(?:---|\.\.\.)[ \t\r]*(?:\n|\Z)").match(data, start)
    return match.end() if match else start
