"""The words of chunks: how they are kept and found, and what a database without them does.

Hides the lexical index, SQLite's FTS5 table `chunk_words`: one row a chunk, with the words of its path, symbol and text
as `codechunk.text.words` cuts them. Every method works inside the caller's transaction. PostgreSQL has no such index
yet: there nothing is kept, nothing is found, and search goes by meaning alone.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, select, text

from codechunk.state.database import Database
from codechunk.state.tables import chunks

# Weights of the columns path, symbol and body in BM25: a name says more than a use of it. Tuned on the tuning set of
# `scripts/bench retrieval`; from 2, 2, 1 to 4, 8, 1 the figures differ by a hundredth.
BM25_WEIGHTS = (3.0, 6.0, 1.0)
ROWS_AT_ONCE = 500


class ChunkWords(NamedTuple):
    """The words of one chunk, each column separated by spaces."""

    path: str
    symbol: str
    body: str


class Lexical(Protocol):
    """A lexical index over the rows of `chunks`."""

    def add(self, connection: Connection, chunk_rows: Sequence[int], words: Sequence[ChunkWords]) -> None:
        """Keep the words of new chunks; both in the same order."""

    def remove(self, connection: Connection, source_ids: Sequence[int]) -> None:
        """Forget the words of every chunk of these contents, whose rows are still there."""

    def bodies(self, connection: Connection, source_id: int) -> list[str] | None:
        """The words of the texts of a content's chunks, in order; None where they are not kept."""

    def matches(self, connection: Connection, words: Sequence[str]) -> Iterator[tuple[int, float]]:
        """(row of a chunk, score) of the chunks that have any of these words, best first; BM25, positive."""

    def strays(self, connection: Connection) -> int | None:
        """How many chunks have no words, or words no chunk; None where none are kept."""


class SqliteWords:
    """The FTS5 table in the same file: what is committed there is found."""

    def add(self, connection: Connection, chunk_rows: Sequence[int], words: Sequence[ChunkWords]) -> None:
        """Keep the words of new chunks; both in the same order."""
        connection.exec_driver_sql(
            "INSERT INTO chunk_words(rowid, path, symbol, body) VALUES (?, ?, ?, ?)",
            [(row, *columns) for row, columns in zip(chunk_rows, words, strict=True)],
        )

    def remove(self, connection: Connection, source_ids: Sequence[int]) -> None:
        """Forget the words of every chunk of these contents, whose rows are still there."""
        rows = connection.execute(select(chunks.c.id).where(chunks.c.source_id.in_(source_ids))).scalars().all()
        if rows:
            connection.exec_driver_sql("DELETE FROM chunk_words WHERE rowid = ?", [(row,) for row in rows])

    def bodies(self, connection: Connection, source_id: int) -> list[str]:
        """The words of the texts of a content's chunks, in order of the chunks."""
        query = "SELECT w.body FROM chunks c JOIN chunk_words w ON w.rowid = c.id WHERE c.source_id = ? "
        return list(connection.exec_driver_sql(query + "ORDER BY c.ordinal", (source_id,)).scalars())

    def matches(self, connection: Connection, words: Sequence[str]) -> Iterator[tuple[int, float]]:
        """(row of a chunk, score) of the chunks that have any of these words, best first.

        Sorted inside FTS5, before anything is joined: a common word is in half of all chunks.
        """
        match = " OR ".join('"' + word.replace('"', '""') + '"' for word in words)
        weights = f"bm25({', '.join(map(str, BM25_WEIGHTS))})"
        query = "SELECT rowid, rank FROM chunk_words WHERE chunk_words MATCH ? AND rank MATCH ? ORDER BY rank"
        found = connection.execution_options(yield_per=ROWS_AT_ONCE).exec_driver_sql(query, (match, weights))
        for rows in found.partitions():
            yield from ((row_id, -rank) for row_id, rank in rows)

    def strays(self, connection: Connection) -> int:
        """How many chunks have no words, or words no chunk: its own table of sizes has a row for each it knows."""
        return int(
            connection.execute(
                text(
                    "SELECT (SELECT count(*) FROM chunks c LEFT JOIN chunk_words_docsize w ON w.id = c.id"
                    " WHERE w.id IS NULL) + (SELECT count(*) FROM chunk_words_docsize w LEFT JOIN chunks c"
                    " ON c.id = w.id WHERE c.id IS NULL)"
                )
            ).scalar_one()
        )


class NoWords:
    """For a database without a lexical index: nothing is kept, and nothing is found."""

    def add(self, connection: Connection, chunk_rows: Sequence[int], words: Sequence[ChunkWords]) -> None:
        """Nothing is kept."""

    def remove(self, connection: Connection, source_ids: Sequence[int]) -> None:
        """There is nothing to forget."""

    def bodies(self, connection: Connection, source_id: int) -> None:
        """They are not kept."""

    def matches(self, connection: Connection, words: Sequence[str]) -> Iterator[tuple[int, float]]:
        """Nothing is found."""
        return iter(())

    def strays(self, connection: Connection) -> None:
        """There are none to count."""


def lexical_of(database: Database) -> Lexical:
    """The lexical index of this database."""
    return SqliteWords() if database.is_sqlite else NoWords()


def compact_words(driver: sqlite3.Connection) -> None:
    """Write anew what holds the words of a SQLite file: those of deleted chunks are only marked as such until then."""
    driver.execute("INSERT INTO chunk_words(chunk_words) VALUES ('optimize')")
