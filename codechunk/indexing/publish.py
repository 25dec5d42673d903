"""The last part of an index run: vectors into the store, the ledger, the switch of searches to the new generation.

Needs nothing but the state database and the vector store, so that whoever sees the last vectors come can do it: the
run itself, a worker hours later, or `queue sync` on another day.
"""

import logging
import time
from dataclasses import replace

from codechunk import providers
from codechunk.documents import IndexDocument, Saved, TokenFigures, to_json
from codechunk.errors import CodechunkError, IndexBusy, Overtaken
from codechunk.indexing import report
from codechunk.indexing.mode import Choice, choose
from codechunk.process.crash import crash
from codechunk.process.locks import Lock
from codechunk.progress import Reporter
from codechunk.state import Generation, IndexRow, JobRow, State
from codechunk.state.compare import Changes
from codechunk.text.money import rounded_usd
from codechunk.vectors import Collection
from codechunk.workspace.run_plan import RunPlan
from codechunk.workspace.vector_session import VectorSession
from codechunk.workspace.workspace import Workspace

log = logging.getLogger(__name__)

# Failed files and chunks named one by one; the report counts them all.
LISTED = 20
# How long a finished run waits for another process that writes vectors, before it leaves that to the next one.
BUSY_PATIENCE_S = 600.0


class Publication:
    """One job's way from the last vector to a published generation."""

    def __init__(
        self, workspace: Workspace, index: IndexRow, job: JobRow, outline: RunPlan, reporter: Reporter, lock: Lock
    ) -> None:
        """`lock` is the one of `Workspace.alone_with`, under which the caller works on the index."""
        self._workspace, self._state, self._reporter = workspace, workspace.state, reporter
        self._index, self._job, self._outline = index, job, outline
        self._generation = index.at(outline.generation)
        self._publications = index.publications
        self._lock = lock

    def waiting(self, session: VectorSession) -> IndexDocument:
        """Write down that the job's texts are out, and return its document so far."""
        now = self._state.catalog.refreshed(self._index)
        return self._finish(
            self._ledger(session, new=None), published=now.published == self._generation, status="embedding"
        )

    def publish_early(self, session: VectorSession) -> None:
        """Switch searches to the generation although vectors are missing; `publish` follows when they have come.

        Chunks without a vector are found by their words. While another process writes vectors, it is left to `publish`:
        no text waits for that.
        """
        try:
            ledger = self._switch(session, made=None, patience_s=0.0)
        except Overtaken:
            raise
        except IndexBusy as exc:
            self._reporter.say(f"{exc} Searches use the new commit when its last vector has come.")
            return
        waiting = ledger.chunks["pending"] + ledger.chunks["processing"]
        self._reporter.say(
            f"Searches use {self._outline.commit[:12]} from now on; {waiting:,} of its chunks are found by their words "
            f"only until their vectors come."
        )
        session.finish([self._index.id])

    def publish(
        self, session: VectorSession, *, made: int | None = None, patience_s: float = BUSY_PATIENCE_S
    ) -> IndexDocument:
        """Store the vectors, check the ledger, switch searches, then remove what is gone.

        Args:
            made: how many vectors were made here; None: what the rows say was bought.
            patience_s: how long to wait for another process that writes vectors.

        Raises:
            IndexBusy: another process keeps writing vectors; the next run or worker finishes the job.
            Overtaken: another process has published the index, or taken the run over, or may do so. Nothing was
                published or swept.
        """
        state = self._state
        ledger = self._switch(session, made=made, patience_s=patience_s)
        index, generation = self._index, self._generation
        for path, why in state.contents.fallbacks(generation):
            self._reporter.say(f"{path}: cut by lines, the parser was stopped ({why}).")
        failed = []
        if ledger.chunks["failed"]:
            failed = state.embeddings.failures(generation, limit=LISTED)
        for place, why in (*ledger.failed_files, *failed):
            self._reporter.say(f"{place}: failed ({why}).")
        document = self._finish(ledger)
        session.finish([index.id])
        return document

    def _switch(self, session: VectorSession, *, made: int | None, patience_s: float) -> report.Ledger:
        """Everything between the vectors that there are and searches that use them. Returns the ledger."""
        state, outline, index, generation = self._state, self._outline, self._index, self._generation
        session.open(patience_s=patience_s, say=self._reporter.say)
        collection = self._stored(session)
        ledger = self._ledger(session, new=made, final=True)
        ledger.balance()
        crash("ledger balanced")
        if not self._lock.held():
            raise Overtaken(
                f"{index.repository}@{index.ref} was not published by this run: the connection that held its lock was "
                f"lost, and another process may work on it; the same command goes on from here."
            )
        whole = not any(ledger.chunks[name] for name in ("pending", "processing", "failed"))
        self._publications = state.catalog.publish(
            generation,
            commit=outline.commit,
            fingerprint=outline.identity,
            whole=whole,
            store_id=session.store_id,
            job=self._job,
            since=self._publications,
        )
        crash("published")
        session.take_out_gone(generation, collection)
        state.catalog.sweep(generation)
        state.catalog.drop_unused_sources(index.repository_id)
        state.embeddings.drop_unwanted(index.space_id)
        crash("swept")
        return ledger

    def _stored(self, session: VectorSession) -> Collection:
        """The collection of the index with every vector of the generation in it."""
        index, generation, reporter = self._index, self._generation, self._reporter
        collection = session.sound(index, reporter.say)
        session.put(index, session.unsettled(index, generation), collection, reporter)
        if session.ledger(index, generation)["unstored"]:
            # What an abandoned run put under the ids of chunks that were kept: the right vectors again.
            everything = self._state.contents.new_sources(generation, all_files=True)
            session.put(index, everything, collection, reporter)
        crash("vectors stored")
        return collection

    # ------------------------------------------------------------------ documents

    def _ledger(self, session: VectorSession, *, new: int | None, final: bool = False) -> report.Ledger:
        """Everything that is true of the generation. `new` texts were embedded; None: as many as were bought."""
        generation, state, outline = self._generation, self._state, self._outline
        changes = Changes() if outline.changes is None else Changes.load(outline.changes)
        return report.Ledger(
            discovered=outline.discovered,
            files=state.contents.file_counts(generation),
            unchanged=outline.unchanged,
            deleted_files=outline.deleted_files,
            chunks=session.ledger(self._index, generation),
            changes=changes,
            bought=self._bought(new),
            failed_files=state.contents.failed_files(generation, limit=LISTED) if final else [],
            secrets=state.contents.secrets(generation),
        )

    def _bought(self, made: int | None) -> report.Bought:
        if providers.is_free(self._index.space.provider):
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
        if planned is None or self._job.attempts == 1 or providers.is_free(self._index.space.provider):
            return planned
        bought = self._state.queue.bought(self._job.id)
        theirs = self._workspace.estimates.mean(self._index.space_id, self._index.space)
        paid = bought.direct_estimated + bought.batch_estimated + round((bought.direct + bought.batch) / theirs)
        return max(planned, paid)

    def _finish(self, ledger: report.Ledger, *, published: bool = True, status: str | None = None) -> IndexDocument:
        """Write down how the run stands, and return its document. `status` None: as the ledger says."""
        tokens = tokens_of(self._state, self._generation, self._outline.token_mode)
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


