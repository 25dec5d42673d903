"""The vector store as search sees it: asked, or done without."""

import numpy as np

from codechunk.errors import IndexBusy, VectorStoreError
from codechunk.process.closing import Closing
from codechunk.progress import Reporter
from codechunk.search.scope import is_early
from codechunk.state import IndexRow
from codechunk.state.embeddings import Vectors
from codechunk.workspace.workspace import Workspace


class Nearest(Closing):
    """Asks the vector store; opened at the first question, checked, and fixed when it can be.

    Chroma belongs to one writer. While that is somebody else, searches compare the vectors in the state database
    instead: exact, and a sentence says so.
    """

    def __init__(self, workspace: Workspace, reporter: Reporter) -> None:
        self._session, self._reporter = workspace.vector_session(), reporter
        self._told = ""

    def close(self) -> None:
        """Close the vector store."""
        self._session.close()

    def __call__(self, index: IndexRow, vector: Vectors, limit: int) -> list[tuple[str, float]] | None:
        """The nearest chunks of the index, or None when the store cannot be asked."""
        if is_early(index):  # the store has nothing of it yet
            return None
        try:
            return self._session.ask(index, vector[np.newaxis], limit, self._reporter)[0]
        except (IndexBusy, VectorStoreError) as exc:
            self._say_without(exc)
            return None

    def _say_without(self, why: Exception) -> None:
        if self._told == str(why):  # once, not once for each repository
            return
        self._told = str(why)
        self._reporter.say(f"{why} Searching the vectors in the state database meanwhile.")
