"""The vector index: Chroma, embedded in a directory or behind a URL. EDGE: only this file imports chromadb.

Embedded Chroma has no lock and no repair of its own: two writers lose 5 to 19 % of the vectors in silence, a
kill at the wrong moment makes a collection unreadable, and files that are too short crash the whole process.
So the directory is owned through `flock`, is looked at before Chroma touches it, is probed by
`Collection.check`, and is thrown away when it cannot be fixed: all of it can be built again from the state
database.
"""

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.parse import urlsplit

import numpy as np

from codechunk.errors import VectorStoreError
from codechunk.process.closing import Closing
from codechunk.slices import parts, slices
from codechunk.vectors import Found, Place
from codechunk.vectors.arrays import Vectors
from codechunk.vectors.chroma_files import (
    DirectoryLock,
    damage,
    has_writer,
    identity_beside,
    is_damage,
    look_of,
    remove_files,
    renew_identity,
    saved_segments,
)
from codechunk.vectors.exact import lost, nearest, usable

if TYPE_CHECKING:
    from chromadb.api.client import Client
    from chromadb.api.models.Collection import Collection as Raw

FORMAT = 1
"""Version of what codechunk puts in a collection; one of another format is emptied when opened to write."""

_METADATA = {"codechunk_format": FORMAT}
_MOST_ROWS = 2_000
"""Rows per call. Measured on 15,000 vectors: larger calls are no faster and need more memory."""
_MOST_BYTES = 16 << 20
"""Vector bytes per call; a Chroma server refuses requests of 40 MB, and base64 adds a third."""
_MOST_IDS = 5_000


