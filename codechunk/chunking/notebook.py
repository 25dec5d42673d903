"""The chunks of a Jupyter notebook: the sources of its cells and nothing else of the file.

The one format of which something is in no chunk: outputs, metadata and images, and a heading that is a cell by itself
where the chunks below it carry it in their headers. Small cells with no output between them share a chunk; its text
then holds the braces and metadata in between, which are not embedded. A file that is not a notebook of format 4 is
not cut here.
"""

import json
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

from codechunk.chunking.markdown import plain_title
from codechunk.chunking.source import Outline, Scope, Source
from codechunk.text.chunks import Chunk, Kind
from codechunk.text.notebook_text import BETWEEN_CELLS, source_of_cell

_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.S)
_LINE = re.compile(rb'^[ \t]*"((?:[^"\\]|\\.)*)"', re.M)
_HEADING = re.compile(r"^(#{1,6})[ \t]+(.{1,200})", re.M)
_FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.M)
_DEFINITION = re.compile(r"^(?:async[ \t]+)?(def|class)[ \t]+(\w+)", re.M)
_BEGINS = re.compile(rb"(?:async[ \t]+def|def|class|@)\b|@")
_BLANK = frozenset({b"", b"\\n", b"\\r\\n"})
_MOST_CELLS_DEPTH = 3
# A cell smaller than this is joined to a neighbour, up to a size that still is one thing.
_SMALL_BYTES = 240
_MOST_JOINED_BYTES = 1000


@dataclass(slots=True)
class _Cell:
    """One cell: its type, and from the first to the last string of its source."""

    kind: str
    start: int
    end: int


def notebook_chunks(source: Source, make: Callable[[Source, Outline], list[Chunk]]) -> list[Chunk] | None:
    """The chunks that `make` makes of the cells, in file order, or None when this is not a notebook.

    A chunk's `text` is, as everywhere, the exact bytes: lines of JSON strings. Headings of Markdown cells are
    the scopes of the cells below them; a code cell that defines one thing is called by it.
    """
    cells = _cells(source.data)
    if cells is None:
        return None
    ends = [match.end() for match in re.finditer(rb"\n", source.data)]
    chunks = []
    for group in _grouped(source, cells):
        start = group.start
        line = bisect_right(ends, start)
        piece = Source(source.data[start : group.end], encoding=source.encoding, language=source.language)
        for chunk in make(piece, _cell_outline(piece, group.scope)):
            chunks.append(
                replace(
                    chunk,
                    start_line=chunk.start_line + line,
                    end_line=chunk.end_line + line,
                    start_byte=chunk.start_byte + start,
                    end_byte=chunk.end_byte + start,
                )
            )
    return chunks


def _cells(data: bytes) -> list[_Cell] | None:
    """The cells with a source, or None when the data is no notebook."""
    try:
        book = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(book, dict) or not isinstance(book.get("cells"), list) or "nbformat" not in book:
        return None
    found: list[_Cell] = []
    depth, in_cells = 0, False
    key, kind, start, end = b"", "", -1, -1
    for match in _TOKEN.finditer(data):
        token = match[0]
        if token in b"{[":
            depth += 1
            if depth == _MOST_CELLS_DEPTH - 1:
                in_cells = key == b'"cells"' and token == b"["
            elif depth == _MOST_CELLS_DEPTH:
                kind, start, end = "", -1, -1
        elif token in b"}]":
            if depth == _MOST_CELLS_DEPTH and in_cells and start >= 0:
                found.append(_Cell(kind, start, end))
            depth -= 1
        elif depth == 1 or (depth == _MOST_CELLS_DEPTH and in_cells):
            if _is_key(data, match.end()):
                key = token
            elif depth > 1 and key == b'"cell_type"':
                kind = token.strip(b'"').decode("utf-8", "replace")
            elif depth > 1 and key == b'"source"':
                start, end = match.span()
        elif depth == _MOST_CELLS_DEPTH + 1 and in_cells and key == b'"source"':
            start, end = start if start >= 0 else match.start(), match.end()
    return found


_COLON = re.compile(rb"\s*:")


def _is_key(data: bytes, end: int) -> bool:
    return _COLON.match(data, end) is not None


