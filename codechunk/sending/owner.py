"""Who holds a claim: the name of a process, and whether the process behind a name is certainly gone.

A lease alone makes everybody wait for a killed process. On the same machine one look tells that it is gone, so its
claims are taken back at once. Where that cannot be known (another machine or container), the lease decides.
"""

import os
import socket
import uuid
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@cache
def _place() -> str:
    """Machine, boot and namespace of process numbers: only inside one of these does a number mean a process."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = str((_PROC / "self/ns/pid").readlink())
    except OSError:  # not Linux: nobody is ever certainly gone
        return f"{socket.gethostname()}:?"
    return f"{socket.gethostname()}:{boot}:{namespace}"


def _born(pid: int) -> str | None:
    """When the process began, in ticks since boot: tells it from a later one with its number. None: no process."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]  # a zombie does nothing any more


def new_owner() -> str:
    """A name for claims of this process, never used before."""
    pid = os.getpid()
    return "|".join((_place(), str(pid), _born(pid) or "?", uuid.uuid4().hex[:12]))


def is_gone(owner: str) -> bool:
    """Whether the process behind this name has certainly ended; False also when that cannot be known."""
    place, pid, born, _ = owner.rsplit("|", 3)
    if place != _place() or place.endswith(":?") or born == "?":
        return False
    now = _born(int(pid))
    return now != born and not (now is None and _is_foreign(int(pid)))


def _is_foreign(pid: int) -> bool:
    """Whether a process of another user has this number; /proc may hide it (hidepid), so it may be alive."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return False
