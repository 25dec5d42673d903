"""Starting the real command in milliseconds: a process that has imported everything forks itself for each command.

Each command is a process of its own with its own environment, folder, output, signals and exit code, and may be
killed; only the second or two that imports take are saved. A kill at a random moment so falls into the work and not
into the imports. What the imports themselves do, and what Python does at its start (`PYTHON*`, locales, broken
pipes), is tested with real processes: see `needs_python`.

Two halves: below, what tests use; at the end, `serve`, which runs in the process that forks (`warm_start.py SOCKET`).
"""

import atexit
import contextlib
import gc
import importlib
import importlib.util
import itertools
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import warm_pool

# A fork takes these variables from its command. Any other one may be looked at while Python or a library starts.
FREE_VARIABLES = ("CODECHUNK_", "GEMINI_API_KEY", "GOOGLE_API_KEY", "HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
# Imported by codechunk, or by what it imports, only when they are needed.
LATE_IMPORTS = (
    "aiohttp",
    "chromadb.api.rust",
    "chromadb.telemetry.product.posthog",
    "git",
    "google.genai.types",
    "sqlalchemy.dialects.sqlite",
    "tiktoken",
)
# Set by pytest while it runs, and looked at by nobody.
IGNORED_VARIABLES = ("PYTEST_",)


# ---------------------------------------------------------------------- for tests


class Process:
    """A command under way, with the methods of `subprocess.Popen` that tests use; its output goes into two files."""

    def __init__(self, connection: socket.socket, out: Path, err: Path, *, keep_output: bool) -> None:
        self._connection, self.out, self.err, self._keep = connection, out, err, keep_output
        self._told = b""
        while b"\n" not in self._told:
            self._told += self._more()
        # A command that ends at once may have told its exit code in the same breath.
        pid, _, self._told = self._told.partition(b"\n")
        self.pid = int(pid)
        self._output: tuple[str, str] | None = None
        self.returncode: int | None = None

    def _more(self) -> bytes:
        found = self._connection.recv(64)
        if not found:
            raise EOFError("the process that forks commands is gone")
        return found

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, -N after signal N. Raises subprocess.TimeoutExpired when it has not ended by then."""
        if self.returncode is None:
            self._connection.settimeout(None if timeout is None else max(0.001, timeout))
            try:
                while not self._told.endswith(b"\n"):
                    self._told += self._more()
            except TimeoutError:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0) from None
            self._connection.close()
            self.returncode = int(self._told)
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end. Returns what it wrote to stdout and to stderr."""
        self.wait(timeout)
        if self._output is None:
            self._output = self.out.read_text(), self.err.read_text()
            if not self._keep:
                self.out.unlink()
                self.err.unlink()
        return self._output

    def send_signal(self, sig: int) -> None:
        """Send it a signal; one that has ended does not mind."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


class WarmStart:
    """Starts commands by forking a process that has imported everything."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._path = str(Path(self._folder.name) / "socket")
        self._numbers = itertools.count()
        self._environment = dict(environment)
        command = [sys.executable, str(Path(__file__)), self._path]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that forks; commands that run are left alone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # which ends it
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def needs_python(self, env: Mapping[str, str]) -> bool:
        """Whether a command with this environment has to be started by Python, not by a fork.

        So it is when a variable differs that Python or a library may have looked at while it started.
        """
        names = [
            name
            for name in env.keys() | self._environment.keys()
            if env.get(name) != self._environment.get(name) and not name.startswith(FREE_VARIABLES + IGNORED_VARIABLES)
        ]
        return bool(names)

    def start(
        self,
        arguments: list[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        out: Path | None = None,
        err: Path | None = None,
        script: str = "",
    ) -> Process:
        """Start `codechunk` with these arguments, or a script of Python.

        Args:
            out: where stdout goes, and stays. A file that `communicate` reads and removes when not given.
            err: the same for stderr.
            script: run instead of the command; `sys.argv` is as with `python -c`.
        """
        keep = out is not None
        if out is None or err is None:
            number = next(self._numbers)
            out, err = (Path(self._folder.name) / f"{number}.{name}" for name in ("out", "err"))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        wish = {
            "arguments": arguments,
            "env": dict(env),
            "cwd": str(cwd),
            "in": os.devnull,
            "out": str(out),
            "err": str(err),
            "script": script,
        }
        connection.sendall(json.dumps(wish).encode() + b"\n")
        return Process(connection, out, err, keep_output=keep)


_shared: list[WarmStart] = []
_sharing = threading.Lock()


def shared() -> WarmStart:
    """The one of this process, started when it is first asked for and ended with it."""
    with _sharing:
        if not _shared:
            _shared.append(WarmStart())
            atexit.register(_shared[0].close)
        return _shared[0]


# ---------------------------------------------------------------------- the process that forks


def import_all() -> None:
    """What any command imports, now or later; importing has no effect that a fork could double."""
    import codechunk

    for module in pkgutil.walk_packages(codechunk.__path__, "codechunk."):
        # Run by alembic and by `python -m`, not imported.
        if "migrations." not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LATE_IMPORTS:
        if importlib.util.find_spec(name.partition(".")[0]) is not None:  # some are there by chance only
            importlib.import_module(name)


def become(wish: dict[str, Any]) -> None:
    """Turn this process into the command of the wish, to its end."""
    import codechunk.process.crash

    os.environ.clear()
    os.environ.update(wish["env"])
    os.chdir(wish["cwd"])
    for name, number in (("in", 0), ("out", 1), ("err", 2)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(wish[name], flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    codechunk.process.crash._at = int(wish["env"].get("CODECHUNK_CRASH") or 0)
    if wish.get("script"):
        sys.argv = ["-c", *wish["arguments"]]
        exec(wish["script"], {"__name__": "__main__"})
        return
    from codechunk.cli import main

    warm_pool.fork_the_children()
    sys.argv = ["codechunk", *wish["arguments"]]
    main()


def end_as(wish: dict[str, Any]) -> NoReturn:
    """Do the work and end with its exit code, but without tearing down every module: in a fork that takes seconds."""
    code = 0
    try:
        become(wish)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - as the end of any Python
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the end of any Python does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve(path: str) -> None:
    """Fork a command for every connection, until standard input ends: with the process that started this one."""
    import_all()
    warm_pool.warm_up()
    gc.collect()
    gc.freeze()  # a collection in a fork would touch, and so copy, all that was imported
    if threading.active_count() > 1:
        raise RuntimeError(f"a fork would lose threads: {threading.enumerate()}")
    ended, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            ready = select.select([listening, ended, sys.stdin], [], [])[0]
            if sys.stdin in ready:
                return
            if ended in ready:
                ended.recv(4096)
                tell_ends(running)
            if listening in ready:
                connection, _ = listening.accept()
                wish = json.loads(connection.makefile().readline())
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for opened in (listening, ended, wake, connection, *running.values()):
                        opened.close()
                    end_as(wish)
                running[pid] = connection
                connection.sendall(f"{pid}\n".encode())


def tell_ends(running: dict[int, socket.socket]) -> None:
    """Tell whoever asked for them of the commands that have ended."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with running.pop(pid) as connection, contextlib.suppress(BrokenPipeError):  # nobody asks any more
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    serve(sys.argv[1])
