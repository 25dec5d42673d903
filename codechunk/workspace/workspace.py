"""Parts: where configuration becomes running edges, and the only place that builds them from a Config."""

import hashlib
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from codechunk.chunking import ChunkSettings
from codechunk.config.load import Loaded
from codechunk.errors import CodechunkError, StateError, UsageError
from codechunk.git.address import Source
from codechunk.git.repository import OpenedRepository, Progress, open_repository
from codechunk.git.worktree import open_working_tree
from codechunk.pool.cut_settings import CutSettings
from codechunk.process.locks import only_one
from codechunk.progress import BatchView, Reporter
from codechunk.providers import synthetic
from codechunk.providers.gemini.client import Gemini
from codechunk.providers.models import DOCUMENT_TASK, Form, input_limit
from codechunk.providers.pricing import PriceMode, price_usd
from codechunk.selection.skip import SkipRules
from codechunk.sending.batch import BatchSettings, Machine
from codechunk.sending.batch_view import batch_views
from codechunk.sending.calibration import Fit
from codechunk.sending.direct import Direct
from codechunk.sending.owner import new_owner
from codechunk.sending.worker import Pace, Worker
from codechunk.state import BoughtTexts, IndexRow, Space, State
from codechunk.state.embeddings import Vectors
from codechunk.vectors.chroma import VectorStore, prepare

# Form of the text that is embedded: header, newline, chunk. A new form is a new vector space.
HEADER_VERSION = 1
IGNORE_FILE = ".codechunkignore"
ATTRIBUTES_FILE = ".gitattributes"
IGNORE_FILE_BYTES = 1_000_000
GIT_STAGES = {
    "counting": "Counting objects",
    "compressing": "Compressing objects",
    "receiving": "Cloning",
    "resolving": "Resolving deltas",
}


