"""From a flat list of nested parts (keys, elements, targets, statements) to an outline. Knows no format.

The formats beside program code are read by lines, not by a grammar: their parts begin lines, so a scan of the
lines finds all cuts there can be, faster than a parser, and no input makes it hang.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from codechunk.chunking.languages import is_available
from codechunk.chunking.source import Outline, Scope, Searchable, Small, Source
from codechunk.chunking.syntax import LARGE, syntax_outline, too_hostile_to_parse
from codechunk.text.chunks import Kind

# A line that is not blank: its indentation and the rest. A byte order mark is not part of the first.
INKED_LINE = re.compile(rb"(?:^|(?<=\A\xef\xbb\xbf))([ \t]*)([^\s][^\n]*)", re.M)
# A path of names is context; beyond so many it is a burden. Deeper parts are cuts without a name.
_MOST_NAMES = 6
_TITLE_CHARS = 80
# Embedded code with fewer bytes has no parts worth a parse.
_LEAST_EMBEDDED_BYTES = 200


@dataclass(frozen=True, slots=True)
class Embedded:
    """The span of a part that is written in a language of its own."""

    start: int
    end: int
    language: str


@dataclass(slots=True)
class Part:
    """Something that begins with a line, at `start`, and reaches to the next part of its level or a lower one.

    `name` None: a place to cut, no more; bytes are decoded when the part becomes a scope, which few do. The symbol
    is the path of names, or the name alone where it is `qualified` already.
    What is around everything else (a document, the outermost brackets) has a level below 0 and is seen through.
    `minor` parts stand alone only with `least_tokens`; others are definitions and need no more than `least_ink`.
    """

    start: int
    level: int
    name: bytes | str | None = None
    kind: Kind = Kind.SECTION
    qualified: bool = False
    minor: bool = False
    embedded: Embedded | None = None


class Comments:
    """Where the comment begins that touches the line that is looked at."""

    def __init__(self) -> None:
        self.start = self.end = -1

    def add(self, start: int, end: int) -> None:
        """A comment line; `end` is where the next line starts."""
        if start != self.end:
            self.start = start
        self.end = end

    def above(self, line: int) -> int:
        """The start of what begins at `line` with its comment."""
        return self.start if self.end == line else line


def nested_outline(
    source: Source,
    parts: Iterable[Part],
    *,
    max_tokens: int,
    least_tokens: float = 0,
    least_ink: int = 0,
    kind: Kind = Kind.BLOCK,
    roomy: bool = True,
    open_from: float | None = None,
) -> Outline:
    """The outline of a file with those parts, which must be in file order, at line starts.

    A part is opened, and its inner parts seen, only when it is too large for a chunk or has `open_from` tokens. A
    named part with less than `least_tokens` if it is minor, else `least_ink`, is grouped with its neighbours; others
    are scopes. `kind` is that of the file; `roomy` (see Scope) is said of the file and all its parts.
    """
    file = Scope(None, kind, None, source.start, roomy=roomy)
    builder = _Builder(source, max_tokens * LARGE, open_from, least_tokens, least_ink, file)
    builder.outline.add(source.start, builder.file, 0)
    listed = list(parts)
    for part, end in zip(listed, _ends(listed, len(source.data)), strict=True):
        builder.add(part, end, max_tokens=max_tokens)
    return builder.outline


def _ends(parts: list[Part], size: int) -> list[int]:
    """Where each part ends: at the next one that is not inside it."""
    ends = [size] * len(parts)
    after: list[Part] = []
    for number in range(len(parts) - 1, -1, -1):
        part = parts[number]
        while after and after[-1].level > part.level:
            after.pop()
        if after:
            ends[number] = after[-1].start
        after.append(part)
    return ends


class _Builder:
    """Adds parts to an outline, one after the other."""

    def __init__(
        self,
        source: Source,
        large: float,
        open_from: float | None,
        least_tokens: float,
        least_ink: int,
        file: Scope,
    ) -> None:
        self.source = source
        self.large = large
        self.open_from = large if open_from is None else min(large, open_from)
        self.least_tokens = least_tokens
        self.least_ink = least_ink
        self.file = file
        self.outline = Outline()
        # Parts that were opened, innermost last: end, scope, depth of the cuts inside, names so far.
        self.opened: list[tuple[int, Scope, int, int]] = []
        self.seen_until = 0

    def add(self, part: Part, end: int, *, max_tokens: int) -> None:
        """Add a part that ends at `end`, unless it is inside one that fits whole."""
        start = part.start
        if start < self.seen_until or end <= start:
            return
        while self.opened and start >= self.opened[-1][0]:
            self.opened.pop()
        _, scope, depth, names = self.opened[-1] if self.opened else (end, self.file, 0, 0)
        size = self.source.estimate.span(start, end)
        if not part.name or names >= _MOST_NAMES:
            self._cut(start, scope, depth)
            inner, depth = scope, depth + 1
        else:
            symbol, title = self._called(part, scope)
            if size < self.least_tokens if part.minor else self._is_crumb(start, end):
                self._cut(start, scope, depth, Small(symbol, part.kind, start, end))
                self.seen_until = end
                return
            if scope is not self.file and start > self.outline.cuts[-1]:
                start = self.outline.begin_with_outer(start, scope, self.source)
            inner, depth, names = (
                Scope(symbol, part.kind, scope, start, roomy=self.file.roomy, title=title),
                0,
                names + 1,
            )
            self._cut(start, inner, 0)
        if part.embedded is not None:
            inner.title = ""  # the code inside speaks for itself
            self._embed(part.embedded, inner, max_tokens)
        elif size > (self.open_from if part.level >= 0 else self.large if part.name else 0):
            self.opened.append((end, inner, depth, names))
            return
        self.seen_until = end

    def _is_crumb(self, start: int, end: int) -> bool:
        return end - start < 4 * self.least_ink and self.source.inked(start, end) < self.least_ink

    def _cut(self, start: int, scope: Scope, depth: int, small: Small | None = None) -> None:
        if self.outline.cuts and start <= self.outline.cuts[-1]:
            if start < self.outline.cuts[-1]:
                return
            self.outline.drop_last()
        self.outline.add(start, scope, depth, small)

    def _called(self, part: Part, scope: Scope) -> tuple[str, str]:
        """Symbol and title of a named part of `scope`."""
        raw = part.name or ""
        text = raw if isinstance(raw, str) else raw.decode("utf-8", "replace").strip(" \t\r\"'")
        name = " ".join(text.split())[:_TITLE_CHARS]
        if part.qualified:
            return name, name
        return (f"{scope.symbol} > {name}" if scope.symbol else name), name

    def _embed(self, embedded: Embedded, scope: Scope, max_tokens: int) -> None:
        """Add the cuts and scopes of embedded code, read by its own grammar."""
        data = self.source.data[embedded.start : embedded.end]
        if len(data) < _LEAST_EMBEDDED_BYTES or not is_available(embedded.language) or too_hostile_to_parse(data):
            return
        inner = syntax_outline(
            Source(data, encoding=self.source.encoding, language=embedded.language), max_tokens=max_tokens
        )
        offset = embedded.start
        root = inner.parts[0][0]
        scope.roomy = root.roomy
        moved = {root: scope}
        for cut, (whose, depth, small) in zip(inner.cuts, inner.parts, strict=True):
            if whose not in moved:
                _move(whose, moved, offset)
            if small is not None:
                small = Small(small.symbol, small.kind, small.start + offset, small.end + offset)
            # What begins on the line of the tag begins with the tag.
            if cut + offset > self.outline.cuts[-1] and self.source.data[cut + offset - 1] in b"\n":
                self.outline.add(cut + offset, moved[whose], depth, small)
        for whose, interior in inner.interiors.items():
            if whose in moved:
                self.outline.interiors[moved[whose]] = _Shifted(interior, offset)


def _move(scope: Scope, moved: dict[Scope, Scope], offset: int) -> None:
    """Move a scope and those around it by `offset`, as far as they were not; into the scopes they are now in."""
    inner: Scope = scope
    while inner not in moved:
        moved[inner] = inner
        inner.start += offset
        inner.signature_end += offset if inner.signature_end else 0
        if inner.parent is None:
            return
        inner.parent, inner = moved.get(inner.parent, inner.parent), inner.parent


class _Shifted:
    """The inside of an embedded scope, in positions of the file around."""

    __slots__ = ("inner", "offset")

    def __init__(self, inner: Searchable, offset: int) -> None:
        self.inner = inner
        self.offset = offset

    def cut(self, least: int, aim: int, most: int) -> int | None:
        """As the inner one, `offset` further on."""
        offset = self.offset
        found = self.inner.cut(least - offset, aim - offset, most - offset)
        return None if found is None else found + offset
