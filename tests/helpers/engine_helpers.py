"""The database that the state of a test lives in: a SQLite file in its folder, or a PostgreSQL database of its own.

A module whose `pytestmark` is `both_databases` runs each test on both; one that is about SQLite as such is marked
`sqlite_only`. Its tests open the state with `open_state`, or ask `state_target` where it is.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

from postgres_helpers import PostgresServer

from codechunk.state import State

Engine = Literal["sqlite", "postgresql"]


class _Postgres:
    """A database for each folder of one test."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._urls: dict[Path, str] = {}

    def target(self, folder: Path, *, empty: bool) -> str:
        if folder not in self._urls:
            self._urls[folder] = self._server.new_database(empty=empty)
        return self._urls[folder]

    def drop(self) -> None:
        for url in self._urls.values():
            self._server.drop(url)


_postgres: _Postgres | None = None


@contextmanager
def on_postgres(server: PostgresServer) -> Iterator[None]:
    """Let every state that is opened in the block live in PostgreSQL."""
    global _postgres
    _postgres = _Postgres(server)
    try:
        yield
    finally:
        _postgres.drop()
        _postgres = None


def state_target(folder: Path, *, empty: bool = False) -> Path | str:
    """Where the state of a test with this folder is, the same at every call; `empty`: no table is there yet."""
    return folder / "state.db" if _postgres is None else _postgres.target(folder, empty=empty)


def open_state(folder: Path) -> State:
    """The state of a test with this folder, with the newest schema."""
    if _postgres is None and not (folder / "state.db").exists():
        (folder / "state.db").write_bytes(_empty_database())
        (folder / "state.db").chmod(0o600)
    return State(state_target(folder))


@cache
def _empty_database() -> bytes:
    """A state database of the newest schema: made once, as the migrations take longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        State(Path(folder) / "state.db").close()
        return (Path(folder) / "state.db").read_bytes()
