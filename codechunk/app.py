"""Where configuration becomes running parts: the only place that builds edges from a Config.

`App` has one method per job of the product. It keeps the order of the steps; how each is done is in the
workflows it calls.
"""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechunk import embedding, report, synthetic
from codechunk.chunking import ChunkSettings
from codechunk.config import Loaded
from codechunk.errors import CodechunkError, IndexBusy, UsageError, VectorStoreError
from codechunk.git import OpenedRepository, Progress, Repository, TreeEntry, open_repository
from codechunk.indexing import Comparison, CutSettings, Indexing, changed_settings, fingerprint
from codechunk.locks import only_one
from codechunk.plan import DryRun, dry_run
from codechunk.progress import Reporter
from codechunk.search import Answer, Query, search
from codechunk.skip import SkipRules
from codechunk.source import Source, parse_source
from codechunk.state import IndexRow, JobRow, Space, State
from codechunk.state.embeddings import Vectors
from codechunk.vectors import Collection, VectorStore

log = logging.getLogger(__name__)

# Form of the text that is embedded: header, newline, chunk. A new form is a new vector space.
HEADER_VERSION = 1
DOCUMENT_TASK = "RETRIEVAL_DOCUMENT"
IGNORE_FILE = ".codechunkignore"
ATTRIBUTES_FILE = ".gitattributes"
IGNORE_FILE_BYTES = 1_000_000
# Failed files and chunks named one by one; the report counts them all.
LISTED = 20
GIT_STAGES = {
    "counting": "Counting objects",
    "compressing": "Compressing objects",
    "receiving": "Cloning",
    "resolving": "Resolving deltas",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRequest:
    """One `codechunk index`, as typed."""

    source: str
    ref: str | None = None
    jobs: int | None = None
    full: bool = False


class App:
    """The product, assembled from one configuration."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self.config = loaded.config

    # ------------------------------------------------------------------ index

    def index(self, request: IndexRequest, reporter: Reporter) -> dict[str, Any]:
        """Index a repository and return the document of `index --json`.

        Raises:
            UsageError: before anything is cloned, when no provider of vectors is set up.
            CodechunkError: git, the disk or the vector store failed; the next run goes on from there.
        """
        started = time.monotonic()
        self._require_provider()
        source = parse_source(request.source)
        with self._state() as state:
            if state.catalog.interrupted_jobs():
                state.database.quick_check()
            stamp = self._stamp()
            with self._store(write=True) as store:
                opened = self._open(source, request.ref, reporter)
                index = state.catalog.open_index(
                    url=source.url, names=_names(source), ref=opened.ref, space=self._space()
                )
                with self._alone(index):
                    job = state.catalog.start_job(index.id, opened.commit)
                    if job.attempts > 1:
                        reporter.say(f"Taking up the unfinished run of {index.repository} again (job {job.id}).")
                    run = _Run(self, state, store, opened, index, job, reporter, started, stamp)
                    with _recorded(state, job):
                        document = run.go(full=request.full, jobs=self._jobs(request))
            state.catalog.follow_vectors_stamp(index.id, old=stamp, new=self._stamp())
        return document

    def plan(self, request: IndexRequest, reporter: Reporter) -> DryRun:
        """What `index` would do, without writing anything but the git mirror."""
        source = parse_source(request.source)
        opened = self._open(source, request.ref, reporter)
        with self._state() as state:
            return dry_run(
                state=state,
                repository=opened.repository,
                commit=opened.commit,
                settings=self.cut_settings(self._jobs(request)),
                rules=self.rules(opened),
                space=self._space(),
                reporter=reporter,
                head={
                    "repository": source.name,
                    "url": source.url,
                    "ref": opened.ref,
                    "commit": opened.commit,
                },
            )

    # ------------------------------------------------------------------ search

    def search(self, query: Query, *, repository: str | None, reporter: Reporter) -> list[Answer]:
        """Answer one query from the published indexes; see `searcher`."""
        with self.searcher(repository, reporter) as ask:
            return ask(query)

    @contextmanager
    def searcher(self, repository: str | None, reporter: Reporter) -> Iterator[Callable[[Query], list[Answer]]]:
        """A function that answers queries while the database and the vector store stay open.

        Args:
            repository: NAME or NAME@REF; None searches every repository.

        Raises:
            UsageError: when there is nothing of that name, or nothing was indexed yet.
        """
        with self._state() as state:
            indexes = self._searched(state, repository)
            stamp = self._stamp()
            with _Nearest(self, state, reporter) as nearest:

                def ask(query: Query) -> list[Answer]:
                    vectors = self._query_vectors(indexes, query)
                    return search(state, indexes, query, vector_of=vectors, nearest=nearest)

                yield ask
            after = self._stamp()
            if after != stamp:  # opening Chroma may touch its files; what was sound still is
                for index in indexes:
                    state.catalog.follow_vectors_stamp(index.id, old=stamp, new=after, only_if_sound=True)

    def languages(self) -> list[str]:
        """Languages that occur in any published index, sorted."""
        with self._state() as state:
            found: set[str] = set()
            for index in state.catalog.indexes():
                found.update(state.lookup.languages(index.id, index.generation))
            return sorted(found)

    # ------------------------------------------------------------------ parts

    def cut_settings(self, jobs: int) -> CutSettings:
        """How files are cut and counted under this configuration."""
        counting = self.config.token_counting
        chunking = self.config.chunking
        return CutSettings(
            chunking=ChunkSettings(
                max_tokens=chunking.max_tokens,
                min_tokens=chunking.min_tokens,
                context_header=chunking.context_header,
            ),
            token_mode=counting.mode if counting.enabled else "on_demand",
            sample_percent=counting.sample_percent,
            skip_generated=self.config.git.skip_generated,
            jobs=jobs,
        )

    def rules(self, opened: OpenedRepository) -> SkipRules:
        """Which files of the commit are indexed: configuration, narrowed by what the commit itself says."""
        git = self.config.git
        repository, commit = opened.repository, opened.commit
        ignore = repository.read_path(commit, IGNORE_FILE, max_bytes=IGNORE_FILE_BYTES)
        attributes = {
            entry.path.removesuffix(ATTRIBUTES_FILE).rstrip("/"): data.decode("utf-8", "replace")
            for entry, data in _attribute_files(repository, commit)
        }
        return SkipRules.build(
            include=git.include,
            exclude=git.exclude,
            ignore_file=None if ignore is None else ignore.decode("utf-8", "replace"),
            gitattributes=attributes,
            skip_generated=git.skip_generated,
            skip_vendored=git.skip_vendored,
            max_file_size=git.max_file_size,
        )

    def files_identity(self) -> str:
        """Short hash of the settings that decide which files are indexed."""
        git = self.config.git
        text = repr((git.include, git.exclude, git.max_file_size, git.skip_vendored))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def embedded_directory(self) -> Path | None:
        """Directory of the embedded Chroma; None when a server is used."""
        return None if self.config.vectors.url else self.config.data_dir / "chroma"

    def _jobs(self, request: IndexRequest) -> int:
        return request.jobs or len(os.sched_getaffinity(0))

    def _state(self) -> State:
        url = self.config.state.url or f"sqlite:///{self.config.data_dir / 'state.db'}"
        if self.config.state.url is None:
            _make_private(self.config.data_dir)
        return State(url)

    def _store(self, *, write: bool) -> VectorStore:
        return VectorStore.reserve(directory=self.embedded_directory, url=self.config.vectors.url, write=write)

    def _alone(self, index: IndexRow) -> AbstractContextManager[None]:
        """Only one process on this machine works on an index, also when a Chroma server lets several write."""
        return only_one(
            self.config.data_dir / "locks" / f"{index.collection}.lock",
            f"{index.repository}@{index.ref} is being indexed by another codechunk process; wait for it.",
        )

    def _stamp(self) -> str | None:
        """What the embedded Chroma directory looks like: names, sizes and times of its files."""
        directory = self.embedded_directory
        if directory is None or not directory.is_dir():
            return None
        digest = hashlib.sha256()
        for path in sorted(directory.rglob("*")):
            status = path.stat()
            if path.is_file():
                digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    def _open(self, source: Source, ref: str | None, reporter: Reporter) -> OpenedRepository:
        token = self._loaded.git_token.value
        shown = ""

        def on_progress(progress: Progress) -> None:
            nonlocal shown
            if progress.stage != shown:
                shown = progress.stage
                reporter.stage(GIT_STAGES.get(shown, shown), progress.total, "objects")
            reporter.reach(progress.current, total=progress.total)

        return open_repository(
            source,
            ref=ref,
            mirrors=self.config.data_dir / "mirrors",
            token=None if token is None else token.get_secret_value(),
            timeout_s=self.config.git.timeout.total_seconds(),
            on_progress=on_progress,
        )

    def _require_provider(self) -> None:
        if self.config.synthetic:
            return
        if self._loaded.gemini_api_key.value is None:
            raise UsageError(
                "No Gemini key: set CODECHUNK_GEMINI_API_KEY (or GEMINI_API_KEY), or pass --test-embeddings "
                "to index offline with synthetic vectors."
            )
        raise UsageError(
            "Embedding with Gemini is not part of this version of codechunk: pass --test-embeddings, or set "
            "embedding.provider to synthetic, to index with synthetic vectors."
        )

    def _space(self) -> Space:
        config = self.config.embedding
        return Space(
            provider="synthetic" if self.config.synthetic else config.provider,
            model=synthetic.MODEL if self.config.synthetic else config.model,
            dimensions=config.dimensions,
            task=DOCUMENT_TASK,
            header_version=HEADER_VERSION,
        )

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of chunk texts in the configured space."""
        return synthetic.embed(texts, self.config.embedding.dimensions)

    def _query_vectors(self, indexes: Sequence[IndexRow], query: Query) -> dict[int, Vectors]:
        vectors: dict[int, Vectors] = {}
        for index in indexes:
            if index.space.provider != "synthetic":
                raise UsageError(
                    f"{index.repository}@{index.ref} was indexed with {index.space.model}, which this "
                    f"version of codechunk cannot ask; index it again with --test-embeddings"
                )
            if index.space_id not in vectors:
                vectors[index.space_id] = synthetic.embed([query.text], index.space.dimensions)[0]
        return vectors

    def _searched(self, state: State, repository: str | None) -> list[IndexRow]:
        name, _, ref = (repository or "").partition("@")
        indexes = state.catalog.indexes(name=name or None, ref=ref or None)
        if indexes:
            return _one_space_each(indexes, self._space())
        known = [f"{index.repository}@{index.ref}" for index in state.catalog.indexes()]
        if not known:
            raise UsageError("Nothing is indexed yet: run `codechunk index <repo-url-or-path>` first.")
        raise UsageError(f"No index of {repository!r}; there is {', '.join(sorted(set(known)))}.")


class _Run:
    """One run of `index` with everything it needs at hand."""

    def __init__(
        self,
        app: App,
        state: State,
        store: VectorStore,
        opened: OpenedRepository,
        index: IndexRow,
        job: JobRow,
        reporter: Reporter,
        started: float,
        stamp: str | None,
    ) -> None:
        self._app, self._state, self._store, self._opened = app, state, store, opened
        self._index, self._job, self._reporter, self._started = index, job, reporter, started
        self._stamp = stamp

    def go(self, *, full: bool, jobs: int) -> dict[str, Any]:
        """Index the commit, or find that nothing is to do."""
        settings = self._app.cut_settings(jobs)
        identity = f"{fingerprint(settings)} files={self._app.files_identity()}"
        if not full and self._is_current(identity):
            return self._unchanged(settings)
        redo = self._must_redo(identity, full=full)
        if full:
            self._state.catalog.raise_epoch(self._index.repository_id)
            self._index = self._state.catalog.refreshed(self._index)
        indexing = Indexing(
            state=self._state,
            repository=self._opened.repository,
            index=self._index,
            settings=settings,
            rules=self._app.rules(self._opened),
            reporter=self._reporter,
        )
        entries = self._opened.repository.list_tree(self._opened.commit)
        comparison = indexing.plan(entries, redo=redo)
        indexing.cut()
        if settings.token_mode == "all":
            indexing.count_missing()
        collection, all_files = self._collection()
        sources = self._state.contents.new_sources(self._index.id, indexing.generation, all_files=all_files)
        made = embedding.embed(
            state=self._state, index=self._index, sources=sources, make=self._app.embed, reporter=self._reporter
        )
        stored = embedding.store(
            state=self._state, index=self._index, sources=sources, collection=collection, reporter=self._reporter
        )
        return self._publish(indexing, comparison, (made, stored), collection, identity, settings)

    def _is_current(self, identity: str) -> bool:
        index = self._index
        last = self._state.catalog.last_finished_job(index.id)
        return (
            index.commit == self._opened.commit
            and index.fingerprint == identity
            and last is not None
            and last.status == "succeeded"
            and index.vectors_stamp is not None
            and index.vectors_stamp == self._stamp
            and not self._state.contents.has_rubbish(index.id, index.generation)
        )

    def _must_redo(self, identity: str, *, full: bool) -> bool:
        old = self._index.fingerprint
        if full or old is None:
            return full
        before, after = old.rsplit(" files=", 1)[0], identity.rsplit(" files=", 1)[0]
        if before == after:
            return False
        self._reporter.say(
            f"Settings that change chunks are different now ({changed_settings(before, after)}): all files "
            f"are cut again; texts that were embedded before are not embedded again."
        )
        return True

    def _collection(self) -> tuple[Collection, bool]:
        """The collection of the index, sound, and whether all files must be put in it (again)."""
        index, state = self._index, self._state
        collection = self._store.collection(index.collection)
        if self._store.recovered:
            self._reporter.say(
                f"The vector index could not be opened ({self._store.recovered}); it is rebuilt from the "
                f"state database, nothing is embedded again."
            )
        trouble = embedding.check(state, index, collection)
        if trouble is None:
            complete = state.catalog.last_finished_job(index.id)
            return collection, complete is None or complete.status != "succeeded"
        if state.embeddings.held(index.id):
            self._reporter.say(
                f"The vector index of {index.repository}@{index.ref} is not sound ({trouble}); it is rebuilt "
                f"from the state database, nothing is embedded again."
            )
        self._store.drop(index.collection)
        state.embeddings.forget_stored(index.id)
        return self._store.collection(index.collection), True

    def _publish(
        self,
        indexing: Indexing,
        comparison: Comparison,
        counts: tuple[int, int],
        collection: Collection,
        identity: str,
        settings: CutSettings,
    ) -> dict[str, Any]:
        """Check the ledger, switch searches to the new generation, then let go of what is gone.

        `counts`: texts embedded and chunks stored by this run.
        """
        made, stored = counts
        index, state, generation = self._index, self._state, indexing.generation
        gone = state.contents.gone_chunks(index.id, generation)
        ledger = report.Ledger(
            discovered=comparison.discovered,
            files=state.contents.file_counts(index.id, generation),
            unchanged=comparison.unchanged,
            deleted_files=len(comparison.gone),
            chunks=state.embeddings.ledger(index.id, index.space_id, generation),
            new_chunks=stored,
            deleted_chunks=len(gone),
            texts_sent=made,
            failed_files=state.contents.failed_files(index.id, generation, limit=LISTED),
        )
        ledger.balance()
        state.catalog.publish(index.id, commit=self._opened.commit, fingerprint=identity, generation=generation)
        embedding.remove(state, index, collection, gone)
        state.catalog.sweep(index.id, generation)
        state.catalog.drop_unused_sources(index.repository_id)
        for path, why in state.contents.fallbacks(index.id, generation):
            self._reporter.say(f"{path}: cut by lines, the parser was stopped ({why}).")
        failed = state.embeddings.failures(index.id, index.space_id, generation, limit=LISTED)
        for place, why in (*ledger.failed_files, *failed):
            self._reporter.say(f"{place}: failed ({why}).")
        document = self._document(ledger, generation, settings)
        state.catalog.finish_job(self._job.id, status=ledger.status, report=document)
        return document

    def _unchanged(self, settings: CutSettings) -> dict[str, Any]:
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
        document = self._document(ledger, index.generation, settings)
        state.catalog.finish_job(self._job.id, status=ledger.status, report=document)
        return document

    def _document(self, ledger: report.Ledger, generation: int, settings: CutSettings) -> dict[str, Any]:
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
            tokens=report.extrapolate(settings.token_mode, sums),
            provider=space.provider,
            model=space.model,
            dimensions=space.dimensions,
            seconds=time.monotonic() - self._started,
        )


