"""What exists: repositories, vector spaces, indexes and the jobs that make them."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, exists, func, insert, or_, select, update

from codechunk.errors import Overtaken
from codechunk.slices import slices
from codechunk.state.batch_words import BATCH_ENDS
from codechunk.state.contents import delete_chunks, live_at
from codechunk.state.database import Database, begins_with
from codechunk.state.generation import Generation
from codechunk.state.lexical import lexical_of
from codechunk.state.tables import (
    batches,
    chunks,
    embeddings,
    files,
    index_stores,
    indexes,
    jobs,
    repositories,
    sources,
    spaces,
)

SOURCES_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A vector space: only vectors with equal values in all five fields may be compared."""

    provider: str
    model: str
    dimensions: int
    task: str
    header_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """One searchable index: a repository at a ref in a vector space."""

    id: int
    repository_id: int
    repository: str
    url: str
    epoch: int
    ref: str
    space_id: int
    space: Space
    collection: str
    fingerprint: str | None
    commit: str | None
    published: Generation
    """What searches use."""
    publications: int
    whole: bool
    updated_at: float

    @property
    def next(self) -> Generation:
        """The one that a run writes beside the published one."""
        return self.at(self.published.number + 1)

    def at(self, number: int) -> Generation:
        """The generation with this number."""
        return replace(self.published, number=number)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One run of `codechunk index`."""

    id: str
    index_id: int
    commit: str
    status: str
    attempts: int
    redo: bool
    error: str | None
    report: str | None
    plan: str | None
    requests: int
    started_at: float
    finished_at: float | None
    last: bool = False
    """Whether it is the last run of its index that ended with a published state."""


class Catalog:
    """Repositories, indexes and jobs. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lexical = lexical_of(database)

    def open_index(self, *, url: str, names: Sequence[str], ref: str, space: Space) -> IndexRow:
        """Find or make the index of a repository, ref and space.

        Args:
            names: what the repository may be called, best first; the first that no other repository
                bears is taken when it is new.
        """
        with self._db.begin() as connection:
            repository_id = self._repository(connection, url, names)
            space_id = self._space(connection, space)
            key = {"repository_id": repository_id, "ref": ref, "space_id": space_id}
            digest = sha256(f"{url}\0{ref}\0{space}".encode()).hexdigest()[:32]
            connection.execute(
                self._db.insert_new(indexes).values(
                    **key, collection=f"codechunk-{digest}", generation=0, updated_at=time.time()
                )
            )
            found = connection.execute(
                _index_query().where(*(indexes.c[name] == value for name, value in key.items()))
            ).one()
            return _index_row(found)

    def indexes(self) -> list[IndexRow]:
        """Indexes that were published at least once, the newest first."""
        query = _index_query().where(indexes.c.generation > 0).order_by(indexes.c.updated_at.desc())
        with self._db.read() as connection:
            return [_index_row(row) for row in connection.execute(query)]

    def every_index(self) -> list[IndexRow]:
        """Every index, also those that were never published, by repository and ref."""
        query = _index_query().order_by(repositories.c.name, indexes.c.ref, indexes.c.id)
        with self._db.read() as connection:
            return [_index_row(row) for row in connection.execute(query)]

    def by_collection(self, collection: str) -> IndexRow | None:
        """The published index whose vectors are in the collection of that name; None when there is none."""
        query = _index_query().where(indexes.c.collection == collection, indexes.c.generation > 0)
        with self._db.read() as connection:
            row = connection.execute(query).first()
            return None if row is None else _index_row(row)

    def space(self, space_id: int) -> Space:
        """A vector space by its row number."""
        with self._db.read() as connection:
            return _space_of(connection.execute(select(spaces).where(spaces.c.id == space_id)).one())

    def space_id(self, space: Space) -> int:
        """The row number of a vector space, made when it is new."""
        with self._db.begin() as connection:
            return self._space(connection, space)

    def refreshed(self, index: IndexRow) -> IndexRow:
        """The index as it is now."""
        with self._db.read() as connection:
            return _index_row(connection.execute(_index_query().where(indexes.c.id == index.id)).one())

    def publish(
        self,
        generation: Generation,
        *,
        commit: str,
        fingerprint: str,
        whole: bool,
        store_id: int | None = None,
        job: JobRow | None = None,
        since: int | None = None,
    ) -> int:
        """Switch searches to a new generation of files: from one moment to the next, never half.

        A process can lose its lock without knowing it (a server drops the connection that holds it), so the switch
        itself asks whether the index is still as the run found it.

        Args:
            whole: every chunk of it has its vector.
            store_id: the store that holds each of these vectors; None when no store holds a copy.
            job: the run that publishes, as it was when it began; None: not asked about.
            since: `publications` of the index that the run began with; None: not asked about.

        Returns:
            `publications` of the index from now on.

        Raises:
            Overtaken: another process published the index since, or the run is another one's now or over. Nothing was
                changed.
        """
        # The generation itself: published early, or with failures that are fixed now.
        expected: list[ColumnElement[bool]] = [indexes.c.generation.in_((generation.number - 1, generation.number))]
        if since is not None:
            expected.append(indexes.c.publications == since)
        with self._db.begin() as connection:
            if job is not None and connection.execute(_still_mine(job).with_for_update()).first() is None:
                raise Overtaken(_overtaken(connection, generation))
            number: int | None = connection.execute(
                update(indexes)
                .where(indexes.c.id == generation.index_id, *expected)
                .values(
                    commit_sha=commit,
                    fingerprint=fingerprint,
                    generation=generation.number,
                    publications=indexes.c.publications + 1,
                    whole=whole,
                    updated_at=time.time(),
                )
                .returning(indexes.c.publications)
            ).scalar()
            if number is None:
                raise Overtaken(_overtaken(connection, generation))
            if store_id is not None:
                up_to_date = self._db.upsert(index_stores, key=["index_id", "store_id"], values=["publication"])
                connection.execute(
                    up_to_date.values(index_id=generation.index_id, store_id=store_id, publication=number)
                )
            return number

    def sweep(self, generation: Generation) -> None:
        """Forget the files that left before or with `generation`, and contents that no index refers to."""
        with self._db.begin() as connection:
            gone = connection.execute(
                delete(files)
                .where(files.c.index_id == generation.index_id, files.c.to_generation <= generation.number)
                .returning(files.c.source_id)
            ).scalars()
            self._drop_sources(connection, sorted({source for source in gone if source is not None}))

    def drop_unused_sources(self, repository_id: int) -> None:
        """Forget contents of the repository that no file of any index refers to."""
        orphan = ~exists().where(files.c.source_id == sources.c.id)
        with self._db.begin() as connection:
            found = connection.execute(
                select(sources.c.id).where(sources.c.repository_id == repository_id, orphan)
            ).scalars()
            self._drop_sources(connection, list(found))

    def start_job(self, index_id: int, commit: str, *, redo: bool) -> JobRow:
        """The job for this index and commit: the unfinished one taken up again, or a new one.

        A job that was asked to redo everything goes on doing so, also when it is taken up without that wish. Unfinished
        jobs of other commits are over: nobody will take them up.
        """
        unfinished = and_(jobs.c.index_id == index_id, jobs.c.status.not_in(("succeeded", "partial", "superseded")))
        with self._db.begin() as connection:
            old = connection.execute(
                select(jobs).where(unfinished, jobs.c.commit_sha == commit).order_by(jobs.c.started_at.desc()).limit(1)
            ).first()
            job_id = uuid.uuid4().hex[:12] if old is None else old.id
            connection.execute(
                update(jobs).where(unfinished, jobs.c.id != job_id).values(status="superseded", finished_at=time.time())
            )
            if redo and not (old is not None and old.redo):
                self._raise_epoch(connection, index_id)
            if old is None:
                connection.execute(
                    insert(jobs).values(
                        id=job_id,
                        index_id=index_id,
                        commit_sha=commit,
                        status="running",
                        attempts=1,
                        redo=redo,
                        started_at=time.time(),
                    )
                )
            else:
                connection.execute(
                    update(jobs)
                    .where(jobs.c.id == job_id)
                    .values(
                        status="running",
                        attempts=jobs.c.attempts + 1,
                        redo=redo or old.redo,
                        error=None,
                        plan=None,
                        finished_at=None,
                    )
                )
            return _job_row(connection.execute(select(jobs).where(jobs.c.id == job_id)).one())

    def _raise_epoch(self, connection: Connection, index_id: int) -> None:
        """Make every chunking of the repository stale."""
        mine = select(indexes.c.repository_id).where(indexes.c.id == index_id).scalar_subquery()
        connection.execute(update(repositories).where(repositories.c.id == mine).values(epoch=repositories.c.epoch + 1))

    def finish_job(
        self,
        job_id: str,
        *,
        status: str,
        error: str | None = None,
        report: dict[str, Any] | None = None,
        plan: str | None = None,
    ) -> None:
        """Record how a job ended; `embedding` is not an end, its chunks still wait.

        A superseded job stays so: whoever works on it has lost its index without knowing, and nobody may take it up.

        Args:
            report: the document that was shown, kept for people; nothing reads it back.
            plan: replaces the plan of the job, which the next run and `jobs` read; None: it stays.
        """
        final = status != "embedding"
        planned = {} if plan is None else {"plan": plan}
        with self._db.begin() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job_id, jobs.c.status != "superseded")
                .values(
                    status=status,
                    error=error,
                    report=None if report is None else json.dumps(report),
                    finished_at=time.time() if final else None,
                    **planned,
                )
            )

    def lose_job(self, job: JobRow, error: str) -> None:
        """Record that a run could not publish, unless somebody else has taken its job up or ended it."""
        mine = _still_mine(job).with_only_columns(jobs.c.id)
        with self._db.begin() as connection:
            connection.execute(
                update(jobs).where(jobs.c.id.in_(mine)).values(status="failed", error=error, finished_at=time.time())
            )

    def wait_job(self, job_id: str) -> None:
        """Record that a job waits for vectors from the provider."""
        with self._db.begin() as connection:
            connection.execute(
                update(jobs).where(jobs.c.id == job_id, jobs.c.status != "superseded").values(status="embedding")
            )

    def plan_job(self, job_id: str, plan: str) -> None:
        """Keep what is needed to finish a job once its vectors are there."""
        with self._db.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(plan=plan))

    def embedding_jobs(self) -> list[tuple[JobRow, IndexRow]]:
        """Unfinished jobs that asked for vectors, with their indexes, oldest first.

        Also those whose process was killed while it waited (`running`) or gave up waiting (`failed`).
        """
        unfinished = jobs.c.status.in_(("embedding", "running", "failed"))
        query = select(jobs).where(unfinished, jobs.c.plan.is_not(None)).order_by(jobs.c.started_at)
        return self._jobs(query)

    def reopen_partial_jobs(self, space_id: int | None = None) -> int:
        """Let the last job of each index that ended with failures be finished again: its failed texts wait again."""
        newer = jobs.alias()
        last = (
            select(func.max(newer.c.finished_at))
            .where(newer.c.index_id == jobs.c.index_id, newer.c.status.in_(("succeeded", "partial")))
            .scalar_subquery()
        )
        mine = (
            []
            if space_id is None
            else [jobs.c.index_id.in_(select(indexes.c.id).where(indexes.c.space_id == space_id))]
        )
        with self._db.begin() as connection:
            return connection.execute(
                update(jobs)
                .where(jobs.c.status == "partial", jobs.c.finished_at == last, jobs.c.plan.is_not(None), *mine)
                .values(status="embedding", finished_at=None)
            ).rowcount

    def last_finished_job(self, index_id: int) -> JobRow | None:
        """The newest job of the index that ended with a published state."""
        with self._db.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id.in_(_last_finished([index_id])))).first()
            return None if row is None else _job_row(row, last=True)

    def jobs(self, *, limit: int | None = None) -> list[tuple[JobRow, IndexRow]]:
        """Runs of `index` with what they make, the newest first."""
        return self._jobs(select(jobs).order_by(jobs.c.started_at.desc(), jobs.c.id).limit(limit))

    def job(self, job_id: str) -> tuple[JobRow, IndexRow] | None:
        """A run by its id or the beginning of it; None when there is none, or not only one."""
        found = self._jobs(select(jobs).where(begins_with(jobs.c.id, job_id)).limit(2))
        return found[0] if len(found) == 1 else None

    def _jobs(self, query: Select[Any]) -> list[tuple[JobRow, IndexRow]]:
        with self._db.read() as connection:
            rows = connection.execute(query).all()
            wanted = sorted({row.index_id for row in rows})
            made = {
                row.id: _index_row(row) for row in connection.execute(_index_query().where(indexes.c.id.in_(wanted)))
            }
            last = set(connection.execute(_last_finished(wanted)).scalars())
        return [(_job_row(row, last=row.id in last), made[row.index_id]) for row in rows]

    def spaces(self) -> dict[int, Space]:
        """The vector spaces by their row."""
        with self._db.read() as connection:
            return {row.id: _space_of(row) for row in connection.execute(select(spaces))}

    def cancel_job(self, job: JobRow, index: IndexRow) -> int:
        """End a run, and forget the texts that wait for it alone. Returns how many texts.

        Texts that a published index or another run has chunks of stay, and so do those in a batch job.
        """
        with self._db.begin() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.id == job.id)
                .values(status="cancelled", error="cancelled by the user", finished_at=time.time())
            )
            return connection.execute(
                delete(embeddings).where(
                    embeddings.c.job_id == job.id, embeddings.c.state == "pending", ~_wanted_elsewhere(index)
                )
            ).rowcount

    def requeue_failed(self, job: JobRow) -> int:
        """Let the failed texts of a run wait again, as if they had never been tried. Returns how many."""
        with self._db.begin() as connection:
            return connection.execute(
                update(embeddings)
                .where(embeddings.c.job_id == job.id, embeddings.c.state == "failed")
                .values(state="pending", attempts=0, error=None, next_at=None, route="any", batch_id=None)
            ).rowcount

    def batches_of_job(self, job: JobRow, index: IndexRow) -> tuple[list[str], list[str]]:
        """Open batch jobs with texts of the run: those that carry nothing else, and those that others need too."""
        waiting = and_(embeddings.c.batch_id == batches.c.id, embeddings.c.state == "processing")
        mine = select(embeddings.c.id).where(waiting, embeddings.c.job_id == job.id).exists()
        foreign = or_(embeddings.c.job_id.is_(None), embeddings.c.job_id != job.id, _wanted_elsewhere(index))
        shared = select(embeddings.c.id).where(waiting, foreign).exists()
        query = (
            select(batches.c.id, shared.label("shared"))
            .where(batches.c.state.not_in(BATCH_ENDS), mine)
            .order_by(batches.c.created_at, batches.c.id)
        )
        alone: list[str] = []
        others: list[str] = []
        with self._db.read() as connection:
            for row in connection.execute(query):
                (others if row.shared else alone).append(row.id)
        return alone, others

    def interrupted_jobs(self) -> int:
        """How many jobs say they are running: after a clean shutdown, none."""
        with self._db.read() as connection:
            return connection.execute(select(func.count()).where(jobs.c.status == "running")).scalar_one()

    def _drop_sources(self, connection: Connection, source_ids: Sequence[int]) -> None:
        """Delete those of the contents that no file refers to any more."""
        for some in slices(source_ids, SOURCES_AT_ONCE):
            used = set(connection.execute(select(files.c.source_id).where(files.c.source_id.in_(some))).scalars())
            unused = [source_id for source_id in some if source_id not in used]
            delete_chunks(self._lexical, connection, unused)
            connection.execute(delete(sources).where(sources.c.id.in_(unused)))

    def _repository(self, connection: Connection, url: str, names: Sequence[str]) -> int:
        known = connection.execute(select(repositories.c.id).where(repositories.c.url == url)).scalar()
        if known is not None:
            return int(known)
        taken = set(connection.execute(select(repositories.c.name)).scalars())
        name = next((name for name in (*names, url) if name not in taken), url)
        connection.execute(insert(repositories).values(name=name, url=url, epoch=0, created_at=time.time()))
        return int(connection.execute(select(repositories.c.id).where(repositories.c.url == url)).scalar_one())

    def _space(self, connection: Connection, space: Space) -> int:
        values = {
            "provider": space.provider,
            "model": space.model,
            "dimensions": space.dimensions,
            "task": space.task,
            "header_version": space.header_version,
        }
        connection.execute(self._db.insert_new(spaces).values(**values))
        where = [spaces.c[name] == value for name, value in values.items()]
        return int(connection.execute(select(spaces.c.id).where(*where)).scalar_one())


