"""Vectors that go from one state database to another, keyed by what they are vectors of."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, bindparam, func, select, text, true, update

from codechunk.slices import slices
from codechunk.state.catalog import IndexRow
from codechunk.state.contents import live_at
from codechunk.state.database import Database
from codechunk.state.tables import chunks, embeddings, files, indexes, spaces, vectors

SHAS_AT_ONCE = 500
ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A vector space and how many of its vectors are in the file."""

    provider: str
    model: str
    dimensions: int
    task: str
    header_version: int
    vectors: int

    @property
    def key(self) -> tuple[str, str, int, str, int]:
        """What tells vector spaces apart, and what sections are sorted by."""
        return self.provider, self.model, self.dimensions, self.task, self.header_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A text by its hex sha256, its vector as it is stored, and the provider's token count, None when it told none."""

    sha: str
    vector: bytes
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheContent:
    """The cache, or a part of it, as it is at one moment: `records` come in the order of `sections`, then by `sha`."""

    sections: Sequence[Section]
    records: Iterator[Record]


class Cache:
    """All vectors of this database, whoever uses them. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @contextmanager
    def content(self, used_by: Sequence[IndexRow] | None = None) -> Iterator[CacheContent]:
        """Everything that was embedded, read row by row; what others write meanwhile is not in it.

        Args:
            used_by: only vectors that chunks of what these indexes have published use.
        """
        with self._db.read() as connection:
            if not self._db.is_sqlite:  # where each statement would see its own moment, and counts could be wrong
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            found = sorted(_sections(connection, used_by), key=lambda found: found[1].key)
            yield CacheContent(
                sections=[section for _, section in found],
                records=(record for space_id, _ in found for record in _records(connection, space_id, used_by)),
            )

    def add(self, space_id: int, records: Sequence[Record]) -> int:
        """Take in vectors that were bought elsewhere; returns how many were new here.

        A text that waits or has failed is ready then. One that is being sent is left alone, for its result is on its
        way and will be paid for; a vector that is here stays as it is. Texts that no chunk has wait for one.
        """
        waiting = [
            {"space_id": space_id, "text_sha": record.sha, "state": "pending", "attempts": 0} for record in records
        ]
        by_sha = {record.sha: record for record in records}
        with self._db.begin() as connection:
            connection.execute(self._db.insert_new(embeddings), waiting)
            ids = _open_texts(connection, space_id, list(by_sha))
            if not ids:
                return 0
            connection.execute(
                self._db.insert_new(vectors),
                [{"embedding_id": row_id, "vector": by_sha[sha].vector} for sha, row_id in ids.items()],
            )
            connection.execute(
                update(embeddings)
                .where(embeddings.c.id == bindparam("row"))
                .values(state="ready", error=None, next_at=None, tokens=bindparam("count")),
                [{"row": row_id, "count": by_sha[sha].tokens} for sha, row_id in ids.items()],
            )
            return len(ids)


def _sections(connection: Connection, used_by: Sequence[IndexRow] | None) -> Iterator[tuple[int, Section]]:
    """The spaces that have vectors, with their rows."""
    for row in connection.execute(select(spaces)).all():
        count = _count(connection, row.id, used_by)
        if count:
            yield (
                row.id,
                Section(
                    provider=row.provider,
                    model=row.model,
                    dimensions=row.dimensions,
                    task=row.task,
                    header_version=row.header_version,
                    vectors=count,
                ),
            )


def _open_texts(connection: Connection, space_id: int, shas: Sequence[str]) -> dict[str, int]:
    """Rows of those texts that have no vector, and for which none is being bought."""
    found: dict[str, int] = {}
    for some in slices(shas, SHAS_AT_ONCE):
        query = (
            select(embeddings.c.text_sha, embeddings.c.id)
            .where(
                embeddings.c.space_id == space_id,
                embeddings.c.text_sha.in_(some),
                embeddings.c.state.in_(("pending", "failed")),
            )
            .with_for_update()  # PostgreSQL; SQLite has locked the database already
        )
        found.update((row.text_sha, row.id) for row in connection.execute(query))
    return found


def _records(connection: Connection, space_id: int, used_by: Sequence[IndexRow] | None) -> Iterator[Record]:
    # By the unique index of space and text: sorted in memory, all vectors would be in memory.
    query = (
        select(embeddings.c.text_sha, embeddings.c.tokens, vectors.c.vector)
        .join(vectors, vectors.c.embedding_id == embeddings.c.id)
        .where(embeddings.c.space_id == space_id, _used(space_id, used_by))
        .order_by(embeddings.c.text_sha)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    for row in connection.execute(query):
        yield Record(sha=row.text_sha, vector=row.vector, tokens=row.tokens)


def _count(connection: Connection, space_id: int, used_by: Sequence[IndexRow] | None) -> int:
    query = (
        select(func.count())
        .select_from(embeddings)
        .join(vectors, vectors.c.embedding_id == embeddings.c.id)
        .where(embeddings.c.space_id == space_id, _used(space_id, used_by))
    )
    return connection.execute(query).scalar_one()


def _used(space_id: int, used_by: Sequence[IndexRow] | None) -> ColumnElement[bool]:
    """Whether a chunk of what these indexes have published has the text; nothing else when there are none."""
    if used_by is None:
        return true()
    texts = (
        select(chunks.c.text_sha)
        .join(files, files.c.source_id == chunks.c.source_id)
        .join(indexes, indexes.c.id == files.c.index_id)
        .where(
            indexes.c.id.in_([index.id for index in used_by if index.space_id == space_id]),
            live_at(indexes.c.generation),
            files.c.status == "indexed",
        )
    )
    return embeddings.c.text_sha.in_(texts)
