"""SQL that is made once for all databases of a process: each test opens its own, and making it took half of its time.

SQLAlchemy keeps the SQL of a statement with the engine, for the dialect of that engine. Here it is kept by the name of
the dialect. What the product asks is the same, as in a long run that has asked it before.
"""

from typing import Any

from sqlalchemy.engine import Dialect, Engine


class _Made(dict[Any, Any]):
    """The SQL of statements made so far, seen by one engine. The first part of SQLAlchemy's key is the dialect."""

    all: "dict[Any, Any]" = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self._name = f"{dialect.name}+{dialect.driver}"

    def get(self, key: Any, default: Any = None) -> Any:
        return self.all.get((self._name, *key[1:]), default)

    def __setitem__(self, key: Any, made: Any) -> None:
        self.all[(self._name, *key[1:])] = made


def share_sql() -> None:
    """From now on all engines of this process share it."""
    begin = Engine.__init__

    def begin_with_all(self: Engine, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self._compiled_cache = _Made(self.dialect)

    Engine.__init__ = begin_with_all  # type: ignore[method-assign]
