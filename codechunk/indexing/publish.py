"""The last part of an index run: vectors into Chroma, the ledger, the switch of searches to the new generation.

Needs nothing but the state database and the vector store, so that whoever sees the last vectors come can do it: the
run itself, a worker hours later, or `queue sync` on another day.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from codechunk.documents import IndexDocument, Saved, TokenFigures, to_json
from codechunk.errors import CodechunkError, IndexBusy
from codechunk.indexing import report
from codechunk.indexing.mode import Choice, choose
from codechunk.process.crash import crash
from codechunk.progress import Reporter
from codechunk.state import IndexRow, JobRow, State
from codechunk.state.compare import Changes
from codechunk.text.money import rounded_usd
from codechunk.vectors.chroma import Collection, VectorStore
from codechunk.workspace import vectors_of_index
from codechunk.workspace.outline import Outline
from codechunk.workspace.workspace import Workspace

log = logging.getLogger(__name__)

# Failed files and chunks named one by one; the report counts them all.
LISTED = 20
# How long a finished run waits for another process that writes vectors, before it leaves that to the next one.
BUSY_PATIENCE_S = 600.0
BUSY_LOOK_S = 1.0


class Door:
    """The vector store's lock: synthetic vectors hold it from the beginning, others take it when they store."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._state = workspace, workspace.state
        self._store: VectorStore | None = None
        self.stamp: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self, *, patience_s: float = 0.0, say: Callable[[str], None] | None = None) -> VectorStore:
        """Take the lock, unless it is held already. Raises IndexBusy when another process keeps it for `patience_s`."""
        deadline = time.monotonic() + patience_s
        while self._store is None:
            try:
                self._store = self._workspace.store(write=True)
            except IndexBusy as exc:
                if time.monotonic() >= deadline:
                    raise
                if say is not None:
                    say(f"{exc} Waiting for it.")
                    say = None
                time.sleep(BUSY_LOOK_S)
        self.stamp = self._workspace.stamp()
        return self._store

    def look(self) -> None:
        """Only see what the directory looks like: another process may write in it while this one waits for vectors."""
        self.stamp = self._workspace.stamp()

    def sound(self, index_id: int) -> None:
        """Give the lock back after an index was brought to its sound state; what the directory looks like is kept."""
        if self._store is not None:
            self._store.close_index()
            self._state.catalog.follow_vectors_stamp([index_id], old=self.stamp, new=self._workspace.stamp())
            self.close()

    def close(self) -> None:
        """Give the lock back."""
        if self._store is not None:
            self._store.close()
            self._store = None


