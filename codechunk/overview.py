"""Workflow: what there is and how it stands: the queue, the jobs, their batch jobs, and what `doctor` finds.

Everything is read from rows at the moment it is asked, never from a counter: a job is not `succeeded` while a chunk of
it waits, whatever was written down when its command ended. Only `cancel_job` and `take_up_job` change something.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from codechunk import embedding
from codechunk.errors import CodechunkError, IndexBusy, StateError, UsageError, VectorStoreError
from codechunk.pricing import PriceMode, price_usd
from codechunk.progress import BatchView
from codechunk.settings import Config
from codechunk.state import BatchRow, IndexRow, JobRow, Space, State
from codechunk.state.checks import Checks, Finding
from codechunk.vectors import VectorStore

__all__ = [
    "Finding",
    "batch_views",
    "cancel_job",
    "check_invariants",
    "doctor",
    "job_document",
    "job_documents",
    "plain_state",
    "queue_status",
    "take_up_job",
]

Prices = Mapping[str, Mapping[PriceMode, float]]
Alone = Callable[[IndexRow], AbstractContextManager[None]]

SHORT_ID = 12
FAILED_CHUNKS_SHOWN = 100
MAX_JOB_AGE_S = 48 * 3_600.0
LOW_DISK_BYTES = 500_000_000
# Files are searched for secrets in blocks that overlap by more than any key is long.
BLOCK_BYTES = 4 * 2**20
OVERLAP_BYTES = 1_024
_GOOGLE_KEY = re.compile(rb"AIza[0-9A-Za-z_\-]{35}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


# ---------------------------------------------------------------------- queue and batch jobs


def published_as(indexes: Sequence[IndexRow], name: str) -> list[IndexRow]:
    """Those of the published indexes that NAME or NAME@REF means: what `--repo` restricts a command to.

    Raises:
        UsageError: it means none of them; the sentence lists what there is.
    """
    named = [index for index in indexes if name in {index.repository, f"{index.repository}@{index.ref}"}]
    if not named:
        known = ", ".join(sorted({f"{index.repository}@{index.ref}" for index in indexes}))
        raise UsageError(f"No index of {name!r}; there is {known or 'none at all yet'}.")
    return named


def queue_status(state: State) -> dict[str, Any]:
    """The document of `queue status --json`: texts by state, batch jobs by state, and what holds submissions back."""
    counts = state.queue.counts()
    throttle = state.queue.throttle()
    return {
        "pending": counts.pending,
        "processing": counts.processing,
        "ready": counts.ready,
        "failed": counts.failed,
        "batches": dict(state.batches.by_state()),
        "throttled_until": None if throttle is None else throttle.until,
        "throttle_reason": None if throttle is None else throttle.reason,
    }


def batch_views(state: State, rows: Sequence[BatchRow], prices: Prices) -> list[BatchView]:
    """Batch jobs as people see them; `prices` is the configuration's own price list."""
    waiting, spaces, now = state.batches.open_texts(), state.catalog.spaces(), time.time()
    return [
        BatchView(
            id=row.id[:SHORT_ID],
            state=row.state,
            remote_state=None if row.remote_state is None else plain_state(row.remote_state),
            texts=row.texts,
            done=_done(row, waiting.get(row.id, 0)),
            age_s=_age_s(row, now),
            cost_usd=_cost_usd(row, spaces[row.space_id], prices),
            note=_note(row, now),
        )
        for row in rows
    ]


def plain_state(name: str) -> str:
    """The provider's word for a state without its shouting: `BATCH_STATE_RUNNING` is `running`."""
    return name.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_").lower()


def _done(row: BatchRow, waiting: int) -> int:
    if row.ended and row.state != "completed":
        return min(row.rows_ok, row.texts)
    return max(0, row.texts - waiting)


def _age_s(row: BatchRow, now: float) -> float:
    return max(0.0, (row.finished_at or now) - (row.submitted_at or row.created_at))


def _cost_usd(row: BatchRow, space: Space, prices: Prices) -> float | None:
    """What its results cost by the provider's count; before there are any, what they will cost by ours."""
    tokens = row.billed_tokens or (0 if row.ended and not row.rows_ok else row.tokens)
    return price_usd(model=space.model, mode="batch", tokens=tokens, overrides=prices)


def _note(row: BatchRow, now: float) -> str:
    wait = row.next_at - now
    waits = row.state in {"pending_submission", "retry_scheduled"} and wait >= 1
    parts = [f"again in {wait:.0f} s" if waits else "", row.error or ""]
    return ": ".join(part for part in parts if part)


# ---------------------------------------------------------------------- jobs


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
    generation = _generation(state, job, index)
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
    generation = _generation(state, job, index)
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
        "started_at": _utc(job.started_at),
        "finished_at": _utc(job.finished_at),
        "chunks": report.get("chunks") if ledger is None else _chunks(ledger),
    }


