"""The vector store as search sees it: opened late, checked, mended, or done without."""

from codechunk.errors import IndexBusy, VectorStoreError
from codechunk.progress import Reporter
from codechunk.state import IndexRow
from codechunk.state.embeddings import Vectors
from codechunk.vectors.chroma import Collection, VectorStore
from codechunk.workspace import vectors_of_index
from codechunk.workspace.workspace import Workspace


class Nearest:
    """Asks the vector store; opened at the first question, checked, and mended when it can be.

    Chroma belongs to one writing process. While that is somebody else, searches compare the vectors in the
    state database instead: exact, and a sentence says so.
    """

    def __init__(self, workspace: Workspace, reporter: Reporter) -> None:
        self._workspace, self._state, self._reporter = workspace, workspace.state, reporter
        self._store: VectorStore | None = None
        self._collections: dict[int, Collection | None] = {}
        self._mended_ids: list[int] = []
        self._stamp: str | None = None
        self._told = ""

    def __enter__(self) -> "Nearest":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, index: IndexRow, vector: Vectors, limit: int) -> list[tuple[str, float]] | None:
        """The nearest chunks of the index, or None when the store cannot be asked."""
        if index.id not in self._collections:
            self._collections[index.id] = self._checked(index)
        collection = self._collections[index.id]
        return None if collection is None else collection.query(vector, limit)

    def _checked(self, index: IndexRow) -> Collection | None:
        try:
            if self._store is None:
                self._open(write=False)
            assert self._store is not None  # noqa: S101 - just opened
            collection = self._store.collection(index.collection)
            trouble = vectors_of_index.check(self._state, index, collection) or self._incomplete(index)
        except IndexBusy as exc:
            self._say_without(exc)
            return None
        except VectorStoreError as exc:
            trouble = str(exc)
        return collection if trouble is None else self._mended(index, trouble)

    def _incomplete(self, index: IndexRow) -> str | None:
        """A rebuild that was stopped half-way holds what it says it holds, but not everything."""
        if index.vectors_stamp is not None:
            return None
        missing = self._state.embeddings.ledger(index.id, index.space_id, index.generation)["unstored"]
        return f"{missing} vectors are missing" if missing else None

    def _mended(self, index: IndexRow, trouble: str) -> Collection | None:
        """Rebuild the collection from the state database, if nobody is working on it."""
        self._close()
        try:
            with self._workspace.alone(index):
                self._open(write=True)
                self._reporter.say(
                    f"The vector index of {index.repository}@{index.ref} is not sound ({trouble}); rebuilding it from "
                    f"the state database."
                )
                return self._rebuilt(index)
        except (IndexBusy, VectorStoreError) as exc:
            self._say_without(exc)
            return None

    def _rebuilt(self, index: IndexRow) -> Collection:
        assert self._store is not None  # noqa: S101 - the caller opened it
        self._collections.clear()
        self._store.drop(index.collection)
        self._state.embeddings.forget_stored(index.id)
        collection = self._store.collection(index.collection)
        vectors_of_index.store(
            state=self._state,
            index=index,
            sources=self._state.contents.new_sources(index.id, index.generation, all_files=True),
            collection=collection,
            reporter=self._reporter,
            stage="Rebuilding",
        )
        self._mended_ids.append(index.id)
        return collection

    def _say_without(self, why: Exception) -> None:
        if self._told == str(why):  # once, not once for each repository
            return
        self._told = str(why)
        self._reporter.say(f"{why} Searching the vectors in the state database meanwhile.")

    def _open(self, *, write: bool) -> None:
        self._store = self._workspace.store(write=write)
        self._stamp = self._workspace.stamp()

    def _close(self) -> None:
        """Close the store; what was sound before, and what was mended, is sound as it looks now."""
        if self._store is None:
            return
        self._store.close_index()
        after = self._workspace.stamp()
        if self._mended_ids or after != self._stamp:
            self._state.catalog.follow_vectors_stamp(self._mended_ids, old=self._stamp, new=after)
        self._mended_ids = []
        self._store.close()
        self._store = None
