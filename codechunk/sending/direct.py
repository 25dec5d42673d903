"""Direct calls: pending texts are sent one call after the other, and each vector is stored as it arrives.

One thread claims and saves, a few others call (calls.py). Waits are seconds; what would wait longer stays
pending in the state database, and the run ends with a sentence.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from codechunk.errors import ProviderError, RateLimited, Rejected, StateError, Unavailable
from codechunk.process.crash import crash
from codechunk.process.stop import LOOK_UP_S, PATIENCE_S
from codechunk.providers import Client, Embedded
from codechunk.sending.calibration import Calibrator
from codechunk.sending.calls import LONGEST_ASKED_WAIT_S, Call, Callers, EndedCall
from codechunk.sending.heartbeat import Heartbeat, beating
from codechunk.slices import slices
from codechunk.state import ClaimedText, State

log = logging.getLogger(__name__)

ATTEMPTS = 8
FIRST_WAIT_S = 1.0
# So many texts rejected, and none ever accepted: the fault is in the form of the request, not in the texts.
REJECTED_AT_FIRST = 25
# Claimed texts per text that can be under way: the threads never wait for a claim.
CLAIMED_AHEAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a run did: texts embedded, calls made (repeated ones too), texts failed, tokens by the provider's count.

    `tokens` is None when no reply told any.
    """

    texts: int
    requests: int
    failed: int
    tokens: int | None


class _OutOfReachError(Exception):
    """The run cannot go on now: the provider is unreachable, or will not take more. Carries its error."""

    def __init__(self, error: RateLimited | Unavailable) -> None:
        super().__init__(str(error))
        self.error = error


class Direct:
    """Buys vectors for the pending texts of one vector space, directly."""

    def __init__(
        self,
        *,
        state: State,
        provider: Client,
        space_id: int,
        owner: str,
        calibrator: Calibrator,
        concurrency: int,
        texts_per_call: int,
        lease_s: float,
        free: bool = False,
        on_saved: Callable[[int], None] = lambda _: None,
        attempts: int = ATTEMPTS,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """Claim nothing yet.

        Args:
            owner: name for the claims (see sending.owner); everything it holds is released when the run is stopped.
            concurrency: calls under way at the same time; 0: one after the other, in the thread of `run`.
            texts_per_call: at most this many texts in one call.
            lease_s: how long a claim outlives this process, in seconds; longer than a call may take.
            free: nothing is bought: no request is counted, and no vector is marked as paid for.
            on_saved: told in the calling thread how many vectors were just stored.
            attempts: how often a call is tried in all, and how many waits in a row a 429 may cause.
            first_wait_s: wait after a first failure, doubled from then on up to a minute.
        """
        self._state = state
        self._stop = state.stop
        self._provider = provider
        self._space_id = space_id
        self._owner = owner
        self._calibrator = calibrator
        self._concurrency = concurrency
        self._texts_per_call = texts_per_call
        self._lease_s = lease_s
        self._free = free
        self._on_saved = on_saved
        self._attempts = attempts
        self._first_wait_s = first_wait_s

    def run(self, *, fallen_back: bool = False, job_id: str | None = None) -> Sent:
        """Send pending texts until none can be claimed. What was bought is stored, whatever ends the run.

        Args:
            fallen_back: only texts whose batch jobs ended badly.
            job_id: only texts that this run of index asked for.

        Raises:
            Denied: the key is refused; repeating is useless.
            Rejected: every text was, so the request itself is wrong; no text is marked failed.
            RateLimited, Unavailable: the provider could not be used for minutes; the same command goes on later.
            Stopped: somebody asked; calls under way had 8 seconds to bring what was bought.
        """
        with beating(self._state, self._owner, self._lease_s) as heartbeat:
            callers = Callers(
                provider=self._provider,
                calibrator=self._calibrator,
                heartbeat=heartbeat,
                concurrency=self._concurrency,
                attempts=self._attempts,
                first_wait_s=self._first_wait_s,
            )
            run = _Run(self, callers, heartbeat, fallen_back=fallen_back, job_id=job_id)
            end_listening = self._stop.when_asked(callers.ring)
            try:
                run.go()
            except _OutOfReachError as exc:
                run.wind_up()
                raise self._farewell(exc.error, run.texts) from exc.error
            except BaseException:
                run.wind_up()
                raise
            finally:
                end_listening()
                callers.stop()
            self._calibrator.save()
        return Sent(texts=run.texts, requests=run.requests, failed=run.failed, tokens=run.tokens)

    def _farewell(self, error: RateLimited | Unavailable, texts: int) -> ProviderError:
        """The error in words for a person: what it means, and that the same command goes on."""
        title = self._provider.title
        wait = self._state.queue.counts(self._space_id).pending
        rest = f"{texts:,} texts are embedded, {wait:,} wait; nothing is lost, the same command goes on."
        if isinstance(error, Unavailable):
            return Unavailable(
                f"{title} could not be reached in spite of several attempts: {error} {rest}", sent=error.sent
            )
        asked_s = error.retry_after_s
        if asked_s is not None and asked_s > LONGEST_ASKED_WAIT_S:
            until = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + asked_s))
            sentence = f"{title} takes no more requests before {until}: {error} {rest}"
        else:
            sentence = f"{title} keeps refusing requests, as when a quota is used up: {error} {rest}"
        return RateLimited(sentence, retry_after_s=asked_s)