class ChromaStore(Closing):
    """One Chroma, open: a context manager. Not for two threads at once, and not to be carried across a fork.

    A forked child shares the lock of its parent: if the parent is killed, the directory stays locked until
    the child ends. Start worker processes with spawn, or before opening the store.
    """

    recovered: str | None = None
    """Why the embedded directory was thrown away and begun anew, or None. All collections are then empty."""

    def __init__(
        self,
        *,
        directory: Path | None,
        url: str | None,
        lock: DirectoryLock | None,
        write: bool,
        timeout_s: float,
    ) -> None:
        self._directory, self._url, self._timeout_s = directory, url, timeout_s
        self._client: Client | None = None
        self._lock = lock
        self._write = write
        self._absent = url is None and lock is None
        self._closed = False
        self._saved: dict[str, str] = {}
        self._damage: dict[str, str] = {}

    @classmethod
    def reserve(
        cls, *, directory: Path | None, url: str | None, write: bool, timeout_s: float = 30, alone: bool = False
    ) -> Self:
        """Like `open`, but only takes the lock: Chroma (0.7 s to import) is opened when it is first asked.

        A writer makes a broken name of the directory anew, and one that a copy has from the original if it is to be
        `alone` with it.
        """
        lock = None
        if url is None:
            if directory is None:
                raise ValueError("either a directory or a url")
            if write or directory.is_dir():
                with _translated(f"The vector index in {directory} cannot be used"):
                    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = DirectoryLock(directory, write=write)
                if write:
                    try:
                        renew_identity(directory, alone=alone)
                    except BaseException:
                        lock.release()
                        raise
        return cls(directory=directory, url=url, lock=lock, write=write, timeout_s=timeout_s)

    @classmethod
    def open(cls, *, directory: Path | None, url: str | None, write: bool, timeout_s: float = 30) -> Self:
        """The Chroma in `directory` (made when missing, mode 0700), or at `url` (`http://host:port`).

        A directory that Chroma cannot open is emptied when `write`; `recovered` then says why. `timeout_s` is
        for one request to a server.

        Raises IndexBusy when another process writes in the directory, or, for a writer, when others still
        read from it after two seconds; VectorStoreError when the server or the directory cannot be used.
        """
        store = cls.reserve(directory=directory, url=url, write=write, timeout_s=timeout_s)
        try:
            if not store._absent:
                store._open_client()
        except BaseException:
            store.close()
            raise
        return store

    def _open_directory(self, directory: Path) -> None:
        try:
            # Before Chroma opens the database, not after: it has its own copy of SQLite, and when one process
            # has a file open in two copies, closing it in one takes away the locks of the other.
            self._saved = saved_segments(directory)
            self._client = _open_embedded(directory)
        except VectorStoreError as exc:
            if not self._write or not is_damage(exc):
                raise
            self._start_over(directory, str(exc.__cause__))

    def _start_over(self, directory: Path, reason: str) -> None:
        """Throw everything away; older Collection objects cannot be used any more."""
        if self._client is not None:
            self._client.close()
            self._client = None
        remove_files(directory)
        self._client = _open_embedded(directory)
        self._saved.clear()
        self._damage.clear()
        self.recovered = reason

    @property
    def identity(self) -> str:
        """What tells it from every other Chroma."""
        if self._url is not None:
            return _identity_of_server(self._url)
        if self._directory is None:
            raise ValueError("either a directory or a url")
        return identity_beside(self._directory)

    def names(self) -> list[str]:
        """See `VectorStore`."""
        if self._absent:
            return []
        names: list[str] = []
        client = self._open_client()
        with _translated("The vector index cannot list its collections"):
            while page := client.list_collections(limit=500, offset=len(names)):
                names += [collection.name for collection in page]
        return sorted(names)

    def collection(self, name: str) -> "ChromaCollection":
        """See `VectorStore`. `name`: 3 to 512 of `[a-zA-Z0-9._-]`, a letter or digit at both ends."""
        if self._absent:
            return ChromaCollection(store=self, name=name, chroma=None, rows=0, damage=None)
        self._open_client()  # fills what is known of the saved segments
        if self._lock and (segment := self._saved.pop(name, None)):
            found = damage(self._lock.directory / segment)
            if found:
                self._damage[name] = found
        chroma = self._get_or_create(name) if self._write else self._get(name)
        rows = self._rows() if self._write else 0
        return ChromaCollection(store=self, name=name, chroma=chroma, rows=rows, damage=self._damage.get(name))

    def _get(self, name: str) -> "Raw | None":
        client = self._open_client()
        try:
            with _translated(f"The vector index cannot open its collection {name}"):
                return client.get_collection(name, embedding_function=None)
        except VectorStoreError as exc:
            if isinstance(exc.__cause__, _sdk().not_found):
                return None
            raise

    def _get_or_create(self, name: str) -> "Raw":
        client = self._open_client()
        with _translated(f"The vector index cannot open its collection {name}"):
            collection = self._create(client, name)
            if (collection.metadata or {}).get("codechunk_format") != FORMAT:
                client.delete_collection(name)
                collection = self._create(client, name)
            return collection

    @staticmethod
    def _create(client: "Client", name: str) -> "Raw":
        # No embedding function: the default one would download a model. HNSW settings stay the default ones.
        return client.get_or_create_collection(
            name,
            metadata=dict(_METADATA),
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine"}},
        )

    def _rows(self) -> int:
        with _translated("The vector index does not tell its limits"):
            return min(_MOST_ROWS, self._open_client().get_max_batch_size())

    def drop(self, name: str) -> None:
        """See `VectorStore`. A directory too damaged even for that is emptied, and `recovered` says why."""
        client = self._open_client()
        if not self._write:
            raise VectorStoreError(f"The vector index is open for reading; {name} cannot be removed.", kind="bug")
        self._saved.pop(name, None)
        self._damage.pop(name, None)
        try:
            with _translated(f"The vector index cannot remove its collection {name}"):
                client.delete_collection(name)
        except VectorStoreError as exc:
            if isinstance(exc.__cause__, _sdk().not_found):
                return
            if self._lock is None or not is_damage(exc):
                raise
            self._start_over(self._lock.directory, str(exc.__cause__))

    def _open_client(self) -> "Client":
        if self._client is None:
            if self._closed or self._absent:
                raise VectorStoreError("The vector index is closed, or there is none yet.", kind="bug")
            if self._url is not None:
                self._client = _connect(self._url, self._timeout_s)
            elif self._directory is not None:
                self._open_directory(self._directory)
        if self._client is None:
            raise VectorStoreError("The vector index is closed.", kind="bug")
        return self._client

    def close_index(self) -> None:
        """See `VectorStore`."""
        self._closed = True
        try:
            if self._client is not None:
                with _translated("The vector index cannot be closed"):
                    sessions = _sessions(self._client)
                    self._client.close()
                    for session in sessions:
                        session.close()
        finally:
            self._client = None

    def close(self) -> None:
        """See `VectorStore`."""
        try:
            self.close_index()
        finally:
            if self._lock is not None:
                self._lock.release()