class _Nearest:
    """Asks the vector store; opened at the first question, checked, and mended when it can be.

    Chroma belongs to one writing process. While that is somebody else, searches compare the vectors in the
    state database instead: exact, and a sentence says so.
    """

    def __init__(self, app: App, state: State, reporter: Reporter) -> None:
        self._app, self._state, self._reporter = app, state, reporter
        self._store: VectorStore | None = None
        self._sound: dict[int, Collection | None] = {}

    def __enter__(self) -> "_Nearest":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, index: IndexRow, vector: Vectors, limit: int) -> list[tuple[str, float]] | None:
        """The nearest chunks of the index, or None when the store cannot be asked."""
        if index.id not in self._sound:
            self._sound[index.id] = self._checked(index)
        collection = self._sound[index.id]
        return None if collection is None else collection.query(vector, limit)

    def _checked(self, index: IndexRow) -> Collection | None:
        try:
            if self._store is None:
                self._store = self._app._store(write=False)
            collection = self._store.collection(index.collection)
            trouble = embedding.check(self._state, index, collection)
        except IndexBusy as exc:
            self._reporter.say(f"{exc} Searching the vectors in the state database meanwhile.")
            return None
        except VectorStoreError as exc:
            trouble = str(exc)
        return collection if trouble is None else self._mended(index, trouble)

    def _mended(self, index: IndexRow, trouble: str) -> Collection | None:
        """Rebuild the collection from the state database, if this process may write."""
        self._close()
        try:
            self._store = self._app._store(write=True)
        except IndexBusy as exc:
            self._reporter.say(f"{exc} Searching the vectors in the state database meanwhile.")
            return None
        self._reporter.say(
            f"The vector index of {index.repository}@{index.ref} is not sound ({trouble}); rebuilding it "
            f"from the state database."
        )
        self._sound.clear()
        self._store.drop(index.collection)
        self._state.embeddings.forget_stored(index.id)
        collection = self._store.collection(index.collection)
        sources = self._state.contents.new_sources(index.id, index.generation, all_files=True)
        embedding.store(
            state=self._state,
            index=index,
            sources=sources,
            collection=collection,
            reporter=self._reporter,
            stage="Rebuilding",
        )
        return collection

    def _close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


