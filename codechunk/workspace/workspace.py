"""Workspace: where configuration becomes running edges, and the only place that builds them from a Config."""

import hashlib
import stat
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from codechunk.config.load import Loaded
from codechunk.errors import CodechunkError, StateError, UsageError
from codechunk.git.address import Source
from codechunk.git.repository import OpenedRepository, Progress, open_repository
from codechunk.git.worktree import open_working_tree
from codechunk.process.locks import only_one
from codechunk.progress import Reporter
from codechunk.providers import synthetic
from codechunk.providers.gemini.client import Gemini
from codechunk.providers.models import DOCUMENT_TASK, Form
from codechunk.state import IndexRow, Space, State
from codechunk.state.embeddings import Vectors
from codechunk.vectors.chroma import VectorStore, prepare
from codechunk.versions import HEADER_VERSION
from codechunk.workspace.estimates import Estimates

GIT_STAGES = {
    "counting": "Counting objects",
    "compressing": "Compressing objects",
    "receiving": "Cloning",
    "resolving": "Resolving deltas",
}


class Workspace:
    """The edges of one configuration, made when asked for; the state database is opened once, at its first use.

    A context manager. One object may serve several threads.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self.config = loaded.config
        self._opening = threading.Lock()
        self._state: State | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the database's connections; the next use opens it again."""
        with self._opening:
            if self._state is not None:
                self._state.close()
                self._state = None

    @property
    def state(self) -> State:
        """The state database, opened.

        Raises:
            StateError: it is damaged, locked, of a newer codechunk, or lost while its vectors are there.
        """
        with self._opening:
            if self._state is None:
                self._state = self._open_state()
            return self._state

    @property
    def estimates(self) -> Estimates:
        """What texts cost."""
        return Estimates(self.config, self.state)

    @property
    def embedded_directory(self) -> Path | None:
        """Directory of the embedded Chroma; None when a server is used."""
        return None if self.config.vectors.url else self.config.data_dir / "chroma"

    def _open_state(self) -> State:
        """The state database; its folder is made, for its owner alone."""
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
            form=form_of(space),
            base_url=config.base_url,
            api_version=config.api_version,
            timeout_s=config.timeout.total_seconds(),
        )

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


def form_of(space: Space) -> Form:
    """How the requests for a vector space look."""
    return Form(space.model, space.dimensions, space.task)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise CodechunkError(
            f"the data directory {directory} cannot be made: {exc.strerror}; set data_dir or --data-dir"
        ) from exc
