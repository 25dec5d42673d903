"""One run of `index` over one commit: the order of its steps (docs/design.md, 5)."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from codechunk import embedding, report
from codechunk.errors import CodechunkError
from codechunk.git import OpenedRepository
from codechunk.indexing import Comparison, Indexing, changed_settings, fingerprint
from codechunk.parts import Parts, read_attributes
from codechunk.progress import Reporter
from codechunk.state import IndexRow, JobRow, State
from codechunk.vectors import Collection, VectorStore

# Failed files and chunks named one by one; the report counts them all.
LISTED = 20


class Run:
    """One run of `index` with everything it needs at hand."""

    def __init__(
        self,
        parts: Parts,
        state: State,
        store: VectorStore,
        opened: OpenedRepository,
        index: IndexRow,
        job: JobRow,
        reporter: Reporter,
        started: float,
        stamp: str | None,
    ) -> None:
        self._parts, self._state, self._store, self._opened = parts, state, store, opened
        self._index, self._job, self._reporter, self._started = index, job, reporter, started
        self._stamp = stamp

    def go(self, *, jobs: int) -> dict[str, Any]:
        """Index the commit, or find that nothing is to do."""
        parts, opened, state = self._parts, self._opened, self._state
        token_mode = parts.cut_settings(jobs, {}).token_mode
        if self._is_current(token_mode):
            return self._unchanged(token_mode)
        attributes = read_attributes(opened)
        settings = parts.cut_settings(jobs, attributes)
        identity = f"{fingerprint(settings)} files={parts.files_identity()}"
        indexing = Indexing(
            state=state,
            repository=opened.repository,
            index=self._index,
            settings=settings,
            rules=parts.rules(opened, attributes),
            reporter=self._reporter,
        )
        entries = opened.repository.list_tree(opened.commit)
        comparison = indexing.plan(entries, redo=self._must_redo(identity))
        indexing.cut()
        indexing.count_missing()
        made = self._embed(indexing.generation)
        return self._publish(indexing, comparison, made, identity, settings.token_mode)

    def _embed(self, generation: int) -> int:
        """Give the generation's chunks vectors and put them in the collection. Returns how many were made."""
        index, state = self._index, self._state
        self._collection = self._sound_collection()
        last = state.catalog.last_finished_job(index.id)
        whole = last is not None and last.status == "succeeded" and index.vectors_stamp is not None
        sources = state.contents.new_sources(index.id, generation, all_files=not whole)
        reporter = self._reporter
        made = embedding.embed(state=state, index=index, sources=sources, make=self._parts.embed, reporter=reporter)
        embedding.store(state=state, index=index, sources=sources, collection=self._collection, reporter=reporter)
        if whole and state.embeddings.ledger(index.id, index.space_id, generation)["unstored"]:
            # What an abandoned run put under the ids of chunks that were kept: the right vectors again.
            sources = state.contents.new_sources(index.id, generation, all_files=True)
            embedding.store(state=state, index=index, sources=sources, collection=self._collection, reporter=reporter)
        return made

    def _is_current(self, token_mode: str) -> bool:
        """Whether the same commit was indexed with the same settings to the end, and nobody touched the vectors."""
        index = self._index
        last = self._state.catalog.last_finished_job(index.id)
        if last is None or last.status != "succeeded" or last.report is None or index.fingerprint is None:
            return False
        # The same commit has the same attributes, so they are not read for this.
        settings = self._parts.cut_settings(1, {})
        same = changed_settings(
            index.fingerprint, f"{fingerprint(settings)} files={self._parts.files_identity()}", ignore=("attributes",)
        )
        return (
            self._job.attempts == 1
            and not self._job.redo
            and not same
            and index.commit == self._opened.commit
            and json.loads(last.report)["tokens"]["mode"] == token_mode
            and index.vectors_stamp is not None
            and index.vectors_stamp == self._stamp
            and not self._state.contents.has_rubbish(index.id, index.generation)
        )

    def _must_redo(self, identity: str) -> bool:
        old = self._index.fingerprint
        if self._job.redo or old is None:
            return self._job.redo
        changed = changed_settings(old, identity, ignore=("files",))
        if changed:
            self._reporter.say(
                f"Settings that change chunks are different now ({changed}): all files are cut again; texts that "
                f"were embedded before are not embedded again."
            )
        return bool(changed)

    def _sound_collection(self) -> Collection:
        """The collection of the index, emptied when it is not what it should be."""
        index, state = self._index, self._state
        collection = self._store.collection(index.collection)
        if self._store.recovered:
            self._reporter.say(
                f"The vector index could not be opened ({self._store.recovered}); it is rebuilt from the state "
                f"database, nothing is embedded again."
            )
        trouble = embedding.check(state, index, collection)
        if trouble is None:
            return collection
        if state.embeddings.held(index.id):
            self._reporter.say(
                f"The vector index of {index.repository}@{index.ref} is not sound ({trouble}); it is rebuilt from "
                f"the state database, nothing is embedded again."
            )
        self._store.drop(index.collection)
        state.embeddings.forget_stored(index.id)
        self._index = state.catalog.refreshed(index)
        return self._store.collection(index.collection)

    def _publish(
        self, indexing: Indexing, comparison: Comparison, made: int, identity: str, token_mode: str
    ) -> dict[str, Any]:
        """Check the ledger, switch searches to the new generation, then let go of what is gone."""
        index, state, generation = self._index, self._state, indexing.generation
        new, deleted = state.contents.difference(index.id, index.generation, generation)
        ledger = report.Ledger(
            discovered=comparison.discovered,
            files=state.contents.file_counts(index.id, generation),
            unchanged=comparison.unchanged,
            deleted_files=len(comparison.gone),
            chunks=state.embeddings.ledger(index.id, index.space_id, generation),
            new_chunks=new,
            deleted_chunks=deleted,
            texts_sent=made,
            failed_files=state.contents.failed_files(index.id, generation, limit=LISTED),
        )
        ledger.balance()
        state.catalog.publish(index.id, commit=self._opened.commit, fingerprint=identity, generation=generation)
        embedding.remove(state, index, self._collection, state.contents.gone_chunks(index.id, generation))
        state.catalog.sweep(index.id, generation)
        state.catalog.drop_unused_sources(index.repository_id)
        state.embeddings.drop_unwanted(index.space_id)
        for path, why in state.contents.fallbacks(index.id, generation):
            self._reporter.say(f"{path}: cut by lines, the parser was stopped ({why}).")
        failed = state.embeddings.failures(index.id, index.space_id, generation, limit=LISTED)
        for place, why in (*ledger.failed_files, *failed):
            self._reporter.say(f"{place}: failed ({why}).")
        document = self._document(ledger, generation, token_mode)
        state.catalog.finish_job(self._job.id, status=ledger.status, report=document)
        return document

    def _unchanged(self, token_mode: str) -> dict[str, Any]:
        index, state = self._index, self._state
        files = state.contents.file_counts(index.id, index.generation)
        ledger = report.Ledger(
            discovered=sum(files.values()),
            files=files,
            unchanged=sum(files.values()),
            deleted_files=0,
            chunks=state.embeddings.ledger(index.id, index.space_id, index.generation),
            new_chunks=0,
            deleted_chunks=0,
            texts_sent=0,
        )
        document = self._document(ledger, index.generation, token_mode)
        state.catalog.finish_job(self._job.id, status=ledger.status, report=document)
        return document

    def _document(self, ledger: report.Ledger, generation: int, token_mode: str) -> dict[str, Any]:
        space = self._index.space
        sums = self._state.contents.token_sums(self._index.id, generation)
        return report.document(
            job_id=self._job.id,
            repository=self._index.repository,
            url=self._index.url,
            ref=self._index.ref,
            commit=self._opened.commit,
            mode="sequential",
            ledger=ledger,
            tokens=report.extrapolate(token_mode, sums),
            provider=space.provider,
            model=space.model,
            dimensions=space.dimensions,
            seconds=time.monotonic() - self._started,
        )


@contextmanager
def recorded(state: State, job: JobRow) -> Iterator[None]:
    """Write down how a job ended when it did not end well."""
    try:
        yield
    except KeyboardInterrupt:
        state.catalog.finish_job(job.id, status="cancelled", error="interrupted by the user")
        raise
    except CodechunkError as exc:
        state.catalog.finish_job(job.id, status="failed", error=str(exc))
        raise
