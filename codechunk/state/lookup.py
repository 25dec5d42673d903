"""What search asks of the state database: chunks by id, by neighbourhood, and by words (BM25)."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, or_, select, true

from codechunk.slices import slices
from codechunk.state.contents import files_of, live_at
from codechunk.state.database import Database
from codechunk.state.embeddings import STORED, Vectors, decode
from codechunk.state.generation import Generation
from codechunk.state.lexical import Rows, lexical_of
from codechunk.state.tables import chunks, embeddings, files, indexes, sources, vectors

IDS_PER_QUERY = 500
# Matches looked up for each chunk that is wanted: several refs hold the same chunk, and contents that nobody refers to
# any more match too.
MATCHES_PER_CHUNK = 3
# The same among the words of every index: enough for one that has a tenth of all chunks.
MATCHES_OF_ALL = 10
FEW_SOURCES = 500
# Symbols with one word of a name that are read to find the name itself; hundreds have "get".
SYMBOLS_LOOKED_AT = 5_000
# Files of an index whose chunks are looked at in some hundredths of a second, before a search by words begins.
FEW_FILES = 2_000
FILES_AT_ONCE = 2_000
# With a filter so many times as many matches are looked at.
MORE_MATCHES = 10

# Whether a file may be returned, by its path and language.
Passing = Callable[[str, str], bool]


class FoundChunk(NamedTuple):
    """A chunk as search shows it; `file_characters` are those of all chunks of its file."""

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
    file_characters: int


class Entry(NamedTuple):
    """A file of an indexed tree: indexed, skipped or failed, why, and its language when it was read."""

    status: str
    reason: str | None
    language: str | None


class OutlinedChunk(NamedTuple):
    """What deciding about a chunk takes, without its text; `row` is its row in the table."""

    row: int
    source_id: int
    ordinal: int
    symbol: str | None
    tokens: int | None
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which chunks a search may return. Empty sequences do not restrict.

    Attributes:
        passing: whether a file may be returned. Only files of chunks that were found are asked about, as long as enough
            of them pass; None: all.
        pieces: what is known beforehand of the paths that pass: each contains the texts of one of these sequences, one
            after the other. None: nothing is known.
        sources: contents; None: all.
        absent_from: only chunks whose id this generation has not; None: all.
    """

    languages: Sequence[str] = ()
    kinds: Sequence[str] = ()
    passing: Passing | None = None
    pieces: Sequence[Sequence[str]] = ()
    sources: frozenset[int] | None = None
    absent_from: Generation | None = None

    def passes(self, source_id: int, path: str, language: str) -> bool:
        """Whether a chunk of this content may be returned, as far as `passing` and `sources` say."""
        if self.sources is not None and source_id not in self.sources:
            return False
        return self.passing is None or self.passing(path, language)

    def __bool__(self) -> bool:
        more = (self.passing, self.sources, self.absent_from)
        return bool(self.languages or self.kinds) or any(part is not None for part in more)


NO_FILTER = Filter()


class _Scored(NamedTuple):
    """A chunk of an index that has some of the words."""

    chunk_id: str
    index_id: int
    score: float


