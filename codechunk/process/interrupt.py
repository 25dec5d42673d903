"""The short way out on Ctrl-C and SIGTERM: one sentence and the exit code, at once, wherever the process is.

For the time before a command works and after it, and for whoever asks a third time. It is no more than a kill, which
all that is stored survives. Imports next to nothing: it is set before anything that takes time is imported.
"""

import os
import signal
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 130
# SIGTERM is what cancelled CI jobs get: it ends a command as Ctrl-C does, with its state written down.
STOPPING = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = "interrupted; the same command goes on from here."
_SHOW_CURSOR = b"\x1b[?25h"  # which progress bars hide
_IMPORTING = "<frozen importlib._bootstrap>"


def leave_at_once(_number: int = 0, _frame: FrameType | None = None) -> NoReturn:
    """Say it and end: a signal handler."""
    hush()
    try:
        os.write(2, (_SHOW_CURSOR if os.isatty(2) else b"") + f"codechunk: {INTERRUPTED}\n".encode())
    finally:
        os._exit(EXIT_INTERRUPTED)


def leave_on_signals() -> None:
    """Let them end the process so from now on; those that are ignored stay so (nohup, jobs in the background)."""
    for number in STOPPING:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, leave_at_once)


def hush() -> None:
    """Hear no more of them: the last words are being said, and nothing may break in.

    A mask would not do: it is this thread's, and those of numpy hear signals, too.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported there. Python drops what a handler raises in the locks of imports, and prints
    it."""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False
