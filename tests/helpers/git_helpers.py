"""Throw-away git repositories for tests: same bytes in, same commit ids out, no config of the user read."""

import base64
import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from waiting import wait_until

# One fixed clock: commit n of a repository is made at START + 60 n seconds.
_START = 1_700_000_000


def git_env(home: Path) -> dict[str, str]:
    """An environment in which git sees no configuration but the repository's own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "Ada Test",
        "GIT_AUTHOR_EMAIL": "ada@example.invalid",
        "GIT_COMMITTER_NAME": "Ada Test",
        "GIT_COMMITTER_EMAIL": "ada@example.invalid",
    }


class GitRepo:
    """A real repository with a work tree at `path` (or a bare one); `sha` is its newest commit made here."""

    def __init__(self, path: Path, *, branch: str = "main", bare: bool = False, object_format: str = "sha1") -> None:
        self.path = path
        self.sha = ""
        self._clock = _START
        path.mkdir(parents=True, exist_ok=True)
        bare_flag = ["--bare"] if bare else []
        # --template= : no sample hooks, nothing of the machine in the repository.
        self.git("init", "-q", "--template=", f"--object-format={object_format}", "-b", branch, *bare_flag)

    def git(self, *args: str | bytes, stdin: bytes | None = None) -> str:
        """Standard output of one git command without its final newline; AssertionError if it fails."""
        return self.git_bytes(*args, stdin=stdin).decode("utf-8", "surrogateescape").removesuffix("\n")

    def git_bytes(self, *args: str | bytes, stdin: bytes | None = None) -> bytes:
        """Standard output of one git command as bytes; AssertionError if it fails."""
        date = f"{self._clock} +0000"
        env = git_env(self.path) | {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        command = ["git", "-c", "gc.auto=0", "-c", "core.fsync=none", *args]
        done = subprocess.run(command, cwd=self.path, env=env, input=stdin, capture_output=True)
        if done.returncode != 0:
            raise AssertionError(f"{command} failed: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def commit(self, files: Mapping[str, bytes | str], message: str = "change", delete: Iterable[str] = ()) -> str:
        """Write `files`, remove `delete`, commit all of it, return the new commit's id."""
        for name, content in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        for name in delete:
            (self.path / name).unlink()
        self.git("add", "-A", "-f", ".")
        return self.commit_index(message)

    def commit_index(self, message: str = "change") -> str:
        """Commit what is in the index as it is (also when nothing changed), return the new commit's id."""
        self._clock += 60
        self.git("commit", "-q", "--no-verify", "--allow-empty", "-m", message)
        self.sha = self.git("rev-parse", "HEAD")
        return self.sha

    def add_blob(self, data: bytes) -> str:
        """Store a blob, return its id."""
        return self.git("hash-object", "-w", "--stdin", stdin=data)

    def add_entry(self, path: str | bytes, mode: str, blob: str) -> None:
        """Put an entry of any mode and any name into the index, without a file in the work tree."""
        name = path.encode() if isinstance(path, str) else path
        self.git("update-index", "-z", "--index-info", stdin=f"{mode} {blob}\t".encode() + name + b"\0")

    def commit_raw_tree(self, entries: Iterable[tuple[str, bytes, str]], message: str = "raw") -> str:
        """Commit a tree written byte by byte from (mode, name, id): odd names are kept."""
        tree = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(blob) for mode, name, blob in entries)
        tree_id = self.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=tree)
        self._clock += 60
        self.sha = self.git("commit-tree", tree_id, "-m", message)
        self.git("update-ref", "HEAD", self.sha)
        return self.sha


def make_repo(path: Path, files: Mapping[str, bytes | str], *, branch: str = "main") -> GitRepo:
    """A new repository at `path` with one commit holding `files` (relative path -> content)."""
    repo = GitRepo(path, branch=branch)
    repo.commit(files, "first")
    return repo


def git_children() -> list[tuple[int, bytes]]:
    """(process id, command line) of the gits that codechunk runs in this process; Linux only."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            line = (status.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"--no-pager" in line.split(b"\0") and parent == os.getpid():
            found.append((int(status.parent.name), line))
    return found


@contextlib.contextmanager
def git_daemon(root: Path) -> Iterator[str]:
    """The git:// URL below which a real `git daemon` on loopback serves all repositories in `root`."""
    exec_path = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        f"{exec_path}/git-daemon", "--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}",
        f"--base-path={root}", str(root),
    ]  # fmt: skip
    daemon = subprocess.Popen(command, env=git_env(root), stderr=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        wait_until(answers, "git daemon listens")
        yield f"git://127.0.0.1:{port}"
    finally:
        daemon.terminate()
        daemon.wait()


@dataclass
class GitHttpServer:
    """A real smart-HTTP server (git http-backend) on loopback; what it was asked is in `requests`."""

    root: Path
    token: str = ""
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)  # (path, Authorization header)
    url: str = ""

    @contextlib.contextmanager
    def serve(self, tls: ssl.SSLContext | None = None) -> Iterator[str]:
        """The server's base URL while it runs."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
            yield self.url
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, _, query = self.path.partition("?")
                authorization = self.headers.get("Authorization", "")
                outer.requests.append((path, authorization))
                for old, new in outer.redirects.items():
                    if path.startswith(old):
                        self.send_response(301)
                        self.send_header("Location", new + self.path.removeprefix(old))
                        self.send_header("Content-Length", "0")
                        self.end_headers()
                        return
                expected = base64.b64encode(f"x-access-token:{outer.token}".encode()).decode()
                if outer.token and authorization != f"Basic {expected}":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", "Basic")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self._backend(path, query)

            do_POST = do_GET

            def _backend(self, path: str, query: str) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                env = git_env(outer.root) | {
                    "GIT_PROJECT_ROOT": str(outer.root),
                    "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path,
                    "QUERY_STRING": query,
                    "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                }
                done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True)
                head, _, content = done.stdout.partition(b"\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
                self.send_response(int(fields.pop("Status", "200").split()[0]))
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
