"""What search asks of the state database: chunks by id, by neighbourhood, and by words (BM25)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Float, Row, Select, and_, select, text

from codechunk.state.contents import live_at
from codechunk.state.database import Database
from codechunk.state.embeddings import STORED, Vectors, decode
from codechunk.state.tables import chunks, embeddings, files, indexes, sources, vectors

# Weights of the columns path, symbol and body of the lexical index: a name says more than a use of it. Tuned on the
# tuning set of `scripts/bench retrieval`; from 2, 2, 1 to 4, 8, 1 the figures differ by a hundredth.
BM25_WEIGHTS = (3.0, 6.0, 1.0)
IDS_PER_QUERY = 500
FEW_SOURCES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundChunk:
    """A chunk as search shows it."""

    source_id: int
    ordinal: int
    chunk_id: str
    path: str
    language: str
    kind: str
    symbol: str | None
    start_line: int
    end_line: int
    start_byte: int
    end_byte: int
    text: str
    tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which chunks a search may return. Empty sequences do not restrict."""

    languages: Sequence[str] = ()
    kinds: Sequence[str] = ()
    sources: frozenset[int] | None = None  # contents; None = all

    def passes(self, source_id: int) -> bool:
        """Whether a chunk of this content may be returned, as far as `sources` says."""
        return self.sources is None or source_id in self.sources

    def __bool__(self) -> bool:
        return bool(self.languages or self.kinds or self.sources is not None)


