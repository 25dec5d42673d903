"""What every repository and each of its indexes holds: files, chunks, languages, and what it shares. Only read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import and_, func, or_, select

from codechunk.state.contents import files_of, live_at
from codechunk.state.database import Database
from codechunk.state.generation import Generation
from codechunk.state.lookup import live_now, with_pieces
from codechunk.state.questions import OVER
from codechunk.state.tables import chunks, embeddings, files, indexes, jobs, repositories, sources


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRow:
    """A repository that was indexed once, whether or not it has an index now."""

    id: int
    name: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What the published generation of an index holds, and its newest run when that is not over."""

    files: int = 0
    chunks: int = 0
    job_id: str | None = None
    job_status: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDetails:
    """What is in the published generation of an index: numbers of chunks, and of files that were left out."""

    languages: dict[str, int]
    kinds: dict[str, int]
    left_out: dict[str, int]
    shared_chunks: int
    """Chunks of contents that another ref of the repository holds too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of some indexes can be found: files and chunks, files left out by reason, texts without a vector."""

    files: int
    chunks: int
    left_out: dict[str, int]
    waiting: int
    failed: int


class FileStatus(NamedTuple):
    """An entry of an indexed tree: `planned`, `indexed`, `skipped` or `failed`, and why."""

    path: str
    status: str
    reason: str | None


