"""Batch jobs: which texts are in them, what was begun at the provider, how they ended. Every method is one transaction.

Only the holder of a claim writes: each write names the owner and the fence of its claim, and one that does not match
any more raises `LostClaim`. What may have an effect at the provider is recorded here before it is done.
"""

import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, case, func, insert, or_, select, update

from codechunk.errors import StateError
from codechunk.state.batch_words import BATCH_ENDS, BATCH_STATES, BatchState, RequestKey, request_key
from codechunk.state.database import Database, begins_with
from codechunk.state.embeddings import Vectors
from codechunk.state.queue import ClaimedText, due, lapsed, pending_texts, save_vectors, texts_of
from codechunk.state.tables import batches, chunks, embeddings

TO_SUBMIT: tuple[BatchState, ...] = ("pending_submission", "submitting", "retry_scheduled")


class LostClaim(StateError):
    """Another process has taken over what this one was working on; nothing was written."""

    kind = "busy"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRow:
    """A batch job; see the comments in the schema. Times are seconds since 1970."""

    id: str
    space_id: int
    state: BatchState
    display_name: str
    texts: int
    tokens: int
    priority: int
    upload_began_at: float | None
    file_name: str | None
    file_expires_at: float | None
    file_sha: str | None
    create_began_at: float | None
    remote_name: str | None
    remote_state: str | None
    result_file: str | None
    cancel_began_at: float | None
    cancelled_by_user: bool
    submissions: int
    failures: int
    rows_ok: int
    rows_failed: int
    rows_ignored: int
    billed_tokens: int
    error: str | None
    owner: str | None
    fence: int
    created_at: float
    submitted_at: float | None
    next_at: float
    finished_at: float | None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in BATCH_ENDS

    @property
    def file_display_name(self) -> str:
        """Name of its input file at the provider: the same for every attempt, which sends the same texts."""
        return self.display_name.rpartition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A text of a batch job by its key on the wire. `text` is None when no chunk has it any more.

    `tokens` is our count, or an estimate where none was made (`counted` says which).
    """

    key: RequestKey
    embedding_id: int
    text: str | None
    tokens: int
    counted: bool


class Batches:
    """The batch jobs of all vector spaces."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ------------------------------------------------------------------ intents and claims

    def plan(
        self,
        space_id: int,
        *,
        prefix: str,
        priority: int,
        most_texts: int,
        most_tokens: int | None,
        job_id: str | None = None,
    ) -> BatchRow | None:
        """Make the intent of a batch job from the oldest pending texts, and claim them for it; None without texts.

        Texts whose batch jobs ended badly (`route` direct) are left to direct calls. The job gets at least one text,
        and no more than fit into `most_tokens` by our count; with `job_id` only texts that this run of index asked for.
        """
        batch_id = uuid.uuid4().hex
        with self._db.begin() as connection:
            wanted = [embeddings.c.route == "any", *([] if job_id is None else [embeddings.c.job_id == job_id])]
            found = pending_texts(connection, space_id, most=most_texts, where=wanted)
            taken = _fitting(found, most_tokens)
            if not taken:
                return None
            now = time.time()
            connection.execute(
                insert(batches).values(
                    id=batch_id,
                    space_id=space_id,
                    state="pending_submission",
                    display_name=f"{prefix}-{batch_id}-0",
                    texts=len(taken),
                    tokens=sum(text.tokens for text in taken),
                    priority=priority,
                    cancelled_by_user=False,
                    submissions=0,
                    failures=0,
                    rows_ok=0,
                    rows_failed=0,
                    rows_ignored=0,
                    billed_tokens=0,
                    fence=0,
                    created_at=now,
                    next_at=now,
                )
            )
            connection.execute(
                update(embeddings)
                .where(embeddings.c.id.in_([text.embedding_id for text in taken]))
                .values(state="processing", batch_id=batch_id, owner=None, lease_until=None)
            )
            return _row(connection.execute(select(batches).where(batches.c.id == batch_id)).one())

    def claim(
        self,
        states: Sequence[BatchState],
        owner: str,
        *,
        space_id: int,
        lease_s: float,
        without: Collection[str] = (),
    ) -> BatchRow | None:
        """Take one due batch job in one of these states, oldest first, that no living process works on.

        Args:
            without: ids that are not asked for.
        """
        with self._db.begin() as connection:
            now = self._db.lease_now(connection)
            conditions = [batches.c.state.in_(states), batches.c.space_id == space_id, _free(now, lease_s)]
            conditions += [due(batches.c.next_at, time.time()), batches.c.id.not_in(without)]
            found = connection.execute(
                select(batches.c.id)
                .where(*conditions)
                .order_by(batches.c.created_at, batches.c.id)
                .limit(1)
                .with_for_update(skip_locked=True)
            ).scalar()
            return None if found is None else _claimed(connection, found, owner, now=now, lease_s=lease_s)

    def claim_one(self, batch_id: str, owner: str, *, lease_s: float) -> BatchRow | None:
        """Take this batch job, due or not; None when a living process works on it."""
        with self._db.begin() as connection:
            now = self._db.lease_now(connection)
            return _claimed(connection, batch_id, owner, now=now, lease_s=lease_s)

    def record(self, batch: BatchRow, *, release: bool = False, **values: Any) -> BatchRow:
        """Write columns of a claimed batch job; `release` ends the claim with it.

        Raises:
            LostClaim: when the claim is not this process's any more. Nothing is written.
        """
        with self._db.begin() as connection:
            return self._record(connection, batch, release=release, values=values)

    def still_mine(self, batch: BatchRow, *, lease_s: float) -> None:
        """Prolong the claim; for the last moment before something that costs money. Raises LostClaim."""
        with self._db.begin() as connection:
            self._record(connection, batch, values={"lease_until": self._db.lease_now(connection) + lease_s})

    # ------------------------------------------------------------------ texts

    def members(self, batch: BatchRow) -> Iterator[Member]:
        """The texts that are still waited for in this batch job, in order."""
        first = select(func.min(chunks.c.id)).where(chunks.c.text_sha == embeddings.c.text_sha).scalar_subquery()
        query = (
            select(embeddings.c.id, embeddings.c.text_sha, first.label("chunk"))
            .where(_inside(batch))
            .order_by(embeddings.c.id)
        )
        with self._db.read() as connection:
            rows = connection.execute(query).all()
            found = texts_of(connection, {row.id: row.chunk for row in rows if row.chunk is not None})
        texts = {text.embedding_id: text for text in found}
        for row in rows:
            known = texts.get(row.id)
            yield Member(
                key=request_key(row.text_sha),
                embedding_id=row.id,
                text=None if known is None else known.text,
                tokens=0 if known is None else known.tokens,
                counted=known is not None and known.counted,
            )

    def drop_members(self, batch: BatchRow, embedding_ids: Sequence[int]) -> None:
        """Take texts out that no chunk has any more, before they are sent; they are forgotten."""
        with self._db.begin() as connection:
            self._record(connection, batch, values={"texts": batches.c.texts - len(embedding_ids)})
            self._put_back(connection, embeddings.c.id.in_(embedding_ids))

    # ------------------------------------------------------------------ results

    def take_vectors(
        self, batch: BatchRow, embedding_ids: Sequence[int], values: Vectors, tokens: Sequence[int | None]
    ) -> None:
        """Store vectors from the results of a batch job; texts ready already stay as they are."""
        with self._db.begin() as connection:
            self._record(
                connection,
                batch,
                values={
                    "rows_ok": batches.c.rows_ok + len(embedding_ids),
                    "billed_tokens": batches.c.billed_tokens + sum(count or 0 for count in tokens),
                },
            )
            save_vectors(self._db, connection, embedding_ids, values, tokens=tokens, paid="batch")

    def take_errors(self, batch: BatchRow, errors: Mapping[int, str], *, most_attempts: int, next_at: float) -> int:
        """Record the rows of the results that brought no vector: each text waits for a new job from `next_at` on, or
        has failed for good after `most_attempts` attempts. Returns how many failed for good."""
        with self._db.begin() as connection:
            self._record(connection, batch, values={"rows_failed": batches.c.rows_failed + len(errors)})
            mine = _inside(batch)
            connection.execute(
                update(embeddings)
                .where(mine, embeddings.c.id == bindparam("row"))
                .values(
                    state=case((embeddings.c.attempts + 1 >= most_attempts, "failed"), else_="pending"),
                    attempts=embeddings.c.attempts + 1,
                    error=bindparam("reason"),
                    next_at=next_at,
                ),
                [{"row": embedding_id, "reason": reason} for embedding_id, reason in errors.items()],
            )
            return connection.execute(
                select(func.count()).where(embeddings.c.id.in_(list(errors)), embeddings.c.state == "failed")
            ).scalar_one()

    def complete(self, batch: BatchRow, *, ignored: int) -> BatchRow:
        """The results are all taken. A text still waited for, which `take_errors` should have seen, waits again."""
        with self._db.begin() as connection:
            done = self._record(
                connection,
                batch,
                release=True,
                values={
                    "state": "completed",
                    "rows_ignored": ignored,
                    "finished_at": time.time(),
                    "error": None,
                },
            )
            mine = _inside(batch)
            self._put_back(connection, mine)
            return done

    def schedule_retry(self, batch: BatchRow, *, prefix: str, error: str, next_at: float) -> BatchRow:
        """Its remote job ended badly: the texts that are left are sent again in a new remote job from `next_at` on."""
        failures = batch.failures + 1
        return self.record(
            batch,
            release=True,
            state="retry_scheduled",
            failures=failures,
            display_name=f"{prefix}-{batch.id}-{failures}",
            create_began_at=None,
            remote_name=None,
            remote_state=None,
            result_file=None,
            cancel_began_at=None,
            submitted_at=None,
            texts=select(func.count()).where(_inside(batch)).scalar_subquery(),
            # The file holds texts that are ready by now when some were taken from a part of the results.
            **({"file_name": None, "upload_began_at": None, "file_sha": None} if batch.rows_ok else {}),
            error=error,
            next_at=next_at,
        )

    def give_up(self, batch: BatchRow, *, state: BatchState, error: str, fall_back: bool) -> int:
        """End a batch job that cannot succeed: its texts go to direct calls (`fall_back`) or have failed.

        Returns how many texts that concerns.
        """
        with self._db.begin() as connection:
            self._record(
                connection, batch, release=True, values={"state": state, "error": error, "finished_at": time.time()}
            )
            mine = _inside(batch)
            values: dict[str, Any] = (
                {"state": "pending", "route": "direct", "next_at": None} if fall_back else {"state": "failed"}
            )
            return connection.execute(update(embeddings).where(mine).values(error=error, **values)).rowcount

    # ------------------------------------------------------------------ looking

    def get(self, batch_id: str) -> BatchRow | None:
        """A batch job by its id or the beginning of it; None when there is none, or not only one."""
        with self._db.read() as connection:
            rows = connection.execute(select(batches).where(begins_with(batches.c.id, batch_id)).limit(2)).all()
            return _row(rows[0]) if len(rows) == 1 else None

    def rows(self, *, open_only: bool = False, job_id: str | None = None) -> list[BatchRow]:
        """Batch jobs, the newest first; `job_id`: only those that carry texts of this run of index."""
        query = select(batches).order_by(batches.c.created_at.desc(), batches.c.id)
        if open_only:
            query = query.where(batches.c.state.not_in(BATCH_ENDS))
        if job_id is not None:
            mine = select(embeddings.c.batch_id).where(embeddings.c.job_id == job_id).distinct()
            query = query.where(batches.c.id.in_(mine))
        with self._db.read() as connection:
            return [_row(row) for row in connection.execute(query)]

    def by_state(self) -> dict[BatchState, int]:
        """How many batch jobs there are in each state."""
        counts = dict.fromkeys(BATCH_STATES, 0)
        with self._db.read() as connection:
            for row in connection.execute(select(batches.c.state, func.count().label("n")).group_by(batches.c.state)):
                counts[row.state] = row.n
        return counts

    def active(self, space_id: int) -> int:
        """How many remote jobs are out: recorded and not known to have ended."""
        with self._db.read() as connection:
            return connection.execute(
                select(func.count()).where(batches.c.space_id == space_id, batches.c.state == "processing")
            ).scalar_one()

    def spaces_out(self) -> list[int]:
        """The vector spaces that have remote jobs out."""
        with self._db.read() as connection:
            query = select(batches.c.space_id).where(batches.c.state == "processing").distinct()
            return list(connection.execute(query).scalars())

    def next_due(self, space_id: int, *, submissions: bool) -> float | None:
        """When the next open batch job may be worked on, seconds since 1970; None when there is none.

        Args:
            submissions: whether those that are still to be submitted count.
        """
        states = ("processing", *TO_SUBMIT) if submissions else ("processing",)
        with self._db.read() as connection:
            found: float | None = connection.execute(
                select(func.min(batches.c.next_at)).where(batches.c.space_id == space_id, batches.c.state.in_(states))
            ).scalar()
            return found

    def open_texts(self) -> dict[str, int]:
        """Texts still waited for, by batch job."""
        with self._db.read() as connection:
            found = connection.execute(
                select(embeddings.c.batch_id, func.count().label("n"))
                .where(
                    embeddings.c.state == "processing",
                    embeddings.c.batch_id.is_not(None),
                    embeddings.c.owner.is_(None),
                )
                .group_by(embeddings.c.batch_id)
            )
            return {row.batch_id: row.n for row in found}

    # ------------------------------------------------------------------ what a person asks for

    def hurry(self) -> None:
        """Let every remote job be looked at now, not when it is due."""
        with self._db.begin() as connection:
            connection.execute(update(batches).where(batches.c.state == "processing").values(next_at=time.time()))

    # ------------------------------------------------------------------ inside

    def _record(
        self, connection: Connection, batch: BatchRow, *, values: Mapping[str, Any], release: bool = False
    ) -> BatchRow:
        columns = {**values, **({"owner": None, "lease_until": None} if release else {})}
        changed = connection.execute(
            update(batches)
            .where(batches.c.id == batch.id, batches.c.owner == batch.owner, batches.c.fence == batch.fence)
            .values(**columns)
        )
        if changed.rowcount != 1:
            raise LostClaim(f"batch job {batch.id} was taken over by another process; it goes on there")
        return _row(connection.execute(select(batches).where(batches.c.id == batch.id)).one())

    def _put_back(self, connection: Connection, which: ColumnElement[bool]) -> None:
        connection.execute(update(embeddings).where(which).values(state="pending", batch_id=None, next_at=None))


