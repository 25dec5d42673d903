"""The vector stores that there are, each with a way to put vectors in: what a conformance suite needs of them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from sqlalchemy import Row, delete, insert, select, update

from codechunk.state import Generation, Space, State
from codechunk.state.tables import chunks, embeddings, files, indexes, sources, vectors
from codechunk.vectors import Backend, Collection
from codechunk.vectors.arrays import Vectors
from codechunk.vectors.chroma import ChromaDirectory, ChromaServer
from codechunk.vectors.exact import Exact
from codechunk.workspace.state_rows import StateRows

DIMENSIONS = 96


class Shelf(Protocol):
    """A store that is to conform, opened again and again."""

    backend: Backend

    def name(self, short: str) -> str:
        """What a collection is called in this store."""
        ...

    def put(self, collection: Collection, ids: Sequence[str], values: Vectors) -> None:
        """What the product does with vectors that are new: first the state database, then the store."""
        ...

    def take_out(self, collection: Collection, ids: Sequence[str]) -> None:
        """What the product does with chunks that are gone."""
        ...

    def drop(self, short: str) -> None:
        """What the product does with an index that is gone."""
        ...


class ChromaShelf:
    """Chroma, embedded or a server: it has all it needs in itself."""

    def __init__(self, backend: ChromaDirectory | ChromaServer) -> None:
        self.backend = backend

    def name(self, short: str) -> str:
        return f"codechunk-{short}"

    def put(self, collection: Collection, ids: Sequence[str], values: Vectors) -> None:
        collection.upsert(ids, values)

    def take_out(self, collection: Collection, ids: Sequence[str]) -> None:
        collection.delete(ids)

    def drop(self, short: str) -> None:
        with self.backend.open(write=True) as store:
            store.drop(self.name(short))


class ExactShelf:
    """The rows of a real state database. A collection is a published index with one file of many chunks."""

    def __init__(self, folder: Path) -> None:
        self.state = State(folder / "state.db")
        self.backend: Backend = Exact(StateRows(lambda: self.state))
        self._made = 0

    def name(self, short: str) -> str:
        space = Space(provider="synthetic", model="m", dimensions=DIMENSIONS, task="t", header_version=1)
        return self.state.catalog.open_index(url="u", names=["n"], ref=short, space=space).collection

    def _publish(self, index: Row[Any]) -> None:
        first = Generation(index_id=index.id, space_id=index.space_id, number=1)
        self.state.catalog.publish(first, commit="c", fingerprint="f", whole=True)

    def put(self, collection: Collection, ids: Sequence[str], values: Vectors) -> None:
        name = collection.identity.rpartition("/")[2]
        with self.state.database.begin() as connection:
            index = connection.execute(select(indexes).where(indexes.c.collection == name)).one()
            where = select(files.c.source_id).where(files.c.index_id == index.id)
            source = (
                connection.execute(where).scalar()
                or connection.execute(
                    insert(sources)
                    .values(repository_id=index.repository_id, path=name, blob="b", fingerprint="f", status="chunked")
                    .returning(sources.c.id)
                ).scalar_one()
            )
            if connection.execute(where).first() is None:
                connection.execute(
                    insert(files).values(
                        index_id=index.id, path=name, blob="b", status="indexed", source_id=source, from_generation=1
                    )
                )
            known = set(connection.execute(select(chunks.c.chunk_id).where(chunks.c.source_id == source)).scalars())
            for id_, vector in zip(ids, values, strict=True):
                self._made += 1
                sha = hashlib.sha256(f"{id_} {self._made}".encode()).hexdigest()
                row = connection.execute(
                    insert(embeddings)
                    .values(space_id=index.space_id, text_sha=sha, state="ready", attempts=1)
                    .returning(embeddings.c.id)
                ).scalar_one()
                stored = vector.astype("<f2").tobytes()
                connection.execute(insert(vectors).values(embedding_id=row, vector=stored))
                if id_ in known:
                    mine = (chunks.c.source_id == source, chunks.c.chunk_id == id_)
                    connection.execute(update(chunks).where(*mine).values(text_sha=sha))
                else:
                    connection.execute(
                        insert(chunks).values(
                            source_id=source, ordinal=self._made, chunk_id=id_, kind="function", start_line=1,
                            end_line=1, start_byte=0, end_byte=1, header="", text="x", text_sha=sha,
                        )
                    )  # fmt: skip
        self._publish(index)
        collection.upsert(ids, values)

    def take_out(self, collection: Collection, ids: Sequence[str]) -> None:
        name = collection.identity.rpartition("/")[2]
        with self.state.database.begin() as connection:
            index = connection.execute(select(indexes).where(indexes.c.collection == name)).one()
            mine = select(files.c.source_id).where(files.c.index_id == index.id)
            connection.execute(delete(chunks).where(chunks.c.source_id.in_(mine), chunks.c.chunk_id.in_(ids)))
        self._publish(index)
        collection.delete(ids)

    def drop(self, short: str) -> None:
        name = self.name(short)
        with self.backend.open(write=True) as store:
            store.drop(name)
        index = self.state.catalog.by_collection(name)
        if index is not None:
            self.state.removal.drop_indexes([index.id])


def unit_vectors(count: int) -> Vectors:
    """Unit vectors in all directions, as float16 holds them: among ones that are alike, HNSW misses the nearest."""
    loose = np.random.default_rng(20261120).standard_normal((count, DIMENSIONS))
    unit = loose / np.linalg.norm(loose, axis=1, keepdims=True)
    return unit.astype(np.float16).astype(np.float32)
