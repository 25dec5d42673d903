"""A command on a terminal of a given size."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path


def on_a_terminal(
    command: Sequence[str], *, rows: int, columns: int, cwd: Path, env: Mapping[str, str]
) -> tuple[int, str]:
    """The exit code, and what was shown."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    size = {"CODECHUNK_PAGER": "cat", **{name: env[name] for name in env.keys() - {"COLUMNS", "LINES"}}}
    process = subprocess.Popen(
        command,
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        cwd=cwd,
        env={**size, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(secondary)
    parts = []
    while True:
        try:
            part = os.read(primary, 65_536)
        except OSError:  # nobody has the other end any more
            break
        if not part:
            break
        parts.append(part)
    os.close(primary)
    return process.wait(), b"".join(parts).decode("utf-8", "replace").replace("\r\n", "\n")
