"""Tokens: the exact cl100k count of a text, and a cheap estimate of any span of a file.

The vocabulary and the table of the estimate are shipped in `codechunk/data`: nothing is ever downloaded.
cl100k itself is an estimate of what Gemini bills; that factor is none of this module's business.
"""

import base64
import hashlib
import re
import threading
import zlib
from bisect import bisect_right
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tiktoken

from codechunk.errors import CodechunkError

DATA_DIR = Path(__file__).parent.parent / "data"
VOCABULARY = DATA_DIR / "cl100k_base.tiktoken"
BOUNDARIES = DATA_DIR / "token_boundaries.z"

_VOCABULARY_SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
# The pattern of cl100k_base as published with tiktoken: a letter run, up to three digits, or punctuation.
_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
# The same for ASCII: what is counted is known word by word, and most words come again.
_ASCII_PIECE = re.compile(
    r"'(?:[sdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\nA-Za-z0-9]?+[A-Za-z]++|[0-9]{1,3}+"
    r"| ?[^\t-\r A-Za-z0-9]++[\r\n]*+|[\t-\r ]++\Z|[\t-\r ]*[\r\n]|[\t-\r ]+(?![^\t-\r ])|[\t-\r ]"
)
# Longer pieces seldom come again; so many short ones take 5 MB.
_REMEMBERED, _LONGEST_REMEMBERED = 50_000, 48
# Texts longer than this are counted in slices: older releases of tiktoken need quadratic time for a
# run without a boundary (1 MB of one letter), and a slice bounds that.
_SLICE_CHARS = 50_000

_PAIRS = 1 << 16
# Where `reach` looks first.
_BYTES_PER_TOKEN = 6
_load_lock = threading.Lock()


class VocabularyError(CodechunkError):
    """The shipped vocabulary is missing or damaged: the installation is incomplete."""

    kind = "damaged"


def count_tokens(text: str) -> int:
    """Number of cl100k tokens in `text`, exactly as tiktoken counts ordinary text.

    Texts of special tokens (`<|endoftext|>`) are ordinary text here. Texts of more than 50,000 characters
    are counted slice by slice, cut where a line begins with a character that is not white (which changes
    nothing) or, inside a longer run without such a place, anywhere (off by a token or two per slice).
    Raises VocabularyError when the shipped vocabulary is damaged.
    """
    encoding = _encoding()
    if len(text) <= _SLICE_CHARS:
        return _count_slice(encoding, text)
    total = start = 0
    while start < len(text):
        end = _slice_end(text, start)
        total += _count_slice(encoding, text[start:end])
        start = end
    return total


def _count_slice(encoding: tiktoken.Encoding, text: str) -> int:
    if text.isascii():
        return sum(map(_PIECES.__getitem__, _ASCII_PIECE.findall(text)))
    return len(encoding.encode_ordinary(text))


class _Pieces(dict[str, int]):
    """Piece of text between two boundaries of cl100k -> its tokens. Forgets everything when full."""

    def __missing__(self, piece: str) -> int:
        tokens = len(_encoding().encode_ordinary(piece))
        if len(piece) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[piece] = tokens
        return tokens


_PIECES = _Pieces()


def _slice_end(text: str, start: int) -> int:
    limit = start + _SLICE_CHARS
    if limit >= len(text):
        return len(text)
    newline = limit
    while (newline := text.rfind("\n", start, newline)) > start:
        if not text[newline + 1].isspace():
            return newline + 1
    return limit


def _encoding() -> tiktoken.Encoding:
    # `cache` alone lets two threads load 70 MB each.
    with _load_lock:
        return _load_encoding()


@cache
def _load_encoding() -> tiktoken.Encoding:
    try:
        contents = VOCABULARY.read_bytes()
    except OSError as exc:
        raise VocabularyError(f"The token vocabulary is missing ({exc}): install codechunk again.") from exc
    if hashlib.sha256(contents).hexdigest() != _VOCABULARY_SHA256:
        raise VocabularyError(f"The token vocabulary {VOCABULARY} is damaged: install codechunk again.")
    ranks = {}
    for line in contents.splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    return tiktoken.Encoding(
        name="cl100k_base", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 100257}
    )


class TokenEstimate:
    """Estimated tokens of any span of one file, in constant time per question.

    A token boundary between two bytes has a probability that was calibrated over real code
    (`scripts/calibrate_tokens.py`); pairs never seen count as a boundary, so that base64, random bytes and rare
    scripts come out near one token per byte. A prefix sum over the file answers spans. Right within some percent on
    whole files of most languages (docs/benchmarks.md); text made of common pairs that no token joins can hold many
    times what it says, so what the estimate lets pass must be looked at (split.py) or counted.

    The sum is kept for every byte: kept for every eighth, cuts depended on where in the file code lay, and a line put
    in at the top sent texts far below it again (15 of one real file).
    """

    __slots__ = ("_prefix", "_size")

    def __init__(self, data: bytes, *, latin1: bool = False) -> None:
        """Prepare the spans of `data`; `latin1` says that a byte above 127 becomes two bytes of UTF-8."""
        self._size = len(data)
        sums = _sums(data)
        if latin1:
            sums += (np.frombuffer(data, np.uint8) > 127) * np.uint16(255)
        # At most 510 a byte: 32 bits are enough for 8 MiB, and half the memory.
        prefix = np.empty(len(data) + 1, np.uint32 if len(data) < 1 << 23 else np.uint64)
        prefix[0] = 0
        sums.cumsum(out=prefix[1:], dtype=prefix.dtype)
        self._prefix = prefix.data

    def span(self, start: int, end: int) -> float:
        """Estimated tokens of `data[start:end]`."""
        return (self._prefix[end] - self._prefix[start]) / 255

    def reach(self, start: int, tokens: float) -> int:
        """The largest position such that the span from `start` to it is estimated at no more than `tokens`.

        The end of the data if all of it is within; never before `start`.
        """
        prefix, last = self._prefix, self._size
        bound = prefix[start] + max(int(tokens * 255), 0)
        low, near = start, start + int(tokens * _BYTES_PER_TOKEN)
        while near < last and prefix[near] <= bound:
            low, near = near, near + (near - low or 1)
        return bisect_right(prefix, bound, low, near if near < last else last + 1) - 1


def _sums(data: bytes) -> npt.NDArray[np.uint16]:
    """255ths of a token that end with each byte: the boundary between it and the next one."""
    size = len(data)
    padded = data.ljust(size + 2 - size % 2, b"\n")  # white space after the end costs nothing
    table, sums = _boundaries(), np.empty(len(padded), np.uint16)
    # Two views of the same bytes as 16-bit numbers give all pairs without a copy. Mode clip spares a check.
    sums[0::2] = table.take(np.frombuffer(padded, "<u2"), mode="clip")
    sums[1:-1:2] = table.take(np.frombuffer(padded, "<u2", len(padded) // 2 - 1, 1), mode="clip")
    return sums[:size]


@cache
def _boundaries() -> npt.NDArray[np.uint8]:
    """255ths of a token boundary between two bytes, by their number: the first plus 256 times the second."""
    try:
        table = np.frombuffer(zlib.decompress(BOUNDARIES.read_bytes()), np.uint8)
    except (OSError, zlib.error) as exc:
        raise VocabularyError(f"The table of token boundaries is damaged: {exc}.") from exc
    if table.size != _PAIRS:
        raise VocabularyError(f"The table of token boundaries {BOUNDARIES} is damaged: install codechunk again.")
    return table
