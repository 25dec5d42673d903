"""Deterministic vectors made of nothing but the words of a text: no network, no model, no cost. Pure.

Signed feature hashing: every sub-word, lightly stemmed, adds or subtracts its weight at one position, both
taken from its BLAKE2 hash, so texts that share words point the same way and a search for words of a function
finds it. It knows words, not meaning.

The same text gives the same bytes on every machine and Python, because nothing depends on the order or the
rounding of a sum: weights are integers (square roots rounded down by `isqrt`), sums of them are exact in
float64 and in int64, and the two operations that do round, square root and division, are correctly rounded
by IEEE 754. What `words` says about letters beyond Unicode 14 holds here too.
"""

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b, shake_256
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from codechunk.providers.contract import ClientSettings, Embedded, Model, Provider
from codechunk.slices import parts
from codechunk.text.words import STOP_WORDS, subwords

MODEL = "synthetic-hash-v1"
"""The model name these vectors are stored under. A change of any vector is a new name."""

# Words of the languages' own grammar: in half of all chunks, so they say little.
_KEYWORDS = """
abstract assert async await begin bool boolean break case catch char class const continue def default define
del delegate do double elif else elseif end endif enum except export extends extern final finally float fn
func function goto if ifdef ifndef implements import include inline int interface internal lambda let long
mut namespace new nil none not null operator override package private protected pub public raise readonly
ref register return self short signed sizeof static str string struct super switch template then this throw
throws trait true false try typedef typename typeof undef union unsigned use using val var virtual void
volatile where while yield
"""
_COMMON = STOP_WORDS.union(_KEYWORDS.split())

_UNIT = 1 << 10
_MOST_REPEATS = 256
_ROOTS = np.array([isqrt(count * _UNIT * _UNIT) for count in range(_MOST_REPEATS + 1)], dtype=np.int64)
_ROWS_AT_ONCE = 256
_REMEMBERED = 200_000
_FALLBACK_POSITIONS = 12
# So many vectors are saved in one transaction, and a run that is stopped loses at most this much work.
_TEXTS_PER_CALL = 500


class Synthetic:
    """The client of synthetic vectors: chunks and queries are embedded alike."""

    title = "Synthetic"

    def __init__(self, settings: ClientSettings) -> None:
        self._dimensions = settings.dimensions

    def embed(self, texts: Sequence[str]) -> Embedded:
        """A vector for each text; see `embed` of this module."""
        if not 0 < len(texts) <= _TEXTS_PER_CALL:
            raise ValueError(f"1 to {_TEXTS_PER_CALL} texts a call, not {len(texts)}")
        return Embedded(vectors=embed(texts, self._dimensions))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, shape (dimensions,)."""
        vector: NDArray[np.float32] = embed([text], self._dimensions)[0]
        return vector

    def close(self) -> None:
        """Nothing is open."""


PROVIDER = Provider(
    name="synthetic",
    title="Synthetic",
    open=Synthetic,
    models={MODEL: Model()},
    fixed_model=MODEL,
    free=True,
    in_process=True,
    texts_per_call=_TEXTS_PER_CALL,
    stands_for="gemini",
)


def embed(texts: Sequence[str], dimensions: int = 768) -> NDArray[np.float32]:
    """One vector of L2 norm 1 for each text: float32, shape `(len(texts), dimensions)`.

    A word counts by the square root of its repeats; function words, keywords of programming languages, single
    letters and numbers count a quarter. A text without any word gets a vector from a hash of its bytes.
    """
    vectors = np.empty((len(texts), dimensions), dtype=np.float32)
    for part in parts(len(texts), _ROWS_AT_ONCE):
        vectors[part] = _unit_length(_sums(texts[part], dimensions), texts[part])
    return vectors


def _sums(texts: Sequence[str], dimensions: int) -> NDArray[np.int64]:
    """The signed weights of each text's words, added up per position: exact integers."""
    codes: list[int] = []
    counts: list[int] = []
    ends = []
    for text in texts:
        words = Counter(subwords(text))
        codes.extend(map(_CODES.__getitem__, words))
        counts.extend(words.values())
        ends.append(len(codes))
    code = np.array(codes, dtype=np.int64)
    row = np.repeat(np.arange(len(texts)), np.diff(ends, prepend=0))
    weight = _ROOTS[np.minimum(np.array(counts, dtype=np.int64), _MOST_REPEATS)]
    weight = np.where(code & 2, weight // 4, weight) * (1 - 2 * (code & 1))
    position = row * dimensions + (code >> 2) % dimensions
    sums = np.bincount(position, weights=weight, minlength=len(texts) * dimensions)
    return sums.astype(np.int64).reshape(len(texts), dimensions)


def _unit_length(sums: NDArray[np.int64], texts: Sequence[str]) -> NDArray[np.float64]:
    squares = np.einsum("ij,ij->i", sums, sums)
    for row in np.flatnonzero(squares == 0).tolist():
        sums[row] = _sum_of_bytes(texts[row], sums.shape[1])
        squares[row] = np.dot(sums[row], sums[row])
    lengths: NDArray[np.float64] = np.sqrt(squares.astype(np.float64))
    return sums / lengths[:, np.newaxis]


def _sum_of_bytes(text: str, dimensions: int) -> NDArray[np.int64]:
    """A vector that is never zero: distinct powers of two cannot cancel, wherever they fall."""
    digest = shake_256(text.encode("utf-8", "surrogatepass")).digest(8 * _FALLBACK_POSITIONS)
    sums = np.zeros(dimensions, dtype=np.int64)
    for index in range(_FALLBACK_POSITIONS):
        code = int.from_bytes(digest[8 * index : 8 * index + 8], "little") >> 1
        sums[(code >> 2) % dimensions] += (1 - 2 * (code & 1)) << index
    return sums


class _Codes(dict[str, int]):
    """Word -> 63 bits: sign in bit 0, "common" in bit 1, position above. Forgets everything when full."""

    def __missing__(self, word: str) -> int:
        hashed = int.from_bytes(blake2b(_stem(word).encode(), digest_size=8).digest(), "little") >> 1
        common = word in _COMMON or len(word) == 1 or (word.isascii() and word.isdigit())
        code = hashed | 2 if common else hashed & ~2
        if len(self) >= _REMEMBERED:
            self.clear()
        self[word] = code
        return code


_CODES = _Codes()


def _stem(word: str) -> str:
    """`word` without English endings, so that retry, retries, retried and retrying are one word."""
    if len(word) < 4 or not (word.isascii() and word.isalpha()):
        return word
    if word.endswith("ies"):
        word = word[:-3] + "y"
    elif word.endswith("s") and word[-2] not in "siu":
        word = word[:-1]
    for ending in ("ing", "ed"):
        root = word.removesuffix(ending)
        if root != word and len(root) >= 3 and any(vowel in root for vowel in "aeiouy"):
            word = root[:-1] if root[-1] == root[-2] and root[-1] not in "lsz" else root
            break
    word = word.removesuffix("e") if len(word) > 3 else word
    return word[:-1] + "y" if word.endswith("i") else word