def _generation(state: State, job: JobRow, index: IndexRow) -> int | None:
    """The generation of files whose chunks are the run's; None when a later run has replaced it."""
    if job.status == "superseded":
        return None
    if job.status not in {"succeeded", "partial"}:
        planned = json.loads(job.plan)["generation"] if job.plan else index.generation + 1
        return planned if planned >= index.generation else None
    last = state.catalog.last_finished_job(index.id)
    return index.generation if last is not None and last.id == job.id and index.commit == job.commit else None


def _status(job: JobRow, ledger: Mapping[str, int] | None, *, failed_files: int) -> str:
    """Derived from the chunks: a run that was written down as done is not, while one of them waits."""
    if ledger is None or job.status not in {"embedding", "succeeded", "partial"}:
        return job.status
    if ledger["pending"] or ledger["processing"] or job.status == "embedding":
        return "embedding"
    if ledger["failed"] or ledger["unstored"] or failed_files:
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


def _utc(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# ---------------------------------------------------------------------- doctor


def check_invariants(state: State, *, max_job_age_s: float = MAX_JOB_AGE_S) -> list[Finding]:
    """What must hold in the state database at any moment (no `error`), and what waits for somebody (`warning`).

    Needs no provider, no configuration and no vector store.
    """
    return Checks(state.database).findings(now=time.time(), max_job_age_s=max_job_age_s)


def doctor(
    *,
    config: Config,
    secrets: Sequence[str],
    has_key: bool,
    open_state: Callable[[], State],
    open_store: Callable[[], VectorStore],
    stamp: Callable[[], str | None],
    alone: Alone,
) -> list[Finding]:
    """Everything that can be looked at without the network, in order of importance.

    Args:
        secrets: plain values that must stand in no file.
        open_store: the vector store for reading.
        stamp: the look of the embedded vector store's folder (see `Catalog.follow_vectors_stamp`).
        alone: the lock of a repository, which tells whether a process works on it.
    """
    found = [_key_of_provider(config), _git(), *_folder(config.data_dir)]
    try:
        with open_state() as state:
            found.append(_api_key(state, config, has_key=has_key))
            found += check_invariants(state, max_job_age_s=config.batch_processing.max_job_age.total_seconds())
            found += [_throttle(state), *_runs(state, alone), _vector_store(state, open_store, stamp)]
    except StateError as exc:
        mend = "the sentence says it; nothing else can be checked before"
        found.append(Finding(check="state_database", status="error", count=1, message=str(exc), mend=mend))
    return [*found, *_leaks(config.data_dir, secrets)]


def _finding(check: str, wrong: str | None, *, fine: str, mend: str, level: str = "warning", count: int = 1) -> Finding:
    if wrong is None:
        return Finding(check=check, status="ok", count=0, message=fine)
    status: Any = level
    return Finding(check=check, status=status, count=count, message=wrong, mend=mend)


def _key_of_provider(config: Config) -> Finding:
    """The configuration was checked when it was loaded; what is left is where the key would be sent."""
    url = config.embedding.base_url
    address = None if url is None else urlsplit(url)
    open_air = address is not None and address.scheme == "http" and address.hostname not in _LOOPBACK
    return _finding(
        "configuration",
        f"embedding.base_url is {url}: the key and the code are sent unencrypted" if open_air else None,
        fine=f"valid; {config.embedding.model} takes {config.input_tokens} tokens per text",
        mend="use an https:// address",
    )


def _git() -> Finding:
    missing = shutil.which("git") is None
    return _finding(
        "git", "git is not installed" if missing else None, fine="installed", mend="install git", level="error"
    )


def _folder(data_dir: Path) -> Iterator[Finding]:
    if not data_dir.is_dir():
        yield Finding(check="data_directory", status="skipped", count=0, message=f"{data_dir} does not exist yet")
        return
    paths = [data_dir, *(path for path in _files_to_search(data_dir))]
    readable = [path for path in paths if path.stat().st_mode & 0o077]
    yield _finding(
        "data_directory",
        f"others on this machine may read {', '.join(str(path) for path in readable[:3])}" if readable else None,
        fine=f"{data_dir} is readable by its owner only",
        mend=f"chmod -R go-rwx {data_dir}",
        count=len(readable),
    )
    free = shutil.disk_usage(data_dir).free
    yield _finding(
        "disk",
        f"only {free / 1e6:,.0f} MB are free" if free < LOW_DISK_BYTES else None,
        fine=f"{free / 1e9:,.1f} GB are free",
        mend="free some space, or set data_dir to a larger disk",
    )


def _api_key(state: State, config: Config, *, has_key: bool) -> Finding:
    """A missing key is only wrong where something waits for the provider."""
    mend = "set CODECHUNK_GEMINI_API_KEY, or use --test-embeddings"
    if has_key or config.synthetic:
        fine = "the key is set" if has_key else "none is needed for synthetic vectors"
        return Finding(check="api_key", status="ok", count=0, message=fine)
    paid = [space_id for space_id, space in state.catalog.spaces().items() if space.provider != "synthetic"]
    counts = [state.queue.counts(space_id) for space_id in paid]
    waiting = sum(count.pending + count.processing for count in counts)
    if waiting:
        message = f"no Gemini key is set, and {waiting:,} texts wait for Gemini"
        return Finding(check="api_key", status="error", count=1, message=message, mend=mend)
    return Finding(check="api_key", status="warning", count=1, message="no Gemini key is set", mend=mend)


def _throttle(state: State) -> Finding:
    throttle = state.queue.throttle()
    return _finding(
        "throttle",
        None if throttle is None else f"no batch job is submitted before {_utc(throttle.until)}: {throttle.reason}",
        fine="the provider takes new batch jobs",
        mend="none is needed: it ends by itself",
    )


def _runs(state: State, alone: Alone) -> Iterator[Finding]:
    """Runs of index that nobody works on any more, and those that only have to be finished."""
    dead, done = [], []
    for job, index in state.catalog.jobs():
        if job.status == "running" and not _is_worked_on(index, alone):
            dead.append(job.id)
        elif job.status == "embedding":
            generation = _generation(state, job, index)
            ledger = {} if generation is None else state.embeddings.ledger(index.id, index.space_id, generation)
            if not (ledger.get("pending") or ledger.get("processing")) and not _is_worked_on(index, alone):
                done.append(job.id)
    yield _finding(
        "interrupted_runs",
        f"{len(dead):,} runs of index were interrupted: {_some(dead)}" if dead else None,
        fine="no run of index was interrupted",
        mend="codechunk jobs resume ID goes on from there",
        count=len(dead),
    )
    yield _finding(
        "runs_to_finish",
        f"{len(done):,} runs have all their vectors and are not published yet: {_some(done)}" if done else None,
        fine="no run waits to be published",
        mend="codechunk queue sync",
        count=len(done),
    )


def _is_worked_on(index: IndexRow, alone: Alone) -> bool:
    try:
        with alone(index):
            return False
    except IndexBusy:
        return True


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _vector_store(state: State, open_store: Callable[[], VectorStore], stamp: Callable[[], str | None]) -> Finding:
    """Open it for reading and hold each collection against the record of what it should hold."""
    check = "vector_index"
    indexes = state.catalog.indexes()
    if not indexes:
        return Finding(check=check, status="skipped", count=0, message="nothing was indexed yet")
    before = stamp()
    unsound: list[str] = []
    try:
        with open_store() as store:
            for index in indexes:
                trouble = embedding.check(state, index, store.collection(index.collection))
                if trouble is not None:
                    unsound.append(f"{index.repository}@{index.ref}: {trouble}")
            store.close_index()
            if (after := stamp()) != before:
                state.catalog.follow_vectors_stamp([], old=before, new=after)
    except IndexBusy as exc:
        return Finding(check=check, status="skipped", count=0, message=str(exc))
    except VectorStoreError as exc:
        mend = "if it is a server, start it; the embedded one is rebuilt by the next run, nothing is bought again"
        return Finding(check=check, status="error", count=1, message=str(exc), mend=mend)
    return _finding(
        check,
        f"{len(unsound):,} of {len(indexes):,} indexes are not sound ({_some(unsound)})" if unsound else None,
        fine=f"all {len(indexes):,} indexes hold what they should",
        mend="none is needed: the next search or index rebuilds them, nothing is bought again",
        count=len(unsound),
    )


def _files_to_search(data_dir: Path) -> list[Path]:
    """The files that codechunk writes texts into: the database with its journal and backups, and the logs."""
    found = [*data_dir.glob("state.db*"), *(data_dir / "logs").glob("*")]
    return sorted(path for path in found if path.is_file())


def _leaks(data_dir: Path, secrets: Sequence[str]) -> Iterator[Finding]:
    """Whether a key stands in the database or a log. A Google key in the database may be part of indexed code."""
    paths = _files_to_search(data_dir) if data_dir.is_dir() else []
    known = [secret.encode() for secret in secrets if len(secret) >= 8]
    leaking = [path for path in paths if any(_own_in(block, known) for block in _blocks(path))]
    yield _finding(
        "own_secrets",
        f"a key or token of yours stands in {_some([str(path) for path in leaking])}" if leaking else None,
        fine="none of your keys stands in the database or a log",
        mend="replace that key at its provider, then remove the file (logs) or move it away (state.db)",
        level="error",
        count=len(leaking),
    )
    strange = [path for path in paths if path not in leaking and any(map(_GOOGLE_KEY.search, _blocks(path)))]
    logs = [path for path in strange if path.parent.name == "logs"]
    yield _finding(
        "google_keys",
        f"something like a Google key stands in {_some([str(path) for path in strange])}" if strange else None,
        fine="nothing like a Google key stands in the database or a log",
        mend="remove the log, and replace the key; in the database it is indexed code: set secrets to redact, and "
        "index with --full",
        level="error" if logs else "warning",
        count=len(strange),
    )


def _own_in(block: bytes, secrets: Iterable[bytes]) -> bool:
    return any(secret in block for secret in secrets)


def _blocks(path: Path) -> Iterator[bytes]:
    """A file in pieces that overlap, so that nothing short is cut in two without being whole in one of them."""
    kept = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield kept + block
            kept = block[-OVERLAP_BYTES:]
