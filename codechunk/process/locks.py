"""Locks between processes on one machine: files under `flock`, which the kernel opens when their owner dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codechunk.errors import IndexBusy


@contextmanager
def only_one(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file `path` (made when missing, mode 0600) while the block runs.

    Raises:
        IndexBusy: with the sentence `busy`, at once, when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise IndexBusy(busy) from exc
        yield
    finally:
        os.close(descriptor)
