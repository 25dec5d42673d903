"""`Stop`: how work is told to end, from any thread. A value that travels with the work; it knows no signals.

Work looks at its check-points. A block that must not be broken (a transaction, a reply on its way to the database) is a
section (`held`): whoever asks meanwhile is heard at its end.
"""

import itertools
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from codechunk.errors import Stopped

T = TypeVar("T")

# How long calls to a provider may go on after the first ask: what they bring is paid for.
PATIENCE_S = 8.0
# Who sleeps looks up this often by himself: an exception out of a signal handler may swallow a ring of the bell.
LOOK_UP_S = 1.0


class Section(threading.local):
    """The blocks of this thread that run to their end; made by `Stop`, entered through `Stop.held`."""

    def __init__(self) -> None:
        self.depth = 0
        self.owed: Stopped | None = None
        """What `Stop.interrupt` could not raise inside."""

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.depth -= 1
        if self.owed is not None and not self.depth:
            owed, self.owed = self.owed, None
            raise owed


class Stop:
    """Whether somebody wants the work to end: asked once and for all, by any thread, at any time.

    After the first ask, work ends at its next check-point, and calls to a provider have `PATIENCE_S`. A second ask ends
    that patience. No lock is taken, so that a signal handler may ask while the same thread waits (an Event would block
    there for good: its `set` takes a lock that its `wait` holds for moments).
    """

    def __init__(self) -> None:
        """Begin without an ask."""
        self.reason = ""
        """What the first one who asked said."""
        self._times = 0
        self._asked_at = 0.0
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()  # its `put` may interrupt itself
        self._acts: dict[int, Callable[[], None]] = {}
        self._numbers = itertools.count()
        self._section = Section()

    def ask(self, reason: str = "") -> None:
        """Let the work end; a second time: let it end without patience."""
        if not self._times:
            self.reason, self._asked_at = reason, time.monotonic()
        self._times += 1
        self._bell.put(None)
        for act in list(self._acts.values()):
            act()

    @property
    def asked(self) -> bool:
        """Whether anybody has asked."""
        return self._times > 0

    @property
    def patience_s(self) -> float:
        """Seconds that calls under way may still take: infinite before anybody asks, 0 after a second ask."""
        if not self._times:
            return math.inf
        return 0.0 if self._times > 1 else max(0.0, self._asked_at + PATIENCE_S - time.monotonic())

    def raise_if_asked(self) -> None:
        """A check-point: whoever begins the next thing calls it. Inside a section nothing happens.

        It also finds what Python dropped: an exception that a signal handler raises inside a weak reference's callback
        or a finaliser is printed and forgotten (seen: a run that got SIGTERM went on and bought everything).

        Raises:
            Stopped: somebody has asked.
        """
        if self._times and not self._section.depth:
            raise Stopped(self.reason)

    def wait(self, seconds: float) -> None:
        """Sleep, and wake up when somebody asks.

        Raises:
            Stopped: somebody has asked; not inside a section, there it only returns.
        """
        until = time.monotonic() + seconds
        while not self._times and (left := until - time.monotonic()) > 0:
            with suppress(queue.Empty):
                self._bell.get(timeout=min(left, LOOK_UP_S))
                self._bell.put(None)  # for the next one who sleeps
        self.raise_if_asked()

    def held(self) -> Section:
        """A block that runs to its end in this thread: `with stop.held():`. May be nested; keep it short."""
        return self._section

    @property
    def holding(self) -> bool:
        """Whether this thread is in a section."""
        return self._section.depth > 0

    def interrupt(self) -> None:
        """Raise Stopped in this thread, now or when the section that it is in ends: for a signal handler.

        Other threads cannot be interrupted; they have the check-points.
        """
        if not self._section.depth:
            raise Stopped(self.reason)
        self._section.owed = Stopped(self.reason)

    def when_asked(self, act: Callable[[], None]) -> Callable[[], None]:
        """Call `act` whenever somebody asks, at once if somebody has. Returns the function that ends this.

        `act` runs in the thread that asks, maybe in a signal handler: it takes no lock, does not fail, and may be
        called twice.
        """
        number = next(self._numbers)
        self._acts[number] = act
        if self._times:
            act()

        def end() -> None:
            self._acts.pop(number, None)

        return end


def side_by_side(stop: Stop, calls: Sequence[Callable[[], T]], *, name: str) -> list[T]:
    """Make slow calls to others, each in a thread of its own. Returns their results, in order.

    Each goes on to its end although another fails. After somebody asked to stop, they have `stop.patience_s`; one that
    takes longer is left alone, and must find out by itself that what it held has been given to others.

    Raises:
        Stopped: a call outlasted the patience.
        BaseException: the first error of a call, in their order.
    """
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}
    bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run(number: int, call: Callable[[], T]) -> None:
        try:
            results[number] = call()
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            errors[number] = exc
        bell.put(None)

    with stop.held():
        end_listening = stop.when_asked(lambda: bell.put(None))
        for number, call in enumerate(calls):
            threading.Thread(target=run, args=(number, call), name=f"{name}-{number}", daemon=True).start()
        while len(results) + len(errors) < len(calls) and (left := stop.patience_s) > 0:
            with suppress(queue.Empty):
                bell.get(timeout=min(left, LOOK_UP_S))
        end_listening()
    if errors:
        raise errors[min(errors)]
    if len(results) < len(calls):
        raise Stopped(stop.reason)
    return [results[number] for number in range(len(calls))]