def tokens_of(state: State, generation: Generation, mode: str) -> TokenFigures:
    """The tokens of a generation, by the rows of its contents."""
    return report.extrapolate(mode, state.contents.token_sums(generation))


def saved(workspace: Workspace, index: IndexRow, total: int | None, sent: int | None, chunks: int) -> Saved:
    """What a run did not have to send: the tokens of all chunks but those sent, at the price all would have had."""
    if total is None or sent is None:
        return Saved(tokens=None, usd=None)
    tokens = max(0, total - sent)
    why_direct = providers.get(index.space.provider).why_direct
    mode = choose(workspace.config.batch_processing, chunks, why_direct=why_direct).mode
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
        outline = RunPlan.load(job.plan)
        if outline is None or not _is_next(index, outline):
            continue
        try:
            with workspace.vector_session() as session:
                session.look()
                counts = session.ledger(index, index.at(outline.generation))
                if counts["pending"] or counts["processing"]:
                    continue
                with workspace.alone_with(url=index.url, repository=index.repository) as lock:
                    found = state.catalog.job(job.id)
                    if found is None or found[0].plan != job.plan or not _is_next(found[1], outline):
                        continue  # another process was faster
                    publication = Publication(workspace, found[1], found[0], outline, reporter, lock)
                    publication.publish(session, patience_s=0.0)
                    finished += 1
        except IndexBusy as exc:
            log.debug("Left for later", extra={"action": "settle_busy", "job": job.id, "why": str(exc)})
        except CodechunkError as exc:
            log.error("Could not finish an index", extra={"action": "settle_failed", "job": job.id, "why": str(exc)})
            failures.append(exc)
    if failures:
        raise failures[0]
    return finished


def _is_next(index: IndexRow, outline: RunPlan) -> bool:
    """Whether the generation is the one after the published one, or that one itself, whose failures were fixed."""
    return index.at(outline.generation) in {index.published, index.next}
