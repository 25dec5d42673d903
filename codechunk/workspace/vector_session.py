"""One use of the vector store, from the look at it before to the record of how it looks afterwards.

What search asks is disposable: it can be built again from the state database. So whoever uses it looks whether it is
as it was left, checks it, fixes it, and writes down how it looks when it is done. All of that is here, once.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain

from codechunk.errors import IndexBusy, VectorStoreError
from codechunk.process.closing import Closing
from codechunk.progress import Reporter
from codechunk.slices import slices
from codechunk.state import Copy, Generation, IndexRow, SizedSource, State
from codechunk.state.embeddings import Vectors
from codechunk.vectors import Backend, Collection, Found, VectorStore

# Contents handled together. A content is at most git.max_file_size, so this bounds memory.
SOURCES_AT_ONCE = 48
DELETE_AT_ONCE = 5_000
# How many stored vectors must find themselves before a collection is trusted.
PROBES = 16
# How often a writer looks again for another one's lock.
BUSY_LOOK_S = 1.0
# How long a store that is read may stay open though another process waits to write; it waits twice as long.
READ_AT_LEAST_S = 1.0
WRITTEN_HERE = "The vector index is being written by this process; wait for it."
BEHIND = "another data directory has published since"

Alone = Callable[[IndexRow], AbstractContextManager[object]]


class Gate:
    """Who in this process uses a store that is for one writer alone; one object for all threads.

    Readers share one open store and take turns with it: two that are open on one directory would each have a stale
    half of the truth, and closing a file in one takes away the locks of the other. A writer is not kept waiting by
    them: between two questions it closes their store, and until it is done they do without.
    """

    def __init__(self) -> None:
        self.turn = threading.RLock()
        self.reading: _Reading | None = None
        self.readers = 0
        self.writing = False


class _Reading:
    """A store that is open for reading, and what was found out about its collections."""

    def __init__(self, store: VectorStore, stamp: str | None) -> None:
        self.store, self.stamp = store, stamp
        self.since = time.monotonic()
        self.collections: dict[int, Collection] = {}


class VectorSession(Closing):
    """A use of the vector store by one run, search or command: a context manager, cheap until it is asked.

    It may read or write, one after the other. A writer that leaves without `finish` leaves no record: whoever comes
    next looks closely.

    Args:
        gate: of the process for an exclusive store, of this session alone for others.
        alone: the lock of an index, without which nobody fixes it.
        claims: whether what an older codechunk wrote down is surely about this store.
        place: whereabouts of the data directory.
    """

    def __init__(
        self, *, state: State, backend: Backend, gate: Gate, alone: Alone, claims: bool, place: str | None = None
    ) -> None:
        self._state, self._backend, self._alone, self._claims = state, backend, alone, claims
        self._place = None if backend.shared else place
        self._gate = gate
        self._store: VectorStore | None = None
        self._counted = False
        self._row: int | None = None
        self.stamp: str | None = None
        """How the store looked when it was last seen by `look`, or opened to write."""

    # ------------------------------------------------------------------ how far the copy is

    @property
    def store_id(self) -> int | None:
        """The row of the store in the state database; None when it holds no copy of its own."""
        if self._row is None:
            identity = self._backend.identity()
            if identity is not None:
                claims = self._claims or self._backend.exists()
                self._row = self._state.stores.open(identity, claims=claims, place=self._place)
        return self._row

    def look(self) -> None:
        """Only see how the store looks: another process may write in it while this one waits for vectors.

        A store that does not tell which one it is, is opened to write for a moment, which gives it another name.
        """
        try:
            self._backend.identity()
        except VectorStoreError:
            self._row = None
            if self._store is None:
                self._store = self._open_to_write()
                self._close_writing()
        self.stamp = self._backend.look()

    def is_current(self, index: IndexRow) -> bool:
        """Whether the store holds every vector of what is published, and is unchanged since the last look."""
        if self.store_id is None:
            return True
        copy = self._copy(index)
        return copy.complete and copy.stamp == self.stamp

    def is_whole(self, index: IndexRow) -> bool:
        """Whether every chunk of the published generation is known to have its vector, and the store to hold it.

        Then a run looks at what it brings in and at nothing else. It is not known after a run with failures, after a
        collection was lost, after another data directory published, and after a run that was abandoned: it may have
        put other vectors under the ids of kept chunks.
        """
        complete = self.store_id is None or self._copy(index).complete
        return index.whole and complete and not self._state.contents.has_abandoned(index.id)

    def holds(self, index: IndexRow) -> bool:
        """Whether the store has, or had, a copy of anything of the index."""
        return self.store_id is not None and self._state.stores.held(index.id, self.store_id) > 0

    def unsettled(self, index: IndexRow, generation: Generation) -> list[SizedSource]:
        """Contents whose chunks may lack a vector in the generation: new ones, or all if the published one is not
        whole."""
        return self._state.contents.new_sources(generation, all_files=not self.is_whole(index))

    def ledger(self, index: IndexRow, generation: Generation) -> dict[str, int]:
        """How many chunks of the generation are in each state; see `Embeddings.ledger`."""
        rest_is_ready = generation.number > index.published.number and self.is_whole(index)
        return self._state.embeddings.ledger(generation, store_id=self.store_id, rest_is_ready=rest_is_ready)

    def _copy(self, index: IndexRow) -> Copy:
        return self._state.stores.copy(index.id, self._held_in())

    # ------------------------------------------------------------------ writing

    def open(self, *, patience_s: float = 0.0, say: Callable[[str], None] | None = None) -> VectorStore:
        """Open it to write, unless that was done. Raises IndexBusy when somebody else keeps it for `patience_s`."""
        deadline = time.monotonic() + patience_s
        while self._store is None:
            try:
                self._store = self._open_to_write()
            except IndexBusy as exc:
                if time.monotonic() >= deadline:
                    raise
                if say is not None:
                    say(f"{exc} Waiting for it.")
                    say = None
                self._state.stop.wait(BUSY_LOOK_S)
            else:
                self._row = None  # opening it to write may have given it another name
                self.stamp = self._backend.look()
        return self._store

    def _open_to_write(self) -> VectorStore:
        gate = self._gate
        with gate.turn:
            if gate.writing:
                raise IndexBusy(WRITTEN_HERE)
            self._close_reading()
            gate.writing = self._backend.exclusive
        try:
            return self._backend.open(write=True)
        except BaseException:
            gate.writing = False
            raise

    def finish(self, sound: Sequence[int] = ()) -> None:
        """Close what is open to write, and record how the store looks now; `sound`: indexes that are so now."""
        if self._store is None:
            return
        self._store.close_index()
        self._record(self._store, self.stamp, sound)
        self._close_writing()

    def _record(self, store: VectorStore, before: str | None, sound: Sequence[int] = ()) -> None:
        """What was sound before, and what is said to be, is sound as the closed store looks now.

        Of a store that does not tell which one it is, nothing can be recorded: whoever comes next looks closely.
        """
        try:
            store_id = self.store_id
        except VectorStoreError:
            return
        after = self._backend.look()
        if store.recovered is not None:  # what was thrown away and begun anew is not what others left there
            before = None
        if store_id is not None and (sound or (before is not None and after != before)):
            self._state.stores.follow(store_id, sound, old=before, new=after)

    def _close_writing(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            finally:
                self._gate.writing = False

    def close(self) -> None:
        """Give everything back; what was open to write leaves no record."""
        self._close_writing()
        with self._gate.turn:
            if self._counted:
                self._counted = False
                self._gate.readers -= 1
            if not self._gate.readers:
                self._close_reading()

    def put(
        self,
        index: IndexRow,
        sources: Sequence[SizedSource],
        collection: Collection,
        reporter: Reporter,
        *,
        stage: str = "Storing",
    ) -> int:
        """Put the chunks of these contents that have a vector in the collection. Returns how many were new there.

        Chroma is written before the chunk is marked as stored there. One thread: Chroma's upsert holds Python's lock
        (measured), so a second one would gain nothing.
        """
        store_id = self.store_id
        if store_id is None:
            return 0
        reporter.stage(stage, sum(source.chunks for source in sources), "chunks")
        stored = 0
        for some in slices(sources, SOURCES_AT_ONCE):
            ids = [source.id for source in some]
            storable = self._state.stores.storable(index.id, index.space_id, ids, store_id=store_id)
            if storable is not None:
                collection.upsert(storable.chunk_ids, storable.vectors)
                self._state.stores.mark_stored(index.id, storable.chunk_ids, storable.embedding_ids, store_id=store_id)
                stored += len(storable.chunk_ids)
            reporter.advance(sum(source.chunks for source in some))
        return stored

    def take_out_gone(self, generation: Generation, collection: Collection) -> None:
        """Take out what files that end with the generation had and the generation no longer has."""
        if self.store_id is not None:
            gone = self._state.contents.gone_chunks(generation, store_id=self.store_id)
            self._take_out(generation.index_id, collection, gone)

    def _take_out(self, index_id: int, collection: Collection, chunk_ids: Sequence[str]) -> None:
        """Out of the collection first, then out of the record of what it holds."""
        for some in slices(chunk_ids, DELETE_AT_ONCE):
            collection.delete(some)
            self._state.stores.mark_deleted(index_id, some, store_id=self._held_in())

    # ------------------------------------------------------------------ soundness

    def sound(self, index: IndexRow, say: Callable[[str], None]) -> Collection:
        """The collection of the index, open to write: emptied when it is not what it should be.

        What a copy that is behind holds of older publications is taken out; the caller brings in what it lacks.
        """
        store = self.open()
        collection = store.collection(index.collection)
        if self.store_id is None:
            return collection
        if store.recovered:
            say(
                f"The vector index could not be opened ({store.recovered}); it is rebuilt from the state "
                f"database, nothing is embedded again."
            )
        copy = self._copy(index)
        as_left = copy.stamp is not None and copy.stamp == self.stamp
        trouble = (self.check if as_left else self._verify)(index, collection)
        if trouble is None:
            if copy.behind and index.publications:
                self._follow_others(index, collection)
            return collection
        if self._state.stores.held(index.id, self.store_id):
            say(
                f"The vector index of {index.repository}@{index.ref} is not sound ({trouble}); it is rebuilt from "
                f"the state database, nothing is embedded again."
            )
        return self._emptied(index, store)

    def follows(self, index: IndexRow, reporter: Reporter, *, patience_s: float) -> bool:
        """Whether the copy is up to date now: one that was only behind what others published is brought there.

        The caller works on the index alone. Without this, two data directories would publish the same commit in turn.
        """
        if self.store_id is None or not self._copy(index).behind:
            return False
        self.open(patience_s=patience_s, say=reporter.say)
        self._complete(index, self.sound(index, reporter.say), reporter, "Storing")
        return True

    def _complete(self, index: IndexRow, collection: Collection, reporter: Reporter, stage: str) -> None:
        """Bring in what the copy lacks of the published generation."""
        everything = self._state.contents.new_sources(index.published, all_files=True)
        self.put(index, everything, collection, reporter, stage=stage)
        self._state.stores.complete(index.id, self._held_in(), index.publications)

    def check(self, index: IndexRow, collection: Collection) -> str | None:
        """Whether the collection holds what it should: None, or in one clause what is wrong with it."""
        if self.store_id is None:
            return None
        held, probes = self._state.stores.held, self._state.stores.probes
        return collection.check(expected=held(index.id, self.store_id), probes=probes(index.id, self.store_id, PROBES))

    def _verify(self, index: IndexRow, collection: Collection) -> str | None:
        """`check` with every vector instead of a sample: for a collection that somebody else may have put there.

        An older copy of it may hold as many, and all but a few as they should be. 50,000 vectors take about three
        seconds.
        """
        store_id = self._held_in()
        expected = self._state.stores.held(index.id, store_id)
        pages = self._state.stores.held_vectors(index.id, store_id)
        troubles = (collection.check(expected=expected, probes=page) for page in chain(pages, [[]]))
        return next((trouble for trouble in troubles if trouble is not None), None)

    def _follow_others(self, index: IndexRow, collection: Collection) -> None:
        """Take out what is not in the published generation: another data directory has swept it."""
        old = self._state.stores.left_over(index.published, store_id=self._held_in())
        self._take_out(index.id, collection, old)

    def _emptied(self, index: IndexRow, store: VectorStore) -> Collection:
        store.drop(index.collection)
        self._state.stores.forget(index.id, self._held_in())
        return store.collection(index.collection)

    # ------------------------------------------------------------------ reading

    @contextmanager
    def reading(self) -> Iterator[VectorStore]:
        """The store, open to read, for this thread alone. Raises IndexBusy while somebody writes in it."""
        with self._gate.turn:
            yield self._reading().store

    def ask(self, index: IndexRow, vectors: Vectors, n: int, reporter: Reporter) -> list[Found]:
        """See `Collection.query`; of a collection that was checked, and fixed when it was not sound.

        Raises:
            IndexBusy: another process or thread writes in the store, or works on the index that is to be fixed.
            VectorStoreError: the store cannot be used.
        """
        with self._gate.turn:
            self._let_writers_in()
            trouble = self._trouble(index)
            if trouble is None:
                return self._reading().collections[index.id].query(vectors, n)
        self._fix(index, trouble, reporter)  # not in turn: other threads do without meanwhile
        with self._gate.turn:
            reading = self._reading()
            collection = reading.store.collection(index.collection)
            reading.collections[index.id] = collection
            return collection.query(vectors, n)

    def _reading(self) -> _Reading:
        """The caller has the turn."""
        gate = self._gate
        if gate.reading is None:
            if gate.writing:
                raise IndexBusy(WRITTEN_HERE)
            store = self._backend.open(write=False)
            gate.reading = _Reading(store, self._backend.look())
        if not self._counted:
            self._counted = True
            gate.readers += 1
        return gate.reading

    def _let_writers_in(self) -> None:
        """The caller has the turn. Threads that search without end would keep writers of other processes out.

        So the store is closed when one of them waits; until it is done, the store cannot be opened to read.
        """
        reading = self._gate.reading
        if reading is not None and time.monotonic() - reading.since >= READ_AT_LEAST_S and self._backend.wanted():
            self._close_reading()

    def _close_reading(self) -> None:
        """The caller has the turn. Reading changes files, too: what was sound is so as they look now."""
        reading, self._gate.reading = self._gate.reading, None
        if reading is not None:
            try:
                reading.store.close_index()
                self._record(reading.store, reading.stamp)
            finally:
                reading.store.close()

    def _trouble(self, index: IndexRow) -> str | None:
        """None when the collection can be asked; it is in `collections` then."""
        reading = self._reading()
        if index.id in reading.collections:
            return None
        try:
            collection = reading.store.collection(index.collection)
            trouble = self.check(index, collection) or self._incomplete(index)
        except VectorStoreError as exc:
            return str(exc)
        if trouble is None:
            reading.collections[index.id] = collection
        return trouble

    def _incomplete(self, index: IndexRow) -> str | None:
        """A rebuild that was stopped half-way holds what it says it holds, but not everything."""
        if self.store_id is None:
            return None
        copy = self._copy(index)
        if copy.complete:
            return None
        if copy.stamp is not None:
            return BEHIND
        missing = self.ledger(index, index.published)["unstored"]
        return f"{missing} vectors are missing" if missing else None

    def _fix(self, index: IndexRow, trouble: str, reporter: Reporter) -> None:
        """Make the collection what it should be, from the state database, unless the index is being worked on."""
        name = f"{index.repository}@{index.ref}"
        with self._alone(index):
            now = self._state.catalog.by_collection(index.collection)
            if now is None:
                raise VectorStoreError(f"{name} is not indexed any more.", kind="not_found")
            try:
                store = self.open()
                if trouble == BEHIND:
                    reporter.say(f"The vector index of {name} follows what another data directory has published.")
                    collection = store.collection(now.collection)
                    self._follow_others(now, collection)
                else:
                    reporter.say(
                        f"The vector index of {name} is not sound ({trouble}); rebuilding it from the state database."
                    )
                    collection = self._emptied(now, store)
                self._complete(now, collection, reporter, "Rebuilding")
                self.finish([now.id])
            finally:
                self._close_writing()

    def _held_in(self) -> int:
        """The row of a store that holds a copy."""
        if self.store_id is None:
            raise ValueError("this store holds no copy")
        return self.store_id
