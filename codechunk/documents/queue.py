"""What `queue` and `jobs` answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from codechunk.documents.index import Cost, IndexChunks, PathReason
from codechunk.documents.json import IN_MEMORY_ONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """Texts and batch jobs by state, of all models, read from the rows at this moment."""

    pending: int
    """Texts that wait to be sent."""
    processing: int
    """Texts that are being embedded."""
    ready: int
    """Texts that have their vector."""
    failed: int
    """Texts that failed for good."""
    batches: Mapping[str, int]
    """Batch jobs for each state."""
    throttled_until: float | None
    """No batch job is submitted before this time (seconds since 1970); null when nothing holds them back."""
    throttle_reason: str | None
    """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFlush:
    """What a flush of the queue did."""

    batches: int
    """Batch jobs made."""
    texts: int
    """Texts in them."""
    waiting: int
    """Texts that go on waiting."""
    reason: str | None
    """Why nothing was flushed; null when something was, or nothing waits."""
    submitted: int
    """Batch jobs that reached the provider."""
    unreachable: Sequence[str]
    """Why the provider could not be reached; empty when it could."""
    batch_ids: Sequence[str] = field(default=(), metadata=IN_MEMORY_ONLY)
    """Ids of the batch jobs made; not part of the JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSync:
    """What a look at the batch jobs brought."""

    polled: int
    """Batch jobs that were looked at."""
    completed: int
    """Batch jobs whose results were taken."""
    ended_badly: int
    """Batch jobs that failed, expired or were cancelled."""
    texts_ready: int
    """Texts that got their vector."""
    texts_failed: int
    """Texts that failed for good."""
    indexes_finished: int
    """Runs of index that were finished."""
    unreachable: Sequence[str]
    """Why the provider could not be reached; empty when it could."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRetry:
    """What waits again."""

    requeued: int
    """Failed texts that wait again."""
    jobs_reopened: int
    """Runs of index that are unfinished again because of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBatch:
    """A batch job at the provider."""

    name: str
    """Its name there."""
    display_name: str | None
    """The name that whoever made it gave it."""
    model: str | None
    """The model it runs."""
    state: str
    """The provider's word for its state."""
    rows: int | None
    """Requests in it; null when the provider does not say."""
    age_s: float | None
    """Seconds since it was made; null when the provider does not say."""
    relation: Literal["ours", "lost", "foreign"]
    """ours: known here; lost: our name, but not known here; foreign: somebody else's."""
    batch_id: str | None
    """Id of our batch job; null when it is not known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobChunks:
    """Chunks of a run, as they stand now: total = ready + pending + processing + failed."""

    total: int
    """All chunks."""
    ready: int
    """Chunks that have their vector."""
    pending: int
    """Chunks whose text waits to be sent."""
    processing: int
    """Chunks whose text is being embedded."""
    failed: int
    """Chunks whose text failed for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDocument:
    """One run of `index`."""

    id: str
    """Id of the run."""
    repository: str
    """Name of the repository."""
    url: str
    """Where it is."""
    ref: str
    """Branch, tag or commit as it was named."""
    commit: str
    """Id of the commit."""
    model: str
    """The model that makes its vectors."""
    dimensions: int
    """Numbers in one vector."""
    status: str
    """running, embedding, succeeded, partial, failed, cancelled or superseded; derived from its chunks."""
    error: str | None
    """What stopped it."""
    attempts: int
    """1 plus how often it was taken up again."""
    started_at: str | None
    """ISO 8601, UTC."""
    finished_at: str | None
    """ISO 8601, UTC; null while it is not over."""
    chunks: JobChunks | IndexChunks | None
    """Its chunks as they stand now, or as they were when it ended if a later run has replaced it; null: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """A batch job of a run."""

    id: str
    """Id of the batch job."""
    state: str
    """pending_submission, processing, retry_scheduled, completed, failed or cancelled."""
    remote_name: str | None
    """Its name at the provider; null before it is there."""
    remote_state: str | None
    """The provider's word for its state."""
    rows: int
    """Texts in it."""
    done: int
    """Texts that have come back."""
    failed: int
    """Rows of its results that were errors."""
    age_s: float
    """Seconds since it was submitted, or made; until it ended."""
    cost_usd: float | None
    """Its price in USD; null when it is not known."""
    error: str | None
    """What went wrong last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedChunk:
    """A chunk that failed for good."""

    place: str
    """Path and lines."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails(JobDocument):
    """One run of `index` with its batch jobs and what failed."""

    mode: str | None
    """How the provider was called: batch or sequential; null when it did not get so far."""
    cost: Cost | None
    """What the run cost; null when it did not get so far."""
    batches: Sequence[BatchJob]
    """Its batch jobs, the newest first."""
    failed_chunks: Sequence[FailedChunk]
    """Chunks that failed for good, a hundred at most."""
    failed_files: Sequence[PathReason]
    """Files that could not be cut, a hundred at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptBatch:
    """A batch job that goes on although its run was cancelled."""

    id: str
    """Id of the batch job."""
    reason: str
    """Why it goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCancelled:
    """What became of a run that was cancelled."""

    id: str
    """Id of the run."""
    status: Literal["cancelled"] = "cancelled"
    """Always cancelled."""
    texts_dropped: int
    """Texts that waited for it alone and are forgotten."""
    batches_cancelled: Sequence[str]
    """Ids of the batch jobs that the provider was asked to cancel."""
    batches_kept: Sequence[KeptBatch]
    """Batch jobs that go on."""
