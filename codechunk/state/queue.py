"""The queue of texts that wait for a vector from a provider: claims, results, failures. One transaction a method.

A text is `pending` (anybody may claim it), `processing` (in a batch job, or claimed by a process that sends it
directly), `ready` or `failed`. `claim` is atomic, so two processes never send the same text; a claim ends with its
lease, or at once when its owner is known to be gone.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, and_, bindparam, case, delete, func, or_, select, update

from codechunk.slices import slices
from codechunk.state.database import Database
from codechunk.state.embeddings import CAREFUL_BYTES_PER_TOKEN, STORED, Vectors, tokens_of_text
from codechunk.state.tables import batches, chunks, embeddings, facts, jobs, sources, vectors
from codechunk.text.chunks import with_header

# A time further away than any wait of ours was written by a clock that has jumped: it counts as come.
LONGEST_WAIT_S = 2 * 86_400.0
IDS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedText:
    """A text that this process alone may send now. `tokens` is our count, or an estimate unless it was `counted`."""

    embedding_id: int
    text_sha: str
    text: str
    tokens: int
    counted: bool
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """Texts of a vector space by state, and the time until which the oldest pending one has waited."""

    pending: int
    processing: int
    ready: int
    failed: int
    oldest_pending_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BoughtTexts:
    """What was bought for one run of index, read from the rows.

    `sent` counts texts with their repetitions. Tokens are the provider's (`batch`, `direct`) where it told them; of the
    other texts they are ours (`batch_estimated`, `direct_estimated`).
    """

    requests: int
    sent: int
    batches: int
    fallbacks: int
    batch: int
    direct: int
    batch_estimated: int
    direct_estimated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """Why no batch jobs are submitted before `until` (seconds since 1970); `step` counts the waits in a row."""

    until: float
    step: int
    reason: str
    quota: bool


def due(column: ColumnElement[float | None], now: float) -> ColumnElement[bool]:
    """Whether a `next_at` has come, or cannot be meant."""
    return or_(column.is_(None), column <= now, column > now + LONGEST_WAIT_S)


class Queue:
    """Texts on their way to a provider."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # ------------------------------------------------------------------ claims

    def claim(
        self,
        space_id: int,
        owner: str,
        *,
        most: int,
        lease_s: float,
        fallen_back: bool = False,
        job_id: str | None = None,
    ) -> list[ClaimedText]:
        """Take up to `most` pending texts of the space for sending them directly, first come first served.

        Args:
            fallen_back: only texts whose batch jobs ended badly.
            job_id: only texts that this run of index asked for.
        """
        conditions = [embeddings.c.route == "direct"] if fallen_back else []
        if job_id is not None:
            conditions.append(embeddings.c.job_id == job_id)
        with self._db.begin() as connection:
            found = pending_texts(connection, space_id, most=most, where=conditions)
            connection.execute(
                update(embeddings)
                .where(embeddings.c.id.in_([text.embedding_id for text in found]))
                .values(state="processing", owner=owner, lease_until=self._db.lease_now(connection) + lease_s)
            )
            return found

    def renew(self, owner: str, *, lease_s: float) -> None:
        """The owner lives: its claims, of texts and of batch jobs, hold for another `lease_s`."""
        with self._db.begin() as connection:
            until = self._db.lease_now(connection) + lease_s
            connection.execute(
                update(embeddings)
                .where(embeddings.c.owner == owner, embeddings.c.state == "processing")
                .values(lease_until=until)
            )
            connection.execute(update(batches).where(batches.c.owner == owner).values(lease_until=until))

    def release(self, owner: str) -> None:
        """Give back what this owner holds and has not done."""
        with self._db.begin() as connection:
            self._release(connection, embeddings.c.owner == owner)
            connection.execute(update(batches).where(batches.c.owner == owner).values(owner=None, lease_until=None))

    def free_abandoned(self, is_gone: Callable[[str], bool], *, lease_s: float) -> int:
        """Give back what dead owners held: those surely gone, and those whose lease is over. Returns how many texts."""
        with self._db.begin() as connection:
            now = self._db.lease_now(connection)
            over = lapsed(embeddings.c.lease_until, now, lease_s)
            held = and_(embeddings.c.state == "processing", embeddings.c.owner.is_not(None))
            owners = set(connection.execute(select(embeddings.c.owner).where(held).distinct()).scalars())
            owners |= set(connection.execute(select(batches.c.owner).where(batches.c.owner.is_not(None))).scalars())
            gone = [owner for owner in owners if is_gone(owner)]
            freed = self._release(connection, and_(held, or_(over, embeddings.c.owner.in_(gone))))
            connection.execute(update(batches).where(batches.c.owner.in_(gone)).values(owner=None, lease_until=None))
            return freed

    def _release(self, connection: Connection, which: ColumnElement[bool]) -> int:
        return connection.execute(
            update(embeddings)
            .where(which, embeddings.c.state == "processing", embeddings.c.owner.is_not(None))
            .values(state="pending", owner=None, lease_until=None)
        ).rowcount

    # ------------------------------------------------------------------ results of direct calls

    def save_direct(
        self,
        embedding_ids: Sequence[int],
        values: Vectors,
        *,
        tokens: Sequence[int | None],
        requests: int,
        free: bool = False,
    ) -> None:
        """Store vectors that were just bought directly, or made for nothing (`free`), and mark their texts ready.

        A claim that was lost in the meantime does not matter: the vector is paid for and belongs to the text.
        """
        with self._db.begin() as connection:
            paid = None if free else "direct"
            save_vectors(self._db, connection, embedding_ids, values, tokens=tokens, paid=paid)
            if free:
                return
            first = select(embeddings.c.job_id).where(embeddings.c.id == embedding_ids[0]).scalar_subquery()
            connection.execute(update(jobs).where(jobs.c.id == first).values(requests=jobs.c.requests + requests))

    def fail(self, embedding_id: int, reason: str) -> None:
        """Record that the provider will not take this text, and why."""
        with self._db.begin() as connection:
            connection.execute(
                update(embeddings)
                .where(embeddings.c.id == embedding_id, embeddings.c.state != "ready")
                .values(
                    state="failed",
                    attempts=embeddings.c.attempts + 1,
                    error=reason,
                    owner=None,
                    lease_until=None,
                )
            )

    def retry_failed(self, space_id: int | None = None) -> int:
        """Let every failed text wait again, as if it had never been tried. Returns how many."""
        where = [] if space_id is None else [embeddings.c.space_id == space_id]
        with self._db.begin() as connection:
            return connection.execute(
                update(embeddings)
                .where(embeddings.c.state == "failed", *where)
                .values(state="pending", attempts=0, error=None, next_at=None, route="any", batch_id=None)
            ).rowcount

    # ------------------------------------------------------------------ looking

    def counts(self, space_id: int | None = None) -> QueueCounts:
        """Texts by state, of one space or of all."""
        mine = [] if space_id is None else [embeddings.c.space_id == space_id]
        query = select(embeddings.c.state, func.count().label("n")).where(*mine).group_by(embeddings.c.state)
        with self._db.read() as connection:
            found = {row.state: row.n for row in connection.execute(query)}
            waiting = select(embeddings.c.job_id).where(embeddings.c.state == "pending", *mine).distinct()
            oldest = select(func.min(jobs.c.started_at)).where(jobs.c.id.in_(waiting))
            since = connection.execute(oldest).scalar() if found.get("pending") else None
        return QueueCounts(
            pending=found.get("pending", 0),
            processing=found.get("processing", 0),
            ready=found.get("ready", 0),
            failed=found.get("failed", 0),
            oldest_pending_at=since,
        )

    def waiting(
        self, space_id: int, *, fallen_back: bool | None = None, job_id: str | None = None
    ) -> tuple[int, float | None]:
        """How many pending texts could be claimed now, and when the next of the others may be (None: there is none).

        Args:
            fallen_back: only those whose batch jobs ended badly (True), only the others (False), or all.
        """
        now = time.time()
        route: list[ColumnElement[bool]] = []
        if fallen_back is not None:
            direct = embeddings.c.route == "direct"
            route = [direct if fallen_back else ~direct]
        if job_id is not None:
            route.append(embeddings.c.job_id == job_id)
        ripe = due(embeddings.c.next_at, now)
        query = select(
            func.coalesce(func.sum(case((ripe, 1), else_=0)), 0).label("ripe"),
            func.min(case((~ripe, embeddings.c.next_at))).label("next"),
        ).where(embeddings.c.space_id == space_id, embeddings.c.state == "pending", *route)
        with self._db.read() as connection:
            row = connection.execute(query).one()
            return int(row.ripe), row.next

    def bought(self, job_id: str) -> BoughtTexts:
        """What was sent and bought for a run of index so far."""
        mine = embeddings.c.job_id == job_id
        with self._db.read() as connection:
            sums = connection.execute(
                select(
                    func.coalesce(func.sum(embeddings.c.attempts), 0).label("sent"),
                    func.count(embeddings.c.batch_id.distinct()).label("batches"),
                    func.count(case((embeddings.c.route == "direct", embeddings.c.batch_id)).distinct()).label("fell"),
                ).where(mine)
            ).one()
            requests = connection.execute(select(jobs.c.requests).where(jobs.c.id == job_id)).scalar() or 0
            tokens = dict.fromkeys(("batch", "direct", "batch_estimated", "direct_estimated"), 0)
            ours = _our_tokens()
            known = select(embeddings.c.paid, func.sum(embeddings.c.tokens).label("n")).where(
                mine, embeddings.c.paid.is_not(None), embeddings.c.tokens.is_not(None)
            )
            unknown = select(embeddings.c.paid, func.sum(ours).label("n")).where(
                mine, embeddings.c.paid.is_not(None), embeddings.c.tokens.is_(None)
            )
            for row in connection.execute(known.group_by(embeddings.c.paid)):
                tokens[row.paid] = int(row.n)
            for row in connection.execute(unknown.group_by(embeddings.c.paid)):
                tokens[f"{row.paid}_estimated"] = int(row.n or 0)
        return BoughtTexts(requests=requests, sent=sums.sent, batches=sums.batches, fallbacks=sums.fell, **tokens)

    def wanted(self, job_id: str, *, fallen_back: bool = False) -> tuple[int, int]:
        """Texts that a run of index waits for, and their tokens by our count or estimate.

        Args:
            fallen_back: only those whose batch jobs ended badly and that wait to be sent directly.
        """
        tokens = _our_tokens()
        which: list[ColumnElement[bool]] = [embeddings.c.state.in_(("pending", "processing"))]
        if fallen_back:
            which = [embeddings.c.state == "pending", embeddings.c.route == "direct"]
        query = select(func.count(), func.coalesce(func.sum(tokens), 0)).where(embeddings.c.job_id == job_id, *which)
        with self._db.read() as connection:
            count, total = connection.execute(query).one()
            return int(count), int(total)

    def still_open(self, job_id: str) -> int:
        """How many texts of a run of index are still out or waiting."""
        query = select(func.count()).where(
            embeddings.c.job_id == job_id, embeddings.c.state.in_(("pending", "processing"))
        )
        with self._db.read() as connection:
            return connection.execute(query).scalar_one()

    # ------------------------------------------------------------------ facts that all processes share

    def fact(self, name: str) -> object:
        """A remembered JSON value, None when there is none."""
        with self._db.read() as connection:
            found = connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar()
            return None if found is None else json.loads(found)

    def amend(self, name: str, change: Callable[[Any], Any]) -> Any:
        """Replace a remembered JSON value by `change(value)`, in one transaction. Returns the new one.

        None stands for no value, before and after.
        """
        with self._db.begin() as connection:
            found = connection.execute(select(facts.c.value).where(facts.c.name == name).with_for_update()).scalar()
            value = change(None if found is None else json.loads(found))
            if value is None:
                connection.execute(delete(facts).where(facts.c.name == name))
            else:
                statement = self._db.upsert(facts, key=["name"], values=["value"])
                connection.execute(statement, {"name": name, "value": json.dumps(value)})
            return value

    def first_time(self, name: str) -> bool:
        """Whether this is asked for the first time ever; the answer is True to one process only."""
        with self._db.begin() as connection:
            statement = self._db.insert_new(facts).values(name=f"notice:{name}", value="true")
            return connection.execute(statement).rowcount == 1

    def throttle(self) -> Throttle | None:
        """The wait of all submissions, when there is one and it is not over."""
        found = self.fact("throttle")
        if not isinstance(found, dict):
            return None
        throttle = Throttle(**found)
        now = time.time()
        return throttle if now < throttle.until <= now + LONGEST_WAIT_S else None

    def raise_throttle(self, *, wait_s: Callable[[int], float], reason: str, quota: bool) -> Throttle:
        """Make all submissions wait; `wait_s(step)` says how long at the step-th time in a row (1, 2, ...)."""

        def raised(before: Any) -> dict[str, Any]:
            step = (before["step"] if before else 0) + 1
            return asdict(Throttle(until=time.time() + wait_s(step), step=step, reason=reason, quota=quota))

        return Throttle(**self.amend("throttle", raised))

    def end_throttle(self, *, only_quota: bool = False) -> None:
        """Let submissions go on: one was accepted, or (`only_quota`) a job ended, so that there is room again.

        After an end of a job the steps are kept: only success proves that there is room.
        """

        def ended(before: Any) -> Any:
            if before is None or not only_quota:
                return None
            return {**before, "until": 0.0} if before["quota"] else before

        self.amend("throttle", ended)


