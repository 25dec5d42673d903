"""The files of an index and the chunks of their contents, generation by generation.

An index is published by raising its generation number. A file row lives from `from_generation` up to, and not
including, `to_generation`: a run writes the next generation beside the published one, proportional to what
changed, and readers never see half of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from codechunk.slices import slices
from codechunk.state.database import Database
from codechunk.state.generation import Generation
from codechunk.state.lexical import ChunkWords, Lexical, lexical_of
from codechunk.state.tables import chunks, files, index_chunks, sources
from codechunk.text.chunks import Chunk, with_header
from codechunk.text.words import index_words

GONE_AT_ONCE = 500  # contents asked about in one query
PLAN_ROWS = 2_000  # rows written per transaction while a plan is made


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFile:
    """A file row of the published generation."""

    id: int
    blob: str
    status: str
    reason: str | None
    read: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """A file row to be written: skipped for `reason`, or planned to be read when there is none."""

    path: str
    blob: str
    size_bytes: int | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadFile:
    """A planned file whose content was not cut yet, or only in part."""

    id: int
    path: str
    blob: str
    saved_chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFile:
    """A part of what cutting one file gave; `chunks` go on at ordinal `first`.

    `status` is `chunked`, `skipped`, `failed`, or `partial` when more parts follow.
    """

    file_id: int
    path: str
    blob: str
    status: str
    reason: str | None = None
    fallback: str | None = None
    language: str | None = None
    first: int = 0
    chunks: Sequence[Chunk] = ()
    chunk_ids: Sequence[str] = ()
    words: Sequence[str] = ()
    secrets: int | None = None
    """How many secrets the file holds, replaced in `chunks`; None: not looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedSource:
    """A content, and how many chunks it has."""

    id: int
    chunks: int


def live_at(number: int | ColumnElement[int], rows: FromClause = files) -> ColumnElement[bool]:
    """The rows of `files`, or of an alias of it, that live at the number of a generation: a value or a column."""
    return and_(
        rows.c.from_generation <= number,
        or_(rows.c.to_generation.is_(None), rows.c.to_generation > number),
    )


def files_of(generation: Generation, rows: FromClause = files) -> ColumnElement[bool]:
    """The rows of `files`, or of an alias of it, that belong to a generation."""
    return and_(rows.c.index_id == generation.index_id, live_at(generation.number, rows))


def planned_for(generation: Generation) -> tuple[ColumnElement[bool], ...]:
    """The files that a run still has to read for the generation it writes.

    Nothing ends after that generation, so one condition on `to_generation` is enough, and pages in order of path come
    straight from an index. With the OR of `live_at` SQLite sorts what is left of all files for every page.
    """
    return (
        files.c.index_id == generation.index_id,
        files.c.to_generation.is_(None),
        files.c.from_generation <= generation.number,
        files.c.status == "planned",
    )


