"""What the chunker's modules share: a file's bytes with their size estimate, and its outline of scopes and cuts."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from codechunk.text.chunks import Kind
from codechunk.text.tokens import TokenEstimate

BOM = b"\xef\xbb\xbf"
WHITE = b" \t\n\r\v\f"
SIGNATURE_CHARS = 160
# What precedes the first part of a scope needs so much ink to be a chunk of its own.
LEAST_LEAD_INK = 80
_MOST_LEAD_BYTES = 4 * LEAST_LEAD_INK


# What people look for by its name, however small it is.
_FINDABLE = frozenset({Kind.FUNCTION, Kind.METHOD, Kind.CLASS, Kind.STRUCT, Kind.INTERFACE, Kind.ENUM})


class Source:
    """The bytes of one file, how they decode, and what their spans weigh."""

    def __init__(self, data: bytes, *, encoding: str, language: str) -> None:
        """`encoding` must decode `data`; `language` is a grammar's name or "text"."""
        self.data = data
        self.encoding = encoding
        self.language = language
        self.start = len(BOM) if encoding == "utf-8" and data.startswith(BOM) else 0
        self.ascii = data.isascii()

    @cached_property
    def whole(self) -> str | None:
        """All of it decoded, if each byte is a character: its slices are the texts of spans. None otherwise."""
        return self.data.decode(self.encoding) if self.ascii or self.encoding == "latin-1" else None

    @cached_property
    def estimate(self) -> TokenEstimate:
        """Estimated tokens of any span."""
        return TokenEstimate(self.data, latin1=self.encoding == "latin-1")

    def text(self, start: int, end: int) -> str:
        """The span, decoded."""
        return self.data[start:end].decode(self.encoding)

    def inked(self, start: int, end: int) -> int:
        """Bytes of the span that are not white space."""
        return len(self.data[start:end].translate(None, WHITE))


class Scope:
    """A definition: its qualified symbol and kind, where it begins, and where its signature ends.

    `parent` is the scope around it; the file itself is the scope without parent. `roomy` scopes (files,
    modules, namespaces) hold loose statements that are cut into small chunks; in all others a run of
    statements belongs together as long as it fits. `findable` ones (functions, classes) are looked for by name.
    """

    __slots__ = ("findable", "kind", "parent", "roomy", "signature_end", "start", "symbol", "title")

    def __init__(
        self,
        symbol: str | None,
        kind: Kind,
        parent: "Scope | None",
        start: int,
        *,
        signature_end: int = 0,
        roomy: bool = False,
        title: str | None = None,
    ) -> None:
        """`title` replaces the signature in headers (a heading); `signature_end` 0 means the first line."""
        self.symbol = symbol
        self.kind = kind
        self.parent = parent
        self.start = start
        self.signature_end = signature_end
        self.roomy = roomy
        self.title = title
        self.findable = kind in _FINDABLE


@dataclass(frozen=True, slots=True)
class Small:
    """A definition too small for a chunk of its own: named when it is most of the chunk it ends up in."""

    symbol: str
    kind: Kind
    start: int
    end: int


class Searchable(Protocol):
    """The inside of a scope, where cuts are searched for only when they are needed."""

    def cut(self, least: int, aim: int, most: int) -> int | None:
        """The best place in (least, most], near `aim`, or None."""
        ...


@dataclass(slots=True)
class Outline:
    """Where a file may be cut, in ascending order, and whose each part is.

    Parallel lists: position (a line start), and of what follows it: scope, depth in the tree (shallow cuts are
    better), and the small definition that begins there, if any. `interiors`: scopes whose cuts are not listed but
    can be searched for.
    """

    cuts: list[int] = field(default_factory=list)
    parts: list[tuple[Scope, int, Small | None]] = field(default_factory=list)
    interiors: dict[Scope, Searchable] = field(default_factory=dict)

    def add(self, cut: int, scope: Scope, depth: int, small: Small | None = None) -> None:
        """Append one cut; it must lie behind all others."""
        self.cuts.append(cut)
        self.parts.append((scope, depth, small))

    def begin_with_outer(self, start: int, outer: Scope, source: Source) -> int:
        """Where a scope that starts at `start`, directly in `outer`, begins its chunk: with the first line of
        `outer` when there is hardly more between (a heading, a key); the cut there is taken away."""
        is_next = self.parts[-1][0] is outer and self.cuts[-1] == outer.start and outer.parent is not None
        if is_next and start - outer.start < _MOST_LEAD_BYTES and source.inked(outer.start, start) < LEAST_LEAD_INK:
            return self.drop_last()
        return start

    def drop_last(self) -> int:
        """Take the last cut away and return its position."""
        self.parts.pop()
        return self.cuts.pop()