class ChromaCollection:
    """See `Collection`.

    No metadata: filters are answered from the state database, and two fields cost a fifth of the insert time.
    """

    def __init__(self, *, store: ChromaStore, name: str, chroma: "Raw | None", rows: int, damage: str | None) -> None:
        self.name = name
        self._store = store
        self._chroma = chroma
        self._rows = rows
        self._damage = damage

    @property
    def identity(self) -> str:
        """See `Collection`."""
        return f"{self._store.identity}/{self.name}"

    def upsert(self, ids: Sequence[str], vectors: Vectors) -> None:
        """See `Collection`."""
        if not len(ids):
            return
        chroma = self._writable()
        vectors = usable(vectors, self.name)
        if len(ids) != len(vectors):
            raise ValueError("ids and vectors must have the same length")
        rows = max(1, min(self._rows, _MOST_BYTES // vectors[0].nbytes))
        for part in parts(len(ids), rows):
            with _translated(f"The vector index did not take the vectors for {self.name}"):
                chroma.upsert(list(ids[part]), embeddings=vectors[part])

    def delete(self, ids: Sequence[str]) -> None:
        """See `Collection`."""
        if not ids:
            return
        chroma = self._writable()
        for some in slices(ids, _MOST_IDS):
            with _translated(f"The vector index did not delete vectors of {self.name}"):
                chroma.delete(list(some))

    def query(self, vectors: Vectors, n: int, allowed: AbstractSet[str] | None = None) -> list[Found]:
        """See `Collection`. Approximate, and exact when `allowed` is given: Chroma's own filter costs 20 to 65 times
        a plain query (docs/reliability.md, 1), and reading the vectors that are allowed costs 25 ms for 500."""
        chroma = self._readable()
        queries = usable(vectors, self.name)
        if chroma is None or n < 1:
            return [[] for _ in queries]
        if allowed is not None:
            return nearest(self._vectors_of(sorted(allowed)), queries, n)
        with _translated(f"The vector index cannot search {self.name}"):
            found = chroma.query(query_embeddings=queries, n_results=n, include=["distances"])
        distances = found["distances"]
        if distances is None:
            raise VectorStoreError(f"The vector index answered a search in {self.name} without distances.")
        return [
            [(id_, 1.0 - far) for id_, far in zip(ids, fars, strict=True)]
            for ids, fars in zip(found["ids"], distances, strict=True)
        ]

    def _vectors_of(self, ids: Sequence[str]) -> Iterator[tuple[list[str], Vectors]]:
        """Those of the ids that are there, with their vectors, page by page."""
        chroma = self._readable()
        if chroma is None:
            return
        for some in slices(ids, _MOST_IDS):
            with _translated(f"The vector index cannot read the vectors of {self.name}"):
                got = chroma.get(ids=list(some), include=["embeddings"])
            if got["ids"]:
                yield got["ids"], np.asarray(got["embeddings"], dtype=np.float32)

    def count(self) -> int:
        """See `Collection`."""
        chroma = self._readable()
        if chroma is None:
            return 0
        with _translated(f"The vector index cannot count {self.name}"):
            return chroma.count()

    def check(self, *, expected: int, probes: Sequence[tuple[str, Vectors]]) -> str | None:
        """See `Collection`. A search must give an answer, too.

        That the search finds the probe is not asked: among thousands of vectors that are alike, a sound HNSW index
        misses half of them (measured), and would be rebuilt for ever.
        """
        try:
            count = self.count()
            if count != expected:
                return f"it holds {count} vectors instead of {expected}"
            wrong = self._lost(probes)
            if wrong:
                return f"{wrong} of {len(probes)} sampled vectors are lost or wrong"
            if probes and not self.query(probes[0][1][np.newaxis], 10)[0]:
                return "a search in it finds nothing"
        except VectorStoreError as exc:
            return str(exc)
        return None

    def _lost(self, probes: Sequence[tuple[str, Vectors]]) -> int:
        """How many probes are not stored, or with another vector."""
        stored = {
            id_: vector
            for ids, vectors in self._vectors_of([id_ for id_, _ in probes])
            for id_, vector in zip(ids, vectors, strict=True)
        }
        return lost(probes, stored)

    def _readable(self) -> "Raw | None":
        if self._damage is not None:
            raise VectorStoreError(f"The vector index of {self.name} is damaged: {self._damage}.", kind="damaged")
        return self._chroma

    def _writable(self) -> "Raw":
        chroma = self._readable()
        if chroma is None or not self._rows:
            raise VectorStoreError(f"The vector index is open for reading; {self.name} cannot be changed.", kind="bug")
        return chroma


class ChromaDirectory:
    """See `Backend`: Chroma embedded in a directory, for one writing process."""

    exclusive = True
    shared = False

    def __init__(self, directory: Path, *, alone: bool = False) -> None:
        """`alone`: a copy of the directory may not have its name."""
        self.directory, self._alone = directory, alone

    def identity(self) -> str:
        """A random number in a file beside the directory, so that it outlives what is thrown away."""
        return identity_beside(self.directory, alone=self._alone)

    def look(self) -> str | None:
        """Names, sizes and times of its files."""
        return look_of(self.directory)

    def exists(self) -> bool:
        """Whether Chroma has ever been opened there."""
        return (self.directory / "chroma.sqlite3").exists()

    def wanted(self) -> bool:
        """See `Backend`."""
        return has_writer(self.directory)

    def prepare(self) -> None:
        """See `Backend`."""
        prepare()

    def open(self, *, write: bool) -> ChromaStore:
        """See `Backend`."""
        return ChromaStore.reserve(directory=self.directory, url=None, write=write, alone=self._alone)


class ChromaServer:
    """See `Backend`: a Chroma server, for any number of writers."""

    exclusive = False
    shared = True

    def __init__(self, url: str) -> None:
        self._url = url

    def identity(self) -> str:
        """Of its address: a server says nothing else about itself."""
        return _identity_of_server(self._url)

    def look(self) -> str:
        """Its files are its own business: which server it is stands for them. Each run that stores something, and each
        search, checks the collection all the same."""
        return _identity_of_server(self._url)

    def exists(self) -> bool:
        """It is asked."""
        return True

    def wanted(self) -> bool:
        """It is for many."""
        return False

    def prepare(self) -> None:
        """See `Backend`."""
        prepare()

    def open(self, *, write: bool) -> ChromaStore:
        """See `Backend`."""
        return ChromaStore.reserve(directory=None, url=self._url, write=write)


def backend(place: Place) -> ChromaDirectory | ChromaServer:
    """The server at the URL of `place`, else a directory below its folder."""
    if place.url is not None:
        return ChromaServer(place.url)
    return ChromaDirectory(place.directory / "chroma", alone=place.shared_state)


def _identity_of_server(url: str) -> str:
    return f"server {hashlib.sha256(url.encode()).hexdigest()[:16]}"


class _Sdk(NamedTuple):
    """The names of chromadb and of its HTTP library that are used here."""

    chromadb: Any
    httpx: Any
    settings: Any
    errors: tuple[type[BaseException], ...]
    not_found: type[BaseException]


def prepare() -> None:
    """Begin to import chromadb in a thread of its own: half a second, while the caller waits for something else."""

    def load() -> None:
        with contextlib.suppress(ImportError):  # whoever needs it meets the same error, in the open
            _sdk()

    threading.Thread(target=load, name="import chromadb", daemon=True).start()


_IMPORTING = threading.Lock()


@cache
def _sdk() -> _Sdk:
    """Import chromadb: late, because it takes 0.7 s, and without a look at the environment.

    chromadb reads settings without a prefix from `.env` in the current folder and from the environment, when
    imported and for every client: `MIGRATIONS=1` of some web project there stops the import, and
    `CHROMA_API_IMPL` would run code of that folder's choice. Ours come from arguments alone.
    """
    import pydantic_settings

    arguments_only: Any = classmethod(lambda _cls, _settings_cls, init_settings, **_sources: (init_settings,))
    base: Any = pydantic_settings.BaseSettings
    with _IMPORTING:
        original = base.__dict__["settings_customise_sources"]
        base.settings_customise_sources = arguments_only
        try:
            import chromadb
            import chromadb.api
            import chromadb.config
            import httpx
            from chromadb.errors import ChromaError, NotFoundError
        finally:
            base.settings_customise_sources = original
    body = {"__module__": __name__, "settings_customise_sources": arguments_only}
    settings = type("Settings", (chromadb.config.Settings,), body)
    return _Sdk(chromadb, httpx, settings, (ChromaError, httpx.HTTPError, httpx.InvalidURL), NotFoundError)


def _open_embedded(directory: Path) -> "Client":
    with _translated(f"The vector index in {directory} cannot be opened"):
        sdk = _sdk()
        settings = sdk.settings(is_persistent=True, persist_directory=str(directory), anonymized_telemetry=False)
        # Not PersistentClient: when its start fails, the half-started system stays in chromadb's cache and
        # every later attempt on this path in this process fails too. A started one is handed over instead.
        system = sdk.chromadb.config.System(settings)
        system.instance(sdk.chromadb.api.ServerAPI)
        system.start()
        client: Client = sdk.chromadb.api.client.Client.from_system(system)
        return client


def _connect(url: str, timeout_s: float) -> "Client":
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise VectorStoreError(f"The Chroma server's address is not a URL: {exc}.", kind="usage") from exc
    shown = f"{parts.scheme}://{parts.hostname}{f':{port}' if port else ''}"
    plain = not (parts.username or parts.password or parts.path.strip("/") or parts.query)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise VectorStoreError(
            f"The Chroma server's address must look like http://host:port, not {shown}.", kind="usage"
        )
    ssl = parts.scheme == "https"
    with _translated(f"The Chroma server at {shown} cannot be used; is it running (`chroma run`)?"):
        sdk = _sdk()
        # chromadb sets no timeout and asks the server while it makes the client: ask something first.
        sdk.httpx.get(f"{shown}/api/v2/heartbeat", timeout=timeout_s).raise_for_status()
        client: Client = sdk.chromadb.HttpClient(
            host=parts.hostname,
            port=port or (443 if ssl else 80),
            ssl=ssl,
            settings=sdk.settings(anonymized_telemetry=False),
        )
        for session in _sessions(client):
            session.timeout = sdk.httpx.Timeout(timeout_s)
        return client


def _sessions(client: "Client") -> list[Any]:
    """The HTTP sessions chromadb 1.5 keeps for a server: it gives them no timeout and never closes them."""
    servers: list[Any] = [client._server, getattr(client._admin_client, "_server", None)]
    return [server._session for server in servers if hasattr(server, "_session")]


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn whatever Chroma raises into VectorStoreError: `what`, and Chroma's own words.

    ValueError, TypeError and the like are what chromadb's Python half raises for refused input and odd
    answers; a panic of its Rust half is a BaseException whose class cannot be imported.
    """
    try:
        yield
    except VectorStoreError:
        raise
    except OSError as exc:
        raise VectorStoreError(f"{what}: {exc}") from exc
    except BaseException as exc:
        panic = type(exc).__name__ == "PanicException"
        if not panic and not isinstance(exc, Exception):
            raise
        odd = (ValueError, TypeError, KeyError, AttributeError, RuntimeError)
        if not panic and not isinstance(exc, odd) and not isinstance(exc, _sdk().errors):
            raise
        words = " ".join(str(exc).split())[:300]
        raise VectorStoreError(f"{what}: {words}") from exc
