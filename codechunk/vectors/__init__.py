"""Vector stores: what one must be able to do, and which there are by the name in `vectors.backend`.

A store is disposable: the vectors themselves are in the state database, and all of it can be built again from there.
To add one, write a module with a `backend` function and give it a line in BACKENDS (docs/extending/store.md).
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

if TYPE_CHECKING:  # the configuration asks for the names, and numpy takes 0.1 s
    from codechunk.vectors.arrays import Halves, Vectors

# Name -> module with `backend(place) -> Backend`. Imported when it is used: what nobody configured costs nothing.
BACKENDS = {"chroma": "codechunk.vectors.chroma", "exact": "codechunk.vectors.exact"}

Found: TypeAlias = list[tuple[str, float]]
"""(id, cosine similarity), best first."""


class Collection(Protocol):
    """The vectors of one repository, ref and vector space: ids and unit vectors, nothing else.

    Raises:
        VectorStoreError: from every method, when the store cannot do it or was not opened for it.
    """

    @property
    def identity(self) -> str:
        """What tells it from every other collection, in this store and in others."""
        ...

    def upsert(self, ids: Sequence[str], vectors: "Vectors") -> None:
        """Hold `vectors`, shape (n, dimensions), under `ids`; an id that exists gets the new vector.

        They are in the state database already. Refused, with nothing stored of that call: NaN, infinity, a zero vector,
        an id twice, another dimension than the collection's.
        """
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove vectors; unknown ids are fine."""
        ...

    def query(self, vectors: "Vectors", n: int, allowed: AbstractSet[str] | None = None) -> list[Found]:
        """For each of `vectors`, shape (queries, dimensions), at most `n` pairs (id, cosine similarity), best first.

        `allowed`: the ids that may be answered; None: all.
        """
        ...

    def count(self) -> int:
        """How many ids it has; `check` tells whether their vectors are there too."""
        ...

    def check(self, *, expected: int, probes: "Sequence[tuple[str, Vectors]]") -> str | None:
        """None when it holds `expected` vectors and each probe (id, vector) among them; else one short reason to
        rebuild it."""
        ...


class VectorStore(Protocol):
    """A store, open for reading or writing: a context manager. Not for two threads at once, not across a fork."""

    recovered: str | None
    """Why all it held was thrown away and begun anew, or None. All collections are then empty."""

    def names(self) -> list[str]:
        """The names of all collections, sorted."""
        ...

    def collection(self, name: str) -> Collection:
        """The collection `name`, made when missing. A reader makes none: a missing one is empty."""
        ...

    def drop(self, name: str) -> None:
        """Remove a collection with its vectors; a missing one is fine."""
        ...

    def close_index(self) -> None:
        """Close the files and keep the lock, so that how it looks can be recorded while it cannot change."""
        ...

    def close(self) -> None:
        """Give back memory, files and the lock. More than once is fine."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Backend(Protocol):
    """A store that is not open: what can be said of it without asking it, and the way in."""

    @property
    def exclusive(self) -> bool:
        """Whether a writer needs it alone. Then a reader is refused while it is written, and a writer while read."""
        ...

    @property
    def shared(self) -> bool:
        """Whether it may hold collections of others, which no index here names."""
        ...

    def identity(self) -> str | None:
        """What tells it from other stores for ever; None: it holds no copy, it reads the state database's vectors."""
        ...

    def look(self) -> str | None:
        """How it looks from outside: as long as this is the same, nobody has changed it. None: there is nothing."""
        ...

    def exists(self) -> bool:
        """Whether there is anything in it that can be opened; opening it may make it."""
        ...

    def wanted(self) -> bool:
        """Whether a writer has it, or waits for its readers; asked while a reader is open. Never, if not exclusive."""
        ...

    def prepare(self) -> None:
        """Begin to load what opening needs, while the caller waits for something else."""
        ...

    def open(self, *, write: bool) -> VectorStore:
        """Take its lock, if it has one; what costs time comes when it is first asked.

        Raises:
            IndexBusy: others use it. VectorStoreError: it cannot be used.
        """
        ...


class Rows(Protocol):
    """The vectors of the state database, as a store without a copy of its own needs them."""

    def names(self) -> list[str]:
        """The names of the collections that search may ask, sorted."""
        ...

    def version(self, name: str) -> object:
        """Changes whenever the rows of the collection do; compared by equality."""
        ...

    def pages(self, name: str) -> "Iterator[tuple[list[str], Halves]]":
        """All ids and vectors of a collection, shape (n, dimensions), page by page; none for an unknown name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a store may be: a folder for one that is embedded, the URL of a server, the rows of the state database."""

    directory: Path
    url: str | None
    rows: Rows
    shared_state: bool = False
    """Whether other data directories may have the same state database, so that no two stores may have one name."""


def backend(name: str, place: Place) -> Backend:
    """The backend of that name; the caller has checked the name."""
    found: Backend = import_module(BACKENDS[name]).backend(place)
    return found
