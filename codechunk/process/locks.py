"""Locks between processes. `FileLock` is one on this machine: a file under `flock`, which the kernel frees when its
owner dies. The other is `AdvisoryLock` of `codechunk.state.database`: inside a PostgreSQL server, for processes on many
machines.
"""

import fcntl
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from codechunk.errors import IndexBusy

_LOOK_S = 0.02
ANOTHER_PROCESS = "another codechunk process"
THIS_PROCESS = "this process already (another thread or object of it)"


class Lock(Protocol):
    """A lock that its process gives back, or loses when it dies. One object takes it once; not for two threads."""

    def take(self, *, wait_s: float = 0.0) -> bool:
        """Take it, waiting `wait_s` seconds at most. Returns whether it is held now.

        What another object holds is somebody else's, also in this process.
        """
        ...

    def held(self) -> bool:
        """Whether it is still held: False when it was never taken, given back, or lost."""
        ...

    def release(self) -> None:
        """Give it back. More than once is fine."""
        ...

    def holder(self) -> str:
        """Who kept it from being taken, in words: `THIS_PROCESS` or `ANOTHER_PROCESS`."""
        ...


class Held:
    """Which locks objects of this process hold: the kernel and the server do not tell whose a lock is."""

    def __init__(self) -> None:
        self._names: Counter[Hashable] = Counter()
        self._turn = threading.Lock()

    def add(self, name: Hashable, count: int = 1) -> None:
        """One more object holds it, or with -1 one less."""
        with self._turn:
            self._names[name] += count
            if self._names[name] <= 0:
                del self._names[name]

    def who(self, name: Hashable) -> str:
        """Who holds it, if somebody does."""
        return THIS_PROCESS if name in self._names else ANOTHER_PROCESS


_held = Held()


class FileLock:
    """A lock file (made when missing, mode 0600), held alone, or `shared` by any number of readers.

    Raises:
        OSError: the file cannot be made, or its file system knows no locks.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self.path = path
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._file: int | None = None

    def take(self, *, wait_s: float = 0.0, pause: Callable[[float], object] = time.sleep) -> bool:
        """See `Lock`. `pause` sleeps between two looks; it may raise, and nothing is held then."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_s
        try:
            while True:
                try:
                    fcntl.flock(file, self._mode | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        break
                    pause(_LOOK_S)
                else:
                    self._file = file
                    _held.add(self._name())
                    return True
        finally:
            if self._file is None:
                os.close(file)
        return False

    def write(self, who: str) -> None:
        """Say in the file who holds it; the caller does."""
        if self._file is None:
            raise ValueError("the lock is not held")
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, who.encode(), 0)

    def held(self) -> bool:
        """See `Lock`. The kernel takes no lock away."""
        return self._file is not None

    def release(self) -> None:
        """See `Lock`."""
        file, self._file = self._file, None
        if file is not None:
            _held.add(self._name(), -1)
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough when a forked child has the file open too
            os.close(file)

    def holder(self) -> str:
        """See `Lock`."""
        return _held.who(self._name())

    def _name(self) -> Path:
        return self.path.absolute()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@contextmanager
def only_one(lock: Lock, busy: str) -> Iterator[Lock]:
    """Hold the lock while the block runs, which may ask whether it is still held.

    Raises:
        IndexBusy: with the sentence `busy`, at once, when somebody else holds it. Where it says ANOTHER_PROCESS, who it
            is comes there.
    """
    if not lock.take():
        raise IndexBusy(busy.replace(ANOTHER_PROCESS, lock.holder()))
    try:
        yield lock
    finally:
        lock.release()


@contextmanager
def only_one_here(path: Path, busy: str) -> Iterator[Lock]:
    """`only_one` with the lock file `path`, whose folder is made when missing (mode 0700)."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with only_one(FileLock(path), busy) as lock:
        yield lock