def _still_mine(job: JobRow) -> Select[Any]:
    """The job, unless another run has taken it up or superseded it since, or it has ended."""
    unfinished = jobs.c.status.in_(("running", "embedding", "failed"))
    return select(jobs).where(jobs.c.id == job.id, jobs.c.attempts == job.attempts, unfinished)


def _overtaken(connection: Connection, generation: Generation) -> str:
    """Why a run may not publish."""
    row = connection.execute(
        select(repositories.c.name, indexes.c.ref)
        .join(indexes, indexes.c.repository_id == repositories.c.id)
        .where(indexes.c.id == generation.index_id)
    ).first()
    name = "the index" if row is None else f"{row.name}@{row.ref}"
    return (
        f"{name} was not published by this run: another process has published it since, or has taken the run over or "
        f"cancelled it; the same command goes on from there."
    )


def _wanted_elsewhere(index: IndexRow) -> ColumnElement[bool]:
    """Whether a text has a chunk in what the index has published, or in any other index of its vector space."""
    other = indexes.alias()
    return (
        select(files.c.id)
        .select_from(
            chunks.join(files, files.c.source_id == chunks.c.source_id).join(other, other.c.id == files.c.index_id)
        )
        .where(
            chunks.c.text_sha == embeddings.c.text_sha,
            other.c.space_id == embeddings.c.space_id,
            or_(files.c.index_id != index.id, live_at(index.published.number)),
        )
        .exists()
    )


