"""Schema migrations of the state database, carried out by Alembic and shipped in the package."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, text

from codechunk.errors import StateError

# Any number that nobody else takes as the key of an advisory lock in this database.
LOCK = 0x636F6465


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest schema in one transaction.

    On SQLite the transaction is `BEGIN IMMEDIATE`, on PostgreSQL it holds an advisory lock: a second process waits and
    then finds the work done. Killed in the middle, the database keeps its old schema.

    Raises:
        StateError: a row would refer to one that is not there any more; the schema stays as it was.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    writing = engine.execution_options(codechunk_write=True)
    with writing.connect() as connection, _references_unguarded(connection), connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        lost = _lost_references(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if _lost_references(connection) > lost:
            raise StateError("the state database could not be upgraded without losing rows, and is as it was")


@contextmanager
def _references_unguarded(connection: Connection) -> Iterator[None]:
    """Let SQLite replace tables that others refer to; it must be told outside of the transaction.

    Most changes of a table are a new table with the old rows, and the old one is dropped.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)  # noqa: S101
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def _lost_references(connection: Connection) -> int:
    """How many rows refer to one that does not exist; a server guards its references itself."""
    if connection.dialect.name != "sqlite":
        return 0
    return len(connection.execute(text("PRAGMA foreign_key_check")).all())