class _Run:
    """One run of `Direct`, in the thread that called it: claims, calls handed out, outcomes saved."""

    def __init__(
        self, direct: Direct, callers: Callers, heartbeat: Heartbeat, *, fallen_back: bool, job_id: str | None
    ) -> None:
        self._direct = direct
        self._stop = direct._stop
        self._queue = direct._state.queue
        self._calibrator = direct._calibrator
        self._callers = callers
        self._heartbeat = heartbeat
        self._fallen_back = fallen_back
        self._job_id = job_id
        self._out = 0  # calls handed out whose outcome was not taken
        self._held = 0  # their texts
        self._dry = False  # the last claim found less than it could take
        self._aside: list[Call] = []  # calls that fail while others succeed: tried again at the end
        self._suspects: list[tuple[ClaimedText, str]] = []  # rejected before any text was accepted
        self._unrecorded = 0  # requests that no row tells of yet
        self.texts = self.requests = self.failed = 0
        self.tokens: int | None = None

    def go(self) -> None:
        """Until nothing can be claimed and nothing is out."""
        while True:
            self._stop.raise_if_asked()
            if not self._heartbeat.lapsed:
                self._top_up()
            if self._out == 0:
                if self._heartbeat.lapsed:
                    self._start_over()
                elif self._aside:
                    self._try_aside()
                elif self._dry:
                    break
                else:
                    continue
            self._take(self._callers.wait(LOOK_UP_S))
        with self._stop.held():
            self._clear_suspects()

    def wind_up(self) -> None:
        """Begin nothing more, wait a little for what is under way, store it, and give the rest back."""
        deadline = time.monotonic() + PATIENCE_S
        try:
            self._out -= self._callers.stop()
            while self._out > 0 and (left := min(deadline - time.monotonic(), self._stop.patience_s)) > 0:
                with self._stop.held():
                    came = self._callers.wait(min(left, 0.2))
                    while came:
                        outcome = came.popleft()
                        self._out -= 1
                        if outcome.reply is not None:
                            self._save(outcome.call, outcome.reply)
        except StateError as exc:
            log.error(
                "Vectors that were bought could not be stored", extra={"action": "save_failed", "error": str(exc)}
            )
        finally:
            self._release()

    def _release(self) -> None:
        try:
            self._queue.release(self._direct._owner)
            self._calibrator.save()
        except StateError as exc:
            log.warning(
                "Claims could not be given back; they end with their lease",
                extra={"action": "release_failed", "error": str(exc)},
            )

    # ------------------------------------------------------------------ handing out

    def _top_up(self) -> None:
        """Claim when less than half of what may be held is."""
        per_call = self._direct._texts_per_call
        ahead = CLAIMED_AHEAD * max(1, self._direct._concurrency) * per_call
        if self._held > ahead // 2 or (self._dry and self._held):
            return
        most = ahead - self._held
        with self._stop.held():
            texts = self._queue.claim(
                self._direct._space_id,
                self._direct._owner,
                most=most,
                lease_s=self._direct._lease_s,
                fallen_back=self._fallen_back,
                job_id=self._job_id,
            )
            crash("texts claimed")
            self._dry = len(texts) < most
            for some in slices(texts, per_call):
                self._hand_out(Call(texts=list(some)))

    def _hand_out(self, call: Call) -> None:
        self._out += 1
        self._held += len(call.texts)
        self._callers.submit(call)

    def _start_over(self) -> None:
        """Leases have ended, the machine slept for instance: claim again what others have not taken."""
        log.warning("The leases of this process ended; it claims anew", extra={"action": "lease_lapsed"})
        self._queue.release(self._direct._owner)
        self._heartbeat.restart()
        self._aside.clear()
        self._suspects.clear()
        self._dry = False

    def _try_aside(self) -> None:
        calls, self._aside = self._aside, []
        for call in calls:
            for part in call.halves():
                self._hand_out(part)

    # ------------------------------------------------------------------ outcomes

    def _take(self, came: deque[EndedCall]) -> None:
        """Store or record every outcome that has come; a Stop waits for the end of each."""
        while came:
            with self._stop.held():
                outcome = came[0]
                crash("reply came")
                self.requests += outcome.requests
                self._unrecorded += outcome.requests
                self._settle(outcome)
                came.popleft()  # only now: what could not be stored is tried once more at the end
                self._out -= 1
                self._held -= len(outcome.call.texts) + len(outcome.too_long)
                crash("reply stored")

    def _settle(self, outcome: EndedCall) -> None:
        call, error = outcome.call, outcome.error
        for text, reason in outcome.too_long:
            self._fail(text, reason)
        if outcome.reply is not None:
            self._save(call, outcome.reply)
        elif isinstance(error, Rejected):
            self._isolate(call, error)
        elif isinstance(error, Unavailable):
            self._set_aside(call, error)
        elif isinstance(error, RateLimited):
            raise _OutOfReachError(error)
        elif error is not None:
            raise error

    def _save(self, call: Call, reply: Embedded) -> None:
        texts = call.texts
        alone = len(texts) == 1
        self._queue.save_direct(
            [text.embedding_id for text in texts],
            reply.vectors,
            tokens=[reply.tokens] if alone else [None] * len(texts),
            requests=self._unrecorded,
            free=self._direct._free,
        )
        self._unrecorded = 0
        self.texts += len(texts)
        if reply.tokens is not None:
            self.tokens = (self.tokens or 0) + reply.tokens
            if all(text.counted for text in texts):
                self._calibrator.learn(sum(text.tokens for text in texts), reply.tokens, texts=len(texts))
        self._clear_suspects()
        self._direct._on_saved(len(texts))

    def _isolate(self, call: Call, error: Rejected) -> None:
        """Find the text that spoils the call by halving it; a single one is what is rejected."""
        if len(call.texts) > 1:
            for half in call.halves():
                self._hand_out(half)
            return
        self._suspects.append((call.texts[0], str(error)))
        if self._callers.accepted:
            self._clear_suspects()
        elif len(self._suspects) >= REJECTED_AT_FIRST:
            raise Rejected(
                f"{self._direct._provider.title} rejects every text, so it is the request that is wrong; check "
                f"embedding.model and embedding.dimensions. No text was marked as failed. {error}"
            ) from error

    def _clear_suspects(self) -> None:
        """The form of the request is right, or there is too little to tell: the texts themselves are rejected."""
        while self._suspects:
            self._fail(*self._suspects.pop())

    def _set_aside(self, call: Call, error: Unavailable) -> None:
        """A call without an answer: its texts are the cause when others were answered, else the provider is down."""
        if call.accepted_before is None or self._callers.accepted <= call.accepted_before:
            raise _OutOfReachError(error)
        call.given_up += 1
        if call.given_up > 1 and len(call.texts) == 1:
            self._fail(call.texts[0], str(error))
        else:
            self._aside.append(call)

    def _fail(self, text: ClaimedText, reason: str) -> None:
        self._queue.fail(text.embedding_id, reason)
        self.failed += 1
