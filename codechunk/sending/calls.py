"""Calls to the provider of embeddings: threads, retries in seconds, and the wait that all of them share.

Nothing here writes to the state database: what came of a call goes back to the thread of the run (direct.py).
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from codechunk.errors import RateLimited, Rejected, Unavailable
from codechunk.providers import Client, Embedded
from codechunk.sending.calibration import Calibrator
from codechunk.sending.heartbeat import Heartbeat
from codechunk.sending.retry import backoff_s, jittered_s
from codechunk.state import ClaimedText

T = TypeVar("T")

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
# When the provider asks for more than this, waiting in front of a terminal makes no sense.
LONGEST_ASKED_WAIT_S = 300.0
# How much longer than asked everybody waits at most.
LONGEST_JITTER_S = 2.0
# How often a provider that surely heard nothing is tried before the first success: it is the address, or no network.
ATTEMPTS_TO_MEET = 4
# One failure or two are nothing to trouble a person with.
TELL_AT = 3


class Pause:
    """The wait that all threads share: a 429 for one of them is a 429 for all."""

    def __init__(self, *, title: str, attempts: int, first_wait_s: float) -> None:
        self._title = title
        self._attempts = attempts
        self._first_wait_s = first_wait_s
        self._lock = threading.Lock()
        self._until = 0.0  # on the monotonic clock
        self._set_at = 0.0
        self._in_a_row = 0
        self.stopping = threading.Event()

    def wait(self) -> None:
        """Return when the wait is over, or at once when the run stops."""
        while (left := self._until - time.monotonic()) > 0 and not self.stopping.is_set():
            self.stopping.wait(left)

    def sleep(self, seconds: float) -> None:
        """Wait for one thread alone; ends early when the run stops."""
        self.stopping.wait(seconds)

    def begin(self, error: RateLimited, *, called_at: float) -> None:
        """Everybody waits, for as long as the provider asks or longer each time it asks for nothing.

        Calls that were under way when a wait began and are turned away too belong to the same wait.
        """
        with self._lock:
            if called_at >= self._set_at:
                self._in_a_row += 1
            asked_s = error.retry_after_s
            if asked_s is None:
                asked_s = backoff_s(self._in_a_row, initial_s=self._first_wait_s, most_s=LONGEST_WAIT_S)
            now = time.monotonic()
            until = now + min(jittered_s(asked_s), asked_s + LONGEST_JITTER_S)
            if until <= self._until:
                return
            self._until, self._set_at = until, now
        log.warning(
            f"{self._title} asks to send less: every call waits",
            extra={"action": "rate_limited", "wait_s": round(until - now, 1), "in_a_row": self._in_a_row},
        )

    def end(self) -> None:
        """A call was accepted: the next wait is the first again."""
        with self._lock:
            self._in_a_row = 0

    def useless(self, error: RateLimited) -> bool:
        """Whether waiting on is."""
        too_long = error.retry_after_s is not None and error.retry_after_s > LONGEST_ASKED_WAIT_S
        return too_long or self._in_a_row >= self._attempts


@dataclass(slots=True, kw_only=True)
class Call:
    """Texts of one call. `accepted_before` counts the accepted calls of the run when it was first tried."""

    texts: list[ClaimedText]
    accepted_before: int | None = None
    given_up: int = 0

    def halves(self) -> "list[Call]":
        """Two calls with half of the texts each; the same call when there is only one text."""
        middle = len(self.texts) // 2
        parts = [self.texts[:middle], self.texts[middle:]]
        return [
            Call(texts=part, accepted_before=self.accepted_before, given_up=self.given_up) for part in parts if part
        ]


@dataclass(slots=True, kw_only=True)
class EndedCall:
    """How a call ended: with `reply` for its texts, with `error`, or not sent (neither)."""

    call: Call
    reply: Embedded | None = None
    error: Exception | None = None
    too_long: list[tuple[ClaimedText, str]] = field(default_factory=list)
    requests: int = 0


@dataclass(slots=True)
class _Attempts:
    """Attempts of one call: all, and those that got no answer."""

    made: int = 0
    unavailable: int = 0


class _NotSentError(Exception):
    """The run stops, or the claim may be lost: this call must not be made."""


class Callers:
    """Threads that call the provider. They end with the process: none is waited for that hangs in a call.

    With a `concurrency` of 0 there are none: `wait` makes the next call itself.
    """

    def __init__(
        self,
        *,
        provider: Client,
        calibrator: Calibrator,
        heartbeat: Heartbeat,
        concurrency: int,
        attempts: int,
        first_wait_s: float,
    ) -> None:
        self._provider = provider
        self._calibrator = calibrator
        self._heartbeat = heartbeat
        self._attempts = attempts
        self._first_wait_s = first_wait_s
        self.pause = Pause(title=provider.title, attempts=attempts, first_wait_s=first_wait_s)
        self.accepted = 0
        self._counting = threading.Lock()
        self._todo: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._came: deque[EndedCall] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"direct-{number}", daemon=True) for number in range(concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Call) -> None:
        """Let a free thread make this call."""
        self._todo.put(call)

    def wait(self, timeout_s: float | None = None) -> deque[EndedCall]:
        """The outcomes that have come, once there are any or the time is over; the caller takes them out.

        The bell is apart from them: an interrupt may swallow a ring, never an outcome.
        """
        if not self._threads:
            self._work_here()
        if not self._came:
            with suppress(queue.Empty):
                self._bell.get(timeout=timeout_s)
        return self._came

    def _work_here(self) -> None:
        with suppress(queue.Empty):
            call = self._todo.get_nowait()
            if call is not None:
                self._make(call)

    def ring(self) -> None:
        """Wake up whoever waits."""
        self._bell.put(None)

    def stop(self) -> int:
        """No call begins from now on, and threads that wait come back. Returns how many calls no thread had taken."""
        self.pause.stopping.set()
        untouched = 0
        with suppress(queue.Empty):
            while True:
                untouched += self._todo.get_nowait() is not None
        for _ in self._threads:
            self._todo.put(None)
        return untouched

    def _work(self) -> None:
        while (call := self._todo.get()) is not None:
            self._make(call)

    def _make(self, call: Call) -> None:
        """Make the call and note its outcome; one that a Stop ends was not sent."""
        outcome = EndedCall(call=call)
        try:
            self._carry_out(call, outcome)
        except _NotSentError:
            pass  # an outcome without reply and error says so
        except Exception as exc:  # noqa: BLE001 - raised by the run, which decides what it means
            outcome.error = exc
            if not isinstance(exc, (Rejected, RateLimited, Unavailable)):
                self.pause.stopping.set()  # a refused key, a bug: nobody sends anything more
        finally:
            self._came.append(outcome)
            self.ring()

    def _carry_out(self, call: Call, outcome: EndedCall) -> None:
        if call.accepted_before is None:
            call.accepted_before = self.accepted
        reasons = [self._too_long(text) for text in call.texts]
        outcome.too_long = [(text, why) for text, why in zip(call.texts, reasons, strict=True) if why is not None]
        call.texts = [text for text, why in zip(call.texts, reasons, strict=True) if why is None]
        if call.texts:
            sends = _Attempts()
            try:
                outcome.reply = self._retried(sends, partial(self._embed, call.texts))
            finally:
                outcome.requests = sends.made

    def _too_long(self, text: ClaimedText) -> str | None:
        """Why the text does not fit the model, None when it does; the provider may be asked."""
        if self._calibrator.surely_fits(text.tokens):
            return None
        return self._retried(_Attempts(), partial(self._calibrator.check, text.text, text.tokens))

    def _embed(self, texts: list[ClaimedText]) -> Embedded:
        reply = self._provider.embed([text.text for text in texts])
        if len(reply.vectors) != len(texts):
            raise Unavailable(f"{self._provider.title} sent {len(reply.vectors)} vectors for {len(texts)} texts.")
        with self._counting:
            self.accepted += 1
        self.pause.end()
        return reply

    def _retried(self, attempts: _Attempts, act: Callable[[], T]) -> T:
        """Do it until it succeeds, fails for good, or failed too often; the last error is raised."""

        def once() -> T:
            self.pause.wait()
            if self.pause.stopping.is_set() or self._heartbeat.lapsed:
                raise _NotSentError
            attempts.made += 1
            called_at = time.monotonic()
            try:
                return act()
            except RateLimited as exc:
                self.pause.begin(exc, called_at=called_at)
                raise
            except Unavailable as exc:
                attempts.unavailable += 1
                log.log(
                    logging.WARNING if attempts.unavailable == TELL_AT else logging.DEBUG,
                    f"{self._provider.title} does not answer; trying again",
                    extra={"action": "call_retried", "error": str(exc), "attempt": attempts.made},
                )
                raise

        def useless(state: "RetryCallState") -> bool:
            error = _error_of(state)
            if isinstance(error, RateLimited):
                return self.pause.useless(error)
            unknown = self.accepted == 0 and isinstance(error, Unavailable) and not error.sent
            return attempts.unavailable >= (min(ATTEMPTS_TO_MEET, self._attempts) if unknown else self._attempts)

        def wait_s(state: "RetryCallState") -> float:
            if isinstance(_error_of(state), RateLimited):
                return 0.0  # all threads wait for that together, before the next attempt
            return jittered_s(backoff_s(attempts.unavailable, initial_s=self._first_wait_s, most_s=LONGEST_WAIT_S))

        from tenacity import Retrying, retry_if_exception_type  # late: it brings asyncio, 25 ms that few commands need

        retrying = Retrying(
            retry=retry_if_exception_type((RateLimited, Unavailable)),
            wait=wait_s,
            stop=useless,
            sleep=self.pause.sleep,
            reraise=True,
        )
        return retrying(once)


def _error_of(state: "RetryCallState") -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
