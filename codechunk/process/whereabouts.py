"""Which folder a folder is: whether one that was written down is this one, or this one only a copy of it."""

import json
import socket
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Self

_MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """A folder on a machine. Each part may change without the folder being another one, so none decides alone."""

    host: str
    """Name and id of the machine: a container that is made anew has another one."""
    path: str
    """Resolved: a folder that is moved or mounted elsewhere has another one."""
    inode: int
    """Number in its file system: a folder restored from a backup has another one."""
    device: int
    """Number of that file system, which may change when the machine is started."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Those of a folder that exists; OSError when it does not."""
        status = folder.stat()
        return cls(host=_host(), path=str(folder.resolve()), inode=status.st_ino, device=status.st_dev)

    @classmethod
    def read(cls, text: str) -> Self | None:
        """What `text` has written down; None when it is nothing of that kind."""
        try:
            host, path, inode, device = json.loads(text)
            return cls(host=str(host), path=str(path), inode=int(inode), device=int(device))
        except (ValueError, TypeError):
            return None

    @property
    def text(self) -> str:
        """One line to be kept. Equal lines mean the same folder: no two have one at the same time."""
        return json.dumps(astuple(self))

    def may_be(self, other: Self) -> bool:
        """Whether both may be one folder, moved, restored or seen from another container; False for a copy.

        So it is when two of machine, path and number agree.
        """
        agree = (self.host == other.host, self.path == other.path, self.inode == other.inode)
        return sum(agree) >= len(agree) - 1


@cache
def _host() -> str:
    machine = ""
    with suppress(OSError):
        machine = _MACHINE_ID.read_text(encoding="utf-8", errors="replace").strip()
    return f"{socket.gethostname()} {machine}".strip()
