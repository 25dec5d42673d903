"""What submitting and polling share: the edges, the settings, and how a batch job ends badly."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from codechunk.process.crash import crash
from codechunk.providers.batch_words import BatchState, RemoteFile, RemoteJob
from codechunk.providers.models import Form
from codechunk.sending.calibration import Fit
from codechunk.sending.retry import backoff_s, jittered_s
from codechunk.state import BatchRow, LostClaim, State

log = logging.getLogger(__name__)


class BatchProvider(Protocol):
    """What a batch job needs of a provider; `codechunk.providers.gemini.client.Gemini` is the one there is."""

    def upload(self, path: Path, *, display_name: str) -> RemoteFile:
        """Store a file."""

    def files_named(self, display_name: str) -> list[RemoteFile]:
        """Stored files of this name."""

    def delete_file(self, name: str) -> None:
        """Delete a file; a missing one is fine."""

    def create_batch(self, file_name: str, *, display_name: str, priority: int = 0) -> RemoteJob:
        """Create a job from a stored file. Costs money and must not be repeated blindly."""

    def batch(self, name: str) -> RemoteJob:
        """A job as it is now."""

    def batches(self) -> Iterator[RemoteJob]:
        """All jobs."""

    def cancel_batch(self, name: str) -> None:
        """Ask for the end of a job."""

    def delete_batch(self, name: str) -> None:
        """Forget a job."""

    def download(self, file_name: str, target: Path) -> None:
        """Save a stored file, whole or not at all."""


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


@dataclass(slots=True)
class Done:
    """What some steps brought about."""

    submitted: int = 0
    polled: int = 0
    completed: int = 0
    ended_badly: int = 0
    texts_ready: int = 0
    texts_failed: int = 0
    fallen_back: int = 0
    unreachable: list[str] = field(default_factory=list)

    def add(self, other: "Done") -> None:
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
class Shop:
    """The batch jobs of one vector space as one process works on them."""

    state: State
    provider: BatchProvider
    form: Form
    fit: Fit
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

    def end_badly(self, batch: BatchRow, reason: str, *, final: bool = False) -> Done:
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
            return Done(polled=1, ended_badly=1)
        texts = self.give_up(batch, "failed", reason, fall_back=settings.fall_back)
        done = Done(polled=1, ended_badly=1)
        if settings.fall_back:
            done.fallen_back = texts
        else:
            done.texts_failed = texts
        return done

    def cancelled(self, batch: BatchRow) -> Done:
        """End a batch job that a person did not want any more."""
        failed = self.give_up(self.now(batch), "cancelled", "its batch job was cancelled", fall_back=False)
        return Done(polled=1, texts_failed=failed)

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
