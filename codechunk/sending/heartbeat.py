"""The heartbeat: while a process works on what it has claimed, a thread keeps its leases from ending."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from codechunk.errors import StateError
from codechunk.state import State

log = logging.getLogger(__name__)

# Beats per lease: two may be missed, behind a locked database for instance, before anything is lost.
BEATS_PER_LEASE = 3


def _clock() -> float:
    """Seconds that go on while the machine sleeps: a lease ends then as well."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Heartbeat:
    """The beats of one owner. Made by `beating`."""

    def __init__(self, state: State, owner: str, lease_s: float) -> None:
        self._state = state
        self._owner = owner
        self._lease_s = lease_s
        self._stop = threading.Event()
        self._renewed_at = _clock()
        self._gap = False
        self._bug: BaseException | None = None

    @property
    def lapsed(self) -> bool:
        """Whether leases have ended since the start or `restart`, as after a sleep of the machine.

        Others may hold by now what was ours: nothing that costs money may be sent before it was claimed again.
        """
        return self._gap or _clock() - self._renewed_at >= self._lease_s

    def restart(self) -> None:
        """Begin again: everything that was held has been given back, and is claimed again."""
        self._renewed_at = _clock()
        self._gap = False

    def _beat(self) -> None:
        while not self._stop.wait(self._lease_s / BEATS_PER_LEASE):
            began_at = _clock()
            if began_at - self._renewed_at >= self._lease_s:
                self._gap = True  # what was taken from us stays lost, although the rest is renewed
            try:
                self._state.queue.renew(self._owner, lease_s=self._lease_s)
            except StateError as exc:
                log.warning(
                    "The leases of this process could not be renewed; trying again",
                    extra={"action": "lease_not_renewed", "error": str(exc)},
                )
            except BaseException as exc:  # noqa: BLE001 - a bug: raised where the work ends, where it is seen
                self._bug = exc
                return
            else:
                self._renewed_at = began_at


@contextmanager
def beating(state: State, owner: str, lease_s: float) -> Iterator[Heartbeat]:
    """Renew every claim of `owner` at a third of `lease_s` (seconds) for as long as the block runs.

    A database that is locked or full for a while is tried again at the next beat; `Heartbeat.lapsed` tells when that
    took too long. Nothing is released at the end: that is the business of whoever claimed.
    """
    heartbeat = Heartbeat(state, owner, lease_s)
    thread = threading.Thread(target=heartbeat._beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield heartbeat
    finally:
        heartbeat._stop.set()
        thread.join()
    if heartbeat._bug is not None:
        raise heartbeat._bug