def _inside(batch: BatchRow) -> ColumnElement[bool]:
    """The texts that are waited for in a batch job. One with an owner was in it once, and is sent directly now."""
    return and_(embeddings.c.batch_id == batch.id, embeddings.c.state == "processing", embeddings.c.owner.is_(None))


def _fitting(found: Sequence[ClaimedText], most_tokens: int | None) -> list[ClaimedText]:
    """The first texts, as many as fit into `most_tokens`, at least one."""
    if most_tokens is None:
        return list(found)
    taken: list[ClaimedText] = []
    total = 0
    for text in found:
        if taken and total + text.tokens > most_tokens:
            break
        taken.append(text)
        total += text.tokens
    return taken


_FIELDS = tuple(BatchRow.__dataclass_fields__)


def _free(now: float, lease_s: float) -> ColumnElement[bool]:
    """Whether no process works on a batch job."""
    return or_(batches.c.owner.is_(None), lapsed(batches.c.lease_until, now, lease_s))


def _claimed(connection: Connection, batch_id: str, owner: str, *, now: float, lease_s: float) -> BatchRow | None:
    """The batch job, now of this owner; None when another owner has it."""
    taken = connection.execute(
        update(batches)
        .where(batches.c.id == batch_id, _free(now, lease_s))
        .values(owner=owner, lease_until=now + lease_s, fence=batches.c.fence + 1)
    )
    if not taken.rowcount:
        return None
    return _row(connection.execute(select(batches).where(batches.c.id == batch_id)).one())


def _row(row: Row[Any]) -> BatchRow:
    values = row._mapping
    return BatchRow(**{name: values[name] for name in _FIELDS})
