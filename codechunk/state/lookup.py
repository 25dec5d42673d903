"""What search asks of the state database: chunks by id, by neighbourhood, and by words (BM25)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, select

from codechunk.state.contents import live_at
from codechunk.state.database import Database
from codechunk.state.embeddings import Vectors, decode
from codechunk.state.lexical import lexical_of
from codechunk.state.tables import chunks, embeddings, files, indexes, sources, vectors

IDS_PER_QUERY = 500
LONGEST_PAGE = 8_000  # matches looked up in one query; SQLite takes 32,766 parameters
FEW_SOURCES = 500
FILES_AT_ONCE = 2_000


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


class _Scored(NamedTuple):
    """A chunk of an index that has some of the words."""

    chunk_id: str
    index_id: int
    score: float


Match = tuple[int, float]


class Lookup:
    """Reading for search, always within one generation of one index."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lexical = lexical_of(database)

    def files(self, index_id: int, generation: int, *, containing: Sequence[str] = ()) -> Iterator[tuple[str, int]]:
        """The indexed files, in no order: (path, content).

        Args:
            containing: only files whose path has these texts one after the other. Upper and lower case may count as the
                same: the caller looks again.
        """
        query = select(files.c.path, files.c.source_id).where(
            files.c.index_id == index_id, live_at(generation), files.c.status == "indexed"
        )
        if containing:
            escaped = (re.sub(r"([%_\\])", r"\\\1", piece) for piece in containing)
            query = query.where(files.c.path.like(f"%{'%'.join(escaped)}%", escape="\\"))
        with self._db.read() as connection:
            for row in connection.execution_options(yield_per=FILES_AT_ONCE).execute(query):
                yield row.path, row.source_id

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
        if not words:
            return []
        order = {index_id: number for number, index_id in enumerate(index_ids)}
        found: dict[str, tuple[int, float]] = {}
        with self._db.read() as connection:
            matches = self._among(connection, wanted, self._lexical.matches(connection, words))
            for page in _pages(matches, first=2 * limit):
                for row in self._published(connection, index_ids, dict(page), wanted):
                    known, _ = found.setdefault(row.chunk_id, (row.index_id, row.score))
                    if order[row.index_id] < order[known]:
                        found[row.chunk_id] = (row.index_id, row.score)
                    if len(found) > limit:
                        break
                if len(found) > limit:
                    break
        return [(index_id, chunk_id, score) for chunk_id, (index_id, score) in found.items()][:limit]

    def _among(self, connection: Connection, wanted: Filter, matches: Iterator[Match]) -> Iterator[Match]:
        """The matches that a filter of few contents lets pass, before anything is joined."""
        if wanted.sources is None or len(wanted.sources) > FEW_SOURCES:
            return matches
        query = select(chunks.c.id).where(chunks.c.source_id.in_(wanted.sources))
        rows = set(connection.execute(query).scalars())
        return (match for match in matches if match[0] in rows) if rows else iter(())

    def _published(
        self, connection: Connection, index_ids: Sequence[int], scores: Mapping[int, float], wanted: Filter
    ) -> list[_Scored]:
        """Those chunk rows that one of the indexes has published, once for each of these, best first."""
        query = (
            select(chunks.c.id, chunks.c.chunk_id, chunks.c.source_id, files.c.index_id)
            .join(files, files.c.source_id == chunks.c.source_id)
            .join(indexes, indexes.c.id == files.c.index_id)
            .join(sources, sources.c.id == chunks.c.source_id)
            .where(files.c.index_id.in_(index_ids), live_at(indexes.c.generation), *conditions(wanted))
        )
        ids, found = list(scores), []
        for start in range(0, len(ids), LONGEST_PAGE):
            some = query.where(chunks.c.id.in_(ids[start : start + LONGEST_PAGE]))
            found += [
                _Scored(row.chunk_id, row.index_id, scores[row.id])
                for row in connection.execute(some)
                if wanted.passes(row.source_id)
            ]
        return sorted(found, key=lambda row: (-row.score, row.chunk_id))

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
    ) -> Iterator[tuple[list[str], Vectors]]:
        """All vectors of the chunks that the filter lets pass, page by page: (chunk ids, vectors)."""
        query = (
            select(chunks.c.chunk_id, chunks.c.source_id, vectors.c.vector)
            .join(files, files.c.source_id == chunks.c.source_id)
            .join(sources, sources.c.id == chunks.c.source_id)
            .join(
                embeddings,
                and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == space_id),
            )
            .join(vectors, vectors.c.embedding_id == embeddings.c.id)
            .where(files.c.index_id == index_id, live_at(generation), *conditions(wanted))
        )
        with self._db.read() as connection:
            for rows in connection.execution_options(yield_per=page).execute(query).partitions():
                passing = [row for row in rows if wanted.passes(row.source_id)]
                if passing:
                    yield [row.chunk_id for row in passing], decode([row.vector for row in passing])


def _pages(matches: Iterator[Match], *, first: int) -> Iterator[list[Match]]:
    """Matches in slices, each twice as long as the one before; none ends between two that have the same score.

    Whoever wants the best hundred mostly needs one slice, and a filter that few matches pass takes few queries.
    """
    page: list[Match] = []
    room = first
    for match in matches:
        if len(page) >= room and match[1] != page[-1][1]:
            yield page
            page, room = [], min(2 * room, LONGEST_PAGE)
        page.append(match)
    if page:
        yield page


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
