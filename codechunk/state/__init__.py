"""The state database: the truth about what was indexed and embedded, and the only place that speaks SQL.

`State` opens the database and carries one object per subject. Each of their methods is one transaction.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from codechunk.process.stop import Stop
from codechunk.state.batches import Batches, BatchRow, LostClaim, Member
from codechunk.state.catalog import Catalog, IndexRow, JobRow, Space
from codechunk.state.comparisons import Comparisons
from codechunk.state.contents import Contents, CutFile, KnownFile, PlannedFile, SizedSource, UnreadFile
from codechunk.state.copies import Copies
from codechunk.state.database import Database
from codechunk.state.embeddings import Embeddings
from codechunk.state.generation import Generation
from codechunk.state.inventory import Holding, Inventory, RepositoryRow
from codechunk.state.lookup import Filter, FoundChunk, Lookup
from codechunk.state.queue import BoughtTexts, ClaimedText, Queue
from codechunk.state.removal import Removal, Survey
from codechunk.state.stores import Copy, Stores
from codechunk.state.vector_rows import Cache


class State(AbstractContextManager["State"]):
    """An open state database.

    Raises:
        StateError: when the database is damaged, read-only, locked, newer than this program or on a network
            file system; with a sentence that says what to do.
    """

    def __init__(self, target: Path | str, *, stop: Stop | None = None) -> None:
        """Open the SQLite file `target`, or the database at the URL `target`.

        `stop` ends the work that is done with this state; its sections are the writing transactions.
        """
        self.stop = stop or Stop()
        self.database = Database(target, stop=self.stop)
        self.catalog = Catalog(self.database)
        self.contents = Contents(self.database)
        self.copies = Copies(self.database)
        self.comparisons = Comparisons(self.database)
        self.embeddings = Embeddings(self.database)
        self.cache = Cache(self.database)
        self.lookup = Lookup(self.database)
        self.queue = Queue(self.database)
        self.batches = Batches(self.database)
        self.inventory = Inventory(self.database)
        self.removal = Removal(self.database)
        self.stores = Stores(self.database)

    def close(self) -> None:
        """Release the connections."""
        self.database.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = [
    "BatchRow",
    "BoughtTexts",
    "ClaimedText",
    "Copy",
    "CutFile",
    "Filter",
    "FoundChunk",
    "Generation",
    "Holding",
    "IndexRow",
    "JobRow",
    "KnownFile",
    "LostClaim",
    "Member",
    "PlannedFile",
    "RepositoryRow",
    "SizedSource",
    "Space",
    "State",
    "Stores",
    "Survey",
    "UnreadFile",
]
