"""What `codechunk doctor` asks the state database: one row a question, in SQL that both engines know.

A question counts the rows that should not be there. `error`: something that must never be, at whatever moment a
process is killed. `warning`: something that comes right by itself, or waits for somebody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from codechunk.state.batch_words import BATCH_ENDS, BATCH_STATES
from codechunk.state.contents import live_at
from codechunk.state.embeddings import STORED
from codechunk.state.queue import LONGEST_WAIT_S
from codechunk.state.tables import (
    batches,
    chunks,
    embeddings,
    files,
    index_chunks,
    index_stores,
    indexes,
    jobs,
    sources,
    spaces,
    vectors,
)

TEXT_STATES = ("pending", "processing", "ready", "failed")
# A batch job that nobody has looked at for so long after it was due has no worker.
OVERDUE_S = 600.0
# Jobs that are over, whatever came of them; the others hold rows that nobody refers to yet.
OVER = ("succeeded", "partial", "superseded")
# What to do about that which must never be.
REPORT = "please report this with the log; codechunk index SOURCE --full makes the index anew, nothing is bought again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When and where the questions are asked.

    Seconds since 1970, and on the lease clock; how old a batch job may become, in seconds; whose store is looked at
    (None: all of them); and whether there is a store with a copy to look at.
    """

    now: float
    lease_now: float
    max_job_age_s: float
    store_id: int | None = None
    copies: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`count` gives the number of rows that should not be there; `{n}` in `wrong` is that number.

    `of_copies`: it is about what stores hold a copy of, and not asked where there is none.
    """

    check: str
    level: Literal["warning", "error"]
    count: Callable[[Moment], Select[Any]]
    fine: str
    wrong: str
    mend: str
    of_copies: bool = False


def _count(table: Any, *where: ColumnElement[bool]) -> Select[Any]:
    return select(func.count()).select_from(table).where(*where)


_WAITS = embeddings.c.state.in_(("pending", "processing"))
_PROCESSING = embeddings.c.state == "processing"
_OPEN = batches.c.state.not_in(BATCH_ENDS)
_IN_OPEN_BATCH = select(batches.c.id).where(batches.c.id == embeddings.c.batch_id, _OPEN).exists()
_HAS_VECTOR = select(vectors.c.embedding_id).where(vectors.c.embedding_id == embeddings.c.id).exists()
_HAS_CHUNK = select(chunks.c.id).where(chunks.c.text_sha == embeddings.c.text_sha).exists()
# The files of what search answers from, each joined to its index.
_PUBLISHED = files.join(indexes, and_(indexes.c.id == files.c.index_id, indexes.c.generation > 0))
_LIVE = live_at(indexes.c.generation)
_PUBLISHED_CHUNKS = _PUBLISHED.join(chunks, chunks.c.source_id == files.c.source_id)
_TEXT_OF_CHUNK = and_(embeddings.c.text_sha == chunks.c.text_sha, embeddings.c.space_id == indexes.c.space_id)


def _stuck(_: Moment) -> Select[Any]:
    return _count(embeddings, _PROCESSING, embeddings.c.owner.is_(None), ~_IN_OPEN_BATCH)


def _in_two_places(_: Moment) -> Select[Any]:
    return _count(embeddings, _PROCESSING, embeddings.c.owner.is_not(None), _IN_OPEN_BATCH)


def _without_intent(_: Moment) -> Select[Any]:
    return _count(
        batches,
        or_(
            and_(batches.c.file_name.is_not(None), batches.c.upload_began_at.is_(None)),
            and_(batches.c.remote_name.is_not(None), batches.c.create_began_at.is_(None)),
            and_(batches.c.state == "processing", batches.c.remote_name.is_(None)),
        ),
    )


def _shared_remote_jobs(_: Moment) -> Select[Any]:
    named = select(batches.c.remote_name).where(batches.c.remote_name.is_not(None))
    return _count(named.group_by(batches.c.remote_name).having(func.count() > 1).subquery())


def _half_ended(_: Moment) -> Select[Any]:
    ended_badly = and_(~_OPEN, or_(batches.c.finished_at.is_(None), batches.c.owner.is_not(None)))
    return _count(batches, or_(ended_badly, and_(_OPEN, batches.c.finished_at.is_not(None))))


def _wrong_length(_: Moment) -> Select[Any]:
    joined = vectors.join(embeddings, embeddings.c.id == vectors.c.embedding_id).join(
        spaces, spaces.c.id == embeddings.c.space_id
    )
    return _count(joined, func.length(vectors.c.vector) != spaces.c.dimensions * STORED.itemsize)


def _unmarked_vectors(_: Moment) -> Select[Any]:
    return _count(vectors.join(embeddings, embeddings.c.id == vectors.c.embedding_id), embeddings.c.state != "ready")


def _lost_chunks(_: Moment) -> Select[Any]:
    joined = _PUBLISHED_CHUNKS.outerjoin(embeddings, _TEXT_OF_CHUNK)
    return _count(joined, _LIVE, files.c.status == "indexed", embeddings.c.id.is_(None))


def _unread_files(_: Moment) -> Select[Any]:
    unread = and_(files.c.status == "indexed", files.c.source_id.is_(None))
    return _count(_PUBLISHED, _LIVE, or_(files.c.status == "planned", unread))


def _nameless_indexes(_: Moment) -> Select[Any]:
    missing = or_(indexes.c.commit_sha.is_(None), indexes.c.fingerprint.is_(None))
    return _count(indexes, indexes.c.generation > 0, missing)


def _too_early(_: Moment) -> Select[Any]:
    """Indexes whose last run says `succeeded` although a chunk of what it published has no vector.

    While a run is unfinished it may have published already and not said so yet.
    """
    finished = jobs.alias()
    newest = (
        select(func.max(finished.c.finished_at))
        .where(finished.c.index_id == indexes.c.id, finished.c.status.in_(("succeeded", "partial")))
        .scalar_subquery()
    )
    said = (
        select(jobs.c.id)
        .where(jobs.c.index_id == indexes.c.id, jobs.c.status == "succeeded", jobs.c.finished_at == newest)
        .exists()
    )
    open_chunk = (
        select(chunks.c.id)
        .select_from(
            files.join(chunks, chunks.c.source_id == files.c.source_id).join(
                embeddings, embeddings.c.text_sha == chunks.c.text_sha
            )
        )
        .where(
            files.c.index_id == indexes.c.id,
            _LIVE,
            files.c.status == "indexed",
            embeddings.c.space_id == indexes.c.space_id,
            embeddings.c.state != "ready",
        )
        .exists()
    )
    unfinished = select(jobs.c.id).where(jobs.c.index_id == indexes.c.id, jobs.c.status.not_in(OVER)).exists()
    return _count(indexes, indexes.c.generation > 0, said, ~unfinished, open_chunk)


def _held_without_vector(_: Moment) -> Select[Any]:
    joined = index_chunks.outerjoin(vectors, vectors.c.embedding_id == index_chunks.c.embedding_id)
    return _count(joined, vectors.c.embedding_id.is_(None))


def _unstored(moment: Moment) -> Select[Any]:
    """Published vectors that a copy lacks although it is said to be up to date. One that is behind follows at the next
    search in it."""
    copies = and_(index_stores.c.index_id == indexes.c.id, index_stores.c.publication == indexes.c.publications)
    if moment.store_id is not None:
        copies = and_(copies, index_stores.c.store_id == moment.store_id)
    held = and_(
        index_chunks.c.index_id == indexes.c.id,
        index_chunks.c.store_id == index_stores.c.store_id,
        index_chunks.c.chunk_id == chunks.c.chunk_id,
    )
    joined = _PUBLISHED_CHUNKS.join(embeddings, _TEXT_OF_CHUNK).join(index_stores, copies).outerjoin(index_chunks, held)
    missing = or_(index_chunks.c.chunk_id.is_(None), index_chunks.c.embedding_id != embeddings.c.id)
    return _count(joined, _LIVE, files.c.status == "indexed", embeddings.c.state == "ready", missing)


def _held_for_nobody(moment: Moment) -> Select[Any]:
    """What a copy that is behind still holds is taken out when it follows."""
    behind = (
        select(indexes.c.id)
        .join(index_stores, index_stores.c.index_id == indexes.c.id)
        .where(
            indexes.c.id == index_chunks.c.index_id,
            index_stores.c.store_id == index_chunks.c.store_id,
            index_stores.c.publication != indexes.c.publications,
        )
        .exists()
    )
    known = select(chunks.c.id).where(chunks.c.chunk_id == index_chunks.c.chunk_id).exists()
    mine = [] if moment.store_id is None else [index_chunks.c.store_id == moment.store_id]
    return _count(index_chunks, ~known, ~behind, *mine)


def _unused_contents(_: Moment) -> Select[Any]:
    """An unfinished run keeps what it has cut so far, without files that refer to it yet."""
    used = select(files.c.id).where(files.c.source_id == sources.c.id).exists()
    unfinished = (
        select(jobs.c.id)
        .select_from(jobs.join(indexes, indexes.c.id == jobs.c.index_id))
        .where(indexes.c.repository_id == sources.c.repository_id, jobs.c.status.not_in(OVER))
        .exists()
    )
    return _count(sources, ~used, ~unfinished)


def _lapsed_claims(moment: Moment) -> Select[Any]:
    def over(table: Any) -> ColumnElement[bool]:
        return and_(
            table.c.owner.is_not(None), or_(table.c.lease_until.is_(None), table.c.lease_until < moment.lease_now)
        )

    texts = _count(embeddings, _PROCESSING, over(embeddings)).scalar_subquery()
    return select(texts + _count(batches, over(batches)).scalar_subquery())


def _overdue(moment: Moment) -> Select[Any]:
    return _count(batches, _OPEN, batches.c.owner.is_(None), batches.c.next_at < moment.now - OVERDUE_S)


def _too_old(moment: Moment) -> Select[Any]:
    since = func.coalesce(batches.c.submitted_at, batches.c.created_at)
    return _count(batches, _OPEN, since < moment.now - moment.max_job_age_s)


def _empty_batches(_: Moment) -> Select[Any]:
    waiting = select(embeddings.c.id).where(embeddings.c.batch_id == batches.c.id, _PROCESSING).exists()
    return _count(batches, _OPEN, batches.c.owner.is_(None), ~waiting)


def _too_far(moment: Moment) -> Select[Any]:
    latest = moment.now + LONGEST_WAIT_S
    texts = _count(embeddings, _WAITS, embeddings.c.next_at > latest).scalar_subquery()
    return select(texts + _count(batches, _OPEN, batches.c.next_at > latest).scalar_subquery())


def _unknown_batches(_: Moment) -> Select[Any]:
    known = select(batches.c.id).where(batches.c.id == embeddings.c.batch_id).exists()
    return _count(embeddings, embeddings.c.batch_id.is_not(None), ~known)


def _bought_twice(_: Moment) -> Select[Any]:
    """Vectors that batch jobs brought, less the texts that have theirs from one."""
    brought = select(func.coalesce(func.sum(batches.c.rows_ok), 0)).scalar_subquery()
    return select(brought - _count(embeddings, embeddings.c.paid == "batch").scalar_subquery())


_SYNC = "codechunk queue sync, or codechunk worker start"
_AGAIN = "run the same codechunk index again"

QUESTIONS = (
    Question(
        check="text_states",
        level="error",
        count=lambda _: _count(embeddings, embeddings.c.state.not_in(TEXT_STATES)),
        fine="every text is pending, processing, ready or failed",
        wrong="{n} texts are in a state that does not exist",
        mend=REPORT,
    ),
    Question(
        check="ready_texts_have_vectors",
        level="error",
        count=lambda _: _count(embeddings, embeddings.c.state == "ready", ~_HAS_VECTOR),
        fine="every text that is ready has its vector",
        wrong="{n} texts are said to be ready and have no vector",
        mend=REPORT,
    ),
    Question(
        check="vectors_are_used",
        level="error",
        count=_unmarked_vectors,
        fine="every vector belongs to a text that is ready",
        wrong="{n} vectors were stored and their texts are not marked ready: they would be bought again",
        mend=REPORT,
    ),
    Question(
        check="vector_lengths",
        level="error",
        count=_wrong_length,
        fine="every vector is as long as its vector space says",
        wrong="{n} vectors are not as long as their vector space says",
        mend=REPORT,
    ),
    Question(
        check="texts_in_work_are_held",
        level="error",
        count=_stuck,
        fine="every text in work is held by a process or an open batch job",
        wrong="{n} texts are in work and nobody works on them: they would wait for ever",
        mend=REPORT,
    ),
    Question(
        check="texts_are_sent_once",
        level="error",
        count=_in_two_places,
        fine="no text is sent directly and in a batch job at once",
        wrong="{n} texts are being sent directly and in an open batch job: they may be bought twice",
        mend=REPORT,
    ),
    Question(
        check="texts_bought_once",
        level="warning",
        count=_bought_twice,
        fine="no batch job brought a vector that was there already",
        wrong="{n} vectors of batch jobs came for texts that had theirs already: those were bought twice",
        mend="none is needed; raise batch_processing.reconcile_grace if replies of the provider get lost often",
    ),
    Question(
        check="batch_states",
        level="error",
        count=lambda _: _count(batches, batches.c.state.not_in(BATCH_STATES)),
        fine="every batch job is in a state that exists",
        wrong="{n} batch jobs are in a state that does not exist",
        mend=REPORT,
    ),
    Question(
        check="intent_before_money",
        level="error",
        count=_without_intent,
        fine="what was begun at the provider was written down before",
        wrong="{n} batch jobs have something at the provider that was not written down before",
        mend=REPORT,
    ),
    Question(
        check="one_remote_job_each",
        level="error",
        count=_shared_remote_jobs,
        fine="no two batch jobs share one job at the provider",
        wrong="{n} jobs at the provider belong to more than one batch job",
        mend=REPORT,
    ),
    Question(
        check="batches_end_whole",
        level="error",
        count=_half_ended,
        fine="batch jobs that ended are free and have a time, the others do not",
        wrong="{n} batch jobs are half ended",
        mend=REPORT,
    ),
    Question(
        check="batches_have_texts",
        level="warning",
        count=_empty_batches,
        fine="every open batch job has texts that wait for it",
        wrong="{n} open batch jobs have no text that waits for them any more",
        mend=_SYNC,
    ),
    Question(
        check="batches_are_looked_at",
        level="warning",
        count=_overdue,
        fine="no batch job waits to be looked at",
        wrong="{n} batch jobs were due more than ten minutes ago: no worker is running",
        mend=_SYNC,
    ),
    Question(
        check="batch_ages",
        level="warning",
        count=_too_old,
        fine="no batch job is older than batch_processing.max_job_age",
        wrong="{n} batch jobs are older than batch_processing.max_job_age",
        mend=_SYNC,
    ),
    Question(
        check="claims",
        level="warning",
        count=_lapsed_claims,
        fine="no claim of a process that is gone",
        wrong="{n} texts or batch jobs are claimed by processes whose time is over",
        mend=_SYNC,
    ),
    Question(
        check="waiting_times",
        level="warning",
        count=_too_far,
        fine="nothing waits longer than anything should",
        wrong="{n} texts or batch jobs wait for a time that a clock which has jumped wrote down",
        mend="none is needed: such a time counts as come; set the clock of this machine",
    ),
    Question(
        check="batches_of_texts_exist",
        level="warning",
        count=_unknown_batches,
        fine="every batch job that a text names exists",
        wrong="{n} texts name a batch job that does not exist",
        mend="none is needed for texts that are not in work",
    ),
    Question(
        check="published_chunks_have_texts",
        level="error",
        count=_lost_chunks,
        fine="every published chunk is in the ledger of texts",
        wrong="{n} published chunks are lost: no text was asked for them",
        mend="codechunk index SOURCE --full",
    ),
    Question(
        check="published_files_were_read",
        level="error",
        count=_unread_files,
        fine="every published file was read",
        wrong="{n} published files were never read",
        mend="codechunk index SOURCE --full",
    ),
    Question(
        check="published_indexes_have_commits",
        level="error",
        count=_nameless_indexes,
        fine="every published index names its commit and settings",
        wrong="{n} published indexes do not name their commit or settings",
        mend="codechunk index SOURCE --full",
    ),
    Question(
        check="jobs_tell_the_truth",
        level="error",
        count=_too_early,
        fine="no job says succeeded while a chunk of it has no vector",
        wrong="{n} jobs say succeeded although a chunk of theirs has no vector",
        mend=_AGAIN,
    ),
    Question(
        check="index_has_only_stored_vectors",
        level="error",
        count=_held_without_vector,
        fine="the vector index holds only vectors that are stored here too",
        wrong="{n} vectors of the vector index are not stored here: it could not be rebuilt",
        mend=REPORT,
    ),
    Question(
        check="index_is_complete",
        level="warning",
        count=_unstored,
        fine="every published vector is in the vector index",
        wrong="{n} published vectors are not in the vector index yet",
        mend=_AGAIN,
        of_copies=True,
    ),
    Question(
        check="index_holds_nothing_old",
        level="warning",
        count=_held_for_nobody,
        fine="the vector index holds no chunk that is gone",
        wrong="{n} chunks of the vector index are gone; search leaves them out",
        mend="remove the folder chroma in the data directory: the next run rebuilds it, nothing is bought again",
        of_copies=True,
    ),
    Question(
        check="texts_are_wanted",
        level="warning",
        count=lambda _: _count(embeddings, embeddings.c.state == "pending", ~_HAS_CHUNK),
        fine="no text waits that no chunk has",
        wrong="{n} texts wait although no chunk has them any more; they are not sent",
        mend="none is needed: the next run of index drops them",
    ),
    Question(
        check="contents_are_used",
        level="warning",
        count=_unused_contents,
        fine="no content that no file refers to",
        wrong="{n} contents are kept that no file refers to",
        mend="none is needed: the next run of index of that repository drops them",
    ),
)