@contextmanager
def _recorded(state: State, job: JobRow) -> Iterator[None]:
    """Write down how a job ended when it did not end well."""
    try:
        yield
    except KeyboardInterrupt:
        state.catalog.finish_job(job.id, status="cancelled", error="interrupted by the user")
        raise
    except CodechunkError as exc:
        state.catalog.finish_job(job.id, status="failed", error=str(exc))
        raise


def _attribute_files(repository: Repository, commit: str) -> Iterator[tuple[TreeEntry, bytes]]:
    """Every .gitattributes of the commit with its content; absurdly large ones are left out."""
    found = [
        entry
        for entry in repository.list_tree(commit)
        if entry.path.rpartition("/")[2] == ATTRIBUTES_FILE
        and entry.mode.startswith("100")
        and (entry.size or 0) <= IGNORE_FILE_BYTES
    ]
    contents = repository.blobs(entry.blob for entry in found)
    yield from ((entry, data) for entry, (_, data) in zip(found, contents, strict=True))


def _names(source: Source) -> list[str]:
    """What a repository may be called, shortest first."""
    if source.kind == "local":
        parts = Path(source.url).parts
        return ["/".join(parts[-count:]) for count in range(1, len(parts))]
    return [source.name, f"{source.host}/{source.name}" if source.host else source.name]


def _one_space_each(indexes: Sequence[IndexRow], preferred: Space) -> list[IndexRow]:
    """One index per repository and ref: in the configured space where there is one, else the newest."""
    chosen: dict[tuple[int, str], IndexRow] = {}
    for index in indexes:
        key = (index.repository_id, index.ref)
        if key not in chosen or (index.space == preferred and chosen[key].space != preferred):
            chosen[key] = index
    return list(chosen.values())


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise CodechunkError(
            f"the data directory {directory} cannot be made: {exc.strerror}; set data_dir or --data-dir"
        ) from exc
