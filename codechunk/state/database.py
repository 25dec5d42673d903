"""The connection to the state database: how it is opened, checked, upgraded and locked.

Hides SQLite's settings, its driver's transaction quirks and the differences to PostgreSQL. Holds no query
about the product's own data.
"""

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.pool import Pool, QueuePool

from codechunk.errors import StateError
from codechunk.process.locks import FileLock, Held
from codechunk.process.stop import Stop

# The newest migration in codechunk/state/migrations/versions. Alembic itself (0.25 s to import) is only loaded
# when the database is not at this revision; a test holds the two together.
SCHEMA_REVISION = "0005"
KNOWN_REVISIONS = ("0001", "0002", "0003", "0004", "0005")

BUSY_TIMEOUT_MS = 30_000
# Of one process: eight threads that search with two each, a run of index with its heartbeat and its batch jobs.
MOST_CONNECTIONS = 32
KEPT_CONNECTIONS = 5
# Vectors live in the database: 16 KiB pages keep a row of 1.5 kB float16 in one page (reliability.md, 1).
PAGE_SIZE = 16_384
# How long a process waits for another one that makes the backup of a large database and upgrades it.
UPGRADE_PATIENCE_S = 600.0

# A lock lives as long as its connection: after 30 s of silence the system asks three times, 10 s apart, whether the
# other end is still there. Otherwise a router that forgot the connection would be noticed after hours.
KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

# How often a process looks again for a lock that another one holds.
LOCK_LOOK_S = 0.2

# WAL needs shared memory between all processes, which network file systems do not give.
NETWORK_FILESYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "afs", "glusterfs"}


