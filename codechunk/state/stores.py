"""What each vector store holds a copy of. A store is a Chroma directory or a Chroma server, and many data directories
may share this database: so what one of them holds is written down beside its name, never beside the index alone.

Chroma gets the stored float16 values, so a rebuilt collection equals the first one bit for bit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    union,
    update,
)

from codechunk.state.contents import files_of
from codechunk.state.database import Database
from codechunk.state.embeddings import Vectors, decode
from codechunk.state.generation import Generation
from codechunk.state.tables import chunks, embeddings, files, index_chunks, index_stores, indexes, stores, vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Storable:
    """Chunks with their vectors, ready for a store: parallel lists, and `vectors` of shape (n, dimensions)."""

    chunk_ids: list[str]
    embedding_ids: list[int]
    vectors: Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """How far the copy of an index in a store is."""

    stamp: str | None
    """Look of the store when the copy was last sound; None: not known to be complete."""
    behind: bool
    """Searches were switched since by somebody who has another store."""

    @property
    def complete(self) -> bool:
        """Whether it is known to hold every vector of what is published."""
        return self.stamp is not None and not self.behind


class Stores:
    """Stores and their copies. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def open(self, identity: str, *, claims: bool, place: str | None = None) -> int:
        """The row of a store, made when it is new.

        Args:
            claims: take what a codechunk before this table wrote down of its only store, if nobody has yet.
            place: whereabouts of the data directory that has it; None when it may be that of many.
        """
        mine = select(stores.c.id).where(stores.c.identity == identity)
        with self._db.read() as connection:
            known: int | None = connection.execute(mine.where(stores.c.place.is_not_distinct_from(place))).scalar()
        if known is not None:
            return known
        with self._db.begin() as connection:
            if claims and connection.execute(mine).first() is None:
                unclaimed = select(func.min(stores.c.id)).where(stores.c.identity.is_(None)).scalar_subquery()
                connection.execute(
                    update(stores)
                    .where(stores.c.id == unclaimed, stores.c.identity.is_(None))
                    .values(identity=identity)
                )
            there = self._db.upsert(stores, key=["identity"], values=["place"])
            connection.execute(there.values(identity=identity, place=place))
            made: int = connection.execute(mine).scalar_one()
            return made

    def others(self, identity: str | None, *, place: str | None) -> list[int]:
        """The rows of all other stores than that one, sorted; with `place` only of those that were there.

        A row that nobody has claimed yet may be that one's, unless `identity` is None.
        """
        query = select(stores.c.id).order_by(stores.c.id)
        if identity is not None:
            query = query.where(stores.c.identity != identity)
        if place is not None:
            query = query.where(stores.c.place == place)
        with self._db.read() as connection:
            return list(connection.execute(query).scalars())

    def count_copies(self, store_ids: Sequence[int], index_ids: Sequence[int]) -> int:
        """How many copies of these indexes those stores are said to hold, or to have begun."""
        with self._db.read() as connection:
            return _count_copies(connection, store_ids, index_ids)

    def forget_copies(self, store_ids: Sequence[int], index_ids: Sequence[int]) -> int:
        """Forget all that these stores hold of those indexes. Returns of how many copies.

        The caller works on the indexes alone. A store that is used again is filled again, from the vectors.
        """
        with self._db.begin() as connection:
            found = _count_copies(connection, store_ids, index_ids)
            for table in (index_chunks, index_stores):
                connection.execute(
                    delete(table).where(table.c.store_id.in_(store_ids), table.c.index_id.in_(index_ids))
                )
            return found

    def forget_lost(self, store_ids: Sequence[int], *, like: str) -> None:
        """Forget stores without copies that nobody can open again: those with a name of the kind of `like`.

        Such a name is kept in one place, which has `like` now.
        """
        kind = like.partition(" ")[0]
        with self._db.begin() as connection:
            connection.execute(
                delete(stores).where(
                    stores.c.id.in_(store_ids),
                    stores.c.identity.startswith(f"{kind} ", autoescape=True),
                    ~exists().where(index_chunks.c.store_id == stores.c.id),
                    ~exists().where(index_stores.c.store_id == stores.c.id),
                )
            )

    # ------------------------------------------------------------------ how far a copy is

    def copy(self, index_id: int, store_id: int) -> Copy:
        """The copy of an index in a store; one that was never made is behind."""
        query = (
            select(index_stores.c.stamp, index_stores.c.publication, indexes.c.publications)
            .join(indexes, indexes.c.id == index_stores.c.index_id)
            .where(index_stores.c.index_id == index_id, index_stores.c.store_id == store_id)
        )
        with self._db.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return Copy(stamp=None, behind=True)
        return Copy(stamp=row.stamp, behind=row.publication != row.publications)

    def complete(self, index_id: int, store_id: int, publication: int) -> None:
        """Record that a store holds every vector of a publication of the index."""
        statement = self._db.upsert(index_stores, key=["index_id", "store_id"], values=["publication"])
        with self._db.begin() as connection:
            connection.execute(statement.values(index_id=index_id, store_id=store_id, publication=publication))

    def follow(self, store_id: int, index_ids: Sequence[int], *, old: str | None, new: str | None) -> None:
        """Record what the store looks like now that it was used by a process of ours.

        Every copy that was sound under the look `old` is sound under `new`, and so are those of `index_ids`, which were
        just checked. Other looks mean that somebody else changed the store: those are checked when next used.
        """
        sound: ColumnElement[bool] = index_stores.c.index_id.in_(index_ids)
        if old is not None:
            sound = or_(sound, index_stores.c.stamp == old)
        with self._db.begin() as connection:
            connection.execute(update(index_stores).where(index_stores.c.store_id == store_id, sound).values(stamp=new))

    def forget(self, index_id: int, store_id: int) -> None:
        """Forget what the collection held: it was lost and is filled again from here.

        Until that has been done to the end, the copy is not known to be complete.
        """
        with self._db.begin() as connection:
            connection.execute(delete(index_chunks).where(*_copy(index_id, store_id)))
            connection.execute(
                self._db.insert_new(index_stores).values(index_id=index_id, store_id=store_id, publication=0)
            )
            connection.execute(
                update(index_stores)
                .where(index_stores.c.index_id == index_id, index_stores.c.store_id == store_id)
                .values(stamp=None, publication=0)
            )

    # ------------------------------------------------------------------ what it holds

    def storable(self, index_id: int, space_id: int, source_ids: Sequence[int], *, store_id: int) -> Storable | None:
        """Chunks of these contents whose vector is ready and not in the index's collection yet."""
        held = and_(*_copy(index_id, store_id), index_chunks.c.chunk_id == chunks.c.chunk_id)
        query = (
            select(chunks.c.chunk_id, embeddings.c.id, vectors.c.vector)
            .select_from(chunks)
            .join(
                embeddings,
                and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == space_id),
            )
            .join(vectors, vectors.c.embedding_id == embeddings.c.id)
            .outerjoin(index_chunks, held)
            .where(
                chunks.c.source_id.in_(source_ids),
                or_(index_chunks.c.chunk_id.is_(None), index_chunks.c.embedding_id != embeddings.c.id),
            )
            .order_by(chunks.c.id)
        )
        with self._db.read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return None
        return Storable(
            chunk_ids=[row.chunk_id for row in rows],
            embedding_ids=[row.id for row in rows],
            vectors=decode([row.vector for row in rows]),
        )

    def mark_stored(
        self, index_id: int, chunk_ids: Sequence[str], embedding_ids: Sequence[int], *, store_id: int
    ) -> None:
        """Record what was upserted into the collection. Call after the upsert, never before."""
        rows = [
            {"index_id": index_id, "store_id": store_id, "chunk_id": chunk_id, "embedding_id": embedding_id}
            for chunk_id, embedding_id in zip(chunk_ids, embedding_ids, strict=True)
        ]
        statement = self._db.upsert(index_chunks, key=["index_id", "store_id", "chunk_id"], values=["embedding_id"])
        with self._db.begin() as connection:
            connection.execute(statement, rows)

    def mark_deleted(self, index_id: int, chunk_ids: Sequence[str], *, store_id: int) -> None:
        """Record what was deleted from the collection. Call after the deletion."""
        statement = delete(index_chunks).where(
            *_copy(index_id, store_id), index_chunks.c.chunk_id == bindparam("chunk")
        )
        with self._db.begin() as connection:
            connection.execute(statement, [{"chunk": chunk_id} for chunk_id in chunk_ids])

    def held(self, index_id: int, store_id: int) -> int:
        """How many chunks the collection should hold."""
        with self._db.read() as connection:
            return connection.execute(
                select(func.count()).select_from(index_chunks).where(*_copy(index_id, store_id))
            ).scalar_one()

    def left_over(self, generation: Generation, *, store_id: int) -> list[str]:
        """Chunk ids that the store holds and the generation does not, sorted.

        For a store that is behind: the files that had them may be swept already. Looks at all it holds.
        """
        live = (
            exists()
            .where(chunks.c.chunk_id == index_chunks.c.chunk_id)
            .where(files.c.source_id == chunks.c.source_id, files_of(generation))
        )
        query = select(index_chunks.c.chunk_id).where(*_copy(generation.index_id, store_id), ~live)
        with self._db.read() as connection:
            return list(connection.execute(query.order_by(index_chunks.c.chunk_id)).scalars())

    def probes(self, index_id: int, store_id: int, count: int) -> list[tuple[str, Vectors]]:
        """A spread sample of what the collection should hold: chunk ids with their vectors."""
        mine = _copy(index_id, store_id)
        bounds = select(func.min(index_chunks.c.chunk_id), func.max(index_chunks.c.chunk_id)).where(*mine)
        found: dict[str, Vectors] = {}
        with self._db.read() as connection:
            low, high = connection.execute(bounds).one()
            if low is None:
                return []
            # chunk ids are hashes: evenly spaced keys give a spread sample, and the index finds each at once
            first, last = int(low, 16), int(high, 16)
            for step in range(count):
                key = f"{first + (last - first) * step // max(1, count - 1):032x}"
                row = connection.execute(
                    _with_vectors(*mine, index_chunks.c.chunk_id >= key).order_by(index_chunks.c.chunk_id).limit(1)
                ).first()
                if row is not None:
                    found[row.chunk_id] = decode([row.vector])[0]
        return list(found.items())

    def held_vectors(self, index_id: int, store_id: int, *, page: int = 2_000) -> Iterator[list[tuple[str, Vectors]]]:
        """All that the collection should hold, page by page: chunk ids with their vectors."""
        after = ""
        while True:
            mine = (*_copy(index_id, store_id), index_chunks.c.chunk_id > after)
            with self._db.read() as connection:
                rows = connection.execute(_with_vectors(*mine).order_by(index_chunks.c.chunk_id).limit(page)).all()
            if not rows:
                return
            after = rows[-1].chunk_id
            yield list(zip([row.chunk_id for row in rows], decode([row.vector for row in rows]), strict=True))


def _count_copies(connection: Connection, store_ids: Sequence[int], index_ids: Sequence[int]) -> int:
    pairs = union(
        *(
            select(table.c.index_id, table.c.store_id).where(
                table.c.store_id.in_(store_ids), table.c.index_id.in_(index_ids)
            )
            for table in (index_chunks, index_stores)
        )
    ).subquery()
    return connection.execute(select(func.count()).select_from(pairs)).scalar_one()


def _copy(index_id: int, store_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return index_chunks.c.index_id == index_id, index_chunks.c.store_id == store_id


def _with_vectors(*where: ColumnElement[bool]) -> Select[tuple[str, bytes]]:
    return (
        select(index_chunks.c.chunk_id, vectors.c.vector)
        .join(vectors, vectors.c.embedding_id == index_chunks.c.embedding_id)
        .where(*where)
    )
