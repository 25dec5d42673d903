"""Runs of `index`: how they stand, and what a person does with one.

Everything is read from rows at the moment it is asked, never from a counter: a job is not `succeeded` while a chunk of
it waits, whatever was written down when its command ended. Only `cancel_job` and `take_up_job` change something.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from codechunk import providers
from codechunk.documents import (
    BatchJob,
    Cost,
    FailedChunk,
    IndexChunks,
    JobCancelled,
    JobChunks,
    JobDetails,
    JobDocument,
    KeptBatch,
    PathReason,
)
from codechunk.errors import CodechunkError, NotFound, UsageError
from codechunk.sending.batch_view import batch_views
from codechunk.state import BatchRow, Generation, IndexRow, JobRow, Space, State
from codechunk.text.money import rounded_usd
from codechunk.text.times import utc
from codechunk.workspace.estimates import Estimates
from codechunk.workspace.run_plan import Outcome, RunPlan

FAILED_CHUNKS_SHOWN = 100


def job_documents(state: State, *, limit: int | None = None) -> list[JobDocument]:
    """The runs of `index`, the newest first, each as in `jobs list --json`."""
    found = state.catalog.jobs(limit=limit)
    return [JobDocument(**document) for document in _jobs(state, found)]


def job_document(state: State, job_id: str, estimates: Estimates) -> JobDetails:
    """One run as in `jobs show --json`: with its batch jobs, and its failed chunks with their reasons.

    Raises:
        NotFound: when there is no run with this id, or beginning of an id, or more than one.
    """
    job, index = find_job(state, job_id)
    generation = generation_of(job, index)
    failed = [] if generation is None else state.embeddings.failures(generation, limit=FAILED_CHUNKS_SHOWN)
    files = [] if generation is None else state.contents.failed_files(generation, limit=FAILED_CHUNKS_SHOWN)
    outline = _ended(job)
    return JobDetails(
        **_jobs(state, [(job, index)])[0],
        mode=None if outline is None else outline.mode,
        cost=None if outline is None else _cost(state, job, index, outline, estimates),
        batches=_batch_documents(state, state.batches.rows(job_id=job.id), estimates),
        failed_chunks=[FailedChunk(place=place, reason=reason) for place, reason in failed],
        failed_files=[PathReason(path=path, reason=reason) for path, reason in files],
    )


def find_job(state: State, job_id: str) -> tuple[JobRow, IndexRow]:
    """A run by its id or the beginning of it, with what it makes. Raises NotFound when that names not one run."""
    found = state.catalog.job(job_id) if job_id else None
    if found is None:
        raise NotFound(f"No job {job_id!r}, or more than one; `codechunk jobs list` shows them all.")
    return found


def take_up_job(state: State, job_id: str, space: Space) -> tuple[str, str]:
    """Let the failed texts of a run wait again; returns what `index` must be given to go on: its source and its ref.

    Raises:
        UsageError: when there is no such run, it is over, or it makes vectors that this configuration does not make.
    """
    job, index = find_job(state, job_id)
    status = _jobs(state, [(job, index)])[0]["status"]
    if status in {"succeeded", "superseded"}:
        why = "it succeeded" if status == "succeeded" else "a newer run of the same index has replaced it"
        raise UsageError(f"Job {job.id} is over: {why}. `codechunk index {index.url} --ref {index.ref}` starts anew.")
    if index.space != space:
        raise UsageError(
            f"Job {job.id} makes vectors of {index.space.model} with {index.space.dimensions} dimensions, and this "
            f"configuration those of {space.model} with {space.dimensions}: use the configuration it was begun with."
        )
    state.catalog.requeue_failed(job)
    return index.url, index.ref


def cancel_job(state: State, job_id: str, cancel_batch: Callable[[str], object]) -> JobCancelled:
    """End a run: drop the texts that wait for it alone, and cancel the batch jobs that carry nothing else.

    The caller holds the repository's lock, so no process works on the run. `cancel_batch` is given the id of a batch
    job; when it raises a CodechunkError, that job is told as one that goes on.

    Raises:
        UsageError: when there is no such run, or it has ended.
    """
    job, index = find_job(state, job_id)
    if job.status not in {"running", "embedding", "failed"}:
        raise UsageError(f"Job {job.id} has ended already ({job.status}); there is nothing to cancel.")
    dropped = state.catalog.cancel_job(job, index)
    alone, shared = state.catalog.batches_of_job(job, index)
    cancelled, kept = [], [KeptBatch(id=batch_id, reason="other jobs need its texts too") for batch_id in shared]
    for batch_id in alone:
        try:
            cancel_batch(batch_id)
        except CodechunkError as exc:
            kept.append(KeptBatch(id=batch_id, reason=str(exc)))
        else:
            cancelled.append(batch_id)
    return JobCancelled(id=job.id, texts_dropped=dropped, batches_cancelled=cancelled, batches_kept=kept)


def _jobs(state: State, found: Sequence[tuple[JobRow, IndexRow]]) -> list[dict[str, Any]]:
    """What both documents say of runs, with as many queries for many as for one."""
    generations = [generation_of(job, index) for job, index in found]
    ledgers = state.embeddings.ledgers([one for one in generations if one is not None])
    outcomes = [None if (outline := _ended(job)) is None else outline.outcome for job, _ in found]
    unknown = [
        one
        for (job, _), one, outcome in zip(found, generations, outcomes, strict=True)
        if outcome is None and one is not None and job.status in {"succeeded", "partial"}
    ]
    failed = state.contents.with_failed_files(unknown)
    return [
        _job(job, index, outcome, ledgers[one] if one is not None else None, failed=one in failed)
        for (job, index), one, outcome in zip(found, generations, outcomes, strict=True)
    ]


def _job(
    job: JobRow, index: IndexRow, outcome: Outcome | None, ledger: Mapping[str, int] | None, *, failed: bool
) -> dict[str, Any]:
    """What both documents say of a run. `failed`: files of it could not be cut, by their rows."""
    if outcome is not None:
        failed = any(count for status, _, count in outcome.files if status == "failed")
    return {
        "id": job.id,
        "repository": index.repository,
        "url": index.url,
        "ref": index.ref,
        "commit": job.commit,
        "model": index.space.model,
        "dimensions": index.space.dimensions,
        "status": _status(job, ledger, failed_files=failed),
        "error": job.error,
        "attempts": job.attempts,
        "started_at": utc(job.started_at),
        "finished_at": utc(job.finished_at),
        "chunks": _chunks_then(outcome) if ledger is None else _chunks(ledger),
    }


def _ended(job: JobRow) -> RunPlan | None:
    """What a run wrote down when it ended or its texts went out; None for one that did neither."""
    over = job.status in {"succeeded", "partial", "embedding", "superseded"}
    return RunPlan.load(job.plan) if over else None


def _cost(state: State, job: JobRow, index: IndexRow, outline: RunPlan, estimates: Estimates) -> Cost | None:
    """What a run cost: as it wrote down, or by the rows of what was bought for it."""
    if outline.outcome is not None:
        spent = outline.outcome.spent_usd
    elif job.status in {"succeeded", "partial", "embedding"}:
        free = providers.is_free(index.space.provider)
        spent = 0.0 if free else estimates.spent_usd(index, state.queue.bought(job.id))
    else:
        return None
    return Cost(currency="USD", estimated=rounded_usd(outline.estimated_usd), spent=rounded_usd(spent))


def generation_of(job: JobRow, index: IndexRow) -> Generation | None:
    """The generation of files whose chunks are the run's; None when a later run has replaced it."""
    if job.status == "superseded":
        return None
    if job.status not in {"succeeded", "partial"}:
        outline = RunPlan.load(job.plan)
        planned = index.next if outline is None else index.at(outline.generation)
        return planned if planned.number >= index.published.number else None
    return index.published if job.last and index.commit == job.commit else None