class Lookup:
    """Reading for search, always within one generation of one index."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def files(self, index_id: int, generation: int) -> list[tuple[str, int]]:
        """The indexed files, sorted: (path, content)."""
        query = (
            select(files.c.path, files.c.source_id)
            .where(files.c.index_id == index_id, live_at(generation), files.c.status == "indexed")
            .order_by(files.c.path)
        )
        with self._db.read() as connection:
            return [(row.path, row.source_id) for row in connection.execute(query)]

    def languages(self, index_id: int, generation: int) -> list[str]:
        """Languages that occur in the index, sorted."""
        query = (
            select(sources.c.language)
            .distinct()
            .join(files, files.c.source_id == sources.c.id)
            .where(files.c.index_id == index_id, live_at(generation), files.c.status == "indexed")
            .order_by(sources.c.language)
        )
        with self._db.read() as connection:
            return [language for language in connection.execute(query).scalars() if language]

    def chunks(self, index_id: int, generation: int, chunk_ids: Sequence[str], wanted: Filter) -> dict[str, FoundChunk]:
        """The chunks with these ids that the generation holds and the filter lets pass."""
        found: dict[str, FoundChunk] = {}
        with self._db.read() as connection:
            for start in range(0, len(chunk_ids), IDS_PER_QUERY):
                some = chunk_ids[start : start + IDS_PER_QUERY]
                query = _live(index_id, generation, wanted).where(chunks.c.chunk_id.in_(some))
                for row in connection.execute(query):
                    if wanted.passes(row.source_id):
                        found[row.chunk_id] = _found(row)
        return found

    def neighbours(self, source_id: int, first: int, last: int) -> list[FoundChunk]:
        """The chunks of one content with ordinals from `first` to `last`, in order."""
        query = (
            _columns()
            .where(chunks.c.source_id == source_id, chunks.c.ordinal.between(first, last))
            .order_by(chunks.c.ordinal)
        )
        with self._db.read() as connection:
            return [_found(row) for row in connection.execute(query)]

    def by_words(
        self, index_ids: Sequence[int], words: Sequence[str], wanted: Filter, *, limit: int
    ) -> list[tuple[int, str, float]]:
        """(index, chunk id, score) of the published chunks by BM25 over path, symbol and text, best first.

        Scores are positive and compare within one query only.

        Args:
            index_ids: a chunk that several of them hold counts once, for the first of them.
            words: as `codechunk.text.words.query_words` gives them; a chunk matches when it has any of them.
        """
        if not words or not self._db.is_sqlite:
            return []
        match = " OR ".join('"' + word.replace('"', '""') + '"' for word in words)
        matched = (
            text(
                "SELECT rowid AS row_id, bm25(chunk_words, :w0, :w1, :w2) AS score FROM chunk_words "
                "WHERE chunk_words MATCH :match"
            )
            .bindparams(match=match, w0=BM25_WEIGHTS[0], w1=BM25_WEIGHTS[1], w2=BM25_WEIGHTS[2])
            .columns(row_id=chunks.c.id.type, score=Float())
            .subquery("matched")
        )
        order = {index_id: number for number, index_id in enumerate(index_ids)}
        query = (
            select(chunks.c.chunk_id, chunks.c.source_id, files.c.index_id, matched.c.score)
            .select_from(matched)
            .join(chunks, chunks.c.id == matched.c.row_id)
            .join(files, files.c.source_id == chunks.c.source_id)
            .join(indexes, indexes.c.id == files.c.index_id)
            .join(sources, sources.c.id == chunks.c.source_id)
            .where(files.c.index_id.in_(index_ids), live_at(indexes.c.generation), *conditions(wanted))
            .order_by(matched.c.score, chunks.c.chunk_id)
        )
        found: dict[str, tuple[int, float]] = {}
        with self._db.read() as connection:
            for row in connection.execution_options(yield_per=limit).execute(query):
                if not wanted.passes(row.source_id):
                    continue
                known, _ = found.setdefault(row.chunk_id, (row.index_id, -row.score))
                if order[row.index_id] < order[known]:
                    found[row.chunk_id] = (row.index_id, -row.score)
                if len(found) > limit:
                    break
        return [(index_id, chunk_id, score) for chunk_id, (index_id, score) in found.items()][:limit]

    def vectors_of(self, index_id: int, space_id: int, chunk_ids: Sequence[str]) -> dict[str, Vectors]:
        """The stored vectors of chunks of the published generation, by chunk id."""
        query = (
            select(chunks.c.chunk_id, vectors.c.vector)
            .join(files, files.c.source_id == chunks.c.source_id)
            .join(indexes, indexes.c.id == files.c.index_id)
            .join(
                embeddings,
                and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == space_id),
            )
            .join(vectors, vectors.c.embedding_id == embeddings.c.id)
            .where(files.c.index_id == index_id, live_at(indexes.c.generation), chunks.c.chunk_id.in_(chunk_ids))
        )
        if not chunk_ids:
            return {}
        with self._db.read() as connection:
            return {row.chunk_id: decode([row.vector])[0] for row in connection.execute(query)}

    def vectors(
        self, index_id: int, space_id: int, generation: int, wanted: Filter, *, page: int = 4_096
    ) -> Iterator[tuple[list[str], NDArray[np.float16]]]:
        """All vectors of the chunks that the filter lets pass, as they are stored, in pages: (chunk ids, vectors)."""
        query = (
            select(chunks.c.chunk_id, chunks.c.source_id, vectors.c.vector)
            .join(files, files.c.source_id == chunks.c.source_id)
            .join(
                embeddings,
                and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == space_id),
            )
            .join(vectors, vectors.c.embedding_id == embeddings.c.id)
            .where(files.c.index_id == index_id, live_at(generation), *conditions(wanted))
        )
        if wanted.languages:
            query = query.join(sources, sources.c.id == chunks.c.source_id)
        with self._db.read() as connection:
            for rows in connection.execution_options(yield_per=page).execute(query).partitions():
                passing = [row for row in rows if wanted.passes(row.source_id)]
                if passing:
                    flat = np.frombuffer(b"".join(row.vector for row in passing), dtype=STORED)
                    yield [row.chunk_id for row in passing], flat.reshape(len(passing), -1)


def conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    """The filter as conditions on the tables chunks and sources.

    Contents are among them only when they are few; the caller asks `passes` for every row anyway.
    """
    parts: list[ColumnElement[bool]] = []
    if wanted.languages:
        parts.append(sources.c.language.in_(wanted.languages))
    if wanted.kinds:
        parts.append(chunks.c.kind.in_(wanted.kinds))
    if wanted.sources is not None and len(wanted.sources) <= FEW_SOURCES:
        parts.append(chunks.c.source_id.in_(wanted.sources))
    return parts


def _columns() -> Select[tuple[object, ...]]:
    return select(
        chunks.c.source_id,
        chunks.c.ordinal,
        chunks.c.chunk_id,
        sources.c.path,
        sources.c.language,
        chunks.c.kind,
        chunks.c.symbol,
        chunks.c.start_line,
        chunks.c.end_line,
        chunks.c.start_byte,
        chunks.c.end_byte,
        chunks.c.text,
        chunks.c.tokens,
    ).join(sources, sources.c.id == chunks.c.source_id)


def _live(index_id: int, generation: int, wanted: Filter) -> Select[tuple[object, ...]]:
    return (
        _columns()
        .join(files, files.c.source_id == chunks.c.source_id)
        .where(files.c.index_id == index_id, live_at(generation), *conditions(wanted))
    )


def _found(row: Row[tuple[object, ...]]) -> FoundChunk:
    return FoundChunk(**row._mapping)
