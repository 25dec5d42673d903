"""Texts and their vectors: what is still to be embedded, and what was.

Vectors are stored here before anything else sees them, as little-endian float16 (error below 0.0003 for unit
vectors, half the disk of float32: reliability.md, 1). Chroma gets the stored values, so a rebuilt collection
equals the first one bit for bit.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, and_, delete, func, literal, or_, select, union_all, update

from codechunk.slices import slices
from codechunk.state.catalog import Space
from codechunk.state.contents import files_of, live_at, sum_of_chunks
from codechunk.state.database import Database
from codechunk.state.generation import Generation
from codechunk.state.tables import batches, chunks, embeddings, files, index_chunks, spaces

Vectors = NDArray[np.float32]

STORED = np.dtype("<f2")
# SQLite joins at most 500 selects in one.
LEDGERS_AT_ONCE = 400
# Bytes per token of a text that was not counted, on the careful side: code has 3.4 to 4.4 (gemini-wire.md, 6).
CAREFUL_BYTES_PER_TOKEN = 3


def tokens_of_text() -> ColumnElement[int]:
    """The tokens of a text over the chunks that have it: our count, or a careful estimate where none was made."""
    return func.max(func.coalesce(chunks.c.tokens, func.length(chunks.c.text) / CAREFUL_BYTES_PER_TOKEN))


class Embeddings:
    """Embedding rows of a vector space. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def request(self, space_id: int, source_ids: Sequence[int], *, job_id: str | None = None) -> int:
        """Make a pending row for every text of these contents that has none, in order. Returns how many.

        Texts that wait already belong to the run `job_id` from now on, the last that asked for them; those that failed
        only because a person cancelled their batch job wait again.
        """
        order = {source_id: number for number, source_id in enumerate(source_ids)}
        missing = (
            select(chunks.c.text_sha, chunks.c.source_id, chunks.c.ordinal)
            .outerjoin(
                embeddings,
                and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == space_id),
            )
            .where(chunks.c.source_id.in_(source_ids), embeddings.c.id.is_(None))
        )
        with self._db.begin() as connection:
            found = sorted(connection.execute(missing).all(), key=lambda row: (order[row.source_id], row.ordinal))
            shas = dict.fromkeys(row.text_sha for row in found)
            if shas:
                connection.execute(
                    self._db.insert_new(embeddings),
                    [
                        {
                            "space_id": space_id,
                            "text_sha": sha,
                            "state": "pending",
                            "attempts": 0,
                            "error": None,
                            "job_id": job_id,
                        }
                        for sha in shas
                    ],
                )
            mine = select(chunks.c.text_sha).where(chunks.c.source_id.in_(source_ids))
            called_off = select(batches.c.id).where(batches.c.state == "cancelled")
            connection.execute(
                update(embeddings)
                .where(embeddings.c.space_id == space_id, embeddings.c.text_sha.in_(mine))
                .where(embeddings.c.state == "failed", embeddings.c.batch_id.in_(called_off))
                .values(state="pending", attempts=0, error=None, next_at=None, batch_id=None)
            )
            if job_id is not None:
                waits = embeddings.c.state.in_(("pending", "processing"))
                connection.execute(
                    update(embeddings)
                    .where(embeddings.c.space_id == space_id, embeddings.c.text_sha.in_(mine), waits)
                    .values(job_id=job_id)
                )
            return len(shas)

    def missing(self, space_id: int, source_ids: Sequence[int]) -> list[tuple[str, int]]:
        """(text_sha, tokens) of these contents' texts that were not sent yet: those without a row, and the pending.

        Tokens are our count, or a careful estimate where none was made.
        """
        query = (
            select(chunks.c.text_sha, tokens_of_text().label("tokens"))
            .outerjoin(
                embeddings,
                and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == space_id),
            )
            .where(
                chunks.c.source_id.in_(source_ids),
                or_(embeddings.c.id.is_(None), embeddings.c.state == "pending"),
            )
            .group_by(chunks.c.text_sha)
        )
        with self._db.read() as connection:
            return [(row.text_sha, int(row.tokens)) for row in connection.execute(query)]

    def lacking(self, generation: Generation) -> int:
        """How many texts of the generation have a row and no vector.

        Goes from the texts that are not ready to their chunks: it takes as long as they are many, not the repository.
        """
        # One inside the other: of a join, SQLite would read all files of the index again for each text.
        lives = select(files.c.id).where(
            files.c.source_id == chunks.c.source_id, files_of(generation), files.c.status == "indexed"
        )
        used = select(chunks.c.id).where(chunks.c.text_sha == embeddings.c.text_sha, lives.exists()).exists()
        waiting = and_(
            embeddings.c.space_id == generation.space_id,
            embeddings.c.state.in_(("pending", "processing", "failed")),
        )
        with self._db.read() as connection:
            return connection.execute(select(func.count()).select_from(embeddings).where(waiting, used)).scalar_one()

    def failures(self, generation: Generation, *, limit: int) -> list[tuple[str, str]]:
        """Chunks that failed for good: (path with first and last line, reason), in order of path."""
        query = (
            select(files.c.path, chunks.c.start_line, chunks.c.end_line, embeddings.c.error)
            .join(files, files.c.source_id == chunks.c.source_id)
            .join(
                embeddings,
                and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == generation.space_id),
            )
            .where(files_of(generation), embeddings.c.state == "failed")
            .order_by(files.c.path, chunks.c.ordinal)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [
                (f"{row.path}:{row.start_line}-{row.end_line}", row.error or "no reason recorded")
                for row in connection.execute(query)
            ]

    def states(self, space: Space, shas: Sequence[str]) -> dict[str, str]:
        """The states of those of these texts that the space knows: pending, processing, ready or failed."""
        query = (
            select(embeddings.c.text_sha, embeddings.c.state)
            .join(spaces, spaces.c.id == embeddings.c.space_id)
            .where(
                spaces.c.provider == space.provider,
                spaces.c.model == space.model,
                spaces.c.dimensions == space.dimensions,
                spaces.c.task == space.task,
                spaces.c.header_version == space.header_version,
                embeddings.c.text_sha.in_(shas),
            )
        )
        with self._db.read() as connection:
            return {row.text_sha: row.state for row in connection.execute(query)}

    def drop_unwanted(self, space_id: int) -> None:
        """Forget texts that wait for a vector although no chunk has them any more."""
        wanted = select(chunks.c.id).where(chunks.c.text_sha == embeddings.c.text_sha).exists()
        with self._db.begin() as connection:
            connection.execute(
                delete(embeddings).where(embeddings.c.space_id == space_id, embeddings.c.state == "pending", ~wanted)
            )

    def ledger(
        self, generation: Generation, *, store_id: int | None = None, rest_is_ready: bool = False
    ) -> dict[str, int]:
        """How many chunks of the generation are in each state: pending, processing, ready, failed, unstored.

        `unstored` are those whose vector is ready but not in the store, or another vector is.

        Args:
            store_id: the store that is to hold a copy of each vector; None: no store is asked about, `unstored` is 0.
            rest_is_ready: only files that this generation brings in are looked at; the chunks of the others are known
                to be ready and stored, so that this takes as long as the change is large, not the repository.
        """
        held = and_(
            index_chunks.c.index_id == generation.index_id,
            index_chunks.c.store_id == store_id,
            index_chunks.c.chunk_id == chunks.c.chunk_id,
        )
        state = func.coalesce(embeddings.c.state, literal("pending"))
        missing = or_(index_chunks.c.chunk_id.is_(None), index_chunks.c.embedding_id != embeddings.c.id)
        unstored = and_(embeddings.c.state == "ready", missing)
        lost = literal(0) if store_id is None else func.count().filter(unstored)
        query = (
            select(state.label("state"), func.count().label("n"), lost.label("unstored"))
            .select_from(chunks)
            .join(files, files.c.source_id == chunks.c.source_id)
            .outerjoin(
                embeddings,
                and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == generation.space_id),
            )
            .where(files_of(generation), files.c.status == "indexed")
            .group_by(state)
        )
        if store_id is not None:
            query = query.outerjoin(index_chunks, held)
        counts = {"pending": 0, "processing": 0, "ready": 0, "failed": 0, "unstored": 0}
        with self._db.read() as connection:
            if rest_is_ready:
                kept = (files_of(generation), files.c.from_generation != generation.number, files.c.status == "indexed")
                counts["ready"] = sum_of_chunks(connection, *kept)
                query = query.where(files.c.from_generation == generation.number)
            for row in connection.execute(query):
                counts[row.state] += row.n
                counts["unstored"] += row.unstored
        return counts

    def ledgers(self, generations: Sequence[Generation]) -> dict[Generation, dict[str, int]]:
        """The ledger of each of these generations, all with one query; no store is asked about."""
        found = {one: {"pending": 0, "processing": 0, "ready": 0, "failed": 0, "unstored": 0} for one in generations}
        with self._db.read() as connection:
            for some in slices(list(found), LEDGERS_AT_ONCE):
                for row in connection.execute(_ledgers(some)):
                    found[some[row.place]][row.state] += row.n
        return found


def _ledgers(generations: Sequence[Generation]) -> Select[tuple[int, str, int]]:
    wanted = union_all(
        *(
            select(
                literal(place).label("place"),
                literal(one.index_id).label("index_id"),
                literal(one.space_id).label("space_id"),
                literal(one.number).label("number"),
            )
            for place, one in enumerate(generations)
        )
    ).subquery("wanted")
    state = func.coalesce(embeddings.c.state, literal("pending"))
    return (
        select(wanted.c.place, state.label("state"), func.count().label("n"))
        .select_from(wanted)
        .join(files, and_(files.c.index_id == wanted.c.index_id, live_at(wanted.c.number)))
        .join(chunks, chunks.c.source_id == files.c.source_id)
        .outerjoin(
            embeddings,
            and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == wanted.c.space_id),
        )
        .where(files.c.status == "indexed")
        .group_by(wanted.c.place, state)
    )


def decode(stored: Sequence[bytes]) -> Vectors:
    """Stored vectors as float32, shape (n, dimensions)."""
    flat = np.frombuffer(b"".join(stored), dtype=STORED)
    return flat.reshape(len(stored), -1).astype(np.float32)
