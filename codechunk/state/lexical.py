"""The words of chunks: how they are kept and found, and what a database without them does.

Hides the lexical index, SQLite's FTS5 table `chunk_words`: one row a chunk, with the words of its path, symbol and text
as `codechunk.text.words` cuts them. Every method works inside the caller's transaction. PostgreSQL has no such index
yet: there nothing is kept, nothing is found, and search goes by meaning alone.
"""

import sqlite3
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from sqlalchemy import Connection, Float, Subquery, func, or_, select, text

from codechunk.state.database import Database
from codechunk.state.tables import chunks

# Weights of the columns path, symbol and body in BM25: a name says more than a use of it. Tuned on the tuning set of
# `scripts/bench retrieval`; from 2, 2, 1 to 4, 8, 1 the figures differ by a hundredth.
BM25_WEIGHTS = (3.0, 6.0, 1.0)

# A row of `chunks`, and how well it fits; and the first and last row to look among.
Match = tuple[int, float]
Rows = tuple[int, int]
EVERY_ROW = (0, 2**63 - 1)
# Where `best` looks for words: in any column, or side by side in texts.
Within = Literal["anywhere", "phrase"]


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

    def matches(self, words: Sequence[str], rows: Rows | None) -> Subquery | None:
        """All chunks that have any of these words, to be joined: columns `row_id` and `score`; None: there is no index.

        Scores are those of BM25, positive, higher is better. `rows`: only chunks whose row is between these two.
        """

    def best(
        self,
        connection: Connection,
        words: Sequence[str],
        rows: Rows | None,
        *,
        limit: int,
        within: Within = "anywhere",
    ) -> list[Match]:
        """The first of `matches`, best first: quicker than all of them where they need no further condition.

        `within` a phrase: chunks whose text has all the words side by side.
        """

    def with_symbol(self, connection: Connection, words: Sequence[str], rows: Rows | None, *, limit: int) -> list[int]:
        """Chunks whose symbol has any of these words, in no order."""

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

    def matches(self, words: Sequence[str], rows: Rows | None) -> Subquery:
        """All chunks that have any of these words, to be joined: columns `row_id` and `score`."""
        found = text(
            "SELECT rowid AS row_id, -bm25(chunk_words, :w0, :w1, :w2) AS score FROM chunk_words"
            " WHERE chunk_words MATCH :match AND rowid BETWEEN :first AND :last"
        )
        weights = dict(zip(("w0", "w1", "w2"), BM25_WEIGHTS, strict=True))
        first, last = rows or EVERY_ROW
        bound = found.bindparams(match=_any_of(words), first=first, last=last, **weights)
        return bound.columns(row_id=chunks.c.id.type, score=Float()).subquery("matched")

    def best(
        self,
        connection: Connection,
        words: Sequence[str],
        rows: Rows | None,
        *,
        limit: int,
        within: Within = "anywhere",
    ) -> list[Match]:
        """The first of `matches`, sorted inside FTS5: a common word is in half of all chunks."""
        weights = f"bm25({', '.join(map(str, BM25_WEIGHTS))})"
        match = f'body : "{" ".join(words)}"' if within == "phrase" else _any_of(words)
        found = connection.exec_driver_sql(
            "SELECT rowid, -rank FROM chunk_words WHERE chunk_words MATCH ? AND rank MATCH ?"
            " AND rowid BETWEEN ? AND ? ORDER BY rank LIMIT ?",
            (match, weights, *(rows or EVERY_ROW), limit),
        )
        return [(row, score) for row, score in found.fetchall()]

    def with_symbol(self, connection: Connection, words: Sequence[str], rows: Rows | None, *, limit: int) -> list[int]:
        """Chunks whose symbol has any of these words: unsorted, so that nothing is weighed."""
        found = connection.exec_driver_sql(
            "SELECT rowid FROM chunk_words WHERE chunk_words MATCH ? AND rowid BETWEEN ? AND ? LIMIT ?",
            (f"symbol : ({_any_of(words)})", *(rows or EVERY_ROW), limit),
        )
        return [row for (row,) in found.fetchall()]

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
        """Keep nothing."""

    def remove(self, connection: Connection, source_ids: Sequence[int]) -> None:
        """There is nothing to forget."""

    def bodies(self, connection: Connection, source_id: int) -> None:
        """They are not kept."""

    def matches(self, words: Sequence[str], rows: Rows | None) -> None:
        """There is no index."""

    def best(
        self,
        connection: Connection,
        words: Sequence[str],
        rows: Rows | None,
        *,
        limit: int,
        within: Within = "anywhere",
    ) -> list[Match]:
        """Find nothing."""
        return []

    def with_symbol(self, connection: Connection, words: Sequence[str], rows: Rows | None, *, limit: int) -> list[int]:
        """Chunks whose symbol has any of these words: every symbol is read."""
        folded = func.replace(func.lower(chunks.c.symbol), "_", "")
        first, last = rows or EVERY_ROW
        any_of = or_(*(folded.contains(word, autoescape=True) for word in words))
        query = select(chunks.c.id).where(any_of, chunks.c.id.between(first, last)).limit(limit)
        return list(connection.execute(query).scalars())

    def strays(self, connection: Connection) -> None:
        """There are none to count."""


def lexical_of(database: Database) -> Lexical:
    """The lexical index of this database."""
    return SqliteWords() if database.is_sqlite else NoWords()


def _any_of(words: Sequence[str]) -> str:
    """A query of FTS5 for chunks with any of these words."""
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in words)


def compact_words(driver: sqlite3.Connection) -> None:
    """Rewrite what holds the words of a SQLite file: those of deleted chunks are only marked as such until then."""
    driver.execute("INSERT INTO chunk_words(chunk_words) VALUES ('optimize')")
