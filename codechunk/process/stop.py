"""Ctrl-C and SIGTERM, kept away from the middle of a transaction.

Python raises KeyboardInterrupt between any two instructions, also inside a library that is about to roll back: the
connection then keeps its lock, and writing down how the job ended waits for it in vain (seen: 30 s, exit 1).
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


_arrived = False


def stop_like_ctrl_c() -> None:
    """Let SIGTERM, which cancelled CI jobs get, end a command as Ctrl-C does: with its state written down."""
    global _arrived
    _arrived = False
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and shells that put jobs in the background
            signal.signal(number, _stop)


def _stop(_number: int, _frame: FrameType | None) -> None:
    global _arrived
    _arrived = True
    raise KeyboardInterrupt


def raise_if_stopped() -> None:
    """Raise the KeyboardInterrupt that Python dropped, if it did.

    One that is raised inside a weak reference's callback or a finaliser is printed and forgotten there (seen: a run
    that got SIGTERM while it submitted went on and bought everything). So whoever begins the next thing asks first.
    """
    global _arrived
    if _arrived:
        _arrived = False
        raise KeyboardInterrupt


def stop_was_heard() -> None:
    """Whoever catches the KeyboardInterrupt and returns says so: else `raise_if_stopped` would raise it once more."""
    global _arrived
    _arrived = False


@contextmanager
def deferred() -> Iterator[None]:
    """Run a short block to its end; a signal that came meanwhile takes effect right after it.

    In other threads than the main one, where Python raises no signal anyway, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        signal.signal(number, lambda *arrived: came.append(arrived))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for arrived, frame in came:
            handler = handlers[signal.Signals(arrived)]
            if callable(handler):
                handler(arrived, frame)
            elif handler is not signal.SIG_IGN:
                signal.raise_signal(arrived)


@contextmanager
def finishing(patience_s: float) -> Iterator[None]:
    """Run a step to its end although a signal came; at the end KeyboardInterrupt is raised.

    A second signal ends it at once, and so do `patience_s` seconds after the first: a provider that does not answer
    must not keep anybody from leaving. In other threads than the main one nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def arrived(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if came or number == signal.SIGALRM:
            raise KeyboardInterrupt
        came = True
        signal.setitimer(signal.ITIMER_REAL, patience_s)

    numbers = (*STOPPING, signal.SIGALRM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, arrived)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt
