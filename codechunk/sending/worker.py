"""The loop: when to make batch jobs, submit them, look at them, send directly, and finish index runs.

Decides only when; what is done is the business of `batch` and `direct`. Everything it waits for is a time in a row of
the state database, so it may be killed and started again, and several may run beside each other.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from codechunk.errors import CodechunkError, Denied, ProviderError, Stopped
from codechunk.sending.batch import BatchJobs, NoBatchJobs, StepResult
from codechunk.sending.direct import Direct, Sent
from codechunk.sending.heartbeat import beating
from codechunk.sending.owner import is_gone
from codechunk.state import State

log = logging.getLogger(__name__)

BATCHES_ARE_OFF = "batch_processing.enabled is false"
# Looks in a row at an unreachable provider before a command that waits gives up; the worker never does.
MOST_UNREACHABLE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """When the queue is flushed and how often the loop turns; durations in seconds."""

    batches: bool
    min_queue_size: int
    max_queue_size: int
    max_wait_s: float
    poller_interval_s: float
    lease_s: float
    why_direct: str = BATCHES_ARE_OFF
    """Why waiting texts are sent directly, where `batches` is False."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flushed:
    """What a flush did: batch jobs made, texts in them, texts that go on waiting and why."""

    batches: int
    texts: int
    waiting: int
    reason: str | None
    ids: tuple[str, ...] = ()
    """Ids of the batch jobs made."""


