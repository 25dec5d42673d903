"""What submitting and polling share: the edges, the settings, and how a batch job ends badly."""

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from codechunk.process.crash import crash
from codechunk.providers import BatchClient
from codechunk.sending.calibration import Calibrator
from codechunk.sending.retry import backoff_s, jittered_s
from codechunk.state import BatchRow, LostClaim, State
from codechunk.state.batch_words import BatchState

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """How batch jobs are cut, retried and polled: `batch_processing` of the configuration, durations in seconds."""

    prefix: str
    priority: int
    max_texts: int
    max_tokens: int | None
    fall_back: bool
    initial_backoff_s: float
    max_backoff_s: float
    max_retries: int
    submitter_poll_s: float
    submission_initial_s: float
    submission_max_s: float
    max_submissions: int
    concurrent_submissions: int
    poller_interval_s: float
    concurrent_polls: int
    max_age_s: float
    grace_s: float
    lease_s: float
    max_bytes: int | None = None
    """The provider's limit for the input file of one job; None: there is none."""


@dataclass(slots=True)
class StepResult:
    """What some steps brought about."""

    submitted: int = 0
    polled: int = 0
    completed: int = 0
    ended_badly: int = 0
    texts_ready: int = 0
    texts_failed: int = 0
    fallen_back: int = 0
    unreachable: list[str] = field(default_factory=list)

    def add(self, other: "StepResult") -> None:
        """Sum up."""
        self.submitted += other.submitted
        self.polled += other.polled
        self.completed += other.completed
        self.ended_badly += other.ended_badly
        self.texts_ready += other.texts_ready
        self.texts_failed += other.texts_failed
        self.fallen_back += other.fallen_back
        self.unreachable += other.unreachable


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchContext:
    """The batch jobs of one vector space as one process works on them."""

    state: State
    provider: BatchClient
    calibrator: Calibrator
    space_id: int
    settings: BatchSettings
    directory: Path
    owner: str

    def later(self, batch: BatchRow, wait_s: float, error: str | None, **values: object) -> None:
        """Give the claim back; the job is due again in `wait_s`."""
        self.state.batches.record(batch, release=True, next_at=time.time() + max(0.0, wait_s), error=error, **values)

    def now(self, batch: BatchRow) -> BatchRow:
        """The batch job with what was recorded since it was claimed."""
        current = self.state.batches.get(batch.id)
        if current is None or current.fence != batch.fence:
            raise LostClaim(f"batch job {batch.id} was taken over by another process; it goes on there")
        return current

    def end_badly(self, batch: BatchRow, reason: str, *, final: bool = False) -> StepResult:
        """Send the texts that are left in a new remote job, later; or give up when that was tried often enough.

        A batch job that a person cancelled is given up at once.
        """
        if batch.cancelled_by_user:
            return self.cancelled(batch)
        settings = self.settings
        failures = batch.failures + 1
        self.state.queue.end_throttle(only_quota=True)
        if not final and failures <= settings.max_retries:
            wait_s = jittered_s(
                backoff_s(failures, initial_s=settings.initial_backoff_s, most_s=settings.max_backoff_s)
            )
            self.state.batches.schedule_retry(batch, prefix=settings.prefix, error=reason, next_at=time.time() + wait_s)
            crash("retry scheduled")
            log.warning(
                "Batch job ended badly, it is sent again",
                extra={"action": "batch_retry", "batch_id": batch.id, "why": reason, "failures": failures},
            )
            return StepResult(polled=1, ended_badly=1)
        texts = self.give_up(batch, "failed", reason, fall_back=settings.fall_back)
        done = StepResult(polled=1, ended_badly=1)
        if settings.fall_back:
            done.fallen_back = texts
        else:
            done.texts_failed = texts
        return done

    def cancelled(self, batch: BatchRow) -> StepResult:
        """End a batch job that a person did not want any more."""
        failed = self.give_up(self.now(batch), "cancelled", "its batch job was cancelled", fall_back=False)
        return StepResult(polled=1, texts_failed=failed)

    def give_up(self, batch: BatchRow, state: BatchState, reason: str, *, fall_back: bool) -> int:
        """End a batch job for good. Returns how many texts were left in it: failed now, or left to direct calls."""
        texts = self.state.batches.give_up(batch, state=state, error=reason, fall_back=fall_back)
        crash("given up")
        (self.directory / f"{batch.id}.jsonl").unlink(missing_ok=True)
        if texts:
            log.warning(
                "Gave up a batch job" + (", its texts are sent directly at the direct price" if fall_back else ""),
                extra={"action": "batch_given_up", "batch_id": batch.id, "why": reason, "texts": texts},
            )
        return texts
