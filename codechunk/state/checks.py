"""The checks of `codechunk doctor` on the state database: what must hold at any moment, and what waits for somebody.

The questions themselves are in `questions`; here they are asked, and answered in words. Nothing is changed.
"""

from collections.abc import Iterator

import numpy as np
from sqlalchemy import Connection, func, select, text

from codechunk.documents import Finding
from codechunk.state.database import Database
from codechunk.state.embeddings import STORED
from codechunk.state.lexical import lexical_of
from codechunk.state.questions import QUESTIONS, REPORT, TEXT_STATES, Moment, Question
from codechunk.state.tables import embeddings, vectors

# Vectors read at once when all of them are looked at; at 768 dimensions 6 MB.
VECTORS_AT_ONCE = 4_000
REASONS_SHOWN = 3


class Checks:
    """Asks every question in one reading transaction, so that a process at work is not mistaken for damage."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def findings(
        self, *, now: float, max_job_age_s: float, store_id: int | None = None, copies: bool = True
    ) -> list[Finding]:
        """One finding a question, in a fixed order; `now` in seconds since 1970, `store_id` None for every store.

        Without `copies` no store is looked at, and what is asked about copies is skipped.

        Reads every page and every vector: about a second per gigabyte.
        """
        with self._db.read() as connection:
            lease_now = self._db.lease_now(connection)
            moment = Moment(now=now, lease_now=lease_now, max_job_age_s=max_job_age_s, store_id=store_id, copies=copies)
            found = [self._pages(connection), self._references(connection), _conservation(connection)]
            found += [_answer(connection, question, moment) for question in QUESTIONS]
            found += [_vector_values(connection), self._words(connection), _failed_texts(connection)]
            return found

    def _pages(self, connection: Connection) -> Finding:
        if not self._db.is_sqlite:
            return Finding(check="database_pages", status="skipped", count=0, message="the server checks its own pages")
        lines = list(connection.execute(text("PRAGMA integrity_check(20)")).scalars())
        if lines == ["ok"]:
            return Finding(check="database_pages", status="ok", count=0, message="every page is sound")
        return Finding(
            check="database_pages",
            status="error",
            count=len(lines),
            message=f"the state database is damaged: {lines[0]}",
            mend="move state.db away and restore the newest backup beside it (state.db.backup-...), or index again",
        )

    def _references(self, connection: Connection) -> Finding:
        if not self._db.is_sqlite:
            return Finding(check="references", status="skipped", count=0, message="the server guards references itself")
        rows = connection.execute(text("PRAGMA foreign_key_check")).all()
        if not rows:
            return Finding(check="references", status="ok", count=0, message="every row refers to rows that exist")
        tables = ", ".join(sorted({row[0] for row in rows}))
        return Finding(
            check="references",
            status="error",
            count=len(rows),
            message=f"{len(rows):,} rows of {tables} refer to rows that do not exist",
            mend="restore the newest backup beside state.db, or index again",
        )

    def _words(self, connection: Connection) -> Finding:
        missing = lexical_of(self._db).strays(connection)
        if missing is None:
            return Finding(check="words", status="skipped", count=0, message="the words are indexed in SQLite only")
        if not missing:
            return Finding(check="words", status="ok", count=0, message="every chunk can be found by its words")
        return Finding(
            check="words",
            status="error",
            count=missing,
            message=f"{missing:,} chunks and their words do not agree: search by words misses some",
            mend="codechunk index SOURCE --full (no text is bought again)",
        )


def _answer(connection: Connection, question: Question, moment: Moment) -> Finding:
    if question.of_copies and not moment.copies:
        message = "there is no copy of the vectors to look at"
        return Finding(check=question.check, status="skipped", count=0, message=message)
    count = max(0, int(connection.execute(question.count(moment)).scalar_one()))
    if not count:
        return Finding(check=question.check, status="ok", count=0, message=question.fine)
    message = question.wrong.format(n=f"{count:,}")
    return Finding(check=question.check, status=question.level, count=count, message=message, mend=question.mend)


def _conservation(connection: Connection) -> Finding:
    """The ledger of texts as a sum, for people; `text_states` finds what does not fit in it."""
    query = select(embeddings.c.state, func.count().label("n")).group_by(embeddings.c.state)
    states = {row.state: row.n for row in connection.execute(query)}
    sums = " + ".join(f"{states.get(state, 0):,} {state}" for state in TEXT_STATES)
    total = sum(states.values())
    balanced = total == sum(states.get(state, 0) for state in TEXT_STATES)
    return Finding(
        check="texts",
        status="ok" if balanced else "error",
        count=total,
        message=f"{total:,} texts = {sums}",
        mend="" if balanced else REPORT,
    )


def _failed_texts(connection: Connection) -> Finding:
    query = (
        select(embeddings.c.error, func.count().label("n"))
        .where(embeddings.c.state == "failed")
        .group_by(embeddings.c.error)
        .order_by(func.count().desc(), embeddings.c.error)
    )
    reasons = connection.execute(query).all()
    count = sum(row.n for row in reasons)
    if not count:
        return Finding(check="failed_texts", status="ok", count=0, message="no text has failed for good")
    shown = "; ".join(f"{row.n:,}: {row.error or 'no reason recorded'}" for row in reasons[:REASONS_SHOWN])
    return Finding(
        check="failed_texts",
        status="warning",
        count=count,
        message=f"{count:,} texts have failed for good ({shown})",
        mend="codechunk queue retry sends them again",
    )


def _vector_values(connection: Connection) -> Finding:
    """Every stored vector: finite numbers, and not all of them zero."""
    bad = total = 0
    for page in _vector_pages(connection):
        total += len(page)
        by_length: dict[int, list[bytes]] = {}
        for stored in page:
            by_length.setdefault(len(stored), []).append(stored)
        for length, group in by_length.items():
            if length == 0 or length % STORED.itemsize:
                bad += len(group)
                continue
            bits = np.frombuffer(b"".join(group), dtype="<u2").reshape(len(group), -1)
            # float16 by its bits: an exponent of ones is infinity or NaN, and all but the sign zero is zero.
            endless = ((bits & 0x7C00) == 0x7C00).any(axis=1)
            zero = ((bits & 0x7FFF) == 0).all(axis=1)
            bad += int(np.count_nonzero(endless | zero))
    if not bad:
        message = f"all {total:,} vectors are finite numbers and none is zero"
        return Finding(check="vector_values", status="ok", count=0, message=message)
    return Finding(
        check="vector_values",
        status="error",
        count=bad,
        message=f"{bad:,} of {total:,} vectors are zero or hold something that is no finite number",
        mend=REPORT,
    )


def _vector_pages(connection: Connection) -> Iterator[list[bytes]]:
    last = -1
    query = select(vectors.c.embedding_id, vectors.c.vector).order_by(vectors.c.embedding_id).limit(VECTORS_AT_ONCE)
    while rows := connection.execute(query.where(vectors.c.embedding_id > last)).all():
        last = rows[-1].embedding_id
        yield [row.vector for row in rows]
