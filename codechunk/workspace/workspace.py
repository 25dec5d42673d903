"""Workspace: where configuration becomes running edges, and the only place that builds them from a Config."""

import hashlib
import threading
from contextlib import AbstractContextManager
from pathlib import Path

from codechunk import providers
from codechunk.config.load import Loaded
from codechunk.errors import CodechunkError, StateError, UsageError
from codechunk.git.address import Source
from codechunk.git.repository import OpenedRepository, Progress, open_repository
from codechunk.git.worktree import open_working_tree
from codechunk.process.closing import Closing
from codechunk.process.locks import ANOTHER_PROCESS, Lock, only_one, only_one_here
from codechunk.process.log import remember_secrets
from codechunk.process.stop import Stop
from codechunk.process.whereabouts import Whereabouts
from codechunk.progress import Reporter
from codechunk.providers import DOCUMENT_TASK, Client, ClientSettings, Provider
from codechunk.state import IndexRow, Space, State
from codechunk.vectors import Backend, Place, backend
from codechunk.versions import HEADER_VERSION
from codechunk.workspace.estimates import Estimates
from codechunk.workspace.state_rows import StateRows
from codechunk.workspace.vector_session import Gate, VectorSession

GIT_STAGES = {
    "counting": "Counting objects",
    "compressing": "Compressing objects",
    "receiving": "Cloning",
    "resolving": "Resolving deltas",
}