class Publication:
    """One job's way from the last vector to a published generation."""

    def __init__(
        self, workspace: Workspace, index: IndexRow, job: JobRow, outline: Outline, reporter: Reporter
    ) -> None:
        self._workspace, self._state, self._reporter = workspace, workspace.state, reporter
        self._index, self._job, self._outline = index, job, outline

    def waiting(self) -> IndexDocument:
        """Write down that the job's texts are out, and return its document so far."""
        now = self._state.catalog.refreshed(self._index)
        return self._finish(
            self._ledger(new=None), published=now.generation == self._outline.generation, status="embedding"
        )

    def publish_early(self, door: Door) -> None:
        """Switch searches to the generation although vectors are missing; `publish` follows when they have come.

        Chunks without a vector are found by their words. While another process writes vectors, it is left to `publish`:
        no text waits for that.
        """
        try:
            ledger = self._switch(door, made=None, patience_s=0.0)
        except IndexBusy as exc:
            self._reporter.say(f"{exc} Searches use the new commit when its last vector has come.")
            return
        waiting = ledger.chunks["pending"] + ledger.chunks["processing"]
        self._reporter.say(
            f"Searches use {self._outline.commit[:12]} from now on; {waiting:,} of its chunks are found by their words "
            f"only until their vectors come."
        )
        door.sound(self._index.id)

    def publish(self, door: Door, *, made: int | None = None, patience_s: float = BUSY_PATIENCE_S) -> IndexDocument:
        """Store the vectors, check the ledger, switch searches, then let go of what is gone.

        Args:
            made: how many vectors were made here; None: what the rows say was bought.
            patience_s: how long to wait for another process that writes vectors.

        Raises:
            IndexBusy: another process keeps writing vectors; the next run or worker finishes the job.
        """
        state = self._state
        ledger = self._switch(door, made=made, patience_s=patience_s)
        index, generation = self._index, self._outline.generation
        for path, why in state.contents.fallbacks(index.id, generation):
            self._reporter.say(f"{path}: cut by lines, the parser was stopped ({why}).")
        failed = []
        if ledger.chunks["failed"]:
            failed = state.embeddings.failures(index.id, index.space_id, generation, limit=LISTED)
        for place, why in (*ledger.failed_files, *failed):
            self._reporter.say(f"{place}: failed ({why}).")
        document = self._finish(ledger)
        door.sound(index.id)
        return document

    def _switch(self, door: Door, *, made: int | None, patience_s: float) -> report.Ledger:
        """Everything between the vectors that there are and searches that use them. Returns the ledger."""
        state, outline = self._state, self._outline
        collection = self._stored(door, door.open(patience_s=patience_s, say=self._reporter.say))
        index, generation = self._index, outline.generation
        ledger = self._ledger(new=made, final=True)
        ledger.balance()
        crash("ledger balanced")
        whole = not any(ledger.chunks[name] for name in ("pending", "processing", "failed"))
        state.catalog.publish(
            index.id, commit=outline.commit, fingerprint=outline.identity, generation=generation, whole=whole
        )
        crash("published")
        vectors_of_index.remove(state, index, collection, state.contents.gone_chunks(index.id, generation))
        state.catalog.sweep(index.id, generation)
        state.catalog.drop_unused_sources(index.repository_id)
        state.embeddings.drop_unwanted(index.space_id)
        crash("swept")
        return ledger

    # ------------------------------------------------------------------ Chroma

    def _stored(self, door: Door, store: VectorStore) -> Collection:
        """The collection of the index with every vector of the generation in it."""
        state, generation, reporter = self._state, self._outline.generation, self._reporter
        collection = self._sound_collection(door, store)
        index = self._index
        sources = vectors_of_index.unsettled(state, index, generation)
        vectors_of_index.store(state=state, index=index, sources=sources, collection=collection, reporter=reporter)
        if vectors_of_index.ledger(state, index, generation)["unstored"]:
            # What an abandoned run put under the ids of chunks that were kept: the right vectors again.
            sources = state.contents.new_sources(index.id, generation, all_files=True)
            vectors_of_index.store(state=state, index=index, sources=sources, collection=collection, reporter=reporter)
        crash("vectors stored")
        return collection

    def _sound_collection(self, door: Door, store: VectorStore) -> Collection:
        """The collection of the index, emptied when it is not what it should be."""
        index, state = self._index, self._state
        collection = store.collection(index.collection)
        if store.recovered:
            self._reporter.say(
                f"The vector index could not be opened ({store.recovered}); it is rebuilt from the state "
                f"database, nothing is embedded again."
            )
        as_left = index.vectors_stamp is not None and index.vectors_stamp == door.stamp
        trouble = (vectors_of_index.check if as_left else vectors_of_index.verify)(state, index, collection)
        if trouble is None:
            return collection
        if state.embeddings.held(index.id):
            self._reporter.say(
                f"The vector index of {index.repository}@{index.ref} is not sound ({trouble}); it is rebuilt from "
                f"the state database, nothing is embedded again."
            )
        store.drop(index.collection)
        state.embeddings.forget_stored(index.id)
        self._index = state.catalog.refreshed(index)
        return store.collection(index.collection)

    # ------------------------------------------------------------------ documents

    def _ledger(self, *, new: int | None, final: bool = False) -> report.Ledger:
        """Everything that is true of the generation. `new` texts were embedded; None: as many as were bought."""
        index, state, outline = self._index, self._state, self._outline
        generation = outline.generation
        changes = Changes() if outline.changes is None else Changes.load(outline.changes)
        return report.Ledger(
            discovered=outline.discovered,
            files=state.contents.file_counts(index.id, generation),
            unchanged=outline.unchanged,
            deleted_files=outline.deleted_files,
            chunks=vectors_of_index.ledger(state, index, generation),
            changes=changes,
            bought=self._bought(new),
            failed_files=state.contents.failed_files(index.id, generation, limit=LISTED) if final else [],
            secrets=state.contents.secrets(index.id, generation),
        )

    def _bought(self, made: int | None) -> report.Bought:
        if self._index.space.provider == "synthetic":
            return report.Bought(texts_sent=made or 0, estimated_usd=0.0, spent_usd=0.0)
        bought = self._state.queue.bought(self._job.id)
        return report.Bought(
            requests=bought.requests,
            texts_sent=bought.sent,
            texts_out=self._state.queue.still_open(self._job.id),
            batches=bought.batches,
            fallbacks=bought.fallbacks,
            estimated_usd=self._outline.estimated_usd,
            spent_usd=self._workspace.estimates.spent_usd(self._index, bought),
        )

    def _tokens_sent(self) -> int | None:
        """Tokens that this run sends, by our count; what an earlier attempt of it has paid is put into ours."""
        planned = self._outline.tokens_to_send
        if planned is None or self._job.attempts == 1 or self._index.space.provider == "synthetic":
            return planned
        bought = self._state.queue.bought(self._job.id)
        theirs = self._workspace.estimates.fit(self._index.space_id, self._index.space.model).mean
        paid = bought.direct_estimated + bought.batch_estimated + round((bought.direct + bought.batch) / theirs)
        return max(planned, paid)

    def _finish(self, ledger: report.Ledger, *, published: bool = True, status: str | None = None) -> IndexDocument:
        """Write down how the run stands, and return its document. `status` None: as the ledger says."""
        tokens = tokens_of(self._state, self._index, self._outline.generation, self._outline.token_mode)
        document = self._document(ledger, tokens, published=published)
        kept = replace(self._outline, outcome=report.outcome(ledger, tokens))
        self._state.catalog.finish_job(
            self._job.id, status=status or ledger.status, report=to_json(document), plan=kept.dump()
        )
        return document

    def _document(self, ledger: report.Ledger, tokens: TokenFigures, *, published: bool) -> IndexDocument:
        index, outline = self._index, self._outline
        return report.document(
            job_id=self._job.id,
            index=index,
            commit=outline.commit,
            mode=Choice(mode="batch" if outline.mode == "batch" else "sequential", reason=outline.mode_reason),
            ledger=ledger,
            tokens=tokens,
            saved=saved(self._workspace, index, tokens.total, self._tokens_sent(), ledger.total),
            published=published,
            secrets_mode=self._workspace.config.secrets,
            seconds=time.time() - outline.started_at,
        )


