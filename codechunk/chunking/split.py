"""From an outline to chunks: runs of one scope, filled to capacity, crumbs joined, sizes proven.

The limit is on the tokens of header, newline and text. Few bytes are proof; the estimate decides clear cases;
near the limit, or when the text looks like made to fool the estimate, tokens are counted.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil, sqrt

from codechunk.chunking.rules import LEAST_INK
from codechunk.chunking.settings import ChunkSettings
from codechunk.chunking.source import SIGNATURE_CHARS, WHITE, Outline, Scope, Small, Source
from codechunk.text.chunks import Chunk, Kind, new_chunk, with_header
from codechunk.text.tokens import count_tokens
from codechunk.text.words import subwords

# A text fits, as far as an estimate can say, when its estimate and this margin do: of 30,000 real spans of 1,600 bytes
# one in a thousand held more than 1.24 times its estimate; the error of a sum of n tokens grows with the root of n.
# Seven of 42,935 large chunks of real files still were over the limit, all in Perl's tables of Unicode names: whoever
# stores chunks counts them, and cuts again without trust (parse_child.py).
_MARGIN, _MARGIN_OF_ROOT = 1.15, 3.0
# Pieces of what must be cut are filled to this share of the limit, so that they need no counting.
_FILL = 0.7
# From this share on a definition is cut without counting: cutting what might just have fitted does no harm.
_TOO_LARGE = 0.75
# Text that is not like code or prose is counted in any case: few tokens for its ink, very many (words of a letter or
# two, which hold up to 1.5 times the estimate), hardly any white space, or much beyond ASCII. Of real pieces this is
# 1 in 20; only those that may have very many are asked for all of their ink.
_FEWEST_TOKENS_PER_INK, _MOST_TOKENS_PER_INK = 0.23, 0.48
_MANY_TOKENS_PER_BYTE = 0.33
_MOST_INK = 0.95
_MOST_WIDE = 0.05
_NARROW = bytes(range(128))
# But ASCII of so many bytes for each token of the limit would have to hold 0.65 tokens a byte to be over it; what is
# estimated at no more than such a share of the limit never does (any two letters that are common together are a token).
_FEW_BYTES, _FEW_TOKENS = 1.5, 0.4
# Runs of loose statements are filled to this many times `min_tokens`.
_LOOSE_FILL = 4
# A function with functions in it stays whole up to this many times `min_tokens`.
_WHOLE_FILL = 4
_FUNCTIONS = frozenset({Kind.FUNCTION, Kind.METHOD})
# A header may take this share of the limit.
_HEADER_SHARE = 1 / 4
# What a header of ASCII holds, for planning and away from the limit: signatures have 3.5 bytes a token.
_HEADER_BYTES_PER_TOKEN = 3.5
_CHARACTER_BYTES = 4
_INK = re.compile(rb"\S")
_LAST_WHITE = ord(" ")
# So far an indented line is looked at for its ink before all of a span is searched.
_LEAD_BYTES = 32


@dataclass(slots=True)
class Piece:
    """A span on its way to become a chunk; `proven` once its size is known to be within the limit."""

    start: int
    end: int
    scope: Scope
    small: Small | None = None
    proven: bool = False
    names: tuple[str, ...] = ()  # of the definitions joined in it, when there are several
    header: str | None = None  # once it was asked for

    @property
    def symbol(self) -> str | None:
        """The qualified name of what it is, or all names with commas between, in file order."""
        return ", ".join(self.names) if self.names else (self.small or self.scope).symbol

    @property
    def defines(self) -> bool:
        """Whether a definition begins here, rather than going on."""
        if self.small is not None:
            return True
        return self.scope.parent is not None and self.start <= self.scope.start < self.end


def make_chunks(
    source: Source, outline: Outline, *, path: str, settings: ChunkSettings, trust_estimate: bool
) -> list[Chunk]:
    """The chunks of an outlined file, in file order."""
    cutter = _Cutter(source, outline, settings, trust_estimate=trust_estimate)
    count, language, whole = source.data.count, source.language, source.whole
    chunks = []
    line, counted = 1, 0
    for piece in cutter.pieces():
        start, end, kind = piece.start, piece.end, (piece.small or piece.scope).kind
        if start > counted:
            line += count(b"\n", counted, start)
        last_line = line + count(b"\n", start, end)
        text = source.text(start, end) if whole is None else whole[start:end]
        header = cutter.header_of(piece)
        chunks.append(new_chunk(path, language, kind, piece.symbol, line, last_line, start, end, text, header))
        line, counted = last_line, end
    return chunks


def _header_estimate(header: str) -> float:
    """Tokens that a header and its newline take, rather too many: to count each would cost more than all the rest."""
    if not header:
        return 0.0
    return (len(header) + 1) / _HEADER_BYTES_PER_TOKEN if header.isascii() else len(header.encode()) + 1


@cache
def _bounds(limit: int) -> tuple[float, float]:
    """More estimated tokens than the first are cut, up to the second surely fit."""
    too_large = limit * _TOO_LARGE
    root = (sqrt(_MARGIN_OF_ROOT**2 + 4 * _MARGIN * limit) - _MARGIN_OF_ROOT) / (2 * _MARGIN)
    return too_large, min(root**2, too_large)


def _inside(scope: Scope, outer: Scope) -> bool:
    inner: Scope | None = scope
    while inner is not None and inner is not outer:
        inner = inner.parent
    return inner is outer


@lru_cache(maxsize=8192)
def _words(symbol: str) -> str:
    """The words of a qualified name, or nothing when they are no more than the name itself."""
    words = " ".join(dict.fromkeys(subwords(symbol)))
    return "" if words == symbol.lower() else words


def _names(piece: Piece) -> tuple[str, ...]:
    """Names that a piece keeps when it is joined with another: of functions and classes, not of values and headings."""
    if piece.names or not piece.scope.findable or piece.small is not None or piece.scope.symbol is None:
        return piece.names
    return (piece.scope.symbol,) if piece.defines else ()


def _joined_names(pieces: Iterable[Piece]) -> tuple[str, ...]:
    """The names of what is made of these pieces, if it has several."""
    names = dict.fromkeys(name for piece in pieces for name in _names(piece))
    return tuple(names) if len(names) > 1 else ()


def _outer_function(scope: Scope) -> Scope | None:
    """The outermost function that a scope is or is in; None outside of functions."""
    found, inner = None, scope
    while inner.parent is not None:
        if inner.kind in _FUNCTIONS:
            found = inner
        inner = inner.parent
    return found


class _Cutter:
    """Cuts one file."""

    def __init__(self, source: Source, outline: Outline, settings: ChunkSettings, *, trust_estimate: bool) -> None:
        self.source = source
        self.data = source.data
        self.span = source.estimate.span
        self.ascii = source.ascii
        self.cuts = outline.cuts
        self.parts = outline.parts
        self.interiors = outline.interiors
        # Whether there are functions with definitions in them: known after the runs.
        self.nests = False
        self.limit = settings.max_tokens
        self.too_large, self.surely_fits = _bounds(self.limit)
        self.bytes_per_byte = 1 if source.encoding == "utf-8" else 2
        self.least = settings.min_tokens
        self.with_headers = settings.context_header
        self.trust_estimate = trust_estimate
        self.few_bytes = self.limit * _FEW_BYTES if trust_estimate and source.ascii else 0
        self.few_tokens = self.limit * _FEW_TOKENS
        # Characters of the words of a name: a fraction of what a header may take.
        self.most_words = self.limit // 4
        self.headers: dict[Scope, str] = {}

    def pieces(self) -> list[Piece]:
        """The file's pieces: trimmed, of useful size, proven to fit."""
        pieces = [piece for piece in self._runs() if self._trim(piece)]
        if self.nests:
            pieces = self._whole_functions(pieces)
        pieces = self._join_crumbs(pieces)
        done: list[Piece] = []
        for piece in pieces:
            if piece.proven or self._fits(piece):
                done.append(piece)
            else:
                done.extend(self._reduced(piece))
        return done

    def header_of(self, piece: Piece) -> str:
        """The header of a piece, made once."""
        if piece.header is None:
            piece.header = self.header(piece.scope, piece.start, piece.symbol)
        return piece.header

    def header(self, scope: Scope, start: int, symbol: str | None) -> str:
        """The context of a piece that begins at `start`: the words of its name, and the scopes around it.

        The words (`HTTPServer.setTimeout`: http server set timeout) are for models that read language better than
        identifiers: +.036 MRR by vectors alone for 4 % more tokens (docs/benchmarks.md).
        """
        if not self.with_headers:
            return ""
        parent = scope.parent
        # Most are in no scope: nothing is above them.
        above = "" if parent is None or (parent.parent is None and scope.start >= start) else self._above(scope, start)
        if symbol is None or scope.title is not None or len(words := _words(symbol)) > self.most_words:
            return above
        return f"{words}\n{above}" if words and above else words or above

    def _above(self, scope: Scope, start: int) -> str:
        """The signatures of the scopes begun before `start`, outermost first."""
        inner, parent = scope, scope.parent
        while inner.start >= start:
            if parent is None:
                return ""
            inner, parent = parent, parent.parent
        if parent is None:
            return ""
        known = self.headers.get(inner)
        if known is None:
            known = self.headers[inner] = self._shortened(self._signatures(inner))
        return known

    # Runs ------------------------------------------------------------------------------------------------

    def _runs(self) -> list[Piece]:
        """Consecutive cuts of one scope, cut into pieces that are likely to fit."""
        parts, cuts = self.parts, self.cuts
        pieces: list[Piece] = []
        first, count = 0, len(cuts)
        while first < count:
            scope = parts[first][0]
            if scope.parent is not None and scope.parent.kind in _FUNCTIONS:
                self.nests = True
            after = first + 1
            while after < count and parts[after][0] is scope:
                after += 1
            end = cuts[after] if after < count else len(self.data)
            start = cuts[first]
            single = after - first == 1
            # A single statement without a definition in it needs no search for one.
            named = scope.roomy and (not single or parts[first][2] is not None)
            small = self._main_small(start, end, scope) if named else None
            if scope.roomy and not single:
                self._split(Piece(start, end, scope, small), pieces, soft=self.least * _LOOSE_FILL)
            else:
                piece = Piece(start, end, scope, small)
                if self._fits(piece):
                    piece.proven = True
                    pieces.append(piece)
                else:
                    self._split(piece, pieces, soft=self.limit)
            first = after
        return pieces

    def _split(self, piece: Piece, pieces: list[Piece], *, soft: float, share: float = _FILL) -> None:
        """Append the parts of a piece: cut at the shallowest syntax near an even share, else lines, else bytes.

        soft: tokens to fill a part to, where syntax allows. share: how much of the limit a part may take
        in any case, by estimate.
        """
        header = self.header(piece.scope, piece.end, piece.symbol)
        hard = max((self.limit - _header_estimate(header)) * share, 1.0)
        soft = max(min(soft, hard), 1.0)
        start, end, scope = piece.start, piece.end, piece.scope
        while (left := self.span(start, end)) > soft:
            cut = self._next_cut(piece, start, left, soft, hard)
            if cut >= end:
                break
            pieces.append(Piece(start, cut, scope, self._main_small(start, cut, scope)))
            start = cut
        small = piece.small if start == piece.start else self._main_small(start, end, scope)
        pieces.append(Piece(start, end, scope, small))

    def _next_cut(self, piece: Piece, start: int, left: float, soft: float, hard: float) -> int:
        """Where to cut the rest of `piece`, from `start` on, `left` tokens; the part before holds at most `hard`."""
        cuts, reach, end = self.cuts, self.source.estimate.reach, piece.end
        aim, most = reach(start, left / ceil(left / soft)), min(reach(start, soft), end - 1)
        least = (start + aim) // 2
        low, high = bisect_right(cuts, least), bisect_right(cuts, most)
        if low < high:
            return self._best_cut(low, high, aim)
        interior = self.interiors.get(piece.scope)
        if interior is not None:
            found = interior.cut(least, aim, most)
            if found is not None:
                return found
        if soft < hard:
            # No statement ends in reach of the soft limit: take the one that goes beyond, whole.
            most = min(reach(start, hard), end - 1)
            if high < len(cuts) and cuts[high] <= most:
                return cuts[high]
            if left <= hard:
                return end
        before = bisect_right(cuts, least) - 1
        if before >= 0 and cuts[before] > start and self.source.inked(start, cuts[before]) >= LEAST_INK:
            return cuts[before]
        line = self.data.rfind(b"\n", least, most) + 1 or self.data.rfind(b"\n", start, most) + 1
        return line if line > start else self._byte_cut(start, most, end)

    def _best_cut(self, low: int, high: int, aim: int) -> int:
        """Of the cuts numbered from `low` up to `high` the shallowest, and of those the one nearest to `aim`."""
        cuts, parts = self.cuts, self.parts
        best = cuts[low]
        least_depth, least_far = parts[low][1], abs(best - aim)
        for number in range(low + 1, high):
            depth = parts[number][1]
            if depth <= least_depth:
                far = abs(cuts[number] - aim)
                if depth < least_depth or far < least_far:
                    best, least_depth, least_far = cuts[number], depth, far
        return best

    def _byte_cut(self, start: int, most: int, end: int) -> int:
        """The last place up to `most` that is between two characters; at least one character is taken."""
        data = self.data
        cut = max(most, start + 1)
        if self.source.encoding == "utf-8":
            while start < cut < end and data[cut] & 0xC0 == 0x80:
                cut -= 1
            if cut == start:
                cut += 1
                while cut < end and data[cut] & 0xC0 == 0x80:
                    cut += 1
        if data[cut - 1 : cut + 1] == b"\r\n":
            cut = cut - 1 if cut - 1 > start else cut + 1
        return min(cut, end)

    def _main_small(self, start: int, end: int, scope: Scope) -> Small | None:
        """The small definition that is most of a span of loose statements."""
        if not scope.roomy:
            return None
        best = None
        for _, _, small in self.parts[bisect_left(self.cuts, start) : bisect_left(self.cuts, end)]:
            if small is not None and (best is None or small.end - small.start > best.end - best.start):
                best = small
        if best is None or 2 * self.source.inked(best.start, best.end) < self.source.inked(start, end):
            return None
        return best

    # Functions in functions ------------------------------------------------------------------------------

    def _whole_functions(self, pieces: list[Piece]) -> list[Piece]:
        """Put a small function together again with the ones inside of it, whose names it has too.

        A decorator or a test with a view of three lines in it is one thing to look for.
        """
        done: list[Piece] = []
        most = self.least * _WHOLE_FILL
        first, count = 0, len(pieces)
        while first < count:
            owner = _outer_function(pieces[first].scope)
            after = first + 1
            while owner is not None and after < count and _outer_function(pieces[after].scope) is owner:
                after += 1
            group = pieces[first:after]
            start, end = group[0].start, group[-1].end
            if owner is not None and len(group) > 1 and self.span(start, end) <= most and start <= owner.start:
                whole = Piece(start, end, owner, names=_joined_names(group))
                if self._fits(whole):
                    whole.proven = True
                    group = [whole]
            done += group
            first = after
        return done

    # Crumbs ----------------------------------------------------------------------------------------------

    def _join_crumbs(self, pieces: list[Piece]) -> list[Piece]:
        """Join what is too small to be found by itself to a neighbour: its own definition, else what follows."""
        joined: list[Piece] = []
        waiting: Piece | None = None
        is_crumb = self._is_crumb
        for piece in pieces:
            current = piece
            if waiting is not None:
                current, waiting = self._settle(joined, waiting, current), None
            if not is_crumb(current):
                joined.append(current)
            elif joined and joined[-1].scope is current.scope and not current.scope.roomy:
                self._join_back(joined, current)
            else:
                waiting = current
        if waiting is not None:
            self._join_back(joined, waiting)
        return joined

    def _settle(self, joined: list[Piece], waiting: Piece, following: Piece) -> Piece:
        """Join a crumb to what follows it or, when that is outside of the crumb's scope, to what precedes it."""
        if joined and not _inside(following.scope, waiting.scope):
            before = self._together(joined[-1], waiting)
            if before is not None:
                joined[-1] = before
                return following
        both = self._together(waiting, following)
        if both is not None:
            return both
        self._join_back(joined, waiting)
        return following

    def _is_crumb(self, piece: Piece) -> bool:
        """Definitions by their characters, so that nearly each has a chunk; anything else by its tokens."""
        if piece.defines:
            return piece.end - piece.start < LEAST_INK
        return self.span(piece.start, piece.end) < self.least

    def _join_back(self, joined: list[Piece], piece: Piece) -> None:
        both = self._together(joined[-1], piece) if joined else None
        if both is None:
            joined.append(piece)
        else:
            joined[-1] = both

    def _together(self, first: Piece, second: Piece) -> Piece | None:
        """Both as one piece, or None when that would not fit.

        It is what the definition in it is; of two what the larger is, or the outer one when the inner is hardly more
        than a line. Functions and classes keep their names.
        """
        larger = self.span(first.start, first.end) > self.span(second.start, second.end)
        holds = first.scope.findable and second.scope.parent is first.scope
        holds = holds and second.end - second.start < 2 * LEAST_INK
        named = first if larger or holds else second
        if first.defines != second.defines:
            named = first if first.defines else second
        joined = Piece(first.start, second.end, named.scope, named.small, True, _joined_names((first, second)))
        return joined if self._fits(joined) else None

    # Headers ---------------------------------------------------------------------------------------------

    def _signatures(self, scope: Scope) -> list[str]:
        """A line for each scope around, outermost first; headings make one line, their path."""
        lines: list[str] = []
        inner: Scope | None = scope
        while inner is not None and inner.parent is not None:
            lines.append(self._signature(inner) if inner.title is None else inner.title)
            inner = inner.parent
        lines = [line for line in reversed(lines) if line]
        return lines if scope.title is None else [" > ".join(lines)]

    def _signature(self, scope: Scope) -> str:
        """The definition up to its body, on one line; the first line where that is long."""
        start, end = scope.start, scope.signature_end
        if not start < end <= start + SIGNATURE_CHARS:
            line = self.data.find(b"\n", start)
            end = min(line if line > 0 else len(self.data), start + 4 * SIGNATURE_CHARS)
        text = self.data[start:end].decode(self.source.encoding, "ignore")
        return " ".join(text.split())[:SIGNATURE_CHARS].rstrip(" {")

    def _shortened(self, lines: list[str]) -> str:
        """The lines within a quarter of the limit: the outermost go first, then the end of the last one."""
        room = int(self.limit * _HEADER_SHARE)
        header = "\n".join(lines)
        while len(header.encode()) >= room and count_tokens(header + "\n") > room:
            lines = lines[1:] if len(lines) > 1 else [lines[0][: len(lines[0]) // 2].rstrip()]
            header = "\n".join(lines)
        return header

    # Sizes -----------------------------------------------------------------------------------------------

    def _fits(self, piece: Piece) -> bool:
        """Whether a piece and its header are within the limit; large pieces are refused without counting."""
        limit, start, end, header = self.limit, piece.start, piece.end, self.header_of(piece)
        most_bytes = (end - start) * self.bytes_per_byte
        # A token has a byte at least.
        if most_bytes <= limit and (not header or most_bytes + len(header.encode()) + 1 <= limit):
            return True
        text = self.span(start, end)
        total = text + _header_estimate(header) if header else text
        if total > self.too_large and most_bytes > limit:
            return False
        if total <= self.few_tokens and most_bytes <= self.few_bytes:
            return True
        if total <= self.surely_fits and self._honest(start, end, text):
            return True
        exact = self.source.text(start, end)
        return count_tokens(with_header(header, exact, self.source.language)) <= limit

    def _honest(self, start: int, end: int, estimate: float) -> bool:
        """Whether the estimate of a span may be believed: its text is like code or prose."""
        if not self.trust_estimate:
            return False
        size = end - start
        if not self.ascii and len(self.data[start:end].translate(None, _NARROW)) > size * _MOST_WIDE:
            return False
        # The spaces of the first part mostly prove it, and counting them all takes longer.
        ink = size - self.data.count(b" ", start, start + size * 3 // 8)
        usual = estimate <= _MANY_TOKENS_PER_BYTE * size
        if usual and estimate >= _FEWEST_TOKENS_PER_INK * ink and ink <= size * _MOST_INK:
            return True
        ink = self.source.inked(start, end)
        return _FEWEST_TOKENS_PER_INK * ink <= estimate <= _MOST_TOKENS_PER_INK * ink and ink <= size * _MOST_INK

    def _reduced(self, piece: Piece) -> list[Piece]:
        """A piece that turned out too large, cut finer and finer until every part fits."""
        done: list[Piece] = []
        todo = [(piece, _FILL)]
        while todo:
            current, share = todo.pop()
            if not self._trim(current):
                continue
            if self._fits(current):
                done.append(current)
                continue
            parts: list[Piece] = []
            self._split(current, parts, soft=self.limit, share=share)
            if len(parts) == 1 and current.end - current.start <= _CHARACTER_BYTES:
                done.append(current)  # one character: nothing can be cut off any more
                continue
            todo.extend((part, share * 0.7) for part in reversed(parts))
        return done

    def _trim(self, piece: Piece) -> bool:
        """Drop white space behind and blank lines before a piece; False when nothing is left."""
        data, start, end = self.data, piece.start, piece.end
        # Most pieces begin with ink.
        ink = start
        if start == end or data[start] <= _LAST_WHITE:
            # Nearly always an indented line, whose ink is near.
            lead = data[start : min(end, start + _LEAD_BYTES)]
            ink = start + len(lead) - len(lead.lstrip())
            if ink == start + len(lead):
                first = _INK.search(data, start, end)
                if first is None:
                    return False
                ink = first.start()
        while data[end - 1] in WHITE:  # a line break or two, nearly always
            end -= 1
        piece.end = end
        if ink > start and (begin := data.rfind(b"\n", start, ink) + 1) > start:
            piece.start, piece.header = begin, None
        return True
