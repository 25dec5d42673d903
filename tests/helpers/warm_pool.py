"""Children of the pool of a forked command (warm_start.py), forked from the command: they have imported all they need.

Such a child does what one does that Python starts: its own session, folder, environment, pipes and limits, and it dies
with its command. What it cannot show, that a new Python finds its modules and nothing else, tests with real processes
show (test_pool.py, test_real_process.py).
"""

import gc
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any, NoReturn

CHILD = (sys.executable, "-m", "codechunk.pool.child")


class ForkedChild:
    """With what the pool uses of `subprocess.Popen`."""

    def __init__(self, stderr: IO[bytes], env: Mapping[str, str], cwd: str) -> None:
        (its_in, our_in), (our_out, its_out) = os.pipe(), os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads have nothing that the child needs
            self.pid = os.fork()
        if self.pid == 0:
            _be_a_child((its_in, its_out, stderr.fileno()), env, cwd)
        os.close(its_in)
        os.close(its_out)
        self.stdin, self.stdout = os.fdopen(our_in, "wb", buffering=0), os.fdopen(our_out, "rb", buffering=0)
        self.returncode: int | None = None

    def kill(self) -> None:
        """Send it SIGKILL, unless its end is known."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, -N after signal N. Raises subprocess.TimeoutExpired when it has not ended by then."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, 0 if until is None else os.WNOHANG)
            if pid == self.pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif until is not None and time.monotonic() >= until:
                raise subprocess.TimeoutExpired(CHILD, timeout or 0.0)
            else:
                time.sleep(0.001)
        return self.returncode


def start(argv: Sequence[str], **wishes: Any) -> Any:
    """What the pool calls instead of `subprocess.Popen`."""
    if tuple(argv) != CHILD:
        return subprocess.Popen(argv, **wishes)
    return ForkedChild(wishes["stderr"], wishes["env"], wishes["cwd"])


def fork_the_children() -> None:
    """From now on the pool of this process forks its children."""
    import codechunk.pool.pool

    codechunk.pool.pool.subprocess = SimpleNamespace(  # type: ignore[assignment]
        Popen=start, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
    )


def warm_up() -> None:
    """Load what every child loads, before anything is forked."""
    from codechunk.chunking import ChunkSettings, chunk_source
    from codechunk.text.tokens import count_tokens

    chunk_source(b"def warm(): pass\n", path="warm.py", language="python", settings=ChunkSettings())
    count_tokens("warm")


def _be_a_child(standard: tuple[int, int, int], env: Mapping[str, str], cwd: str) -> NoReturn:
    """Close what is the command's own, above all files with locks, and serve."""
    import codechunk.pool.child

    code = 0
    try:
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
        os.closerange(len(standard), os.sysconf("SC_OPEN_MAX"))
        signal.set_wakeup_fd(-1)
        for known in signal.valid_signals():
            if callable(signal.getsignal(known)):
                signal.signal(known, signal.SIG_DFL)
        os.setsid()
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        gc.freeze()  # a collection here must not end what is the command's
        codechunk.pool.child.main()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - as the end of any Python
        traceback.print_exc()
        code = 1
    os._exit(code)