class Parts:
    """The edges of one configuration, made when asked for."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self.config = loaded.config

    def cut_settings(self, jobs: int, attributes: Mapping[str, str]) -> CutSettings:
        """How files are cut and counted under this configuration and the commit's .gitattributes."""
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
            secrets=self.config.secrets,
            attributes=_linguist_hash(attributes),
            jobs=jobs,
        )

    def rules(self, opened: OpenedRepository, attributes: Mapping[str, str]) -> SkipRules:
        """Which files of the commit are indexed: configuration, narrowed by what the commit itself says."""
        git = self.config.git
        repository, commit = opened.repository, opened.commit
        ignore = repository.read_path(commit, IGNORE_FILE, max_bytes=IGNORE_FILE_BYTES)
        return SkipRules.build(
            include=git.include,
            exclude=git.exclude,
            ignore_file=None if ignore is None else ignore.decode("utf-8", "replace"),
            gitattributes=attributes,
            skip_generated=git.skip_generated,
            skip_vendored=git.skip_vendored,
            max_file_size=git.max_file_size,
            skip_secret_files=self.config.secrets != "off",
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

    def state(self) -> State:
        """The state database, opened; its folder is made, for its owner alone."""
        if self.config.state.url is not None:
            return State(self.config.state.url)
        _make_private(self.config.data_dir)
        path = self.config.data_dir / "state.db"
        self._refuse_to_start_anew(path)
        return State(path)

    def _refuse_to_start_anew(self, path: Path) -> None:
        """An empty database beside vectors would buy them all again: say what is missing instead.

        Raises:
            StateError: when the database is gone or empty and its vector index, or a backup of it, is there.
        """
        if path.exists() and path.stat().st_size:
            return
        backups = sorted(path.parent.glob(f"{path.name}.backup-*"))
        vectors = path.parent / "chroma" / "chroma.sqlite3"
        if backups:
            mend = f"copy {backups[-1].name} back to {path.name}"
        elif vectors.exists():
            mend = f"restore it from your own backup, or remove {vectors.parent} to start anew"
        else:
            return
        raise StateError(
            f"the state database {path} is {'empty' if path.exists() else 'missing'}, and with it what was embedded; "
            f"{mend}. Starting anew would embed and pay for everything again"
        )

    def store(self, *, write: bool) -> VectorStore:
        """The vector store, locked but not opened yet. Raises IndexBusy when another process has it."""
        return VectorStore.reserve(directory=self.embedded_directory, url=self.config.vectors.url, write=write)

    @staticmethod
    def prepare_store() -> None:
        """Let the vector store's library be loaded while something else is waited for."""
        prepare()

    def alone(self, index: IndexRow) -> AbstractContextManager[None]:
        """Only one process on this machine works on a repository, also when a Chroma server lets several write.

        Its refs share contents, so two of them at once would sweep away what the other is still writing.
        """
        return self.alone_with(url=index.url, repository=index.repository)

    def alone_with(self, *, url: str, repository: str) -> AbstractContextManager[None]:
        """The lock of `alone`, also for a repository that has no index any more."""
        name = hashlib.sha256(url.encode()).hexdigest()[:32]
        return only_one(
            self.config.data_dir / "locks" / f"{name}.lock",
            f"{repository} is being indexed by another codechunk process; wait for it.",
        )

    def stamp(self) -> str | None:
        """What the embedded Chroma directory looks like: names, sizes and times of its files.

        A server's files are its own business: which server it is stands for it. Each run that stores something, and
        each search, checks the collection all the same (`embedding.check`).
        """
        if self.config.vectors.url is not None:
            return f"server {hashlib.sha256(self.config.vectors.url.encode()).hexdigest()[:16]}"
        directory = self.embedded_directory
        if directory is None or not directory.is_dir():
            return None
        digest = hashlib.sha256()
        for path in sorted(directory.rglob("*")):
            try:
                status = path.stat()
            except FileNotFoundError:  # a journal that a writer has just removed
                continue
            if stat.S_ISREG(status.st_mode) and not path.name.endswith(("-journal", "-wal", "-shm")):
                digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    def open_repository(self, source: Source, ref: str | None, reporter: Reporter) -> OpenedRepository:
        """The repository at the commit that `ref` names now, cloned or fetched if it is a remote one."""
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

    def open_working_tree(self, source: Source, reporter: Reporter) -> OpenedRepository:
        """The files of a local repository as they are on disk. Raises UsageError when the source has no work tree."""
        git = self.config.git
        return open_working_tree(
            source, max_file_bytes=git.max_file_size, timeout_s=git.timeout.total_seconds(), say=reporter.say
        )

    def require_provider(self) -> None:
        """Raise UsageError unless something can make vectors."""
        if not self.config.synthetic:
            self._key()

    def has_key(self) -> bool:
        """Whether the environment holds a Gemini key."""
        return self._loaded.gemini_api_key.value is not None

    def secret_values(self) -> list[str]:
        """The secrets of the environment as they are, for looking whether they stand anywhere."""
        return self._loaded.secret_values()

    def _key(self) -> str:
        key = self._loaded.gemini_api_key.value
        if key is None:
            raise UsageError(
                "No Gemini key: set CODECHUNK_GEMINI_API_KEY (or GEMINI_API_KEY), or pass --test-embeddings "
                "to index offline with synthetic vectors."
            )
        return key.get_secret_value()

    def gemini(self, space: Space) -> Gemini:
        """The provider for a vector space. Connects to nothing yet. Raises UsageError without a key."""
        config = self.config.embedding
        return Gemini(
            api_key=self._key(),
            form=_form(space),
            base_url=config.base_url,
            api_version=config.api_version,
            timeout_s=config.timeout.total_seconds(),
        )

    @contextmanager
    def worker(
        self,
        state: State,
        *,
        space: Space,
        space_id: int,
        reporter: Reporter,
        job_id: str | None = None,
        settle: Callable[[], int] = lambda: 0,
    ) -> Iterator[Worker]:
        """Hands for the texts of a vector space that wait for Gemini.

        Args:
            job_id: show only batch jobs of this run of index.
            settle: finishes index runs whose vectors have come.
        """
        config, batch = self.config, self.config.batch_processing
        owner = new_owner()
        with self.gemini(space) as gemini:
            fit = self.fit(state, space_id, space.model, gemini)

            def machine(space: Space, space_id: int) -> Machine:
                return Machine(
                    state=state,
                    provider=gemini,
                    form=_form(space),
                    fit=self.fit(state, space_id, space.model, gemini),
                    space_id=space_id,
                    settings=self._batch_settings(),
                    directory=config.data_dir / "batches",
                    owner=owner,
                )

            def others() -> list[Machine]:
                out = [other for other in state.batches.spaces_out() if other != space_id]
                return [machine(state.catalog.space(other), other) for other in out]

            direct = Direct(
                state=state,
                provider=gemini,
                space_id=space_id,
                owner=owner,
                fit=fit,
                concurrency=config.embedding.direct_concurrency,
                texts_per_call=config.embedding.direct_batch,
                lease_s=batch.lease.total_seconds(),
                on_saved=reporter.advance,
            )
            yield Worker(
                state=state,
                space_id=space_id,
                owner=owner,
                machine=machine(space, space_id),
                others=others,
                direct=direct,
                pace=self._pace(),
                settle=settle,
                watch=lambda: reporter.batches(self._views(state, job_id)),
            )

    def fit(self, state: State, space_id: int, model: str, gemini: Gemini | None = None) -> Fit:
        """The limit of a model and how its counts compare with ours, as learned so far."""
        return Fit(
            state=state,
            space_id=space_id,
            model=model,
            limit_tokens=self.config.token_counting.max_tokens_per_chunk or input_limit(model),
            count=None if gemini is None else gemini.count_tokens,
        )

    def _pace(self) -> Pace:
        batch = self.config.batch_processing
        return Pace(
            batches=batch.enabled,
            min_queue_size=self.config.worker.min_queue_size,
            max_queue_size=batch.queue_limits.max_queue_size,
            max_wait_s=batch.queue_limits.max_wait_time.total_seconds(),
            poller_interval_s=batch.poller_interval.total_seconds(),
            lease_s=batch.lease.total_seconds(),
        )

    def _batch_settings(self) -> BatchSettings:
        batch = self.config.batch_processing
        return BatchSettings(
            prefix=batch.display_name_prefix,
            priority=batch.priority,
            max_texts=batch.max_batch_size,
            max_tokens=batch.max_batch_tokens,
            fall_back=batch.fallback_to_sequential,
            initial_backoff_s=batch.initial_backoff.total_seconds(),
            max_backoff_s=batch.max_backoff.total_seconds(),
            max_retries=batch.max_retries,
            submitter_poll_s=batch.submitter_poll_interval.total_seconds(),
            submission_initial_s=batch.submission_initial_backoff.total_seconds(),
            submission_max_s=batch.submission_max_backoff.total_seconds(),
            max_submissions=batch.max_submission_attempts,
            concurrent_submissions=batch.max_concurrent_submissions,
            poller_interval_s=batch.poller_interval.total_seconds(),
            concurrent_polls=batch.max_concurrent_polls,
            max_age_s=batch.max_job_age.total_seconds(),
            grace_s=batch.reconcile_grace.total_seconds(),
            lease_s=batch.lease.total_seconds(),
        )

    def _views(self, state: State, job_id: str | None) -> list[BatchView]:
        """The batch jobs as they are shown: those of a run of index, or all that are open; the oldest first."""
        rows = state.batches.rows(open_only=job_id is None, job_id=job_id)
        return batch_views(state, rows[::-1], self.config.pricing)

    # ------------------------------------------------------------------ money

    def usd(self, model: str, mode: PriceMode, tokens: int) -> float | None:
        """The price of tokens, None when nobody knows it."""
        return price_usd(model=model, mode=mode, tokens=tokens, overrides=self.config.pricing)

    def estimate_usd(self, state: State, index: IndexRow, tokens: int, mode: str) -> float | None:
        """What embedding `tokens` by our count will cost in a mode (`batch` or `sequential`)."""
        if index.space.provider == "synthetic":
            return 0.0
        theirs = round(tokens * self.fit(state, index.space_id, index.space.model).mean)
        return self.usd(index.space.model, "batch" if mode == "batch" else "direct", theirs)

    def spent_usd(self, state: State, index: IndexRow, bought: BoughtTexts) -> float | None:
        """What was paid: by the provider's counts where it told them, else by ours."""
        mean = self.fit(state, index.space_id, index.space.model).mean
        batch = self.usd(index.space.model, "batch", bought.batch + round(bought.batch_estimated * mean))
        direct = self.usd(index.space.model, "direct", bought.direct + round(bought.direct_estimated * mean))
        return None if batch is None or direct is None else batch + direct

    def space(self) -> Space:
        """The vector space of this configuration."""
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


def read_attributes(opened: OpenedRepository) -> dict[str, str]:
    """Every .gitattributes of the commit: folder ("" for the root) -> text; absurdly large ones are left out."""
    found = [
        entry
        for entry in opened.repository.named(opened.commit, ATTRIBUTES_FILE)
        if entry.mode.startswith("100") and (entry.size or 0) <= IGNORE_FILE_BYTES
    ]
    contents = opened.repository.blobs(entry.blob for entry in found)
    return {
        entry.path.removesuffix(ATTRIBUTES_FILE).rstrip("/"): data.decode("utf-8", "replace")
        for entry, (_, data) in zip(found, contents, strict=True)
    }


def _form(space: Space) -> Form:
    return Form(space.model, space.dimensions, space.task)


def _linguist_hash(attributes: Mapping[str, str]) -> str:
    """Short hash of the lines of .gitattributes that say which files are generated or vendored."""
    lines = [
        f"{folder}: {line}"
        for folder, text in sorted(attributes.items())
        for line in text.splitlines()
        if "linguist-" in line
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8] if lines else "none"


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise CodechunkError(
            f"the data directory {directory} cannot be made: {exc.strerror}; set data_dir or --data-dir"
        ) from exc
