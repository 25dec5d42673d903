"""The vectors of the state database as a store without a copy of its own reads them (see `codechunk.vectors.Rows`)."""

from collections.abc import Callable, Iterator

from codechunk.state import Filter, State
from codechunk.vectors.arrays import Halves


class StateRows:
    """Collections are the published indexes, and their rows the vectors of the published chunks."""

    def __init__(self, state: Callable[[], State]) -> None:
        """`state` gives the open state database when it is first needed."""
        self._state = state

    def names(self) -> list[str]:
        """See `Rows`."""
        return sorted(index.collection for index in self._state().catalog.indexes())

    def version(self, name: str) -> object:
        """Each publication is another version; between two of them rows are only added, and found by their words."""
        index = self._state().catalog.by_collection(name)
        return None if index is None else (index.id, index.publications)

    def pages(self, name: str) -> Iterator[tuple[list[str], Halves]]:
        """See `Rows`."""
        index = self._state().catalog.by_collection(name)
        if index is not None:
            yield from self._state().lookup.vectors(index.published, Filter())
