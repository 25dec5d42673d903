"""What leaves the state database: an index with all that is only its own, and what nothing refers to any more.

A vector is never among it unless a method says so in its name. Deletions go page by page where they may be long, so
that other writers wait for moments only.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    true,
    update,
)

from codechunk.errors import StateError
from codechunk.state.catalog import SOURCES_AT_ONCE, IndexRow
from codechunk.state.contents import delete_chunks
from codechunk.state.database import Database
from codechunk.state.embeddings import STORED
from codechunk.state.generation import Generation
from codechunk.state.lexical import compact_words, lexical_of
from codechunk.state.questions import OVER
from codechunk.state.tables import (
    batches,
    chunks,
    embeddings,
    files,
    index_chunks,
    index_stores,
    indexes,
    jobs,
    repositories,
    sources,
    spaces,
    vectors,
)

VECTORS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a look at every repository decided: rows of indexes and repositories."""

    whole: Sequence[int] = ()
    """Indexes that go as a whole: never published, and nobody will."""
    abandoned: Sequence[int] = ()
    """Indexes whose next generation goes: nobody has gone on with it for long."""
    left: Sequence[int] = ()
    """Repositories of which nothing is touched: a process works on them."""
    unfinished: Sequence[int] = ()
    """Repositories whose contents without a file are kept: a run that may be taken up again has cut them."""
    stores: Sequence[int] = ()
    """Stores that are not used any more: what they held is forgotten, except of the repositories `left`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """How much would go. `text_bytes` and `vector_bytes` are their own sizes, without those of rows and indexes."""

    files: int
    contents: int
    chunks: int
    text_bytes: int
    texts: int
    vectors: int
    tokens: int
    """Of the vectors: what the provider counted when they were bought, as far as it told."""
    vector_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How many rows a step took, and where the next one begins."""

    contents: int = 0
    chunks: int = 0
    vectors: int = 0
    tokens: int = 0
    last: int = 0


