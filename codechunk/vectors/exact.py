"""Comparing vectors one by one: `nearest` for whoever has them, and a store that compares those of the state database.

Exact, and without a copy. Right up to some hundred thousand chunks: the first search reads all rows of a collection,
and the process keeps them, as float16, until something else is published.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from codechunk.errors import VectorStoreError
from codechunk.process.closing import Closing
from codechunk.slices import parts
from codechunk.vectors import Found, Place, Rows
from codechunk.vectors.arrays import Halves, Vectors

# Rows compared at once: at 768 dimensions 12 MB as float32.
_ROWS_AT_ONCE = 4_096
# What a process keeps of collections, in bytes of vectors: 340,000 of 768 dimensions.
_MOST_KEPT_BYTES = 512 << 20
_SAME = 0.999


def nearest(
    pages: "Iterable[tuple[Sequence[str], Vectors | Halves]]",
    queries: Vectors,
    n: int,
    allowed: AbstractSet[str] | None = None,
) -> list[Found]:
    """For each of `queries`, shape (q, dimensions), the `n` most similar of all pages: (id, cosine similarity).

    Args:
        pages: ids with their unit vectors, shape (m, dimensions), of any float type.
        allowed: the ids that may be answered; None: all.

    Returns:
        Best first; of equal ones the smaller id.
    """
    best: list[Found] = [[] for _ in queries]
    if n < 1:
        return best
    for ids, vectors in pages:
        for part in parts(len(ids), _ROWS_AT_ONCE):
            block, names = vectors[part], ids[part]
            if allowed is not None:
                rows = [row for row, name in enumerate(names) if name in allowed]
                block, names = block[rows], [names[row] for row in rows]
            if not names:
                continue
            similarities = queries @ block.astype(np.float32, copy=False).T
            for number, similarity in enumerate(similarities):
                top = _largest(similarity, n)
                found = [*best[number], *((names[row], float(similarity[row])) for row in top)]
                best[number] = sorted(found, key=lambda pair: (-pair[1], pair[0]))[:n]
    return best


def _largest(values: Vectors, n: int) -> list[int]:
    """Where the `n` largest values are, and all that equal the least of them, in no order."""
    if len(values) <= n:
        return list(range(len(values)))
    least = np.partition(values, len(values) - n)[len(values) - n]
    found: list[int] = np.flatnonzero(values >= least).tolist()
    return found


def usable(vectors: Vectors, name: str) -> Vectors:
    """The vectors as contiguous float32, shape (n, dimensions).

    Raises:
        VectorStoreError: they have another shape, or one is zero or not finite.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not vectors.size:
        raise VectorStoreError(f"Vectors for {name} have the wrong shape {vectors.shape}.", kind="bug")
    if not np.isfinite(vectors).all():
        raise VectorStoreError(f"A vector for {name} holds NaN or infinity; nothing was stored.", kind="bug")
    if not vectors.any(axis=-1).all():
        raise VectorStoreError(f"A vector for {name} is all zeros; nothing was stored.", kind="bug")
    return vectors


def lost(probes: "Sequence[tuple[str, Vectors]]", stored: "dict[str, Vectors]") -> int:
    """How many probes are not among the stored ones, or with another vector."""
    return sum(id_ not in stored or _cosine(stored[id_], vector) < _SAME for id_, vector in probes)


