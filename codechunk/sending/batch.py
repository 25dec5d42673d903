"""Workflow: waiting texts become batch jobs at the provider, and their results vectors.

Every step is load -> claim -> do -> record, and may be killed between any two of them. What may have an effect at the
provider is recorded before it is done; an unclear answer is reconciled by the job's display name and never repeated
blindly (reliability.md, 2). Waits are times in rows: nothing here sleeps.
"""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from codechunk.process.crash import crash
from codechunk.process.stop import raise_if_stopped
from codechunk.providers.batch_words import BatchState
from codechunk.providers.models import Form
from codechunk.sending.batch_poll import Poll
from codechunk.sending.batch_shared import BatchProvider, BatchSettings, Done, Shop
from codechunk.sending.batch_submit import Submit
from codechunk.sending.calibration import Fit
from codechunk.state import BatchRow, LostClaim, State
from codechunk.state.batches import TO_SUBMIT

log = logging.getLogger(__name__)


class Work(Protocol):
    """One step with one claimed batch job."""

    def __call__(self, batch: BatchRow, /) -> Done:
        """Do it and give the claim back."""


class Machine:
    """The batch jobs of one vector space, moved on by one process; several may do so at once."""

    def __init__(
        self,
        *,
        state: State,
        provider: BatchProvider,
        form: Form,
        fit: Fit,
        space_id: int,
        settings: BatchSettings,
        directory: Path,
        owner: str,
    ) -> None:
        self._shop = Shop(
            state=state,
            provider=provider,
            form=form,
            fit=fit,
            space_id=space_id,
            settings=settings,
            directory=directory,
            owner=owner,
        )
        self._submit = Submit(self._shop)
        self._poll = Poll(self._shop)

    # ------------------------------------------------------------------ the three things to do

    def plan(self, *, job_id: str | None = None) -> int:
        """Make intents of batch jobs from all texts that wait (of one run of index). Returns how many jobs."""
        return len(self.plan_ids(job_id=job_id))

    def plan_ids(self, *, job_id: str | None = None) -> list[str]:
        """As `plan`. Returns the ids of the jobs."""
        made: list[str] = []
        raise_if_stopped()
        while batch := self._shop.state.batches.plan(
            self._shop.space_id,
            prefix=self._shop.settings.prefix,
            priority=self._shop.settings.priority,
            most_texts=self._shop.settings.max_texts,
            most_tokens=self._shop.settings.max_tokens,
            job_id=job_id,
        ):
            made.append(batch.id)
            crash("batch planned")
        return made

    def submit(self) -> Done:
        """Submit every batch job that is due, in order, until the provider turns one away.

        Raises:
            Denied: the key is refused. The claim is given back.
            CodechunkError: the file of a job cannot be written here (a full disk).
        """
        done = Done()
        tried: set[str] = set()
        while self._shop.state.queue.throttle() is None:
            some = self._claim(TO_SUBMIT, self._shop.settings.concurrent_submissions, without=tried)
            if not some:
                break
            for result in self._side_by_side(self._submit, some):
                done.add(result)
            if done.unreachable:
                break
        return done

    def poll(self) -> Done:
        """Look at every remote job that is due, and take the results of those that have ended.

        Raises:
            Denied: the key is refused. The claim is given back.
            CodechunkError: results cannot be saved here (a full disk); they stay at the provider.
        """
        done = Done()
        tried: set[str] = set()
        while some := self._claim(("processing",), self._shop.settings.concurrent_polls, without=tried):
            for result in self._side_by_side(self._poll, some):
                done.add(result)
        return done

    def cancel(self, batch_id: str) -> bool:
        """Cancel a batch job on a person's behalf: it is not sent again. Its texts have then failed with that reason.

        Returns whether that could be done; not when it has ended, or another process works on it now.
        """
        batch = self._shop.state.batches.claim_one(batch_id, self._shop.owner, lease_s=self._shop.settings.lease_s)
        if batch is None:
            return False
        if batch.ended:
            self._shop.state.batches.record(batch, release=True)
            return False
        if batch.remote_name is None and batch.create_began_at is None:
            self._shop.give_up(batch, "cancelled", "cancelled before it was submitted", fall_back=False)
            return True
        batch = self._shop.state.batches.record(batch, cancelled_by_user=True, cancel_began_at=time.time())
        try:
            if batch.remote_name is not None:
                self._shop.provider.cancel_batch(batch.remote_name)
        finally:
            self._shop.state.batches.record(batch, release=True, next_at=time.time())
        return True

    def cancel_foreign(self, name: str) -> None:
        """Ask for the end of a remote job that is none of ours."""
        self._shop.provider.cancel_batch(name)

    # ------------------------------------------------------------------ claims

    def _claim(self, states: Sequence[BatchState], most: int, *, without: set[str]) -> list[BatchRow]:
        """Claim due jobs that this call has not had yet: one that is due again at once waits for the next call."""
        some: list[BatchRow] = []
        while len(some) < most:
            raise_if_stopped()
            batch = self._shop.state.batches.claim(
                states,
                self._shop.owner,
                space_id=self._shop.space_id,
                lease_s=self._shop.settings.lease_s,
                without=without,
            )
            if batch is None:
                break
            without.add(batch.id)
            some.append(batch)
        return some

    def _side_by_side(self, work: "Work", some: Sequence[BatchRow]) -> list[Done]:
        """Work on claimed jobs in threads, each to its end also when another fails; then the first error is raised."""
        if len(some) == 1:
            return [self._alone(work, some[0])]
        with ThreadPoolExecutor(len(some), thread_name_prefix="batch") as pool:
            futures = [pool.submit(self._alone, work, batch) for batch in some]
        return [future.result() for future in futures]

    def _alone(self, work: "Work", batch: BatchRow) -> Done:
        try:
            return work(batch)
        except LostClaim as exc:
            log.info("Lost a batch job", extra={"action": "claim_lost", "batch_id": batch.id, "why": str(exc)})
            return Done()


__all__ = ["BatchProvider", "BatchSettings", "Done", "Machine"]