def tokens_of(state: State, index: IndexRow, generation: int, mode: str) -> TokenFigures:
    """The tokens of a generation, by the rows of its contents."""
    return report.extrapolate(mode, state.contents.token_sums(index.id, generation))


def saved(workspace: Workspace, index: IndexRow, total: int | None, sent: int | None, chunks: int) -> Saved:
    """What a run did not have to send: the tokens of all chunks but those sent, at the price all would have had."""
    if total is None or sent is None:
        return Saved(tokens=None, usd=None)
    tokens = max(0, total - sent)
    mode = choose(workspace.config.batch_processing, chunks).mode
    return Saved(tokens=tokens, usd=rounded_usd(workspace.estimates.estimate_usd(index, tokens, mode)))


def settle(workspace: Workspace, reporter: Reporter) -> int:
    """Finish every index run whose texts have all come or failed. Returns how many were finished.

    One that another process is working on, or whose vectors another process is writing, is left for later.

    Raises:
        CodechunkError: one of them could not be finished; the others were, all the same.
    """
    state = workspace.state
    finished, failures = 0, list[CodechunkError]()
    for job, index in state.catalog.embedding_jobs():
        outline = Outline.load(job.plan)
        if outline is None or not _is_next(index, outline):
            continue
        counts = vectors_of_index.ledger(state, index, outline.generation)
        if counts["pending"] or counts["processing"]:
            continue
        try:
            with workspace.alone(index), Door(workspace) as door:
                found = state.catalog.job(job.id)
                if found is None or found[0].plan != job.plan or not _is_next(found[1], outline):
                    continue  # another process was faster
                Publication(workspace, found[1], found[0], outline, reporter).publish(door, patience_s=0.0)
                finished += 1
        except IndexBusy as exc:
            log.debug("Left for later", extra={"action": "settle_busy", "job": job.id, "why": str(exc)})
        except CodechunkError as exc:
            log.error("Could not finish an index", extra={"action": "settle_failed", "job": job.id, "why": str(exc)})
            failures.append(exc)
    if failures:
        raise failures[0]
    return finished


def _is_next(index: IndexRow, outline: Outline) -> bool:
    """Whether the generation is the one after the published one, or that one itself, whose failures were mended."""
    return outline.generation in {index.generation, index.generation + 1}