class Inventory:
    """Questions about everything that is there. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def repositories(self) -> list[RepositoryRow]:
        """Every repository, by name."""
        query = select(repositories).order_by(repositories.c.name)
        with self._db.read() as connection:
            return [RepositoryRow(id=row.id, name=row.name, url=row.url) for row in connection.execute(query)]

    def holdings(self) -> dict[int, Holding]:
        """What each index holds, by its row; added up from the sums of contents, no chunk is read."""
        live = (files.c.index_id == indexes.c.id, live_at(indexes.c.generation), files.c.status == "indexed")
        held = (
            select(files.c.index_id, func.count().label("files"), func.sum(sources.c.chunks).label("chunks"))
            .select_from(files.join(indexes, and_(*live)).join(sources, sources.c.id == files.c.source_id))
            .group_by(files.c.index_id)
        )
        newest = select(jobs.c.index_id, func.max(jobs.c.started_at).label("at")).group_by(jobs.c.index_id).subquery()
        unfinished = (
            select(jobs.c.index_id, jobs.c.id, jobs.c.status)
            .join(newest, and_(newest.c.index_id == jobs.c.index_id, newest.c.at == jobs.c.started_at))
            .where(jobs.c.status.not_in(OVER))
        )
        with self._db.read() as connection:
            counts = {row.index_id: row for row in connection.execute(held)}
            runs = {row.index_id: row for row in connection.execute(unfinished)}
            known = connection.execute(select(indexes.c.id)).scalars().all()
        return {
            index_id: Holding(
                files=counts[index_id].files if index_id in counts else 0,
                chunks=int(counts[index_id].chunks) if index_id in counts else 0,
                job_id=runs[index_id].id if index_id in runs else None,
                job_status=runs[index_id].status if index_id in runs else None,
            )
            for index_id in known
        }

    def details(self, generation: Generation) -> IndexDetails:
        """What the generation is made of. Reads every chunk row of it."""
        live = files_of(generation)
        language = func.coalesce(sources.c.language, "")
        total = func.sum(sources.c.chunks).label("n")
        of_sources = files.join(sources, sources.c.id == files.c.source_id)
        other, its_index, its_repository = files.alias(), indexes.alias(), sources.c.repository_id
        elsewhere = (
            select(other.c.id)
            .join(its_index, its_index.c.id == other.c.index_id)
            .where(
                other.c.source_id == sources.c.id,
                its_index.c.repository_id == its_repository,
                its_index.c.ref != select(indexes.c.ref).where(indexes.c.id == generation.index_id).scalar_subquery(),
                live_at(its_index.c.generation, other),
            )
            .exists()
        )
        indexed = files.c.status == "indexed"
        languages = select(language.label("name"), total).select_from(of_sources).where(live, indexed)
        kinds = (
            select(chunks.c.kind.label("name"), func.count().label("n"))
            .join(files, files.c.source_id == chunks.c.source_id)
            .where(live, indexed)
            .group_by(chunks.c.kind)
        )
        left_out = (
            select(func.coalesce(files.c.reason, files.c.status).label("name"), func.count().label("n"))
            .where(live, or_(files.c.status == "skipped", files.c.status == "failed"))
            .group_by(func.coalesce(files.c.reason, files.c.status))
        )
        shared = select(func.coalesce(func.sum(sources.c.chunks), 0)).select_from(of_sources)
        with self._db.read() as connection:
            answers = [
                {row.name: int(row.n) for row in connection.execute(query)}
                for query in (languages.where(sources.c.chunks > 0).group_by(language), kinds, left_out)
            ]
            return IndexDetails(
                languages={name or "text": count for name, count in answers[0].items()},
                kinds=answers[1],
                left_out=answers[2],
                shared_chunks=int(connection.execute(shared.where(live, indexed, elsewhere)).scalar_one()),
            )

    def coverage(self, index_ids: Sequence[int]) -> Coverage:
        """How much of what these indexes publish can be found. Every chunk is looked at."""
        live = files.c.index_id.in_(index_ids), live_now()
        held = (
            select(func.count(), func.coalesce(func.sum(sources.c.chunks), 0))
            .select_from(files.join(indexes, indexes.c.id == files.c.index_id))
            .join(sources, sources.c.id == files.c.source_id)
            .where(*live, files.c.status == "indexed")
        )
        reason = func.coalesce(files.c.reason, files.c.status)
        left_out = (
            select(reason.label("name"), func.count().label("n"))
            .select_from(files.join(indexes, indexes.c.id == files.c.index_id))
            .where(*live, files.c.status.in_(("skipped", "failed")))
            .group_by(reason)
        )
        with self._db.read() as connection:
            count, chunk_count = connection.execute(held).one()
            reasons = {row.name: int(row.n) for row in connection.execute(left_out)}
        texts = self.texts(index_ids)
        return Coverage(
            files=int(count),
            chunks=int(chunk_count),
            left_out=reasons,
            waiting=texts["pending"] + texts["processing"],
            failed=texts["failed"],
        )

    def files_with(self, index_ids: Sequence[int], pieces: Sequence[Sequence[str]]) -> list[FileStatus]:
        """The published entries, indexed or not, whose paths have these pieces (see `Filter.pieces`), by path."""
        query = (
            select(files.c.path, files.c.status, files.c.reason)
            .distinct()
            .join(indexes, indexes.c.id == files.c.index_id)
            .where(files.c.index_id.in_(index_ids), live_now(), with_pieces(pieces))
            .order_by(files.c.path)
        )
        with self._db.read() as connection:
            return [FileStatus(*row) for row in connection.execute(query)]

    def texts(self, index_ids: Sequence[int]) -> dict[str, int]:
        """How many texts that files of these indexes have are in each state: pending, processing, ready, failed."""
        query = (
            select(embeddings.c.state, func.count(embeddings.c.id.distinct()).label("n"))
            .select_from(
                files.join(indexes, indexes.c.id == files.c.index_id)
                .join(chunks, chunks.c.source_id == files.c.source_id)
                .join(
                    embeddings,
                    and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == indexes.c.space_id),
                )
            )
            .where(files.c.index_id.in_(index_ids))
            .group_by(embeddings.c.state)
        )
        counts = dict.fromkeys(("pending", "processing", "ready", "failed"), 0)
        with self._db.read() as connection:
            for row in connection.execute(query):
                counts[row.state] = row.n
        return counts