def _holds(generation: Generation, chunk_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether the generation has a chunk of this id, as a condition of a larger query."""
    file, chunk = files.alias("its_file"), chunks.alias("its_chunk")
    return (
        select(chunk.c.id)
        .join(file, file.c.source_id == chunk.c.source_id)
        .where(chunk.c.chunk_id == chunk_id, files_of(generation, file))
        .exists()
    )


def sum_of_chunks(connection: Connection, *where: ColumnElement[bool]) -> int:
    """How many chunks the files have for which this is true; from the sums of contents, no chunk is read."""
    total = select(func.coalesce(func.sum(sources.c.chunks), 0)).join(files, files.c.source_id == sources.c.id)
    return int(connection.execute(total.where(*where)).scalar_one())


def text_sha(chunk: Chunk) -> str:
    """Identity of what is embedded: equal texts are one embedding."""
    return sha256(chunk.embedding_text.encode("utf-8", "surrogatepass")).hexdigest()


class Contents:
    """Files and chunks. Each method is one transaction; `write_plan` and `unread` go by pages."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lexical = lexical_of(database)

    def known_files(self, generation: Generation) -> dict[str, KnownFile]:
        """The published files by path."""
        query = select(files.c.id, files.c.path, files.c.blob, files.c.status, files.c.reason, files.c.source_id).where(
            files_of(generation)
        )
        with self._db.read() as connection:
            return {
                path: KnownFile(id=row, blob=blob, status=status, reason=reason, read=source is not None)
                for row, path, blob, status, reason, source in connection.execute(query)
            }

    def abandon(self, generation: Generation) -> None:
        """Undo what an unfinished run wrote for `generation`; its rows become rubbish for the next sweep.

        They stay until then because their chunks may already be in Chroma.
        """
        with self._db.begin() as connection:
            mine = files.c.index_id == generation.index_id
            connection.execute(
                update(files).where(mine, files.c.to_generation == generation.number).values(to_generation=None)
            )
            connection.execute(
                update(files)
                .where(mine, files.c.from_generation == generation.number)
                .values(to_generation=files.c.from_generation)
            )

    def write_plan(self, generation: Generation, rows: Iterable[PlannedFile]) -> None:
        """Write the new files of a generation, in transactions of PLAN_ROWS rows."""
        batch: list[dict[str, object]] = []
        for row in rows:
            batch.append(
                {
                    "index_id": generation.index_id,
                    "path": row.path,
                    "blob": row.blob,
                    "size_bytes": row.size_bytes,
                    "status": "skipped" if row.reason else "planned",
                    "reason": row.reason,
                    "source_id": None,
                    "from_generation": generation.number,
                    "to_generation": None,
                }
            )
            if len(batch) == PLAN_ROWS:
                self._insert_files(batch)
                batch = []
        self._insert_files(batch)

    def retire(self, generation: Generation, file_ids: Sequence[int]) -> None:
        """Let file rows end with `generation`: they are gone or replaced there."""
        statement = update(files).where(files.c.id == bindparam("row")).values(to_generation=generation.number)
        if file_ids:
            with self._db.begin() as connection:
                connection.execute(statement, [{"row": file_id} for file_id in file_ids])

    def adopt(self, generation: Generation, *, repository_id: int, fingerprint: str) -> int:
        """Connect planned files with contents that were cut before. Returns how many were."""
        same = and_(
            sources.c.repository_id == repository_id,
            sources.c.fingerprint == fingerprint,
            sources.c.path == files.c.path,
            sources.c.blob == files.c.blob,
            sources.c.status.in_(("chunked", "skipped")),
        )
        planned = and_(*planned_for(generation))
        with self._db.begin() as connection:
            connection.execute(
                update(files).where(planned).values(source_id=select(sources.c.id).where(same).scalar_subquery())
            )
            found = and_(planned, files.c.source_id.is_not(None))
            of_source = select(sources.c.status, sources.c.reason).where(sources.c.id == files.c.source_id)
            status = of_source.with_only_columns(sources.c.status).scalar_subquery()
            reason = of_source.with_only_columns(sources.c.reason).scalar_subquery()
            changed = connection.execute(update(files).where(found).values(status=status, reason=reason))
            connection.execute(
                update(files).where(files_of(generation), files.c.status == "chunked").values(status="indexed")
            )
            return changed.rowcount

    def unread(
        self, generation: Generation, *, repository_id: int, fingerprint: str, page: int = 500
    ) -> Iterator[UnreadFile]:
        """Planned files in order of path, page by page, with how many of their chunks are saved already."""
        saved = (
            select(func.count())
            .select_from(chunks.join(sources, sources.c.id == chunks.c.source_id))
            .where(
                sources.c.repository_id == repository_id,
                sources.c.fingerprint == fingerprint,
                sources.c.path == files.c.path,
                sources.c.blob == files.c.blob,
            )
            .scalar_subquery()
        )
        after = ""
        while True:
            query = (
                select(files.c.id, files.c.path, files.c.blob, saved.label("saved"))
                .where(*planned_for(generation), files.c.path > after)
                .order_by(files.c.path)
                .limit(page)
            )
            with self._db.read() as connection:
                rows = connection.execute(query).all()
            for row in rows:
                yield UnreadFile(id=row.id, path=row.path, blob=row.blob, saved_chunks=row.saved)
            if len(rows) < page:
                return
            after = rows[-1].path

    def save(self, repository_id: int, fingerprint: str, cut: Sequence[CutFile]) -> None:
        """Save what cutting gave, in one transaction: contents, chunks, their words, and the files' state."""
        with self._db.begin() as connection:
            ids = self._save_sources(connection, repository_id, fingerprint, cut)
            # a fresh start: what an earlier, different cut of the same content left goes
            delete_chunks(self._lexical, connection, [ids[part.path, part.blob] for part in cut if part.first == 0])
            self._insert_chunks(connection, [(ids[part.path, part.blob], part) for part in cut])
            done = [
                {
                    "row": part.file_id,
                    "source": ids[part.path, part.blob],
                    "state": "indexed" if part.status == "chunked" else part.status,
                    "why": part.reason,
                }
                for part in cut
                if part.status != "partial"
            ]
            if done:
                connection.execute(_FINISH_FILE, done)
                self._sum_up(connection, [ids[part.path, part.blob] for part in cut if part.status != "partial"])

    def saved_spans(self, repository_id: int, fingerprint: str, path: str, blob: str) -> list[tuple[int, int]]:
        """Byte spans of the chunks of a content that are saved, in order."""
        query = (
            select(chunks.c.start_byte, chunks.c.end_byte)
            .join(sources, sources.c.id == chunks.c.source_id)
            .where(
                sources.c.repository_id == repository_id,
                sources.c.fingerprint == fingerprint,
                sources.c.path == path,
                sources.c.blob == blob,
            )
            .order_by(chunks.c.ordinal)
        )
        with self._db.read() as connection:
            return [(row.start_byte, row.end_byte) for row in connection.execute(query)]

    def new_sources(self, generation: Generation, *, all_files: bool) -> list[SizedSource]:
        """Contents that this generation brings in, or all that it holds, in order of path."""
        query = (
            select(files.c.source_id, sources.c.chunks)
            .join(sources, sources.c.id == files.c.source_id)
            .where(files_of(generation), files.c.status == "indexed", sources.c.chunks > 0)
            .order_by(files.c.path)
        )
        if not all_files:
            query = query.where(files.c.from_generation == generation.number)
        with self._db.read() as connection:
            return [SizedSource(id=row.source_id, chunks=row.chunks) for row in connection.execute(query)]

    def uncounted(self, generation: Generation, *, page: int) -> Iterator[list[tuple[int, str]]]:
        """Chunks of the generation without a token count, some contents at a time: (row, text that is embedded)."""
        lacking = (
            select(sources.c.id)
            .distinct()
            .join(files, files.c.source_id == sources.c.id)
            .where(files_of(generation), sources.c.counted < sources.c.chunks)
        )
        with self._db.read() as connection:
            ids = sorted(connection.execute(lacking).scalars())
        for some in slices(ids, page):
            query = (
                select(chunks.c.id, chunks.c.header, chunks.c.text, sources.c.language)
                .join(sources, sources.c.id == chunks.c.source_id)
                .where(chunks.c.source_id.in_(some), chunks.c.tokens.is_(None))
                .order_by(chunks.c.id)
            )
            with self._db.read() as connection:
                rows = connection.execute(query).all()
            yield [(row.id, with_header(row.header, row.text, row.language)) for row in rows]

    def save_counts(self, counts: Sequence[tuple[int, int]]) -> None:
        """Save exact token counts: pairs of chunk row and tokens."""
        statement = update(chunks).where(chunks.c.id == bindparam("row")).values(tokens=bindparam("count"))
        rows = [row for row, _ in counts]
        with self._db.begin() as connection:
            connection.execute(statement, [{"row": row, "count": count} for row, count in counts])
            of = connection.execute(select(chunks.c.source_id).distinct().where(chunks.c.id.in_(rows)))
            self._sum_up(connection, list(of.scalars()))

    def file_counts(self, generation: Generation) -> dict[tuple[str, str | None], int]:
        """How many files of the generation have each (status, reason)."""
        query = (
            select(files.c.status, files.c.reason, func.count().label("n"))
            .where(files_of(generation))
            .group_by(files.c.status, files.c.reason)
        )
        with self._db.read() as connection:
            return {(row.status, row.reason): row.n for row in connection.execute(query)}

    def failed_files(self, generation: Generation, *, limit: int) -> list[tuple[str, str]]:
        """Files that could not be cut: (path, reason)."""
        query = (
            select(files.c.path, files.c.reason)
            .where(files_of(generation), files.c.status == "failed")
            .order_by(files.c.path)
            .limit(limit)
        )
        with self._db.read() as connection:
            return [(row.path, row.reason) for row in connection.execute(query)]

    def with_failed_files(self, generations: Sequence[Generation]) -> set[Generation]:
        """Those of the generations that have a file that could not be cut."""
        if not generations:
            return set()
        ids = sorted({one.index_id for one in generations})
        query = select(files.c.index_id, files.c.from_generation, files.c.to_generation).distinct()
        with self._db.read() as connection:
            rows = connection.execute(query.where(files.c.index_id.in_(ids), files.c.status == "failed")).all()
        return {
            one
            for one in generations
            for row in rows
            if row.index_id == one.index_id
            and row.from_generation <= one.number
            and (row.to_generation is None or row.to_generation > one.number)
        }

    def fallbacks(self, generation: Generation) -> list[tuple[str, str]]:
        """Files that were cut by lines because their parser was stopped: (path, why)."""
        query = (
            select(files.c.path, sources.c.fallback)
            .join(sources, sources.c.id == files.c.source_id)
            .where(files_of(generation), sources.c.fallback.is_not(None))
            .order_by(files.c.path)
        )
        with self._db.read() as connection:
            return [(row.path, row.fallback) for row in connection.execute(query)]

    def secrets(self, generation: Generation) -> tuple[int, int]:
        """(secrets found in the contents of the generation, files that hold any)."""
        query = (
            select(func.coalesce(func.sum(sources.c.secrets), 0), func.count())
            .select_from(files.join(sources, sources.c.id == files.c.source_id))
            .where(files_of(generation), sources.c.secrets > 0)
        )
        with self._db.read() as connection:
            row = connection.execute(query).one()
            return int(row[0]), int(row[1])

    def token_sums(self, generation: Generation) -> tuple[int, int, int, int, int]:
        """What is known of the generation's size.

        Returns:
            all chunks, counted chunks, tokens of the counted, characters of all, characters of the counted.
        """
        sums = (getattr(sources.c, name) for name in _SUMS)
        query = (
            select(*(func.coalesce(func.sum(column), 0) for column in sums))
            .select_from(files.join(sources, sources.c.id == files.c.source_id))
            .where(files_of(generation), files.c.status == "indexed")
        )
        with self._db.read() as connection:
            row = connection.execute(query).one()
            return int(row[0]), int(row[1]), int(row[2]), int(row[3]), int(row[4])

    def gone_chunks(self, generation: Generation, *, store_id: int) -> list[str]:
        """Chunk ids in a store that files ending with `generation` had and the generation no longer has."""
        dying = select(files.c.source_id).where(
            files.c.index_id == generation.index_id,
            files.c.to_generation <= generation.number,
            files.c.source_id.is_not(None),
        )
        still = _holds(generation, chunks.c.chunk_id)
        gone: set[str] = set()
        with self._db.read() as connection:
            # Content by content: left to itself, SQLite begins with all chunks of the collection.
            ids = sorted(set(connection.execute(dying).scalars()))
            for some in slices(ids, GONE_AT_ONCE):
                query = (
                    select(chunks.c.chunk_id)
                    .join(
                        index_chunks,
                        and_(
                            index_chunks.c.chunk_id == chunks.c.chunk_id,
                            index_chunks.c.index_id == generation.index_id,
                            index_chunks.c.store_id == store_id,
                        ),
                    )
                    .where(chunks.c.source_id.in_(some), ~still)
                )
                gone.update(connection.execute(query).scalars())
        return sorted(gone)

    def has_rubbish(self, generation: Generation) -> bool:
        """Whether files that ended before or with the generation still wait to be swept."""
        return self._any(files.c.index_id == generation.index_id, files.c.to_generation <= generation.number)

    def has_next(self, generation: Generation) -> bool:
        """Whether a run has begun the generation after this one; its chunks may be in Chroma already."""
        beyond = or_(files.c.from_generation > generation.number, files.c.to_generation > generation.number)
        return self._any(files.c.index_id == generation.index_id, beyond)

    def has_abandoned(self, index_id: int) -> bool:
        """Whether there are files of a run that was never published: their chunks may be in Chroma."""
        return self._any(
            files.c.index_id == index_id,
            files.c.to_generation.is_not(None),
            files.c.to_generation == files.c.from_generation,
        )

    def _any(self, *where: ColumnElement[bool]) -> bool:
        with self._db.read() as connection:
            return connection.execute(select(files.c.id).where(*where).limit(1)).first() is not None

    @staticmethod
    def _sum_up(connection: Connection, source_ids: Sequence[int]) -> None:
        """Write the sums of contents that were just saved or counted: whole repositories are added up from them."""
        length = func.length(chunks.c.text) + func.length(chunks.c.header)
        sums = (
            func.count(),
            func.count(chunks.c.tokens),
            func.coalesce(func.sum(chunks.c.tokens), 0),
            func.coalesce(func.sum(length), 0),
            func.coalesce(func.sum(length).filter(chunks.c.tokens.is_not(None)), 0),
        )
        mine = select(*sums).where(chunks.c.source_id == sources.c.id)
        values = {name: mine.with_only_columns(sum_).scalar_subquery() for name, sum_ in zip(_SUMS, sums, strict=True)}
        connection.execute(update(sources).where(sources.c.id.in_(source_ids)).values(values))

    def _insert_files(self, batch: list[dict[str, object]]) -> None:
        if batch:
            with self._db.begin() as connection:
                connection.execute(insert(files), batch)

    def _save_sources(
        self, connection: Connection, repository_id: int, fingerprint: str, cut: Sequence[CutFile]
    ) -> dict[tuple[str, str], int]:
        """Write the contents' rows, the last part of each deciding its state. Returns ids by (path, blob)."""
        rows = {
            (part.path, part.blob): {
                "repository_id": repository_id,
                "path": part.path,
                "blob": part.blob,
                "fingerprint": fingerprint,
                "language": part.language,
                "status": part.status,
                "reason": part.reason,
                "fallback": part.fallback,
                "secrets": part.secrets,
            }
            for part in cut
        }
        statement = self._db.upsert(
            sources,
            key=["repository_id", "path", "blob", "fingerprint"],
            values=["language", "status", "reason", "fallback", "secrets"],
        ).returning(sources.c.id, sources.c.path, sources.c.blob)
        saved = connection.execute(statement, list(rows.values()))
        return {(row.path, row.blob): int(row.id) for row in saved}

    def _insert_chunks(self, connection: Connection, cut: Sequence[tuple[int, CutFile]]) -> None:
        rows: list[dict[str, object]] = []
        words: list[ChunkWords] = []
        for source_id, part in cut:
            path_words = index_words(part.path) if part.chunks else ""
            for number, chunk in enumerate(part.chunks):
                rows.append(_chunk_row(source_id, part.first + number, part.chunk_ids[number], chunk))
                symbol_words = index_words(chunk.symbol) if chunk.symbol else ""
                words.append(ChunkWords(path_words, symbol_words, part.words[number]))
        if not rows:
            return
        statement = insert(chunks).returning(chunks.c.id, sort_by_parameter_order=True)
        ids = connection.execute(statement, rows).scalars().all()
        self._lexical.add(connection, ids, words)


_SUMS = ("chunks", "counted", "tokens", "characters", "counted_characters")
_FINISH_FILE = (
    update(files)
    .where(files.c.id == bindparam("row"))
    .values(source_id=bindparam("source"), status=bindparam("state"), reason=bindparam("why"))
)


def delete_chunks(lexical: Lexical, connection: Connection, source_ids: Sequence[int]) -> None:
    """Delete all chunks of these contents, and their words, within the caller's transaction."""
    mine = chunks.c.source_id.in_(source_ids)
    if not source_ids or connection.execute(select(chunks.c.id).where(mine).limit(1)).first() is None:
        return
    lexical.remove(connection, source_ids)
    connection.execute(delete(chunks).where(mine))


def _chunk_row(source_id: int, ordinal: int, chunk_id: str, chunk: Chunk) -> dict[str, object]:
    return {
        "source_id": source_id,
        "ordinal": ordinal,
        "chunk_id": chunk_id,
        "kind": str(chunk.kind),
        "symbol": chunk.symbol,
        "start_line": chunk.start_line,
        "end_line": chunk.end_line,
        "start_byte": chunk.start_byte,
        "end_byte": chunk.end_byte,
        "header": chunk.header,
        "text": chunk.text,
        "tokens": chunk.tokens,
        "text_sha": text_sha(chunk),
    }