class Workspace(Closing):
    """The edges of one configuration, made when asked for; the state database is opened once, at its first use.

    A context manager. One object may serve several threads.
    """

    def __init__(self, loaded: Loaded, *, stop: Stop | None = None) -> None:
        """Open nothing yet. `stop` ends what is done with this workspace, in whatever thread."""
        self.stop = stop or Stop()
        self._loaded = loaded
        self.config = loaded.config
        self._opening = threading.Lock()
        self._state: State | None = None
        self._backend: Backend | None = None
        self._gate = Gate()

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
        """Directory of the embedded Chroma; None for another store."""
        embedded = self.config.vectors.backend == "chroma" and self.config.vectors.url is None
        return self.config.data_dir / "chroma" if embedded else None

    def _open_state(self) -> State:
        """The state database; its folder is made, for its owner alone."""
        if self.config.state.url is not None:
            return State(self.config.state.url, stop=self.stop)
        _make_private(self.config.data_dir)
        path = self.config.data_dir / "state.db"
        self._refuse_to_start_anew(path)
        return State(path, stop=self.stop)

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
            fix = f"copy {backups[-1].name} back to {path.name}"
        elif vectors.exists():
            fix = f"restore it from your own backup, or remove {vectors.parent} to start anew"
        else:
            return
        raise StateError(
            f"the state database {path} is {'empty' if path.exists() else 'missing'}, and with it what was embedded; "
            f"{fix}. Starting anew would embed and pay for everything again"
        )

    @property
    def vector_backend(self) -> Backend:
        """The vector store of this configuration, not open."""
        with self._opening:
            if self._backend is None:
                rows = StateRows(lambda: self.state)
                place = Place(
                    directory=self.config.data_dir,
                    url=self.config.vectors.url,
                    rows=rows,
                    shared_state=not self.has_own_state,
                )
                self._backend = backend(self.config.vectors.backend, place)
            return self._backend

    def vector_session(self) -> VectorSession:
        """A use of the vector store; nothing is opened yet."""
        found = self.vector_backend
        return VectorSession(
            state=self.state,
            backend=found,
            gate=self._gate if found.exclusive else Gate(),
            alone=self.alone,
            claims=self.has_own_state,
            place=self.place,
        )

    @property
    def has_own_state(self) -> bool:
        """Whether the state database is in the data directory, so that no other one has it."""
        return self.config.state.url is None

    @property
    def place(self) -> str | None:
        """Whereabouts of the data directory, for the records of shared databases; None while there is none."""
        try:
            return Whereabouts.of(self.config.data_dir).text
        except OSError:
            return None

    def alone(self, index: IndexRow) -> AbstractContextManager[Lock]:
        """Only one process works on a repository, also where several may write in the vector store.

        On this machine; on every machine when they share a PostgreSQL database. Its refs share contents, so two of
        them at once would sweep away what the other is still writing.
        """
        return self.alone_with(url=index.url, repository=index.repository)

    def alone_with(self, *, url: str, repository: str) -> AbstractContextManager[Lock]:
        """The lock of `alone`, also for a repository that has no index any more. The block may ask if it is held."""
        name = hashlib.sha256(url.encode()).hexdigest()[:32]
        busy = f"{repository} is being indexed by {ANOTHER_PROCESS}; wait for it."
        if self.state.database.is_sqlite:
            return only_one_here(self.config.data_dir / "locks" / f"{name}.lock", busy)
        return only_one(self.state.database.advisory_lock(f"repository {name}"), busy)

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
            stop=self.stop,
        )

    def open_working_tree(self, source: Source, reporter: Reporter) -> OpenedRepository:
        """The files of a local repository as they are on disk. Raises UsageError when the source has no work tree."""
        git = self.config.git
        return open_working_tree(
            source,
            max_file_bytes=git.max_file_size,
            timeout_s=git.timeout.total_seconds(),
            say=reporter.say,
            stop=self.stop,
        )

    def require_provider(self) -> None:
        """Raise UsageError unless something can make vectors."""
        self._key(self.config.provider)

    def has_key(self) -> bool:
        """Whether the environment holds the configured provider's key, or that of the one it stands for."""
        return self._loaded.api_key(self.config.priced_provider).value is not None

    def secret_values(self) -> list[str]:
        """The secrets of the environment as they are, for looking whether they stand anywhere."""
        return self._loaded.secret_values()

    def _key(self, provider: Provider) -> str | None:
        """The provider's key; None when it needs none. Raises UsageError when it needs one and there is none."""
        if not provider.key_variables:
            return None
        key = self._loaded.api_key(provider).value
        if key is None:
            first, *others = provider.key_variables
            raise UsageError(
                f"No {provider.title} key: set {first}{f' (or {others[0]})' if others else ''}, or pass "
                f"--test-embeddings to index offline with synthetic vectors."
            )
        return key.get_secret_value()

    def client(self, space: Space, *, patience_s: float | None = None) -> Client:
        """The provider of a vector space, opened; whoever asks closes it. Connects to nothing yet.

        Args:
            patience_s: wait no longer than so long for an answer; None: as long as configured.

        Raises:
            UsageError: its key is missing, or it is not installed.
        """
        provider, config = providers.get(space.provider), self.config.embedding
        key = self._key(provider)
        if key is not None:
            remember_secrets([key])
        timeout_s = config.timeout.total_seconds()
        # An address belongs to the provider it was set for: no other one's key is sent there.
        own = provider in (providers.get(config.provider), self.config.priced_provider)
        return provider.open(
            ClientSettings(
                model=space.model,
                dimensions=space.dimensions,
                task=space.task,
                api_key=key,
                base_url=config.base_url if own else None,
                api_version=config.api_version if own else None,
                timeout_s=timeout_s if patience_s is None else min(timeout_s, patience_s),
            )
        )

    def space(self) -> Space:
        """The vector space of this configuration."""
        provider, model = self.config.provider, self.config.model
        known = provider.models.get(model)
        return Space(
            provider=provider.name,
            model=model,
            dimensions=(known.dimensions if known is not None else None) or self.config.embedding.dimensions,
            task=DOCUMENT_TASK,
            header_version=HEADER_VERSION,
        )


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise CodechunkError(
            f"the data directory {directory} cannot be made: {exc.strerror}; set data_dir or --data-dir"
        ) from exc