def _our_tokens() -> ScalarSelect[Any]:
    """The tokens of a text in `embeddings` by our count or estimate."""
    return select(tokens_of_text()).where(chunks.c.text_sha == embeddings.c.text_sha).scalar_subquery()


def lapsed(lease_until: ColumnElement[float | None], now: float, lease_s: float) -> ColumnElement[bool]:
    """Whether a lease is over. One that ends later than any could was given before a reboot set the clock back."""
    return or_(lease_until.is_(None), lease_until < now, lease_until > now + 2 * lease_s)


def pending_texts(
    connection: Connection, space_id: int, *, most: int, where: Sequence[ColumnElement[bool]] = ()
) -> list[ClaimedText]:
    """Pending texts that may be claimed now, in order; those that no chunk has any more are forgotten on the way."""
    first = select(func.min(chunks.c.id)).where(chunks.c.text_sha == embeddings.c.text_sha).scalar_subquery()
    query = (
        select(embeddings.c.id, first.label("chunk"))
        .where(
            embeddings.c.space_id == space_id,
            embeddings.c.state == "pending",
            due(embeddings.c.next_at, time.time()),
            *where,
        )
        .order_by(embeddings.c.id)
        .limit(most)
        .with_for_update(skip_locked=True, of=embeddings)  # PostgreSQL; SQLite has locked the database already
    )
    while True:
        rows = connection.execute(query).all()
        unwanted = [row.id for row in rows if row.chunk is None]
        if not unwanted:
            return texts_of(connection, {row.id: row.chunk for row in rows})
        connection.execute(delete(embeddings).where(embeddings.c.id.in_(unwanted)))  # and see what stood behind them


