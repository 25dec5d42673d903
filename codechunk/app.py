"""The product's jobs, assembled from one configuration. Thin: each method asks a room and returns a typed document.

Rooms that `index` and `search` do without are imported where they are asked: 30 ms of every start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from codechunk import documents
from codechunk.config.load import Loaded
from codechunk.errors import CodechunkError, NotFound, UsageError
from codechunk.git.address import Source, parse_source
from codechunk.git.repository import OpenedRepository
from codechunk.git.worktree import WORKING_TREE_REF
from codechunk.indexing.dry_run import DryRun, dry_run, dry_run_document, estimate_document
from codechunk.indexing.mode import Mode, choose
from codechunk.indexing.publish import settle
from codechunk.indexing.run import Run, RunOptions, recorded
from codechunk.process.closing import Closing
from codechunk.process.cpus import usable_cpus
from codechunk.process.stop import Stop
from codechunk.progress import Reporter, Silence, Stoppable
from codechunk.providers import BatchClient
from codechunk.providers.batch_words import RemoteJob
from codechunk.search.content import CONTENTS
from codechunk.search.coverage import why_nothing
from codechunk.search.freshness import Freshness
from codechunk.search.nearest import Nearest
from codechunk.search.query_vectors import QueryVectors, synthetic_hints
from codechunk.search.ranking import Query, search
from codechunk.search.scope import Asked, Scope, scope_of
from codechunk.sending.worker import Worker
from codechunk.state import BatchRow, Space
from codechunk.text.chunks import Kind
from codechunk.workspace.commit_rules import cut_settings, read_attributes, skip_rules
from codechunk.workspace.estimates import Prices
from codechunk.workspace.sender import open_sender
from codechunk.workspace.workspace import Workspace

MOST_ANSWERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRequest:
    """One `codechunk index`, as typed."""

    source: str
    ref: str | None = None
    jobs: int | None = None
    full: bool = False
    mode: Mode = "auto"
    wait: bool = True
    max_cost: float | None = None
    working_tree: bool = False
    publish_partial: bool = False


class App(Closing):
    """The product, assembled from one configuration."""

    def __init__(self, loaded: Loaded, *, stop: Stop | None = None) -> None:
        """Open nothing yet. Whatever thread a method runs in, `stop` ends it: it then raises Stopped.

        A Stop is asked once and for all: what is to go on afterwards needs another App.
        """
        self.workspace = Workspace(loaded, stop=stop)

    def _stoppable(self, reporter: Reporter) -> Reporter:
        return Stoppable(reporter, self.workspace.stop.raise_if_asked)

    def close(self) -> None:
        """Release the state database; the next call opens it again."""
        self.workspace.close()

    # ------------------------------------------------------------------ index

    def index(self, request: IndexRequest, reporter: Reporter) -> documents.IndexDocument:
        """Index a repository and return what came of it.

        Raises:
            UsageError: before anything is cloned, when no provider of vectors is set up.
            CodechunkError: git, the disk or the vector store failed; the next run goes on from there.
            Stopped: somebody asked for it; the next run goes on from there.
        """
        reporter = self._stoppable(reporter)
        _check(request)
        started_at = time.time()
        self.workspace.require_provider()
        source = parse_source(request.source)
        if source.kind == "local" and Path(request.source).resolve() != Path(source.url).resolve():
            reporter.say(f"{request.source} is inside the repository {source.url}: all of it is indexed.")
        state = self.workspace.state
        if state.catalog.interrupted_jobs():
            state.database.quick_check()
        with self.workspace.vector_session() as session:
            if self.workspace.config.provider.free:
                session.open()  # a second process fails here, before it has done anything
            else:
                session.look()
            opened = self._opened(source, request, reporter)
            with self.workspace.alone_with(url=source.url, repository=source.name) as lock:
                index = state.catalog.open_index(
                    url=source.url, names=_names(source), ref=opened.ref, space=self.workspace.space()
                )
                job = state.catalog.start_job(index.id, opened.commit, redo=request.full)
                index = state.catalog.refreshed(index)  # --full has raised the epoch
                if job.attempts > 1:
                    reporter.say(f"Taking up the unfinished run of {index.repository} again (job {job.id}).")
                run = Run(self.workspace, session, opened, index, job, reporter, started_at, lock)
                options = RunOptions(
                    jobs=self._processes(request),
                    mode=request.mode,
                    wait=request.wait,
                    max_cost_usd=request.max_cost,
                    publish_partial=request.publish_partial,
                )
                with recorded(state, job):
                    return run.go(options)

    def dry_run(self, request: IndexRequest, reporter: Reporter) -> documents.DryRunDocument:
        """What `index` would do, without writing anything but the git mirror."""
        plan = self._dry_run(request, self.workspace.space(), reporter)
        config = self.workspace.config
        cost = self.prices(0 if config.provider.free else plan.tokens_to_price)
        return dry_run_document(plan, secrets_mode=config.secrets, cost=cost)

    def estimate(self, request: IndexRequest, reporter: Reporter) -> documents.EstimateDocument:
        """What indexing would cost with the model that has a price, also when this configuration makes synthetic
        vectors. Writes nothing but the git mirror; needs no key."""
        plan = self._dry_run(request, self._paid_space(), reporter)
        config = self.workspace.config
        choice = choose(config.batch_processing, plan.texts_to_embed, why_direct=config.priced_provider.why_direct)
        return estimate_document(plan, mode=choice.mode, cost=self.prices(plan.tokens_to_price))

    def prices(self, tokens: int) -> Prices:
        """What embedding so many tokens, by our count, costs with the configured model."""
        return self.workspace.estimates.prices(self._paid_space(), tokens)

    def _paid_space(self) -> Space:
        """The vector space of the model that has a price: the configured one, or that which free vectors stand for."""
        config, space = self.workspace.config, self.workspace.space()
        if config.provider is config.priced_provider:
            return space
        return replace(space, provider=config.priced_provider.name, model=config.priced_model)

    def _dry_run(self, request: IndexRequest, space: Space, reporter: Reporter) -> DryRun:
        reporter = self._stoppable(reporter)
        source = parse_source(request.source)
        opened = self._opened(source, request, reporter)
        attributes = read_attributes(opened)
        return dry_run(
            state=self.workspace.state,
            repository=opened.repository,
            commit=opened.commit,
            settings=cut_settings(self.workspace.config, self._processes(request), attributes),
            rules=skip_rules(self.workspace.config, opened, attributes),
            space=space,
            reporter=reporter,
            head={
                "repository": source.name,
                "url": source.url,
                "ref": opened.ref,
                "commit": opened.commit,
            },
        )

    def _opened(self, source: Source, request: IndexRequest, reporter: Reporter) -> OpenedRepository:
        if not request.working_tree and request.ref != WORKING_TREE_REF:
            return self.workspace.open_repository(source, request.ref, reporter)
        if request.ref not in (None, WORKING_TREE_REF):
            raise UsageError("--working-tree and --ref exclude each other.")
        return self.workspace.open_working_tree(source, reporter)

    # ------------------------------------------------------------------ queue and worker

    def queue_status(self) -> documents.QueueStatus:
        """Texts by state and batch jobs by state, of all models."""
        from codechunk.views.queue import queue_status

        return queue_status(self.workspace.state)

    def flush(self, reporter: Reporter, *, force: bool = False, min_size: int | None = None) -> documents.QueueFlush:
        """Make batch jobs of what waits and submit them. `min_size`: how many texts are enough; None: as configured."""
        with self._worker(reporter) as worker:
            flushed = worker.flush(force=force, min_size=min_size)
            done = worker.submit()
            return documents.QueueFlush(
                batches=flushed.batches,
                texts=flushed.texts,
                waiting=flushed.waiting,
                reason=flushed.reason,
                submitted=done.submitted,
                unreachable=done.unreachable[:1],
                batch_ids=flushed.ids,
            )

    def sync(self, reporter: Reporter) -> documents.QueueSync:
        """Look at every remote job, take what has come, finish index runs."""
        with self._worker(reporter) as worker:
            done = worker.sync()
            return documents.QueueSync(
                polled=done.polled,
                completed=done.completed,
                ended_badly=done.ended_badly,
                texts_ready=done.texts_ready,
                texts_failed=done.texts_failed,
                indexes_finished=worker.finished,
                unreachable=done.unreachable[:1],
            )

    def retry(self, reporter: Reporter) -> documents.QueueRetry:
        """Let every failed text of the configured model wait again."""
        state = self.workspace.state
        space_id = state.catalog.space_id(self.workspace.space())
        requeued = state.queue.retry_failed(space_id)
        reopened = state.catalog.reopen_partial_jobs(space_id) if requeued else 0
        if requeued:
            reporter.say(
                f"{requeued:,} texts wait again. `codechunk queue flush --force` sends them now; a worker does when "
                f"they are enough for a batch job, or have waited for batch_processing.queue_limits.max_wait_time."
            )
        return documents.QueueRetry(requeued=requeued, jobs_reopened=reopened)

    def work(self, reporter: Reporter, *, interval_s: float | None = None, once: bool = False) -> None:
        """Flush and sync in a loop until somebody asks to stop, then return; once when `once`."""
        if interval_s is None:
            interval_s = self.workspace.config.worker.interval.total_seconds()
        with self._worker(reporter) as worker:
            worker.loop(interval_s=interval_s, once=once, told=reporter.say)

    def remote(self) -> list[documents.RemoteBatch]:
        """The provider's batch jobs beside ours: `ours`, `lost` (our name, but not in our books) or `foreign`."""
        state = self.workspace.state
        with self._batch_client() as client:
            known = {row.remote_name: row for row in state.batches.rows() if row.remote_name is not None}
            prefix = f"{self.workspace.config.batch_processing.display_name_prefix}-"
            return [_remote_document(job, known.get(job.name), prefix) for job in client.batches()]

    def cancel_remote(self, name: str) -> bool:
        """Cancel a job at the provider; one of ours is then not sent again. Returns whether it was still possible."""
        with self._worker(Silence()) as worker:
            return worker.cancel_remote(name)

    def delete_remote(self, name: str) -> None:
        """Delete a job at the provider. Raises UsageError for one of ours that is still waited for."""
        state = self.workspace.state
        with self._batch_client() as client:
            mine = [row for row in state.batches.rows(open_only=True) if row.remote_name == name]
            if mine:
                raise UsageError(f"{name} carries batch job {mine[0].id[:12]}, which is waited for; cancel it first.")
            client.batch(name)  # raises Missing, in a sentence, when there is none
            client.delete_batch(name)

    @contextmanager
    def _batch_client(self) -> Iterator[BatchClient]:
        """The configured provider's batch jobs. Raises UsageError when it has none."""
        provider = self.workspace.config.provider
        with closing(self.workspace.client(self.workspace.space())) as client:
            if provider.batch is None or not isinstance(client, BatchClient):
                raise UsageError(f"{provider.title} has no batch jobs.")
            yield client

    # ------------------------------------------------------------------ jobs and doctor

    def jobs(self, limit: int | None = None) -> list[documents.JobDocument]:
        """The runs of `index`, the newest first."""
        from codechunk.views import jobs

        return jobs.job_documents(self.workspace.state, limit=limit)

    def job(self, job_id: str) -> documents.JobDetails:
        """One run with its batch jobs and what failed. Raises NotFound when there is no such run."""
        from codechunk.views import jobs

        return jobs.job_document(self.workspace.state, job_id, self.workspace.estimates)

    def resume_job(self, job_id: str, reporter: Reporter) -> documents.IndexDocument:
        """Index again what an unfinished job was to index; what is there already is used. See `index`."""
        from codechunk.views import jobs

        state = self.workspace.state
        source, ref = jobs.take_up_job(state, job_id, self.workspace.space())
        return self.index(IndexRequest(source=source, ref=ref), reporter)

    def cancel_job(self, job_id: str) -> documents.JobCancelled:
        """End a job; its batch jobs that carry nothing else are cancelled at the provider.

        Raises:
            UsageError: there is no such job, or it has ended.
            IndexBusy: a process works on it.
        """
        from codechunk.views import jobs

        state = self.workspace.state
        _, index = jobs.find_job(state, job_id)
        with self.workspace.alone(index):
            return jobs.cancel_job(state, job_id, self._cancel_batch)

    def _cancel_batch(self, batch_id: str) -> None:
        with self._worker(Silence()) as worker:
            if not worker.cancel_batch(batch_id):
                raise CodechunkError("it has ended, or another process works on it at this moment", kind="busy")

    def doctor(self, *, remote: bool = False) -> list[documents.Finding]:
        """What is stuck, missing or misconfigured, and the fix; with `remote` also what the provider knows."""
        from codechunk.views import doctor

        found = doctor.doctor(
            config=self.workspace.config,
            secrets=self.workspace.secret_values(),
            has_key=self.workspace.has_key(),
            open_state=lambda: self.workspace.state,
            open_session=self.workspace.vector_session,
            alone=self.workspace.alone,
        )
        if remote:
            found.append(doctor.remote_jobs(self.remote))
        return [doctor.masked(finding) for finding in found]

    @contextmanager
    def _worker(self, reporter: Reporter) -> Iterator[Worker]:
        provider = self.workspace.config.provider
        if provider.in_process:
            raise UsageError(
                f"{provider.title} vectors are made at once by `codechunk index`; there is no queue to work on. Set "
                f"embedding.provider to gemini."
            )
        self.workspace.require_provider()
        reporter = self._stoppable(reporter)
        space = self.workspace.space()
        state = self.workspace.state
        with (
            open_sender(
                self.workspace,
                space=space,
                space_id=state.catalog.space_id(space),
                reporter=reporter,
                settle=lambda: settle(self.workspace, reporter),
            ) as worker,
        ):
            yield worker

    # ------------------------------------------------------------------ cache

    def export_cache(self, path: Path, repository: str | None, reporter: Reporter) -> documents.CacheExported:
        """Write the vectors, or those that a repository uses, to a file: see `vector_file.export_cache`."""
        from codechunk.upkeep.vector_file import export_cache

        state = self.workspace.state
        return export_cache(state, path, repository=repository, reporter=self._stoppable(reporter))

    def import_cache(self, path: Path, reporter: Reporter) -> documents.CacheImported:
        """Take in the vectors of a file that was exported: see `vector_file.import_cache`."""
        from codechunk.upkeep.vector_file import import_cache

        return import_cache(path, open_state=lambda: self.workspace.state, reporter=self._stoppable(reporter))

    # ------------------------------------------------------------------ looking at what is indexed

    def show(self, place: str, *, repository: str | None = None, ref: str | None = None) -> documents.ShownFile:
        """A file, or lines of it (PATH, PATH:LINE, PATH:FIRST-LAST), as searches know it. See `show.shown_file`."""
        from codechunk.views import show

        return show.shown_file(self.workspace, place, repository=repository, ref=ref)

    def similar(self, place: str, *, repository: str | None = None, limit: int = 10) -> list[documents.Answer]:
        """Files with code that is like the code at PATH:LINE. Asks no provider. See `similar.similar`."""
        from codechunk.search.similar import similar

        return similar(self.workspace.state, place, repository=repository, limit=limit)

    # ------------------------------------------------------------------ repositories and garbage

    def repositories(self) -> list[documents.IndexEntry]:
        """Every index, by repository and ref."""
        from codechunk.upkeep import repositories

        state = self.workspace.state
        return repositories.repositories(state)

    def repository(self, name: str) -> documents.RepositoryDocument:
        """What one repository, or one ref of it, holds (see `references.named`). Raises NotFound when there is none."""
        from codechunk.upkeep import repositories

        return repositories.repository(self.workspace, name)

    def remove_repository(self, name: str, reporter: Reporter) -> documents.RepositoryRemoved:
        """Take NAME, or only NAME@REF, out of the index; its vectors are kept. See `repositories.remove`."""
        from codechunk.upkeep import repositories

        return repositories.remove(self.workspace, name, self._stoppable(reporter))

    def collect_garbage(self, reporter: Reporter, *, dry_run: bool, drop_cache: bool) -> documents.GarbageDocument:
        """Remove what nothing refers to, or only count it. See `garbage.collect`."""
        from codechunk.upkeep import garbage

        return garbage.collect(self.workspace, self._stoppable(reporter), dry_run=dry_run, drop_cache=drop_cache)

    # ------------------------------------------------------------------ search

    def search(
        self,
        query: Query,
        *,
        repository: str | Sequence[str] | None,
        reporter: Reporter,
        here: Path | None = None,
        ref_diff: str | None = None,
    ) -> list[documents.Answer]:
        """Answer one query from the published indexes; see `searcher`.

        Raises:
            UsageError: the query is empty, or names a kind that does not exist or a language that no index has.
        """
        self._check(query)
        with self.searcher(repository, reporter, here=here, ref_diff=ref_diff) as ask:
            return ask(query)

    @contextmanager
    def searcher(
        self,
        repository: str | Sequence[str] | None,
        reporter: Reporter,
        *,
        here: Path | None = None,
        ref_diff: str | None = None,
    ) -> Iterator[Callable[[Query], list[documents.Answer]]]:
        """A function that answers queries while the database and the vector store stay open.

        Args:
            repository: NAME, NAME@REF, URL, path or glob, or several of them; None: see `here`.
            here: a folder: the repository it belongs to is searched, when it is indexed; None searches every one.
            ref_diff: `OLD..NEW`: only what the new ref has and the old one has not.

        Raises:
            UsageError: when there is nothing of that name, or nothing was indexed yet.
        """
        state = self.workspace.state
        scope = self._scope(repository, here, ref_diff)
        # What a person may like to know; a program, or somebody who asked for quiet, does not.
        hint = None if isinstance(reporter, Silence) else reporter.say
        if hint is not None:
            for sentence in (*scope.told, *synthetic_hints(state, scope.indexes)):
                hint(sentence)
        dated = Freshness(self.workspace, scope.indexes, hint)
        with (
            QueryVectors(self.workspace, scope.indexes, reporter.say) as vectors_of,
            Nearest(self.workspace, self._stoppable(reporter)) as nearest,
        ):

            def ask(query: Query) -> list[documents.Answer]:
                self.workspace.stop.raise_if_asked()
                vectors = vectors_of(query.text)
                absent = scope.absent_from
                found = search(state, scope.indexes, query, vector_of=vectors, nearest=nearest, absent_from=absent)
                if not found and hint is not None:
                    for sentence in why_nothing(state, scope.indexes, query.paths):
                        hint(sentence)
                return dated(found)

            yield ask

    def means_several(
        self, repository: str | Sequence[str] | None, *, here: Path | None = None, ref_diff: str | None = None
    ) -> bool:
        """Whether a search like this one is of more than one repository. Raises as `searcher` does."""
        scope = self._scope(repository, here, ref_diff)
        return len({index.repository_id for index in scope.indexes}) > 1

    def _scope(self, repository: str | Sequence[str] | None, here: Path | None, ref_diff: str | None) -> Scope:
        names = () if repository is None else (repository,) if isinstance(repository, str) else tuple(repository)
        asked = Asked(repositories=names, here=here, ref_diff=ref_diff)
        return scope_of(self.workspace.state, asked, self.workspace.space())

    def _check(self, query: Query) -> None:
        if not query.text.strip():
            raise UsageError("The query is empty: give words or a question.")
        if not 1 <= query.limit <= MOST_ANSWERS:
            raise UsageError(f"{query.limit} answers cannot be given: from 1 to {MOST_ANSWERS} can.")
        unknown = sorted(set(query.kinds) - {str(kind) for kind in Kind})
        if unknown:
            raise UsageError(f"There is no kind {unknown[0]}: there is {', '.join(Kind)}.")
        unknown = sorted(set(query.content) - set(CONTENTS))
        if unknown:
            raise UsageError(f"There is no content {unknown[0]}: there is {', '.join(CONTENTS)}.")
        known = self.languages() if query.languages else []
        unknown = [language for language in query.languages if known and language not in known]
        if unknown:
            raise NotFound(f"Nothing is indexed in {unknown[0]}: the indexed languages are {', '.join(known)}.")

    def languages(self) -> list[str]:
        """Languages that occur in any published index, sorted."""
        state = self.workspace.state
        found: set[str] = set()
        for index in state.catalog.indexes():
            found.update(state.lookup.languages(index.published))
        return sorted(found)

    def _processes(self, request: IndexRequest) -> int:
        return request.jobs or usable_cpus()


