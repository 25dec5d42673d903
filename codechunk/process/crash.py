"""Crash points: places where a test kills the process, compiled in and off by default.

`CODECHUNK_CRASH=n` makes the n-th point reached end the process with SIGKILL, as a power cut would. A test counts n
up until a run ends by itself: a new step with a point in it is covered without a new test (reliability.md, 5).
"""

import os
import signal

_at = int(os.environ.get("CODECHUNK_CRASH") or 0)
_passed = 0


def crash(name: str) -> None:
    """A point between two effects; `name` says what was done last."""
    global _passed
    if not _at:
        return
    _passed += 1
    if _passed == _at:
        os.write(2, f"crash point {_passed}: {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