class Removal:
    """Deletions. Every method is one transaction, except `compact`, which must not be in one."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lexical = lexical_of(database)

    # ------------------------------------------------------------------ indexes and repositories

    def drop_indexes(self, index_ids: Sequence[int]) -> int:
        """Take indexes out with their files, runs and the record of what stores hold. Returns how many files.

        Searches lose them from one moment to the next. Their contents stay until `drop_contents`.
        """
        with self._db.begin() as connection:
            gone = connection.execute(delete(files).where(files.c.index_id.in_(index_ids))).rowcount
            connection.execute(delete(index_chunks).where(index_chunks.c.index_id.in_(index_ids)))
            connection.execute(delete(index_stores).where(index_stores.c.index_id.in_(index_ids)))
            connection.execute(delete(jobs).where(jobs.c.index_id.in_(index_ids)))
            connection.execute(delete(indexes).where(indexes.c.id.in_(index_ids)))
            return gone

    def drop_repository(self, repository_id: int) -> bool:
        """Forget a repository that has neither an index nor contents. Returns whether it went."""
        with self._db.begin() as connection:
            empty = (
                repositories.c.id == repository_id,
                ~exists().where(indexes.c.repository_id == repositories.c.id),
                ~exists().where(sources.c.repository_id == repositories.c.id),
            )
            return bool(connection.execute(delete(repositories).where(*empty)).rowcount)

    # ------------------------------------------------------------------ runs that nobody goes on with

    def unfinished(self, repository_id: int, *, since: float) -> set[int]:
        """Indexes of the repository with a run that is not over and was begun after `since` (seconds since 1970)."""
        query = (
            select(jobs.c.index_id)
            .join(indexes, indexes.c.id == jobs.c.index_id)
            .where(indexes.c.repository_id == repository_id, jobs.c.status.not_in(OVER), jobs.c.started_at >= since)
        )
        with self._db.read() as connection:
            return set(connection.execute(query).scalars())

    def end_runs(self, index: IndexRow, why: str) -> None:
        """End the runs that were to publish the next generation: its files are about to go.

        A run that waits for failed texts of the published generation goes on.
        """
        mine = and_(jobs.c.index_id == index.id, jobs.c.status.not_in(OVER))
        with self._db.begin() as connection:
            for row in connection.execute(select(jobs.c.id, jobs.c.plan).where(mine)).all():
                if row.plan is None or json.loads(row.plan)["generation"] > index.published.number:
                    ended = {"status": "cancelled", "error": why, "plan": None}
                    connection.execute(
                        update(jobs)
                        .where(jobs.c.id == row.id)
                        .values(**ended, finished_at=func.coalesce(jobs.c.finished_at, jobs.c.started_at))
                    )

    def sweep_files(self, generation: Generation) -> int:
        """Forget the files that ended before or with `generation`; their contents stay. Returns how many."""
        with self._db.begin() as connection:
            return connection.execute(
                delete(files).where(files.c.index_id == generation.index_id, files.c.to_generation <= generation.number)
            ).rowcount

    # ------------------------------------------------------------------ contents, texts, vectors

    def drop_contents(self, repository_id: int, *, after: int) -> Swept | None:
        """Forget a page of the repository's contents, from row `after` on, that no file refers to. None: no more."""
        unused = ~exists().where(files.c.source_id == sources.c.id)
        query = (
            select(sources.c.id)
            .where(sources.c.repository_id == repository_id, sources.c.id > after, unused)
            .order_by(sources.c.id)
            .limit(SOURCES_AT_ONCE)
        )
        with self._db.begin() as connection:
            found = connection.execute(query).scalars().all()
            if not found:
                return None
            cut = connection.execute(select(func.count()).where(chunks.c.source_id.in_(found))).scalar_one()
            delete_chunks(self._lexical, connection, found)
            connection.execute(delete(sources).where(sources.c.id.in_(found)))
            return Swept(contents=len(found), chunks=cut, last=found[-1])

    def drop_texts(self) -> int:
        """Forget texts that wait or have failed and that no chunk has any more. Returns how many.

        Those in work stay: what is paid for comes back as a vector.
        """
        with self._db.begin() as connection:
            return connection.execute(
                delete(embeddings).where(embeddings.c.state.in_(_UNPAID), ~exists().where(_has_text))
            ).rowcount

    def unused_vectors(self) -> tuple[int, int]:
        """(vectors whose text no chunk has, the provider's count of their tokens): the cache."""
        query = select(func.count(), func.coalesce(func.sum(embeddings.c.tokens), 0)).where(*_unused_vector())
        with self._db.read() as connection:
            row = connection.execute(query).one()
            return int(row[0]), int(row[1])

    def drop_unused_vectors(self, *, after: int) -> Swept | None:
        """Forget a page of vectors, from text row `after` on, whose text no chunk has. None: no more.

        They were paid for, and their texts are bought again when a chunk has them again.
        """
        query = (
            select(embeddings.c.id, embeddings.c.tokens, embeddings.c.batch_id, embeddings.c.paid)
            .where(embeddings.c.id > after, *_unused_vector())
            .order_by(embeddings.c.id)
            .limit(VECTORS_AT_ONCE)
        )
        with self._db.begin() as connection:
            rows = connection.execute(query).all()
            if not rows:
                return None
            ids = [row.id for row in rows]
            connection.execute(delete(vectors).where(vectors.c.embedding_id.in_(ids)))
            connection.execute(delete(embeddings).where(embeddings.c.id.in_(ids)))
            self._forget_bought(connection, [row.batch_id for row in rows if row.paid == "batch"])
            return Swept(vectors=len(rows), tokens=sum(row.tokens or 0 for row in rows), last=ids[-1])

    @staticmethod
    def _forget_bought(connection: Connection, batch_ids: Sequence[str]) -> None:
        """Batch jobs brought so many vectors less, or `doctor` would take the missing ones for bought twice."""
        if batch_ids:
            fewer = update(batches).where(batches.c.id == bindparam("batch"))
            connection.execute(
                fewer.values(rows_ok=batches.c.rows_ok - bindparam("gone")),
                [{"batch": batch_id, "gone": gone} for batch_id, gone in Counter(batch_ids).items()],
            )

    # ------------------------------------------------------------------ what would go

    def garbage(self, survey: Survey) -> Garbage:
        """How much goes when everything the survey names is removed, and then what nothing refers to."""
        file_goes = _file_goes(survey)
        kept = select(files.c.id).join(indexes, indexes.c.id == files.c.index_id).where(~file_goes)
        content_goes = and_(
            sources.c.repository_id.not_in([*survey.left, *survey.unfinished]),
            ~kept.where(files.c.source_id == sources.c.id).exists(),
        )
        goes = chunks.join(sources, sources.c.id == chunks.c.source_id)
        # Where no content goes, a chunk is enough; else it has to be one that stays.
        stays = exists().where(_has_text)
        lasting = select(chunks.c.id).select_from(goes).where(_has_text, ~content_goes).exists()
        waiting = embeddings.c.state.in_(_UNPAID)
        size = func.length(chunks.c.text) + func.length(chunks.c.header)
        with self._db.read() as connection:
            contents = _number(connection, select(func.count()).select_from(sources).where(content_goes))
            wanted = lasting if contents else stays
            cut = connection.execute(
                select(func.count(), func.coalesce(func.sum(size), 0)).select_from(goes).where(content_goes)
            ).one()
            unused = connection.execute(
                select(
                    func.count(),
                    func.coalesce(func.sum(embeddings.c.tokens), 0),
                    func.coalesce(func.sum(spaces.c.dimensions), 0),
                )
                .select_from(embeddings.join(spaces, spaces.c.id == embeddings.c.space_id))
                .where(*_unused_vector(wanted, _copy_stays(survey)))
            ).one()
            return Garbage(
                files=_number(
                    connection,
                    select(func.count())
                    .select_from(files.join(indexes, indexes.c.id == files.c.index_id))
                    .where(file_goes),
                ),
                contents=contents,
                chunks=int(cut[0]),
                text_bytes=int(cut[1]),
                texts=_number(connection, select(func.count()).select_from(embeddings).where(waiting, ~wanted)),
                vectors=int(unused[0]),
                tokens=int(unused[1]),
                vector_bytes=int(unused[2]) * STORED.itemsize,
            )

    # ------------------------------------------------------------------ space on the disk

    def pages(self) -> tuple[int, int] | None:
        """(size of the database file in bytes, how much of it is free); None where a server sees to it."""
        if not self._db.is_sqlite:
            return None
        with self._db.read() as connection:
            size, count, free = (
                int(connection.execute(text(f"PRAGMA {name}")).scalar_one())
                for name in ("page_size", "page_count", "freelist_count")
            )
            return size * count, size * free

    def compact(self) -> None:
        """Give the free pages of a SQLite file back to the disk. Needs twice the room of what is in use.

        Raises:
            StateError: another process writes at this moment, or the disk is full; nothing was changed.
        """
        with self._db.engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - the caller asked `pages`
            waited = driver.execute("PRAGMA busy_timeout").fetchone()[0]
            driver.execute("PRAGMA busy_timeout=0")
            driver.execute("PRAGMA temp_store=FILE")  # VACUUM makes a copy, which may be larger than the memory
            try:
                compact_words(driver)
                driver.execute("VACUUM")
                driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as exc:
                raise StateError(
                    f"the free space inside the state database stays there ({exc})", kind="environment"
                ) from exc
            finally:
                driver.execute("PRAGMA temp_store=MEMORY")
                driver.execute(f"PRAGMA busy_timeout={waited}")