class Lookup:
    """Reading for search, always within one generation of one index."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lexical = lexical_of(database)

    def files(self, generation: Generation, *, containing: Sequence[str] = ()) -> Iterator[tuple[str, int]]:
        """The indexed files, in no order: (path, content).

        Args:
            containing: only files whose path has these texts one after the other. Upper and lower case may count as the
                same: the caller looks again.
        """
        query = select(files.c.path, files.c.source_id).where(files_of(generation), files.c.status == "indexed")
        if containing:
            query = query.where(with_pieces([containing]))
        with self._db.read() as connection:
            for row in connection.execution_options(yield_per=FILES_AT_ONCE).execute(query):
                yield row.path, row.source_id

    def entry(self, generation: Generation, path: str) -> Entry | None:
        """What became of the file at this path; None when the tree has none."""
        query = (
            select(files.c.status, files.c.reason, sources.c.language)
            .outerjoin(sources, sources.c.id == files.c.source_id)
            .where(files_of(generation), files.c.path == path)
        )
        with self._db.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else Entry(*row)

    def languages(self, generation: Generation) -> list[str]:
        """Languages that occur in the generation, sorted."""
        query = (
            select(sources.c.language)
            .distinct()
            .join(files, files.c.source_id == sources.c.id)
            .where(files_of(generation), files.c.status == "indexed")
            .order_by(sources.c.language)
        )
        with self._db.read() as connection:
            return [language for language in connection.execute(query).scalars() if language]

    def chunks(self, generation: Generation, chunk_ids: Sequence[str], wanted: Filter) -> dict[str, FoundChunk]:
        """The chunks with these ids that the generation holds and the filter lets pass."""
        found: dict[str, FoundChunk] = {}
        with self._db.read() as connection:
            for some in slices(chunk_ids, IDS_PER_QUERY):
                query = _live(generation, wanted).where(chunks.c.chunk_id.in_(some))
                for row in connection.execute(query).fetchall():
                    if wanted.passes(row.source_id, row.path, row.language):
                        found[row.chunk_id] = _found(row)
        return found

    def holders(self, index_ids: Sequence[int], chunk_ids: Sequence[str]) -> list[tuple[str, int, str]]:
        """Which of these indexes have these chunks: (chunk id, index, path)."""
        with self._db.read() as connection:
            return [
                (row.chunk_id, row.index_id, row.path)
                for some in slices(chunk_ids, IDS_PER_QUERY)
                for row in connection.execute(_of_indexes(index_ids, NO_FILTER).where(chunks.c.chunk_id.in_(some)))
            ]

    def outline(self, source_ids: Sequence[int], first: int, last: int) -> dict[tuple[int, int], OutlinedChunk]:
        """The chunks of these contents with ordinals from `first` to `last`, by content and ordinal."""
        query = select(
            chunks.c.id,
            chunks.c.source_id,
            chunks.c.ordinal,
            chunks.c.symbol,
            chunks.c.tokens,
            chunks.c.end_byte - chunks.c.start_byte,
        ).where(chunks.c.source_id.in_(source_ids), chunks.c.ordinal.between(first, last))
        with self._db.read() as connection:
            rows = map(OutlinedChunk._make, connection.execute(query).fetchall())
            return {(chunk.source_id, chunk.ordinal): chunk for chunk in rows}

    def rows(self, rows: Sequence[int]) -> dict[tuple[int, int], FoundChunk]:
        """The chunks in these rows of the table, by content and ordinal."""
        found = {}
        with self._db.read() as connection:
            for some in slices(rows, IDS_PER_QUERY):
                for row in connection.execute(_columns().where(chunks.c.id.in_(some))).fetchall():
                    found[row.source_id, row.ordinal] = _found(row)
        return found

    def by_symbol(
        self,
        index_ids: Sequence[int],
        words: Sequence[str],
        worth: Callable[[str, str], float],
        wanted: Filter = NO_FILTER,
        *,
        limit: int,
    ) -> list[tuple[int, str]]:
        """(index, chunk id) of published chunks by what their symbol is worth, best first.

        Args:
            words: some of these every symbol that is worth anything has, as `codechunk.text.words.index_words` gives
                them.
            worth: of a symbol and a kind; 0 for nothing.
        """
        if not words or not index_ids:
            return []
        with self._db.read() as connection:
            rows = self._rows(connection, index_ids, wanted)
            ids = self._lexical.with_symbol(connection, words, rows, limit=SYMBOLS_LOOKED_AT)
            worth_of: dict[int, float] = {}
            for some in slices(ids, IDS_PER_QUERY):
                query = select(chunks.c.id, chunks.c.symbol, chunks.c.kind).where(chunks.c.id.in_(some))
                for row in connection.execute(query).fetchall():
                    if value := worth(row.symbol or "", row.kind):
                        worth_of[row.id] = value
            best = sorted(worth_of, key=lambda row: (-worth_of[row], row))[: _most(wanted, limit)]
            return self._places(connection, index_ids, best, wanted)[:limit]

    def by_phrase(
        self, index_ids: Sequence[int], words: Sequence[str], wanted: Filter = NO_FILTER, *, limit: int
    ) -> list[tuple[int, str]]:
        """(index, chunk id) of published chunks whose text has these words side by side, best first."""
        if not words or not index_ids:
            return []
        with self._db.read() as connection:
            rows = self._rows(connection, index_ids, wanted)
            matches = self._lexical.best(connection, words, rows, limit=_most(wanted, limit), within="phrase")
            return self._places(connection, index_ids, [row for row, _ in matches], wanted)[:limit]

    @staticmethod
    def _places(
        connection: Connection, index_ids: Sequence[int], rows: Sequence[int], wanted: Filter
    ) -> list[tuple[int, str]]:
        """(index, chunk id) of those of these rows that are published and pass, in the same order."""
        order = {row: place for place, row in enumerate(rows)}
        found = []
        for some in slices(rows, IDS_PER_QUERY):
            query = _of_indexes(index_ids, wanted).where(chunks.c.id.in_(some))
            found += [
                (order[row.id], row.index_id, row.chunk_id)
                for row in connection.execute(query).fetchall()
                if wanted.passes(row.source_id, row.path, row.language)
            ]
        return [(index_id, chunk_id) for _, index_id, chunk_id in sorted(found)]

    def narrowed(self, index_ids: Sequence[int], wanted: Filter) -> Filter:
        """The same filter with the contents that pass, when their paths tell that they are few; else as it is."""
        if wanted.passing is None or not wanted.pieces:
            return wanted
        with self._db.read() as connection:
            found = connection.execute(_with_paths(index_ids, wanted).limit(FEW_SOURCES + 1)).fetchall()
        return wanted if len(found) > FEW_SOURCES else _only(wanted, found)

    def by_words(
        self, index_ids: Sequence[int], words: Sequence[str], wanted: Filter, *, limit: int
    ) -> list[tuple[int, str, float]]:
        """(index, chunk id, score) of the published chunks by BM25 over path, symbol and text, best first.

        Scores are positive and compare within one query only.

        Args:
            index_ids: a chunk that several of them hold counts once, for the first of them.
            words: as `codechunk.text.words.query_words` gives them; a chunk matches when it has any of them.
        """
        if not words or not index_ids:
            return []
        with self._db.read() as connection:
            if wanted.passing is not None or (not wanted and self._are_large(connection, index_ids)):
                # Most likely the best of all are enough, and need no bounds.
                best = self._best(connection, index_ids, words, None, wanted, limit=limit, most=MATCHES_OF_ALL * limit)
                if best is not None:
                    return _first_places(best, index_ids, limit=limit)
            wanted = self._resolved(connection, index_ids, wanted)
            rows = self._rows(connection, index_ids, wanted)
            most = MATCHES_PER_CHUNK * limit
            best = None if wanted else self._best(connection, index_ids, words, rows, wanted, limit=limit, most=most)
            scored = self._all(connection, index_ids, words, rows, wanted, page=limit) if best is None else best
            return _first_places(scored, index_ids, limit=limit)

    def _resolved(self, connection: Connection, index_ids: Sequence[int], wanted: Filter) -> Filter:
        """The same filter with the contents that pass, for those who read all chunks; each file is looked at."""
        if wanted.passing is None:
            return wanted
        query = _with_paths(index_ids, wanted)
        return _only(wanted, connection.execution_options(yield_per=FILES_AT_ONCE).execute(query))

    def _are_large(self, connection: Connection, index_ids: Sequence[int]) -> bool:
        """Whether the indexes have so many files that finding their bounds takes longer than reading others' words.

        Of a small index it is the other way round: the best of all matches are those of others.
        """
        some = select(files.c.id).where(files.c.index_id.in_(index_ids)).limit(FEW_FILES + 1).subquery()
        return bool(connection.execute(select(func.count()).select_from(some)).scalar_one() > FEW_FILES)

    def _all(
        self,
        connection: Connection,
        index_ids: Sequence[int],
        words: Sequence[str],
        rows: Rows | None,
        wanted: Filter,
        *,
        page: int,
    ) -> Iterator[_Scored]:
        """The chunks of all matches that the filter lets pass, best first: the database joins and sorts them."""
        matched = self._lexical.matches(words, rows)
        if matched is None:
            return
        query = (
            _of_indexes(index_ids, wanted)
            .add_columns(matched.c.score)
            .join(matched, matched.c.row_id == chunks.c.id)
            .order_by(matched.c.score.desc(), chunks.c.chunk_id)
        )
        for row in connection.execution_options(yield_per=page).execute(query):
            if wanted.passes(row.source_id, row.path, row.language):
                yield _Scored(row.chunk_id, row.index_id, row.score)

    def _rows(self, connection: Connection, index_ids: Sequence[int], wanted: Filter) -> Rows | None:
        """Between which rows the chunks to be searched are; None: anywhere.

        Contents of a repository are mostly written one after the other, so that the words of others need not be read.
        Every chunk of the indexes is looked at for this.
        """
        held = select(func.min(chunks.c.id), func.max(chunks.c.id))
        if wanted.sources is not None and len(wanted.sources) <= FEW_SOURCES:
            held = held.where(chunks.c.source_id.in_(wanted.sources))
        else:
            published = select(func.count()).select_from(indexes).where(indexes.c.generation > 0)
            if connection.execute(published.where(indexes.c.id.not_in(index_ids))).scalar_one() == 0:
                return None
            held = held.where(chunks.c.source_id.in_(select(files.c.source_id).where(files.c.index_id.in_(index_ids))))
        first, last = connection.execute(held).one()
        return (0, 0) if first is None else (first, last)

    def _best(
        self,
        connection: Connection,
        index_ids: Sequence[int],
        words: Sequence[str],
        rows: Rows | None,
        wanted: Filter,
        *,
        limit: int,
        most: int,
    ) -> list[_Scored] | None:
        """The chunks of the `most` best matches that the filter lets pass, best first, when they are enough; only
        these are joined with anything."""
        matches = self._lexical.best(connection, words, rows, limit=most)
        if len(matches) == most:  # others may have the same score as the last one
            matches = [match for match in matches if match[1] > matches[-1][1]]
            some = True
        else:
            some = False
        scores = dict(matches)
        ids, found = list(scores), []
        for page in slices(ids, IDS_PER_QUERY):
            query = _of_indexes(index_ids, wanted).where(chunks.c.id.in_(page))
            found += [
                _Scored(row.chunk_id, row.index_id, scores[row.id])
                for row in connection.execute(query).fetchall()
                if wanted.passes(row.source_id, row.path, row.language)
            ]
        if some and len({row.chunk_id for row in found}) <= limit:
            return None
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
            .where(files.c.index_id == index_id, live_now(), chunks.c.chunk_id.in_(chunk_ids))
        )
        if not chunk_ids:
            return {}
        with self._db.read() as connection:
            rows = connection.execute(query).fetchall()
        if not rows:
            return {}
        return dict(zip([row.chunk_id for row in rows], decode([row.vector for row in rows]), strict=True))

    def vectors(
        self, generation: Generation, wanted: Filter, *, page: int = 4_096
    ) -> Iterator[tuple[list[str], NDArray[np.float16]]]:
        """All vectors of the chunks that the filter lets pass, as they are stored, in pages: (chunk ids, vectors)."""
        query = (
            select(chunks.c.chunk_id, vectors.c.vector)
            .join(files, files.c.source_id == chunks.c.source_id)
            .join(
                embeddings,
                and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == generation.space_id),
            )
            .join(vectors, vectors.c.embedding_id == embeddings.c.id)
            .where(files_of(generation))
        )
        if wanted.languages:
            query = query.join(sources, sources.c.id == chunks.c.source_id)
        with self._db.read() as connection:
            wanted = self._resolved(connection, [generation.index_id], wanted)
            for part in _few_sources_each(wanted):
                some = query.where(*conditions(part))
                for rows in connection.execution_options(yield_per=page).execute(some).partitions():
                    flat = np.frombuffer(b"".join(row.vector for row in rows), dtype=STORED)
                    yield [row.chunk_id for row in rows], flat.reshape(len(rows), -1)


def _of_indexes(index_ids: Sequence[int], wanted: Filter) -> Select[Any]:
    """The published chunks of these indexes, once for each of them that holds one."""
    return (
        select(chunks.c.id, chunks.c.chunk_id, chunks.c.source_id, files.c.index_id, sources.c.path, sources.c.language)
        .join(files, files.c.source_id == chunks.c.source_id)
        .join(indexes, indexes.c.id == files.c.index_id)
        .join(sources, sources.c.id == chunks.c.source_id)
        .where(files.c.index_id.in_(index_ids), live_now(), *conditions(wanted))
    )


def _with_paths(index_ids: Sequence[int], wanted: Filter) -> Select[Any]:
    """The published contents that may pass by what is known of their paths."""
    return (
        select(files.c.source_id, sources.c.path, sources.c.language)
        .join(sources, sources.c.id == files.c.source_id)
        .join(indexes, indexes.c.id == files.c.index_id)
        .where(files.c.index_id.in_(index_ids), live_now(), with_pieces(wanted.pieces))
    )


def _only(wanted: Filter, rows: Iterable[Any]) -> Filter:
    """The filter with those of these contents that pass."""
    passing = frozenset(row.source_id for row in rows if wanted.passes(row.source_id, row.path, row.language))
    return replace(wanted, sources=passing, passing=None)


def _most(wanted: Filter, limit: int) -> int:
    """How many matches are looked up for so many chunks: more when a filter may drop them."""
    return MATCHES_PER_CHUNK * limit * (MORE_MATCHES if wanted else 1)


def live_now() -> ColumnElement[bool]:
    """The rows of `files` that searches use, joined with their `indexes`.

    Of an index that was never published those of its first run, for whoever asks for such an index.
    """
    return live_at(case((indexes.c.generation == 0, 1), else_=indexes.c.generation))


def with_pieces(pieces: Sequence[Sequence[str]]) -> ColumnElement[bool]:
    """The rows of `files` whose path has the texts of one of these sequences; all when there is none."""
    if not pieces:
        return true()
    escaped = ([re.sub(r"([%_\\])", r"\\\1", piece) for piece in some] for some in pieces)
    return or_(*(files.c.path.like(f"%{'%'.join(some)}%", escape="\\") for some in escaped))


def _first_places(scored: Iterable[_Scored], index_ids: Sequence[int], *, limit: int) -> list[tuple[int, str, float]]:
    """The first `limit` chunks, each once: for the first of the indexes that hold it with its best score."""
    order = {index_id: number for number, index_id in enumerate(index_ids)}
    found: dict[str, tuple[int, float]] = {}
    for row in scored:
        known, _ = found.setdefault(row.chunk_id, (row.index_id, row.score))
        if order[row.index_id] < order[known]:
            found[row.chunk_id] = (row.index_id, row.score)
        if len(found) > limit:
            break
    return [(index_id, chunk_id, score) for chunk_id, (index_id, score) in found.items()][:limit]


def _few_sources_each(wanted: Filter) -> Iterator[Filter]:
    """The filter in parts whose contents are few enough for `conditions`: nothing else is read for them."""
    if wanted.sources is None:
        yield wanted
        return
    for some in slices(sorted(wanted.sources), FEW_SOURCES):
        yield replace(wanted, sources=frozenset(some))


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
    if wanted.absent_from is not None:
        old_chunks, old_files = chunks.alias(), files.alias()
        parts.append(
            ~select(old_chunks.c.id)
            .join(old_files, old_files.c.source_id == old_chunks.c.source_id)
            .where(old_chunks.c.chunk_id == chunks.c.chunk_id, files_of(wanted.absent_from, old_files))
            .exists()
        )
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
        sources.c.characters.label("file_characters"),
    ).join(sources, sources.c.id == chunks.c.source_id)


def _live(generation: Generation, wanted: Filter) -> Select[tuple[object, ...]]:
    return (
        _columns().join(files, files.c.source_id == chunks.c.source_id).where(files_of(generation), *conditions(wanted))
    )


def _found(row: Row[tuple[object, ...]]) -> FoundChunk:
    return FoundChunk._make(row)
