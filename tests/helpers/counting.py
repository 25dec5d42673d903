"""Counting work instead of timing it: the same on every machine, however busy."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Of the processor, not of the clock. What hostile input is meant to provoke takes minutes to hours, all else seconds.
MOST_CPU_S = 60.0


def calls_made(work: Callable[[], object]) -> int:
    """How many functions, of Python and of C, were called in this thread while `work` ran."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@contextmanager
def no_hang(cpu_s: float = MOST_CPU_S) -> Iterator[None]:
    """Fail when the block computes for so long that it is no slow machine but a bad algorithm."""
    started = time.process_time()
    yield
    took = time.process_time() - started
    assert took < cpu_s, f"it computed for {took:.0f} s"