def rough_tokens(text: str) -> int:
    """Tokens that an uncounted text has at most, nearly always."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // CAREFUL_BYTES_PER_TOKEN)


def texts_of(connection: Connection, chunk_of: dict[int, int]) -> list[ClaimedText]:
    """The texts of embeddings, by the row of any chunk that has them; in order of the embeddings."""
    wanted = sorted(chunk_of)
    found = []
    for some in slices(wanted, IDS_AT_ONCE):
        texts = {
            row.id: row
            for row in connection.execute(
                select(chunks.c.id, chunks.c.header, chunks.c.text, chunks.c.tokens, sources.c.language)
                .join(sources, sources.c.id == chunks.c.source_id)
                .where(chunks.c.id.in_([chunk_of[embedding_id] for embedding_id in some]))
            )
        }
        states = connection.execute(
            select(embeddings.c.id, embeddings.c.text_sha, embeddings.c.attempts)
            .where(embeddings.c.id.in_(some))
            .order_by(embeddings.c.id)
        )
        for row in states:
            chunk = texts[chunk_of[row.id]]
            text = with_header(chunk.header, chunk.text, chunk.language)
            found.append(
                ClaimedText(
                    embedding_id=row.id,
                    text_sha=row.text_sha,
                    text=text,
                    tokens=rough_tokens(text) if chunk.tokens is None else chunk.tokens,
                    counted=chunk.tokens is not None,
                    attempts=row.attempts,
                )
            )
    return found


def save_vectors(
    database: Database,
    connection: Connection,
    embedding_ids: Sequence[int],
    values: Vectors,
    *,
    tokens: Sequence[int | None],
    paid: str | None,
) -> None:
    """Store vectors, then mark their texts ready; what is ready already stays as it is.

    A text that was forgotten meanwhile, its claim having been lost, needs none.
    """
    known = set(connection.execute(select(embeddings.c.id).where(embeddings.c.id.in_(embedding_ids))).scalars())
    stored = values.astype(STORED)
    rows = [
        {"embedding_id": embedding_id, "vector": stored[number].tobytes()}
        for number, embedding_id in enumerate(embedding_ids)
        if embedding_id in known
    ]
    if not rows:
        return
    connection.execute(database.insert_new(vectors), rows)
    connection.execute(
        update(embeddings)
        .where(embeddings.c.id == bindparam("row"), embeddings.c.state != "ready")
        .values(
            state="ready",
            attempts=embeddings.c.attempts + 1,
            error=None,
            owner=None,
            lease_until=None,
            next_at=None,
            paid=paid,
            tokens=bindparam("count"),
        ),
        [{"row": embedding_id, "count": count} for embedding_id, count in zip(embedding_ids, tokens, strict=True)],
    )