def _check(request: IndexRequest) -> None:
    """Refuse what no command line lets through: a wrong word would become a paid run, a wrong limit none at all."""
    if request.mode not in get_args(Mode):
        raise UsageError(f"There is no mode {request.mode!r}; there are {', '.join(get_args(Mode))}.")
    if request.max_cost is not None and not request.max_cost >= 0:
        raise UsageError(f"The most to spend is an amount in USD of 0 or more, not {request.max_cost!r}.")


def _remote_document(job: RemoteJob, row: BatchRow | None, prefix: str) -> documents.RemoteBatch:
    ours = (job.display_name or "").startswith(prefix)
    return documents.RemoteBatch(
        name=job.name,
        display_name=job.display_name,
        model=job.model,
        state=job.state_name,
        rows=job.rows,
        age_s=job.age_s,
        relation="ours" if row is not None else "lost" if ours else "foreign",
        batch_id=None if row is None else row.id,
    )


def _names(source: Source) -> list[str]:
    """What a repository may be called, shortest first."""
    if source.kind == "local" or source.scheme == "file":
        parts = Path(source.url.removeprefix("file://").removesuffix(".git")).parts
        return [source.name, *("/".join(parts[-count:]) for count in range(2, len(parts)))]
    return [source.name, f"{source.host}/{source.name}" if source.host else source.name]
