"""From an outline to chunks: runs of one scope, filled to capacity, crumbs joined, sizes proven.

The limit is on the tokens of header, newline and text. Few bytes are proof; the estimate decides clear cases;
near the limit, or when the text looks like made to fool the estimate, tokens are counted.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from codechunk.chunking.rules import LEAST_INK
from codechunk.chunking.source import SIGNATURE_CHARS, Outline, Scope, Small, Source
from codechunk.chunks import Chunk, Kind
from codechunk.tokens import count_tokens

if TYPE_CHECKING:
    from codechunk.chunking import ChunkSettings

# Up to this share of the limit, by estimate, a text surely fits: the worst of a million real spans holds 1.4 times
# its estimate. Pieces are filled to a little less, so that cutting a large definition needs no counting.
_SURELY_FITS = 0.66
_FILL = 0.64
# From this share on a definition is cut without counting: cutting what might just have fitted does no harm.
_TOO_LARGE = 1.02
# Text with fewer tokens per byte of ink is not like any code, maybe made to fool the estimate: count.
_FEWEST_TOKENS_PER_INK = 0.2
# Runs of loose statements are filled to this many times `min_tokens`.
_LOOSE_FILL = 4
# A text of fewer bytes may be a crumb (less than LEAST_INK).
_CRUMB_BYTES = 400


@dataclass(slots=True)
class Piece:
    """A span on its way to become a chunk."""

    start: int
    end: int
    scope: Scope
    small: Small | None = None
    proven: bool = False


def make_chunks(source: Source, outline: Outline, *, path: str, settings: "ChunkSettings") -> list[Chunk]:
    """The chunks of an outlined file."""
    return _Cutter(source, outline, settings).chunks(path)


@lru_cache(maxsize=4096)
def _header_tokens(header: str) -> int:
    return count_tokens(header)


class _Cutter:
    """Cuts one file."""

    def __init__(self, source: Source, outline: Outline, settings: "ChunkSettings") -> None:
        self.source = source
        self.data = source.data
        self.outline = outline
        self.limit = settings.max_tokens
        self.least = settings.min_tokens
        self.with_headers = settings.context_header
        self.signatures: dict[Scope, str] = {}
        self.headers: dict[tuple[Scope, int], str] = {}
        self.newlines = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n"))

    def chunks(self, path: str) -> list[Chunk]:
        """All chunks, in file order."""
        pieces = self._join_crumbs([piece for piece in self._runs() if self._trim(piece)])
        proven = [small for piece in pieces for small in self._prove(piece)]
        lines = self.newlines
        starts = (np.searchsorted(lines, [piece.start for piece in proven], "left") + 1).tolist()
        ends = (np.searchsorted(lines, [piece.end - 1 for piece in proven], "left") + 1).tolist()
        chunks = []
        for piece, first, last in zip(proven, starts, ends, strict=True):
            symbol, kind = self._name(piece)
            chunks.append(
                Chunk(
                    path=path,
                    language=self.source.language,
                    kind=kind,
                    symbol=symbol,
                    start_line=first,
                    end_line=last,
                    start_byte=piece.start,
                    end_byte=piece.end,
                    text=self.source.text(piece.start, piece.end),
                    header=self._header(piece),
                )
            )
        return chunks

    # Runs ------------------------------------------------------------------------------------------------

    def _runs(self) -> list[Piece]:
        """Consecutive cuts of one scope, cut into pieces that are likely to fit."""
        scopes, cuts = self.outline.scopes, self.outline.cuts
        pieces: list[Piece] = []
        first, count = 0, len(cuts)
        size = len(self.data)
        while first < count:
            scope = scopes[first]
            after = first + 1
            while after < count and scopes[after] is scope:
                after += 1
            end = cuts[after] if after < count else size
            self._fill(cuts[first], end, scope, first, after, pieces)
            first = after
        return pieces

    def _fill(self, start: int, end: int, scope: Scope, first: int, after: int, pieces: list[Piece]) -> None:
        whole = Piece(start, end, scope)
        loose = self.least * _LOOSE_FILL
        if scope.roomy and after - first > 1:
            if self.source.estimate.span(start, end) > min(loose, self.limit):
                self._split(whole, pieces, soft=loose)
                return
        elif not self._fits(whole):
            self._split(whole, pieces, soft=self.limit)
            return
        else:
            whole.proven = True
        if after - first > 1 or self.outline.smalls[first] is not None:
            whole.small = self._main_small(start, end, scope)
        pieces.append(whole)

    def _split(self, piece: Piece, pieces: list[Piece], *, soft: float, share: float = _FILL) -> None:
        """Append the parts of a piece: cut at the shallowest syntax near an even share, else lines, else bytes."""
        room = self._room(piece)
        hard = max(room * share, 1.0)
        soft = min(soft, hard)
        start = piece.start
        while (left := self.source.estimate.span(start, piece.end)) > soft:
            cut = self._next_cut(start, piece.end, left, soft, hard)
            pieces.append(Piece(start, cut, piece.scope, self._main_small(start, cut, piece.scope)))
            start = cut
        pieces.append(Piece(start, piece.end, piece.scope, self._main_small(start, piece.end, piece.scope)))

    def _next_cut(self, start: int, end: int, left: float, soft: float, hard: float) -> int:
        span, cuts, depths = self.source.estimate.span, self.outline.cuts, self.outline.depths
        even = left / ceil(left / soft)
        least = self.source.estimate.reach(start, even / 2)
        most = min(self.source.estimate.reach(start, soft), end)
        low, high = bisect_right(cuts, least), bisect_right(cuts, most)
        if low < high and cuts[high - 1] == end:
            high -= 1
        if low < high:
            best = min(range(low, high), key=lambda i: (depths[i], abs(span(start, cuts[i]) - even)))
            return cuts[best]
        if soft < hard:
            beyond = bisect_left(cuts, most + 1)
            if beyond < len(cuts) and cuts[beyond] < end and span(start, cuts[beyond]) <= hard:
                return cuts[beyond]
            if left <= hard:
                return end
            most = min(self.source.estimate.reach(start, hard), end)
        before = bisect_right(cuts, least) - 1
        if before >= 0 and cuts[before] > start and self.source.inked(start, cuts[before]) >= LEAST_INK:
            return cuts[before]
        for lowest in (least, start + 1):
            line = self.data.rfind(b"\n", lowest, most) + 1
            if start < line < end:
                return line
        return self._byte_cut(start, most, end)

    def _byte_cut(self, start: int, most: int, end: int) -> int:
        """The last place up to `most` that is between characters; at least one character is taken."""
        data = self.data
        cut = max(most, start + 1)
        if self.source.encoding == "utf-8":
            while cut > start and cut < end and data[cut] & 0xC0 == 0x80:
                cut -= 1
            if cut == start:
                cut += 1
                while cut < end and data[cut] & 0xC0 == 0x80:
                    cut += 1
        if data[cut - 1 : cut + 1] == b"\r\n":
            cut = cut - 1 if cut - 1 > start else cut + 1
        return min(cut, end)

    # Crumbs ----------------------------------------------------------------------------------------------

    def _join_crumbs(self, pieces: list[Piece]) -> list[Piece]:
        """Join what is too small to be found by itself to the neighbour it belongs to."""
        joined: list[Piece] = []
        waiting: Piece | None = None
        for piece in pieces:
            current = piece
            if waiting is not None:
                both = self._together(waiting, current)
                if both is not None:
                    current, waiting = both, None
                else:
                    self._join_back(joined, waiting)
                    waiting = None
            if self._is_small(current):
                if joined and joined[-1].scope is current.scope and not current.scope.roomy:
                    self._join_back(joined, current)
                else:
                    waiting = current
            else:
                joined.append(current)
        if waiting is not None:
            self._join_back(joined, waiting)
        return joined

    def _is_small(self, piece: Piece) -> bool:
        """Definitions by their ink, so that each real one keeps its symbol; anything else by its tokens."""
        scope = piece.scope
        if piece.small is not None or (scope.parent is not None and piece.start <= scope.start < piece.end):
            return (
                piece.end - piece.start <= _CRUMB_BYTES
                and self.source.inked(piece.start, piece.end) < LEAST_INK
            )
        return self.source.estimate.span(piece.start, piece.end) < self.least

    def _join_back(self, joined: list[Piece], piece: Piece) -> None:
        both = self._together(joined[-1], piece) if joined else None
        if both is None:
            joined.append(piece)
        else:
            joined[-1] = both

    def _together(self, first: Piece, second: Piece) -> Piece | None:
        """Both as one piece, named by the larger definition, or None when that would not fit."""
        span = self.source.estimate.span
        sizes = span(first.start, first.end), span(second.start, second.end)
        crumb = first if sizes[0] < sizes[1] else second
        other = second if crumb is first else first
        scope = other.scope if other.scope.parent is not None or crumb.scope.parent is None else crumb.scope
        small = other.small if scope is other.scope else crumb.small
        both = Piece(first.start, second.end, scope, small)
        if not self._fits(both):
            return None
        both.proven = True
        return both

    # Names and headers -----------------------------------------------------------------------------------

    def _main_small(self, start: int, end: int, scope: Scope) -> Small | None:
        """The small definition that is most of a span of loose statements."""
        if not scope.roomy:
            return None
        low, high = bisect_left(self.outline.cuts, start), bisect_left(self.outline.cuts, end)
        best = None
        for small in self.outline.smalls[low:high]:
            if small is not None and (best is None or small.end - small.start > best.end - best.start):
                best = small
        if best is None or 2 * self.source.inked(best.start, best.end) < self.source.inked(start, end):
            return None
        return best

    def _name(self, piece: Piece) -> tuple[str | None, Kind]:
        if piece.small is not None:
            return piece.small.symbol, piece.small.kind
        scope = piece.scope
        return scope.symbol, scope.kind

    def _header(self, piece: Piece) -> str:
        """The signatures of the scopes that began before the piece, outermost first; shortened to a quarter of the limit."""
        if not self.with_headers:
            return ""
        lines: list[str] = []
        scope: Scope | None = piece.scope
        if scope is not None and scope.title is not None:
            lines = [scope.title] if scope.start < piece.start else [scope.title.rpartition(" > ")[0]]
            scope = None
        while scope is not None and scope.parent is not None:
            if scope.start < piece.start:
                lines.append(self._signature(scope))
            scope = scope.parent
        lines = [line for line in reversed(lines) if line]
        return self._shortened(lines)

    def _shortened(self, lines: list[str]) -> str:
        header = "\n".join(lines)
        room = self.limit // 4
        while header and len(header.encode()) > room and _header_tokens(header) > room:
            if len(lines) > 1:
                lines = lines[1:]
            elif len(lines[0]) > 8:
                lines = [lines[0][: len(lines[0]) // 2].rstrip()]
            else:
                return ""
            header = "\n".join(lines)
        return header

    def _signature(self, scope: Scope) -> str:
        known = self.signatures.get(scope)
        if known is not None:
            return known
        end = self.data.find(b"\n", scope.start)
        end = len(self.data) if end < 0 else end
        if scope.signature_end > scope.start:
            end = (
                scope.signature_end
                if scope.signature_end - scope.start <= SIGNATURE_CHARS
                else min(end, scope.signature_end)
            )
        raw = self.data[scope.start : min(end, scope.start + 4 * SIGNATURE_CHARS)]
        text = " ".join(raw.decode(self.source.encoding, "ignore").split())[:SIGNATURE_CHARS]
        text = text.rstrip(" {")
        self.signatures[scope] = text
        return text

    # Sizes -----------------------------------------------------------------------------------------------

    def _room(self, piece: Piece) -> int:
        """Tokens left for text under the header that any later part of the piece will have."""
        header = self._header(Piece(piece.end, piece.end, piece.scope))
        return self.limit - (_header_tokens(header) + 1 if header else 0)

    def _fits(self, piece: Piece) -> bool:
        """Whether header and text of the piece, trimmed, stay within the limit."""
        size = piece.end - piece.start
        wide = size if self.source.encoding == "utf-8" else 2 * size
        header = self._header(piece)
        if header:
            wide += len(header.encode()) + 1
        if wide <= self.limit:
            return True
        estimate = self.source.estimate.span(piece.start, piece.end)
        total = estimate + (_header_tokens(header) + 1 if header else 0)
        if total > self.limit * _TOO_LARGE:
            return False
        if total <= self.limit * _SURELY_FITS and self._honest(piece, estimate):
            return True
        text = self.data[piece.start : piece.end].rstrip().decode(self.source.encoding)
        return count_tokens(f"{header}\n{text}" if header else text) <= self.limit

    def _honest(self, piece: Piece, estimate: float) -> bool:
        """Whether the estimate of a piece may be believed: it is small, or normal for its ink."""
        if estimate < self.limit / 4:
            return True
        return estimate >= _FEWEST_TOKENS_PER_INK * self.source.inked(piece.start, piece.end)

    def _prove(self, piece: Piece) -> list[Piece]:
        """The piece, or its parts when it turns out too large."""
        done: list[Piece] = []
        todo = [(piece, _FILL)]
        while todo:
            current, share = todo.pop()
            if not self._trim(current):
                continue
            if current.proven or self._fits(current):
                done.append(current)
                continue
            parts: list[Piece] = []
            self._split(current, parts, soft=self.limit, share=share)
            todo.extend((part, share * 0.7) for part in reversed(parts))
        return done

    def _trim(self, piece: Piece) -> bool:
        """Drop blank lines at both ends; False when nothing is left."""
        text = self.data[piece.start : piece.end]
        piece.end = piece.start + len(text.rstrip())
        lead = len(text) - len(text.lstrip())
        if lead == len(text):
            return False
        ink = piece.start + lead
        piece.start = max(piece.start, self.data.rfind(b"\n", piece.start, ink) + 1)
        return True
