"""The vectors of a query, one for each vector space, as far as they can be had: a search does without the others."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from codechunk import providers
from codechunk.errors import ProviderError, StateError, UsageError
from codechunk.process.closing import Closing
from codechunk.providers import Client
from codechunk.state import IndexRow, Space, State
from codechunk.state.embeddings import Vectors
from codechunk.workspace.workspace import Workspace

# A person waits for an answer: so long for the provider, and then words must do.
PATIENCE_S = 10.0
# How long a provider that failed is not asked again.
LEFT_ALONE_S = 30.0
# The notice that is given once.
SYNTHETIC = "vectors_are_synthetic"


def synthetic_hints(state: State, indexes: Sequence[IndexRow]) -> list[str]:
    """That vectors only stand for those of a model, and what to set: told once for each database."""
    found = [index for index in indexes if _stands_for(index) is not None]
    if not found or state.queue.fact(f"notice:{SYNTHETIC}") is not None:
        return []
    with suppress(StateError):  # another process writes: told another time
        if not state.queue.first_time(SYNTHETIC):
            return []
    real = providers.get(str(_stands_for(found[0])))
    variable = f"{real.key_variables[0]} and " if real.key_variables else ""
    return [
        f"The vectors of {found[0].repository} are synthetic: made here from words, they know little of meaning. For "
        f"those of {real.title} set {variable}embedding.provider to {real.name}, and index again."
    ]


def _stands_for(index: IndexRow) -> str | None:
    name = index.space.provider
    return providers.get(name).stands_for if providers.is_known(name) else None


class QueryVectors(Closing):
    """Makes the vectors of queries: one call for each space.

    What is missing (a key, a provider, the network) is told once, and the indexes in that space are searched by words
    until it is there.
    """

    def __init__(self, workspace: Workspace, indexes: Sequence[IndexRow], say: Callable[[str], None]) -> None:
        self._workspace, self._say = workspace, say
        self._spaces: dict[int, Space] = {}
        self._names: dict[int, list[str]] = {}
        for index in indexes:
            self._spaces[index.space_id] = index.space
            self._names.setdefault(index.space_id, []).append(f"{index.repository}@{index.ref}")
        self._clients: dict[int, Client] = {}
        self._not_before: dict[int, float] = {}
        self._told: set[str] = set()
        self._edges = ExitStack()

    def close(self) -> None:
        """Close the clients."""
        self._edges.close()

    def __call__(self, text: str) -> dict[int, Vectors]:
        """The query's vector for each space id; a space whose vector cannot be made is missing."""
        made: dict[int, Vectors] = {}
        for space_id in self._spaces:
            if self._not_before.get(space_id, 0.0) > time.monotonic():
                continue
            try:
                made[space_id] = self._client(space_id).embed_query(text)
            except (UsageError, ProviderError) as exc:
                self._not_before[space_id] = time.monotonic() + LEFT_ALONE_S
                self._tell(space_id, str(exc))
        return made

    def _client(self, space_id: int) -> Client:
        """Raises UsageError when the provider is not installed any more, or has no key."""
        name = self._spaces[space_id].provider
        if not providers.is_known(name):
            index = self._names[space_id][0]
            raise UsageError(
                f"There is no provider {name!r}, which made the vectors of {index}; install its package again, or "
                f"remove the index: `codechunk repos remove {index}`."
            )
        if space_id not in self._clients:
            client = self._workspace.client(self._spaces[space_id], patience_s=PATIENCE_S)
            self._edges.callback(client.close)
            self._clients[space_id] = client
        return self._clients[space_id]

    def _tell(self, space_id: int, why: str) -> None:
        if why in self._told:
            return
        self._told.add(why)
        first, *others = self._names[space_id]
        names = f"{first} and {len(others)} more" if others else first
        self._say(f"{why.rstrip('.')}. Meanwhile {names} {'are' if others else 'is'} searched by words alone.")
