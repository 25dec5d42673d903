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
        """Each publication is another version, and so is each change of what its chunks still lack.

        Numbers are given again after a repository was removed, times of publication are not. An index that is whole
        lacks nothing until the next publication, so it is not asked again.
        """
        state = self._state()
        index = state.catalog.by_collection(name)
        if index is None:
            return None
        lacking = 0 if index.whole else state.embeddings.lacking(index.published)
        return (index.id, index.publications, index.updated_at, lacking)

    def pages(self, name: str) -> Iterator[tuple[list[str], Halves]]:
        """See `Rows`."""
        index = self._state().catalog.by_collection(name)
        if index is not None:
            yield from self._state().lookup.vectors(index.published, Filter())