@dataclass(slots=True)
class _Group:
    """Cells that are cut together: one, or small neighbours."""

    start: int
    end: int
    scope: Scope
    section: Scope


class _Sections:
    """The headings above a cell. Scopes that begin before a cell are in its header; one that begins with it is not."""

    def __init__(self) -> None:
        self.root = self.scope = Scope(None, Kind.BLOCK, None, -1)
        self.levels: list[int] = []

    def begin(self, level: int, title: str) -> Scope:
        """Begin a section; the scope of the cell that begins with its heading."""
        while self.levels and self.levels[-1] >= level:
            self.levels.pop()
            self.scope = self.scope.parent or self.root
        self.levels.append(level)
        outer = self.scope
        path = f"{outer.symbol} > {title}" if outer.symbol else title
        self.scope = Scope(path, Kind.SECTION, outer, -1, title=title)
        return Scope(path, Kind.SECTION, outer, 0, title=title)


def _grouped(source: Source, cells: list[_Cell]) -> list[_Group]:
    """What is cut together, with its scope; a heading alone is left to the header of what follows."""
    groups: list[_Group] = []
    sections = _Sections()
    alone: _Group | None = None
    for cell in cells:
        text = source_of_cell(source.text(cell.start, cell.end)).strip()
        if not text:
            continue
        headings = _headings(text) if cell.kind == "markdown" else []
        if not headings or headings[0].start() > 0:
            alone = None
            group = _Group(cell.start, cell.end, _called(text, cell, sections.scope), sections.scope)
            if not groups or not _join(source.data, groups[-1], group):
                groups.append(group)
        for heading in headings:
            if alone is not None and sections.levels[-1] >= len(heading[1]):
                groups.append(alone)  # nothing is below it
            alone = None
            own = sections.begin(len(heading[1]), plain_title(heading[2].strip().rstrip("#")))
            if heading.start() == 0:
                group = _Group(cell.start, cell.end, own, sections.scope)
                if heading.end() == len(text):
                    alone = group
                else:
                    groups.append(group)
    if alone is not None:
        groups.append(alone)
    return groups


def _headings(text: str) -> list[re.Match[str]]:
    """The headings of a Markdown cell, outside of fences."""
    fences = [match.start() for match in _FENCE.finditer(text)]
    return [match for match in _HEADING.finditer(text) if bisect_right(fences, match.start()) % 2 == 0]


def _join(data: bytes, first: _Group, second: _Group) -> bool:
    """Make the second group part of the first, when both are small, in one section, and hardly anything between."""
    if first.section is not second.section or second.end - first.start > _MOST_JOINED_BYTES:
        return False
    if min(first.end - first.start, second.end - second.start) > _SMALL_BYTES:
        return False
    kinds = {first.scope.kind, second.scope.kind}
    if kinds & {Kind.FUNCTION, Kind.CLASS}:
        return False
    between = BETWEEN_CELLS.fullmatch(data[first.end - 1 : second.start + 1].decode("utf-8", "replace"))
    if between is None:
        return False
    first.end = second.end
    return True


def _called(text: str, cell: _Cell, scope: Scope) -> Scope:
    """The scope of a cell: its section, or what it defines when that is one thing."""
    if cell.kind != "code":
        return scope
    found = list(_DEFINITION.finditer(text))
    if len(found) != 1:
        return Scope(scope.symbol, Kind.BLOCK, scope, 0, title="")
    kind = Kind.FUNCTION if found[0][1] == "def" else Kind.CLASS
    return Scope(found[0][2], kind, scope, 0, title="")


def _cell_outline(piece: Source, scope: Scope) -> Outline:
    """Cuts in front of definitions, and behind blank lines."""
    outline = Outline()
    outline.add(piece.start, scope, 0)
    after_blank = False
    for line in _LINE.finditer(piece.data):
        body = line[1]
        if line.start() > outline.cuts[-1] and body not in _BLANK:
            if _BEGINS.match(body):
                outline.add(line.start(), scope, 0)
            elif after_blank:
                outline.add(line.start(), scope, 1)
        after_blank = body in _BLANK
    return outline
