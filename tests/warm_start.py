"""Starting the real command in milliseconds: a process that has imported everything forks itself for each command.

    python tests/warm_start.py SOCKET

Each command is a process of its own with its own environment, folder and output, and may be killed; only the second
or two that imports take are saved, so that a kill at a random moment falls into the work and not into the imports.
"""

import json
import os
import signal
import socket
import sys
from typing import Any


def import_all() -> None:
    """What a run of index or of the worker imports; importing has no effect that a fork could double."""
    import chromadb.api.rust
    import google.genai.types
    import tiktoken_ext.openai_public  # noqa: F401

    import codechunk.app
    import codechunk.cli.doctor
    import codechunk.cli.index
    import codechunk.cli.queue
    import codechunk.cli.worker
    import codechunk.direct
    import codechunk.gemini_http
    import codechunk.overview  # noqa: F401


def become(wish: dict[str, Any]) -> None:
    """Turn this process into the command of the wish, to its end."""
    import codechunk.crash

    os.environ.clear()
    os.environ.update(wish["env"])
    os.chdir(wish["cwd"])
    for name, number in (("in", 0), ("out", 1), ("err", 2)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        descriptor = os.open(wish[name], flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)
    codechunk.crash._at = int(wish["env"].get("CODECHUNK_CRASH") or 0)
    if wish.get("script"):
        sys.argv = ["-c", *wish["arguments"]]
        exec(wish["script"], {"__name__": "__main__"})
        return
    from codechunk.cli import main

    sys.argv = ["codechunk", *wish["arguments"]]
    main()


def serve(path: str) -> None:
    """Fork a command for every connection; ends when its own parent closes our stdin."""
    import_all()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who waits for a command is forked away too
        while True:
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
                become(wish)
                return
            connection.sendall(f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
