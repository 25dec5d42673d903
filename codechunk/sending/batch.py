"""Workflow: waiting texts become batch jobs at the provider, and their results vectors.

Every step is load -> claim -> do -> record, and may be killed between any two of them. What may have an effect at the
provider is recorded before it is done; an unclear answer is reconciled by the job's display name and never repeated
blindly (reliability.md, 2). Waits are times in rows: nothing here sleeps.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from codechunk.errors import UsageError
from codechunk.process.crash import crash
from codechunk.process.stop import side_by_side
from codechunk.providers import BatchClient
from codechunk.sending.batch_poll import Poll
from codechunk.sending.batch_shared import BatchContext, BatchSettings, StepResult
from codechunk.sending.batch_submit import Submit
from codechunk.sending.calibration import Calibrator
from codechunk.state import BatchRow, LostClaim, State
from codechunk.state.batch_words import BatchState
from codechunk.state.batches import TO_SUBMIT

log = logging.getLogger(__name__)


class Work(Protocol):
    """One step with one claimed batch job."""

    def __call__(self, batch: BatchRow, /) -> StepResult:
        """Do it and give the claim back."""


class BatchJobs:
    """The batch jobs of one vector space, moved on by one process; several may do so at once."""

    def __init__(
        self,
        *,
        state: State,
        provider: BatchClient,
        calibrator: Calibrator,
        space_id: int,
        settings: BatchSettings,
        directory: Path,
        owner: str,
    ) -> None:
        self._stop = state.stop
        self._context = BatchContext(
            state=state,
            provider=provider,
            calibrator=calibrator,
            space_id=space_id,
            settings=settings,
            directory=directory,
            owner=owner,
        )
        self._submit = Submit(self._context)
        self._poll = Poll(self._context)

    # ------------------------------------------------------------------ the three things to do

    def plan(self, *, job_id: str | None = None) -> int:
        """Make intents of batch jobs from all texts that wait (of one run of index). Returns how many jobs."""
        return len(self.plan_ids(job_id=job_id))

    def plan_ids(self, *, job_id: str | None = None) -> list[str]:
        """As `plan`. Returns the ids of the jobs."""
        made: list[str] = []
        self._stop.raise_if_asked()
        while batch := self._context.state.batches.plan(
            self._context.space_id,
            prefix=self._context.settings.prefix,
            priority=self._context.settings.priority,
            most_texts=self._context.settings.max_texts,
            most_tokens=self._context.settings.max_tokens,
            job_id=job_id,
        ):
            made.append(batch.id)
            crash("batch planned")
        return made

    def submit(self) -> StepResult:
        """Submit every batch job that is due, in order, until the provider turns one away.

        Raises:
            Denied: the key is refused. The claim is given back.
            CodechunkError: the file of a job cannot be written here (a full disk).
        """
        done = StepResult()
        tried: set[str] = set()
        while self._context.state.queue.throttle() is None:
            some = self._claim(TO_SUBMIT, self._context.settings.concurrent_submissions, without=tried)
            if not some:
                break
            for result in self._side_by_side(self._submit, some):
                done.add(result)
            if done.unreachable:
                break
        return done

    def poll(self) -> StepResult:
        """Look at every remote job that is due, and take the results of those that have ended.

        Raises:
            Denied: the key is refused. The claim is given back.
            CodechunkError: results cannot be saved here (a full disk); they stay at the provider.
        """
        done = StepResult()
        tried: set[str] = set()
        while some := self._claim(("processing",), self._context.settings.concurrent_polls, without=tried):
            for result in self._side_by_side(self._poll, some):
                done.add(result)
        return done

    def cancel(self, batch_id: str) -> bool:
        """Cancel a batch job on a person's behalf: it is not sent again. Its texts have then failed with that reason.

        Returns whether that could be done; not when it has ended, or another process works on it now.
        """
        lease_s = self._context.settings.lease_s
        batch = self._context.state.batches.claim_one(batch_id, self._context.owner, lease_s=lease_s)
        if batch is None:
            return False
        if batch.ended:
            self._context.state.batches.record(batch, release=True)
            return False
        if batch.remote_name is None and batch.create_began_at is None:
            self._context.give_up(batch, "cancelled", "cancelled before it was submitted", fall_back=False)
            return True
        batch = self._context.state.batches.record(batch, cancelled_by_user=True, cancel_began_at=time.time())
        try:
            if batch.remote_name is not None:
                self._context.provider.cancel_batch(batch.remote_name)
        finally:
            self._context.state.batches.record(batch, release=True, next_at=time.time())
        return True

    def cancel_foreign(self, name: str) -> None:
        """Ask the provider to cancel a remote job that is not ours."""
        self._context.provider.cancel_batch(name)

    # ------------------------------------------------------------------ claims

    def _claim(self, states: Sequence[BatchState], most: int, *, without: set[str]) -> list[BatchRow]:
        """Claim due jobs that this call has not had yet: one that is due again at once waits for the next call."""
        some: list[BatchRow] = []
        while len(some) < most:
            self._stop.raise_if_asked()
            batch = self._context.state.batches.claim(
                states,
                self._context.owner,
                space_id=self._context.space_id,
                lease_s=self._context.settings.lease_s,
                without=without,
            )
            if batch is None:
                break
            without.add(batch.id)
            some.append(batch)
        return some

    def _side_by_side(self, work: "Work", some: Sequence[BatchRow]) -> list[StepResult]:
        """Work on claimed jobs in threads, each to its end also when another fails; then the first error is raised.

        After a Stop they have its patience. One that hangs then loses its claim, and with it the right to record.
        """
        return side_by_side(self._stop, [partial(self._alone, work, batch) for batch in some], name="batch")

    def _alone(self, work: "Work", batch: BatchRow) -> StepResult:
        try:
            return work(batch)
        except LostClaim as exc:
            log.info("Lost a batch job", extra={"action": "claim_lost", "batch_id": batch.id, "why": str(exc)})
            return StepResult()


class NoBatchJobs:
    """Stands for the batch jobs of a provider that has none: nothing is planned, submitted or looked at."""

    def __init__(self, title: str) -> None:
        self._title = title

    def plan(self, *, job_id: str | None = None) -> int:  # noqa: ARG002 - of no run
        """Make no job."""
        return 0

    def plan_ids(self, *, job_id: str | None = None) -> list[str]:  # noqa: ARG002 - of no run
        """Make no job."""
        return []

    def submit(self) -> StepResult:
        """Submit nothing."""
        return StepResult()

    def poll(self) -> StepResult:
        """There is nothing to look at."""
        return StepResult()

    def cancel(self, batch_id: str) -> bool:  # noqa: ARG002 - there is none of any id
        """Cancel nothing: there is no job."""
        return False

    def cancel_foreign(self, name: str) -> None:
        """Raise UsageError: no job of this name can exist."""
        raise UsageError(f"{self._title} has no batch jobs, so there is none to cancel by the name {name!r}.")


__all__ = ["BatchJobs", "BatchSettings", "NoBatchJobs", "StepResult"]
