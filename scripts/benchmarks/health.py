"""What is wrong with the chunks of a file: text in no chunk, text twice, chunks too large or too small, wrong lines."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from benchmarks.peers import Span
from codechunk.text.tokens import count_tokens

CRUMB_CHARS = 50
_WHITE = np.zeros(256, bool)
_WHITE[list(b" \t\n\r\v\f")] = True
_NEWLINE = 10
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Health:
    """Sums over files. `violations` names what no chunker should do: (path, what)."""

    files: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    header_bytes: int = 0
    chunks: int = 0
    lines_lost: int = 0
    ink_lost: int = 0
    """Bytes that are not white and in no chunk."""
    ink_twice: int = 0
    """Bytes that are not white and in two chunks or more."""
    altered: int = 0
    """Chunks whose text is not in the file."""
    misplaced: int = 0
    wrong_lines: int = 0
    over: int = 0
    """Chunks of more cl100k tokens than the limit, with their header."""
    over_own: int = 0
    """Chunks over the package's own limit, in its own unit."""
    crumbs: int = 0
    """Chunks under 50 characters that are not white."""
    file_crumbs: int = 0
    """Of the crumbs, those that are a whole file."""
    lines_failed: int = 0
    """Lines that are not blank in files on which the package raised or hung."""
    tokens: list[int] = field(default_factory=list)
    exceptions: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: str, data: bytes, spans: list[Span], *, limit: int, over_own: int | None) -> None:
        """Judge one file's chunks. `over_own`: how many are over the package's own limit, None if that is `limit`."""
        self.files += 1
        self.bytes_in += len(data)
        self.chunks += len(spans)
        lost = self._add_bytes(data, spans)
        wrong = wrong_lines(data, spans)
        self.wrong_lines += wrong
        over = 0
        for span in spans:
            tokens = count_tokens(span.embedded)
            self.tokens.append(tokens)
            over += tokens > limit
            crumb = len("".join(span.text.split())) < CRUMB_CHARS
            self.crumbs += crumb
            self.file_crumbs += crumb and len(spans) == 1
            self.altered += not span.exact
            self.misplaced += span.misplaced
        self.over += over
        self.over_own += over if over_own is None else over_own
        for count, what in ((lost[0], "lines in no chunk"), (lost[1], "bytes in no chunk"), (lost[2], "bytes twice")):
            if count:
                self.violations.append((path, f"{count} {what}"))
        if over:
            self.violations.append((path, f"{over} chunks over {limit} tokens"))
        if wrong:
            self.violations.append((path, f"{wrong} chunks with wrong lines"))
        self.violations += [(path, what) for what in disorder(data, spans)]

    def failed(self, path: str, data: bytes, what: str, error: str = "") -> None:
        """A file of which there are no chunks: `what` names the exception. It is in no other figure."""
        self.exceptions[what] += 1
        self.lines_failed += sum(1 for line in data.split(b"\n") if line.strip())
        self.violations.append((path, f"{what}: {error[:200]}"))

    def merge(self, other: "Health") -> None:
        """Add the sums of other files."""
        for name in self.__slots__:
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, mine + (Counter(theirs) if isinstance(mine, Counter) else theirs))

    def _add_bytes(self, data: bytes, spans: list[Span]) -> tuple[int, int, int]:
        self.bytes_out += sum(len(span.text.encode("utf-8", "surrogatepass")) for span in spans)
        self.header_bytes += sum(len(span.header.encode("utf-8", "surrogatepass")) + 1 for span in spans if span.header)
        lost = coverage(data, spans)
        self.lines_lost += lost[0]
        self.ink_lost += lost[1]
        self.ink_twice += lost[2]
        return lost


def fields_of(sums: Health) -> dict:
    """What `Health(**fields)` makes again, as JSON can carry it."""
    return {name: getattr(sums, name) for name in sums.__slots__}


def coverage(data: bytes, spans: list[Span]) -> tuple[int, int, int]:
    """(lines that are not blank and have no byte in a chunk, bytes not white in no chunk, the same in several chunks).

    A byte order mark at the beginning of the file need not be in a chunk.
    """
    if not data:
        return 0, 0, 0
    raw = np.frombuffer(data, np.uint8)
    edges = np.zeros(len(data) + 1, np.int32)
    np.add.at(edges, [span.start for span in spans], 1)
    np.add.at(edges, [span.end for span in spans], -1)
    depth = np.cumsum(edges[:-1])
    ink = ~_WHITE[raw]
    if data.startswith(_BOM):
        ink[: len(_BOM)] = False
    starts = np.concatenate(([0], np.flatnonzero(raw == _NEWLINE) + 1))
    starts = starts[starts < len(data)]
    has_ink = np.logical_or.reduceat(ink, starts)
    is_in = np.logical_or.reduceat(ink & (depth > 0), starts)
    return int((has_ink & ~is_in).sum()), int((ink & (depth == 0)).sum()), int((ink & (depth > 1)).sum())


def wrong_lines(data: bytes, spans: list[Span]) -> int:
    """How many spans say other lines than their bytes are on (white space at the ends may count or not)."""
    newlines = np.flatnonzero(np.frombuffer(data, np.uint8) == _NEWLINE)

    def line(position: int) -> int:
        return int(np.searchsorted(newlines, position)) + 1

    wrong = 0
    for span in spans:
        if span.lines is None or span.end <= span.start:
            continue
        inner = data[span.start : span.end]
        first = span.start + len(inner) - len(inner.lstrip())
        last = max(first, span.start + len(inner.rstrip()) - 1)
        begins = line(span.start) <= span.lines[0] <= line(first)
        ends = line(last) <= span.lines[1] <= line(max(span.end - 1, last))
        wrong += not (begins and ends)
    return wrong


def disorder(data: bytes, spans: list[Span]) -> list[str]:
    """What breaks codechunk's own promises: ascending, disjoint, not blank, the text an exact slice."""
    said = []
    before = 0
    for number, span in enumerate(spans):
        if span.start < before:
            said.append(f"chunk {number} begins before the end of the one above")
        before = max(before, span.end)
        inner = data[span.start : span.end]
        if not inner.strip():
            said.append(f"chunk {number} is blank")
        if span.text not in (inner.decode("utf-8", "replace"), inner.decode("latin-1")):
            said.append(f"chunk {number} is not the slice of its bytes")
    return said
