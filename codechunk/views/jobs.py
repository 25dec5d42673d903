"""Runs of `index`: how they stand, and what a person does with one.

Everything is read from rows at the moment it is asked, never from a counter: a job is not `succeeded` while a chunk of
it waits, whatever was written down when its command ended. Only `cancel_job` and `take_up_job` change something.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from codechunk.errors import CodechunkError, UsageError
from codechunk.sending.batch_view import Prices, batch_views
from codechunk.state import BatchRow, IndexRow, JobRow, Space, State

FAILED_CHUNKS_SHOWN = 100


def job_documents(state: State, *, limit: int | None = None) -> list[dict[str, Any]]:
    """The runs of `index`, the newest first, each as in `jobs list --json`."""
    known: dict[tuple[int, int], dict[str, int]] = {}
    return [_job(state, job, index, known) for job, index in state.catalog.jobs(limit=limit)]


def job_document(state: State, job_id: str, prices: Prices) -> dict[str, Any]:
    """One run as in `jobs show --json`: with its batch jobs, and its failed chunks with their reasons.

    Raises:
        UsageError: when there is no run with this id, or beginning of an id, or more than one.
    """
    job, index = find_job(state, job_id)
    generation = generation_of(job, index)
    failed = (
        []
        if generation is None
        else state.embeddings.failures(index.id, index.space_id, generation, limit=FAILED_CHUNKS_SHOWN)
    )
    files = [] if generation is None else state.contents.failed_files(index.id, generation, limit=FAILED_CHUNKS_SHOWN)
    report = json.loads(job.report) if job.report else {}
    return {
        **_job(state, job, index, {}),
        "mode": report.get("mode"),
        "cost": report.get("cost"),
        "batches": _batch_documents(state, state.batches.rows(job_id=job.id), prices),
        "failed_chunks": [{"place": place, "reason": reason} for place, reason in failed],
        "failed_files": [{"path": path, "reason": reason} for path, reason in files],
    }


def find_job(state: State, job_id: str) -> tuple[JobRow, IndexRow]:
    """A run by its id or the beginning of it, with what it makes. Raises UsageError when that names not one run."""
    found = state.catalog.job(job_id) if job_id else None
    if found is None:
        raise UsageError(f"No job {job_id!r}, or more than one; `codechunk jobs list` shows them all.")
    return found


def take_up_job(state: State, job_id: str, space: Space) -> tuple[str, str]:
    """Let the failed texts of a run wait again; returns what `index` must be given to go on: its source and its ref.

    Raises:
        UsageError: when there is no such run, it is over, or it makes vectors that this configuration does not make.
    """
    job, index = find_job(state, job_id)
    status = _job(state, job, index, {})["status"]
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


def cancel_job(state: State, job_id: str, cancel_batch: Callable[[str], object]) -> dict[str, Any]:
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
    cancelled, kept = [], [{"id": batch_id, "reason": "other jobs need its texts too"} for batch_id in shared]
    for batch_id in alone:
        try:
            cancel_batch(batch_id)
        except CodechunkError as exc:
            kept.append({"id": batch_id, "reason": str(exc)})
        else:
            cancelled.append(batch_id)
    return {
        "id": job.id,
        "status": "cancelled",
        "texts_dropped": dropped,
        "batches_cancelled": cancelled,
        "batches_kept": kept,
    }


def _job(state: State, job: JobRow, index: IndexRow, known: dict[tuple[int, int], dict[str, int]]) -> dict[str, Any]:
    """A run as a document. `known` keeps the ledgers that were read, by index and generation."""
    report = json.loads(job.report) if job.report else {}
    generation = generation_of(job, index)
    if generation is None:
        ledger = None
    else:
        key = (index.id, generation)
        if key not in known:
            known[key] = state.embeddings.ledger(index.id, index.space_id, generation)
        ledger = known[key]
    return {
        "id": job.id,
        "repository": index.repository,
        "url": index.url,
        "ref": index.ref,
        "commit": job.commit,
        "model": index.space.model,
        "dimensions": index.space.dimensions,
        "status": _status(job, ledger, failed_files=report.get("files", {}).get("failed", 0)),
        "error": job.error,
        "attempts": job.attempts,
        "started_at": utc(job.started_at),
        "finished_at": utc(job.finished_at),
        "chunks": report.get("chunks") if ledger is None else _chunks(ledger),
    }


def generation_of(job: JobRow, index: IndexRow) -> int | None:
    """The generation of files whose chunks are the run's; None when a later run has replaced it."""
    if job.status == "superseded":
        return None
    if job.status not in {"succeeded", "partial"}:
        planned = json.loads(job.plan)["generation"] if job.plan else index.generation + 1
        return planned if planned >= index.generation else None
    return index.generation if job.last and index.commit == job.commit else None


def _status(job: JobRow, ledger: Mapping[str, int] | None, *, failed_files: int) -> str:
    """Derived from the chunks: a run that was written down as done is not, while one of them waits."""
    if ledger is None or job.status not in {"embedding", "succeeded", "partial"}:
        return job.status
    if ledger["pending"] or ledger["processing"] or job.status == "embedding":
        return "embedding"
    if ledger["failed"] or failed_files:
        return "partial"
    return "succeeded"


def _chunks(ledger: Mapping[str, int]) -> dict[str, int]:
    states = ("ready", "pending", "processing", "failed")
    return {"total": sum(ledger[state] for state in states), **{state: ledger[state] for state in states}}


def _batch_documents(state: State, rows: Sequence[BatchRow], prices: Prices) -> list[dict[str, Any]]:
    return [
        {
            "id": row.id,
            "state": row.state,
            "remote_name": row.remote_name,
            "remote_state": view.remote_state,
            "rows": view.texts,
            "done": view.done,
            "failed": row.rows_failed,
            "age_s": round(view.age_s, 1),
            "cost_usd": view.cost_usd,
            "error": row.error,
        }
        for row, view in zip(rows, batch_views(state, rows, prices), strict=True)
    ]


def utc(seconds: float | None) -> str | None:
    """A time in seconds since 1970 as ISO 8601 in UTC, to the second; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
