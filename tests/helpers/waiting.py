"""Waiting for what another thread or process does, where there is nothing that tells of it."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Longer than anything takes that tests wait for, also on a busy machine: it says nothing about speed.
PATIENCE_S = 120.0
# For a wait that must not be waited out: nobody has so much patience, and what ended before was ended by codechunk.
HOURS_S = 9000.0


def wait_until(ready: Callable[[], T], what: str = "what was waited for", *, patience_s: float = PATIENCE_S) -> T:
    """Ask `ready` again and again until it answers something true, which is returned.

    Raises AssertionError, that `what` never happened, after `patience_s`.
    """
    until = time.monotonic() + patience_s
    while not (found := ready()):
        assert time.monotonic() < until, f"{what}: not after {patience_s:g} s"
        time.sleep(0.002)
    return found