class Database:
    """An open state database with the newest schema.

    `begin()` gives a writing transaction, `read()` a reading one. Every error of the driver reaches the
    caller as `StateError` with a sentence.
    """

    def __init__(self, target: Path | str, *, stop: Stop | None = None) -> None:
        """Open the SQLite file or URL `target`. Writing transactions are sections of `stop`."""
        self.stop = stop or Stop()
        self._closed: Pool | None = None
        """The connections there were when it was closed."""
        url = URL.create("sqlite", database=str(target)) if isinstance(target, Path) else make_url(target)
        self.path = Path(url.database) if url.drivername == "sqlite" and url.database else None
        if self.path is not None:
            _refuse_network_filesystem(self.path.parent)
        self.engine = _create_engine(url)
        with self._translated():
            self._upgrade()

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A writing transaction: `BEGIN IMMEDIATE` on SQLite, committed when the block ends well.

        A Stop waits for its end. Where Ctrl-C asks no Stop (a notebook), it may come in the middle of a rollback:
        the connection would keep its lock (seen: 30 s, exit 1), so it is thrown away.
        """
        with self.stop.held(), self._translated(), self._connected() as connection:
            try:
                with connection.execution_options(codechunk_write=True).begin():
                    yield connection
            except BaseException as exc:
                if not isinstance(exc, Exception):
                    connection.invalidate()
                raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A reading transaction: one consistent view, takes no write lock."""
        with self._translated(), self._connected() as connection, connection.begin():
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        if self._closed is not None:
            raise StateError("the state database was closed while it was in use", kind="usage")
        try:
            with self.engine.connect() as connection:
                yield connection
        finally:
            self._drop_if_closed()

    def _drop_if_closed(self) -> None:
        """Close a connection that came back after the database was closed."""
        if self._closed is not None:
            self._closed.dispose()
            self.engine.pool.dispose()

    def insert_new(self, table: Table) -> Any:
        """An INSERT for `table` that leaves rows alone whose key exists already."""
        return self._insert(table).on_conflict_do_nothing()

    def upsert(self, table: Table, *, key: list[str], values: list[str]) -> Any:
        """An INSERT for `table` that overwrites the columns `values` of rows with the same `key`."""
        statement = self._insert(table)
        return statement.on_conflict_do_update(
            index_elements=key, set_={name: statement.excluded[name] for name in values}
        )

    def _insert(self, table: Table) -> Any:
        if self.is_sqlite:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql  # 30 ms that a SQLite user need not wait for

        return postgresql.insert(table)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, which carries the lexical index in itself."""
        return self.engine.dialect.name == "sqlite"

    def lease_now(self, connection: Connection) -> float:
        """The lease clock in seconds: one for all processes of this database, and it never jumps.

        SQLite serves one machine, which has a clock that counts from its boot. On PostgreSQL it is the server's.
        """
        if self.is_sqlite:
            return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
        seconds: float = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar_one()
        return seconds

    def advisory_lock(self, name: str) -> "AdvisoryLock":
        """A lock of that name inside a PostgreSQL server, for every process that uses this database."""
        return AdvisoryLock(self, name)

    def quick_check(self) -> None:
        """Read every page of a SQLite database once.

        Raises:
            StateError: when a page is damaged; the sentence names the file and its backups.
        """
        if not self.is_sqlite:
            return
        with self.read() as connection:
            verdict = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
        if verdict != "ok":
            raise StateError(
                f"the state database {self.path} is damaged ({verdict}); move it away and restore the newest "
                f"backup beside it (state.db.backup-…), or index again"
            )

    def close(self) -> None:
        """Release every connection. Transactions of other threads end; what they begin afterwards is a StateError."""
        self._closed = self.engine.pool
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as exc:
            raise _told(exc, self.path) from exc
        except NoConnectionError as exc:
            raise StateError(
                f"too many threads use the state database at once (at most {MOST_CONNECTIONS})", kind="busy"
            ) from exc
        except DatabaseError as exc:
            if type(exc) is not DatabaseError:  # IntegrityError and the like: a bug of ours, let it crash
                raise
            raise _told(exc, self.path) from exc

    def _upgrade(self) -> None:
        """Bring the schema to SCHEMA_REVISION, with a backup first; refuse a newer one."""
        revision = self._revision()
        if revision == SCHEMA_REVISION:
            return
        self._refuse_newer(revision)
        from codechunk.state.migrations import upgrade  # 0.25 s of Alembic, needed once per database

        with self._upgrading(revision):
            upgrade(self.engine)
        self.engine.dispose()  # statistics are read when a connection is opened

    def _refuse_newer(self, revision: str | None) -> None:
        if revision is not None and revision not in KNOWN_REVISIONS:
            raise StateError(
                f"the state database {self.path or self.engine.url.render_as_string()} was made by a newer "
                f"codechunk (schema {revision}, this one knows {SCHEMA_REVISION}); update codechunk"
            )

    @contextmanager
    def _upgrading(self, revision: str | None) -> Iterator[None]:
        """Keep other processes away from the upgrade of a SQLite file, and make its backup.

        The migration itself keeps them away too, and is all that a new file or a server needs: whoever comes second
        finds nothing to do.
        """
        if revision is None or self.path is None:
            yield
            return
        lock = FileLock(self.path.with_name(f"{self.path.name}.upgrade"))
        try:
            taken = lock.take(wait_s=UPGRADE_PATIENCE_S, pause=self.stop.wait)
        except OSError as exc:
            raise StateError(
                f"the state database {self.path} cannot be upgraded: {exc.strerror} ({lock.path})", kind="environment"
            ) from exc
        if not taken:
            raise StateError(
                f"the state database {self.path} is being upgraded by {lock.holder()}; wait for it and run the same "
                f"command again",
                kind="busy",
            )
        with lock:
            now = self._revision()
            self._refuse_newer(now)
            if now is not None and now != SCHEMA_REVISION:
                self._backup(now)
            yield

    def _revision(self) -> str | None:
        with self.engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return revision

    def _backup(self, revision: str) -> None:
        """Copy a SQLite database beside itself; `VACUUM INTO` is safe while others read.

        The caller holds the lock of the upgrade. A backup bears its name when it is whole, never before.

        Raises:
            StateError: there is no room for it, or it cannot be written. The database is as it was.
        """
        assert self.path is not None  # noqa: S101 - the caller asked
        # Not `….backup-…`: what a kill leaves of it is no backup. The next attempt begins it anew.
        draft = self.path.with_name(f"{self.path.name}.draft")
        try:
            try:
                draft.unlink(missing_ok=True)
                file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                try:
                    with self.engine.connect() as connection:
                        driver = connection.connection.driver_connection
                        assert driver is not None  # noqa: S101
                        driver.execute("VACUUM INTO ?", (str(draft),))
                    os.fsync(file)
                finally:
                    os.close(file)
                draft.replace(self.path.with_name(f"{self.path.name}.backup-{revision}"))
            finally:
                draft.unlink(missing_ok=True)
        except (OSError, sqlite3.Error) as exc:
            why = exc.strerror if isinstance(exc, OSError) else exc
            raise StateError(
                f"the state database {self.path} needs an upgrade, and a backup before it cannot be made ({why}); "
                f"the database is as it was. Free as much space beside it as it takes and run the same command again",
                kind="environment",
            ) from exc


def begins_with(column: ColumnElement[str], start: str) -> ColumnElement[bool]:
    """Whether an id of lower-case hex digits begins with `start`: a range, which an index finds, and LIKE would not."""
    return and_(column >= start.lower(), column < f"{start.lower()}g")


_held = Held()


class AdvisoryLock:
    """A lock by its name, held by a connection of its own: the server frees it when that connection dies.

    See `codechunk.process.locks.Lock`. A pooler that hands one server connection to several clients (pgbouncer in
    transaction mode) breaks it, as it breaks every lock of a session.

    Raises:
        StateError: the server cannot be reached.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._db = database
        # Locks have 64-bit numbers for names; a hash of the name is the same on every machine and in every version.
        self._key = int.from_bytes(sha256(f"codechunk lock {name}".encode()).digest()[:8], signed=True)
        self._connection: Connection | None = None

    def take(self, *, wait_s: float = 0.0) -> bool:
        """See `Lock`."""
        deadline = time.monotonic() + wait_s
        with self._db._translated():
            # Not of the pool: closing it ends the session, and with it the lock, whatever happened.
            connection = self._db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()
            taken = False
            try:
                while not (taken := self._try(connection)) and time.monotonic() < deadline:
                    time.sleep(LOCK_LOOK_S)
            finally:
                if not taken:
                    connection.close()
        if taken:
            self._connection = connection
            _held.add(self._name())
        return taken

    def holder(self) -> str:
        """See `Lock`."""
        return _held.who(self._name())

    def _name(self) -> tuple[str, int]:
        return str(self._db.engine.url), self._key

    def _try(self, connection: Connection) -> bool:
        query = text("SELECT pg_try_advisory_lock(:key)")
        return bool(connection.execute(query, {"key": self._key}).scalar_one())

    def held(self) -> bool:
        """See `Lock`. Asks the server: a lock of a connection that is lost is everybody's."""
        if self._connection is None:
            return False
        try:
            self._connection.execute(text("SELECT 1"))
        except DatabaseError:
            return False
        return True

    def release(self) -> None:
        """See `Lock`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _held.add(self._name(), -1)
            with self._db._translated():
                connection.close()


def _create_engine(url: URL) -> Engine:
    if url.drivername != "sqlite":
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")  # SQLAlchemy's own default is the older psycopg2
        try:
            return create_engine(
                url,
                pool_pre_ping=True,
                connect_args=KEEPALIVES,
                pool_size=KEPT_CONNECTIONS,
                max_overflow=MOST_CONNECTIONS - KEPT_CONNECTIONS,
                pool_timeout=BUSY_TIMEOUT_MS / 1000,
            )
        except ModuleNotFoundError as exc:
            raise StateError(
                f"state.url names PostgreSQL, and its driver is not installed ({exc}); run: "
                f"pip install 'codechunk[postgres]'",
                kind="environment",
            ) from exc
    if url.database:
        _claim_file(Path(url.database))
    engine = create_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
        poolclass=QueuePool,
        pool_size=KEPT_CONNECTIONS,
        max_overflow=MOST_CONNECTIONS - KEPT_CONNECTIONS,
        pool_timeout=BUSY_TIMEOUT_MS / 1000,
    )
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _claim_file(path: Path) -> None:
    """Create the database file for its owner alone, and refuse one that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise StateError(
            f"the state database {path} cannot be opened for writing: {exc.strerror}", kind="environment"
        ) from exc
    os.close(descriptor)


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """Settings of reliability.md, 6. `isolation_level=None`: transactions begin in `_begin_sqlite` only."""
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        f"page_size={PAGE_SIZE}",  # has an effect on a new file only
        "synchronous=FULL",  # an intent must survive power loss before money is spent
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "cache_size=-32768",  # KiB
    ):
        connection.execute(f"PRAGMA {pragma}")
    _switch_to_wal(connection)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """WAL journal. The switch of a new file ignores the busy timeout, so several first users would fail at once."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - to not meet the others again
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("codechunk_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _refuse_network_filesystem(directory: Path) -> None:
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return
    target = str(directory.resolve())
    best, kind = "", ""
    for line in mounts.read_text(errors="replace").splitlines():
        fields = line.split(" ")
        point = fields[1].replace("\\040", " ")
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    if kind in NETWORK_FILESYSTEMS:
        raise StateError(
            f"the data directory {directory} is on a network file system ({kind}), where SQLite loses data; "
            f"set data_dir to a local disk, or state.url to a PostgreSQL server",
            kind="usage",
        )


def _told(exc: DatabaseError, path: Path | None) -> StateError:
    reason = str(exc.orig).strip().splitlines()[0] if exc.orig else str(exc)
    where = f"the state database {path}" if path else "the state database"
    if "locked" in reason or "busy" in reason:
        waited = BUSY_TIMEOUT_MS // 1000
        return StateError(
            f"{where} is in use by another process or thread and stayed locked for {waited} s; try again", kind="busy"
        )
    if "full" in reason:
        return StateError(
            f"{where} cannot grow: the disk is full; free some space and run the same command again",
            kind="environment",
        )
    if "readonly" in reason or "read-only" in reason:
        return StateError(
            f"{where} is read-only; make it writable or set data_dir to another directory", kind="environment"
        )
    if "malformed" in reason or "not a database" in reason:
        return StateError(
            f"{where} is damaged ({reason}); move it away and restore the newest backup beside it "
            f"(state.db.backup-…), or index again"
        )
    return StateError(f"{where} cannot be used: {reason}", kind="environment")