def _cosine(one: Vectors, other: Vectors) -> float:
    if one.shape != other.shape:
        return -1.0
    return float(np.dot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A whole collection in memory, as it was at `version`, in the pages it was read in."""

    version: object
    pages: list[tuple[list[str], Halves]]

    @property
    def count(self) -> int:
        return sum(len(ids) for ids, _ in self.pages)

    @property
    def bytes(self) -> int:
        return sum(vectors.nbytes for _, vectors in self.pages)


class _Kept:
    """Collections in memory, those used last; for many threads."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}
        self._matrices: OrderedDict[str, _Matrix] = OrderedDict()

    def matrix(self, name: str) -> _Matrix:
        with self._lock:
            reading = self._reading.setdefault(name, threading.Lock())
        with reading:  # read by one thread, not by all at once
            version = self._rows.version(name)
            with self._lock:
                known = self._matrices.get(name)
                if known is not None and known.version == version:
                    self._matrices.move_to_end(name)
                    return known
            made = _Matrix(version, list(self._rows.pages(name)))
            with self._lock:
                self._matrices[name] = made
                self._matrices.move_to_end(name)
                while len(self._matrices) > 1 and self._bytes() > _MOST_KEPT_BYTES:
                    self._matrices.popitem(last=False)
            return made

    def _bytes(self) -> int:
        return sum(matrix.bytes for matrix in self._matrices.values())


class ExactCollection:
    """See `Collection`. What is upserted and deleted is so in the state database; here is nothing to change."""

    def __init__(self, name: str, kept: _Kept, *, write: bool) -> None:
        self.name = name
        self.identity = f"state/{name}"
        self._kept, self._write = kept, write

    def upsert(self, ids: Sequence[str], vectors: Vectors) -> None:
        """Only look whether they could be stored: the rows of the state database are what is searched."""
        self._writable()
        if not ids:
            return
        if len(ids) != len(usable(vectors, self.name)):
            raise ValueError("ids and vectors must have the same length")
        if len(set(ids)) != len(ids):
            raise VectorStoreError(f"An id for {self.name} is given twice; nothing was stored.", kind="bug")
        self._fitting(vectors)

    def delete(self, ids: Sequence[str]) -> None:  # noqa: ARG002 - the protocol's
        """Do nothing: the rows of the state database are searched."""
        self._writable()

    def query(self, vectors: Vectors, n: int, allowed: AbstractSet[str] | None = None) -> list[Found]:
        """See `Collection`."""
        queries = usable(vectors, self.name)
        matrix = self._fitting(queries)
        return nearest(matrix.pages, queries, n, allowed)

    def count(self) -> int:
        """How many chunks of the published generation have a vector."""
        return self._kept.matrix(self.name).count

    def check(self, *, expected: int, probes: "Sequence[tuple[str, Vectors]]") -> str | None:
        """See `Collection`."""
        matrix = self._kept.matrix(self.name)
        if matrix.count != expected:
            return f"it holds {matrix.count} vectors instead of {expected}"
        wanted = {id_ for id_, _ in probes}
        stored: dict[str, Vectors] = {
            id_: vectors[row].astype(np.float32)
            for ids, vectors in matrix.pages
            for row, id_ in enumerate(ids)
            if id_ in wanted
        }
        wrong = lost(probes, stored)
        return f"{wrong} of {len(probes)} sampled vectors are lost or wrong" if wrong else None

    def _fitting(self, vectors: Vectors) -> _Matrix:
        matrix = self._kept.matrix(self.name)
        dimensions = matrix.pages[0][1].shape[1] if matrix.pages else vectors.shape[1]
        if dimensions != vectors.shape[1]:
            raise VectorStoreError(
                f"Vectors of {self.name} have dimension {dimensions}, not {vectors.shape[1]}.", kind="bug"
            )
        return matrix

    def _writable(self) -> None:
        if not self._write:
            raise VectorStoreError(f"The vector index is open for reading; {self.name} cannot be changed.", kind="bug")


class ExactStore(Closing):
    """See `VectorStore`."""

    recovered: str | None = None

    def __init__(self, rows: Rows, kept: _Kept, *, write: bool) -> None:
        self._rows, self._kept, self._write = rows, kept, write
        self._closed = False

    def names(self) -> list[str]:
        """See `VectorStore`."""
        return self._rows.names()

    def collection(self, name: str) -> ExactCollection:
        """See `VectorStore`."""
        if self._closed:
            raise VectorStoreError("The vector index is closed.", kind="bug")
        return ExactCollection(name, self._kept, write=self._write)

    def drop(self, name: str) -> None:
        """Do nothing: only what the state database publishes is searched."""
        if not self._write:
            raise VectorStoreError(f"The vector index is open for reading; {name} cannot be removed.", kind="bug")

    def close_index(self) -> None:
        """See `VectorStore`."""
        self._closed = True

    def close(self) -> None:
        """See `VectorStore`."""
        self._closed = True


class Exact:
    """See `Backend`. Any number of readers and writers at once: none of them writes."""

    exclusive = False
    shared = False

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._kept = _Kept(rows)

    def identity(self) -> None:
        """It holds no copy."""
        return

    def look(self) -> None:
        """There is nothing to look at."""
        return

    def exists(self) -> bool:
        """There is nothing that could be opened by itself."""
        return False

    def wanted(self) -> bool:
        """Nobody needs it alone."""
        return False

    def prepare(self) -> None:
        """Do nothing: there is nothing to load."""

    def open(self, *, write: bool) -> ExactStore:
        """See `Backend`."""
        return ExactStore(self._rows, self._kept, write=write)


def backend(place: Place) -> Exact:
    """The rows of the state database at `place`."""
    return Exact(place.rows)
