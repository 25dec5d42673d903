"""Starting the real command in milliseconds: a process that has imported everything forks itself for each command.

    python tests/warm_start.py SOCKET

Each command is a process of its own with its own environment, folder and output, and may be killed; only the second
or two that imports take are saved, so that a kill at a random moment falls into the work and not into the imports.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn


def import_all() -> None:
    """What a run of index or of the worker imports; importing has no effect that a fork could double."""
    import chromadb.api.rust  # noqa: F401
    import google.genai.types  # noqa: F401
    import tiktoken  # noqa: F401

    import codechunk.app
    import codechunk.cli.doctor
    import codechunk.cli.index
    import codechunk.cli.queue
    import codechunk.cli.worker
    import codechunk.providers.gemini.http
    import codechunk.sending.direct
    import codechunk.views.doctor  # noqa: F401


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

    sys.argv = ["codechunk", *wish["arguments"]]
    main()


def end_as(work: Callable[[dict[str, Any]], None], wish: dict[str, Any]) -> NoReturn:
    """Do the work and end with its exit code, but without tearing down every module: in a fork that takes seconds."""
    code = 0
    try:
        work(wish)
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
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a command is forked away too
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            connection, _ = listening.accept()
            if os.fork():
                connection.close()
                continue
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            wish = json.loads(connection.makefile().readline())
            pid = os.fork()
            if pid == 0:
                connection.close()
                end_as(become, wish)
            connection.sendall(f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(BrokenPipeError):  # nobody asks any more
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