_UNPAID = ("pending", "failed")
_has_text = chunks.c.text_sha == embeddings.c.text_sha


def _number(connection: Connection, query: Select[Any]) -> int:
    return int(connection.execute(query).scalar_one())


def _unused_vector(
    wanted: ColumnElement[bool] | None = None, copy_stays: ColumnElement[bool] | None = None
) -> tuple[ColumnElement[bool], ...]:
    """Vectors whose text no chunk has, and that no store is said to hold, of what `copy_stays` says of it."""
    wanted = exists().where(_has_text) if wanted is None else wanted
    held = exists().where(index_chunks.c.embedding_id == embeddings.c.id, true() if copy_stays is None else copy_stays)
    return embeddings.c.state == "ready", ~wanted, ~held


def _copy_stays(survey: Survey) -> ColumnElement[bool]:
    """Whether a row of `index_chunks` stays: not of an index that is emptied, not of a store that is forgotten."""
    left = select(indexes.c.id).where(indexes.c.repository_id.in_(survey.left))
    return and_(
        index_chunks.c.index_id.not_in([*survey.whole, *survey.abandoned]),
        or_(index_chunks.c.store_id.not_in(survey.stores), index_chunks.c.index_id.in_(left)),
    )


def _file_goes(survey: Survey) -> ColumnElement[bool]:
    """Whether a row of `files`, joined to its index, goes."""
    ended = and_(files.c.to_generation.is_not(None), files.c.to_generation <= indexes.c.generation)
    beyond = and_(files.c.index_id.in_(survey.abandoned), files.c.from_generation > indexes.c.generation)
    return and_(indexes.c.repository_id.not_in(survey.left), or_(files.c.index_id.in_(survey.whole), ended, beyond))
