"""What a state database is asked, and how much work that is, without looking at a clock."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from codechunk.state import State


@contextmanager
def statements(state: State) -> Iterator[list[tuple[str, Any]]]:
    """Every statement, with its parameters, that the block sends to the database."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        seen.append((statement, parameters))

    event.listen(state.database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(state.database.engine, "before_cursor_execute", note)


def plans(state: State, asked: list[tuple[str, Any]]) -> dict[str, list[str]]:
    """SQLite's plan for each of these statements: what it does, step by step."""
    found: dict[str, list[str]] = {}
    with state.database.read() as connection:
        for statement, parameters in asked:
            lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            found[statement] = [line[3] for line in lines]
    return found


class Steps:
    """Counts the instructions of SQLite's virtual machine: the same on every machine, however busy it is."""

    EVERY = 100

    def __init__(self, state: State) -> None:
        self.count = 0
        engine = state.database.engine
        engine.dispose()  # connections that are open already would not be counted
        event.listen(engine, "connect", self._watch)

    def _watch(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.set_progress_handler(self._tick, self.EVERY)

    def _tick(self) -> int:
        self.count += self.EVERY
        return 0