def _space_of(row: Row[Any]) -> Space:
    value = row._mapping
    return Space(
        provider=value["provider"],
        model=value["model"],
        dimensions=value["dimensions"],
        task=value["task"],
        header_version=value["header_version"],
    )


def _index_query() -> Select[tuple[object, ...]]:
    return (
        select(
            indexes,
            repositories.c.name,
            repositories.c.url,
            repositories.c.epoch,
            spaces.c.provider,
            spaces.c.model,
            spaces.c.dimensions,
            spaces.c.task,
            spaces.c.header_version,
        )
        .join(repositories, repositories.c.id == indexes.c.repository_id)
        .join(spaces, spaces.c.id == indexes.c.space_id)
    )


def _index_row(row: Row[tuple[object, ...]]) -> IndexRow:
    value = row._mapping
    return IndexRow(
        id=value["id"],
        repository_id=value["repository_id"],
        repository=value["name"],
        url=value["url"],
        epoch=value["epoch"],
        ref=value["ref"],
        space_id=value["space_id"],
        space=_space_of(row),
        collection=value["collection"],
        fingerprint=value["fingerprint"],
        commit=value["commit_sha"],
        published=Generation(index_id=value["id"], space_id=value["space_id"], number=value["generation"]),
        publications=value["publications"],
        whole=value["whole"],
        updated_at=value["updated_at"],
    )


def _last_finished(index_ids: Sequence[int]) -> Select[tuple[str]]:
    """The id of the last run of each of these indexes that ended with a published state."""
    newest_first = func.row_number().over(
        partition_by=jobs.c.index_id, order_by=(jobs.c.finished_at.desc(), jobs.c.started_at.desc())
    )
    ended = (
        select(jobs.c.id, newest_first.label("place"))
        .where(jobs.c.index_id.in_(index_ids), jobs.c.status.in_(("succeeded", "partial")))
        .subquery()
    )
    return select(ended.c.id).where(ended.c.place == 1)


def _job_row(row: Row[tuple[object, ...]], *, last: bool = False) -> JobRow:
    value = row._mapping
    return JobRow(
        id=value["id"],
        index_id=value["index_id"],
        commit=value["commit_sha"],
        status=value["status"],
        attempts=value["attempts"],
        redo=value["redo"],
        error=value["error"],
        report=value["report"],
        plan=value["plan"],
        requests=value["requests"],
        started_at=value["started_at"],
        finished_at=value["finished_at"],
        last=last,
    )