def _status(job: JobRow, ledger: Mapping[str, int] | None, *, failed_files: bool) -> str:
    """Derived from the chunks: a run that was written down as done is not, while one of them waits."""
    if ledger is None or job.status not in {"embedding", "succeeded", "partial"}:
        return job.status
    if ledger["pending"] or ledger["processing"] or job.status == "embedding":
        return "embedding"
    if ledger["failed"] or failed_files:
        return "partial"
    return "succeeded"


def _chunks(ledger: Mapping[str, int]) -> JobChunks:
    states = ("ready", "pending", "processing", "failed")
    return JobChunks(total=sum(ledger[state] for state in states), **{state: ledger[state] for state in states})


def _chunks_then(outcome: Outcome | None) -> IndexChunks | None:
    """The chunks of a run that a later one has replaced, as they were when it ended; None when it wrote none down."""
    if outcome is None:
        return None
    return IndexChunks(**{item.name: outcome.chunks.get(item.name, 0) for item in fields(IndexChunks)})


def _batch_documents(state: State, rows: Sequence[BatchRow], estimates: Estimates) -> list[BatchJob]:
    return [
        BatchJob(
            id=row.id,
            state=row.state,
            remote_name=row.remote_name,
            remote_state=view.remote_state,
            rows=view.texts,
            done=view.done,
            failed=row.rows_failed,
            age_s=round(view.age_s, 1),
            cost_usd=view.cost_usd,
            error=row.error,
        )
        for row, view in zip(rows, batch_views(state, rows, estimates.of_batches(rows)), strict=True)
    ]