class Worker:
    """Sends the texts of one vector space, in batch jobs or directly, for one process."""

    def __init__(
        self,
        *,
        state: State,
        space_id: int,
        owner: str,
        batch_jobs: BatchJobs | NoBatchJobs,
        direct: Direct,
        settings: WorkerSettings,
        others: Callable[[], Sequence[BatchJobs]],
        settle: Callable[[], int],
        watch: Callable[[], None],
    ) -> None:
        """Claim nothing yet.

        Args:
            others: the batch jobs of other vector spaces that have remote jobs out, left behind by a change of model:
                what they bring is paid for, so it is taken.
            settle: finishes index runs whose vectors have all come and tells how many.
            watch: shows the batch jobs.
        """
        self._state, self._space_id, self._owner = state, space_id, owner
        self._stop = state.stop
        self._batch_jobs, self._direct, self._settings = batch_jobs, direct, settings
        self._others, self._settle_runs, self._watch = others, settle, watch
        self.finished = 0
        """Index runs finished so far."""

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Claims are kept alive while something is done, those of dead processes are freed, and ours given back."""
        with beating(self._state, self._owner, self._settings.lease_s):
            try:
                self._state.queue.free_abandoned(is_gone, lease_s=self._settings.lease_s)
                yield
            finally:
                self._state.queue.release(self._owner)

    def flush(self, *, force: bool = False, min_size: int | None = None) -> Flushed:
        """Make batch jobs of what waits, when it is enough, has waited long enough, or `force` says so.

        Without batch processing it is sent directly. `min_size`: how many texts are enough; None: as configured.
        """
        waiting, _ = self._state.queue.waiting(self._space_id, fallen_back=False)
        if waiting and not self._settings.batches:
            sent = self._direct.run().texts
            return Flushed(batches=0, texts=sent, waiting=waiting - sent, reason=self._settings.why_direct)
        reason = (
            None
            if force or not waiting
            else self._why_not(waiting, self._settings.min_queue_size if min_size is None else min_size)
        )
        if reason is not None or not waiting:
            return Flushed(batches=0, texts=0, waiting=waiting, reason=reason)
        made = self._batch_jobs.plan_ids()
        left, _ = self._state.queue.waiting(self._space_id, fallen_back=False)
        return Flushed(batches=len(made), texts=waiting - left, waiting=left, reason=None, ids=tuple(made))

    def _why_not(self, waiting: int, enough: int) -> str | None:
        settings = self._settings
        if waiting >= min(enough, settings.max_queue_size):
            return None
        since = self._state.queue.counts(self._space_id).oldest_pending_at
        waited_s = 0.0 if since is None else time.time() - since
        if since is None or waited_s >= settings.max_wait_s:
            return None
        return (
            f"{waiting} texts wait, and {enough} make a batch job worth while; it is made anyway in "
            f"{(settings.max_wait_s - waited_s) / 60:.0f} min (queue_limits.max_wait_time), or now with --force"
        )

    def sync(self) -> StepResult:
        """Look at every remote job now, due or not, take what has come, and finish index runs."""
        self._state.batches.hurry()
        with self._at_work():
            done = self._poll()
        self._settle()
        self._watch()
        return done

    def _poll(self) -> StepResult:
        done = self._batch_jobs.poll()
        for batch_jobs in self._others():
            done.add(batch_jobs.poll())
        return done

    def cancel_remote(self, name: str) -> bool:
        """Cancel a remote job; when it is one of ours, its batch job is over with it. Whether that was possible."""
        mine = [row for row in self._state.batches.rows(open_only=True) if row.remote_name == name]
        if mine:
            return self._batch_jobs.cancel(mine[0].id)
        self._batch_jobs.cancel_foreign(name)
        return True

    def cancel_batch(self, batch_id: str) -> bool:
        """Cancel one of our batch jobs on a person's behalf. Whether that was possible."""
        return self._batch_jobs.cancel(batch_id)

    def _settle(self) -> None:
        self.finished += self._settle_runs()

    def plan(self, job_id: str) -> int:
        """Make batch jobs of all waiting texts of a run of index. Returns how many."""
        return self._batch_jobs.plan(job_id=job_id)

    def submit(self) -> StepResult:
        """Submit the batch jobs that are due."""
        with self._at_work():
            return self._batch_jobs.submit()

    def step(
        self, *, job_id: str | None = None, batches: bool = True, price: Callable[[], None] | None = None
    ) -> StepResult:
        """Do everything that is due, once.

        Args:
            job_id: make jobs of, and send directly, only texts of this run of index.
            batches: whether waiting texts become batch jobs; otherwise they are sent directly.
            price: called before texts are sent directly that fell back; may raise.

        Raises:
            Denied: the key is refused.
            CodechunkError: something here stands in the way: the disk, the database, `price`.
        """
        with self._at_work():
            if batches:
                self._plan_or_flush(job_id)
            done = self._batch_jobs.submit()
            done.add(self._poll())
            if not batches:
                done.add(self._sent(self._direct.run(job_id=job_id)))
            elif self._state.queue.waiting(self._space_id, fallen_back=True, job_id=job_id)[0]:
                if price is not None:
                    price()
                done.add(self._sent(self._direct.run(fallen_back=True, job_id=job_id)))
        if done.completed or done.ended_badly or done.texts_ready or done.texts_failed:
            self._settle()
        self._watch()
        return done

    def _plan_or_flush(self, job_id: str | None) -> None:
        if job_id is None:
            self.flush()
        else:
            self._batch_jobs.plan(job_id=job_id)

    @staticmethod
    def _sent(sent: Sent) -> StepResult:
        return StepResult(texts_ready=sent.texts, texts_failed=sent.failed)

    def send_directly(self, job_id: str) -> int:
        """Send every waiting text of a run of index directly. Returns how many vectors came."""
        with self._at_work():
            return self._direct.run(job_id=job_id).texts

    def wait_for(
        self,
        job_id: str,
        *,
        still_open: Callable[[], int],
        batches: bool,
        price: Callable[[], None] | None = None,
    ) -> StepResult:
        """Do what is due until no text of a run of index is open any more.

        Raises:
            CodechunkError: the provider cannot be reached, after several tries; nothing is lost.
        """
        total, unreachable = StepResult(), 0
        while still_open():
            self._stop.raise_if_asked()
            done = self.step(job_id=job_id, batches=batches, price=price)
            total.add(done)
            if done.unreachable:
                log.warning("The provider did not answer", extra={"action": "unreachable", "why": done.unreachable[0]})
            if done.polled or done.submitted or done.texts_ready:
                unreachable = 0  # of many calls a few fail: somebody is there
            elif done.unreachable:
                unreachable += 1
            if unreachable >= MOST_UNREACHABLE:
                raise CodechunkError(
                    f"{done.unreachable[-1] if done.unreachable else 'the provider cannot be reached'}; nothing is "
                    f"lost: batch jobs that are out go on there, and the same command goes on from here",
                    kind="provider",
                )
            if still_open():
                self._stop.wait(self._pause_s(self._settings.poller_interval_s))
        return total

    def loop(self, *, interval_s: float, once: bool, told: Callable[[str], None]) -> None:
        """Flush and sync until somebody asks to stop; calls under way may end. `told` gets what went wrong.

        Raises CodechunkError only when `once`.
        """
        try:
            while True:
                self._stop.raise_if_asked()
                pause_s = self._turn(interval_s, once, told)
                if once:
                    return
                self._stop.wait(pause_s)
        except Stopped:
            self._state.queue.release(self._owner)
            log.info("Stopped, all claims are released", extra={"action": "worker_stopped"})

    def _turn(self, interval_s: float, once: bool, told: Callable[[str], None]) -> float:
        """One step of the loop; an expected failure is told and tried again later. Returns the pause in seconds."""
        unfinished: CodechunkError | None = None
        try:
            self._settle()
        except CodechunkError as exc:  # of one index: what comes for the others must be fetched all the same
            unfinished = exc
        try:
            done = self.step(batches=self._settings.batches)
            if unfinished is not None:
                raise unfinished
        except (Denied, ProviderError, CodechunkError) as exc:
            if once:
                raise
            told(str(exc))
            return max(interval_s, self._settings.poller_interval_s)
        for why in done.unreachable[:1]:
            told(f"{why}; trying again")
        return self._pause_s(interval_s)

    def _pause_s(self, longest_s: float) -> float:
        """Until the next thing is due, at most `longest_s`, and never so short that the loop spins."""
        throttle = self._state.queue.throttle()
        times = [
            self._state.batches.next_due(self._space_id, submissions=throttle is None),
            self._state.queue.waiting(self._space_id)[1],
            None if throttle is None else throttle.until,
        ]
        due = min((at for at in times if at is not None), default=None)
        shortest = min(0.5, self._settings.poller_interval_s)
        return longest_s if due is None else max(shortest, min(longest_s, due - time.time()))
