"""Throw-away git repositories for tests: same bytes in, same commit ids out, no config of the user read."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

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

    def __init__(
        self, path: Path, *, branch: str = "main", bare: bool = False, object_format: str = "sha1"
    ) -> None:
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

    def commit(
        self, files: Mapping[str, bytes | str], message: str = "change", delete: Iterable[str] = ()
    ) -> str:
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
        """Commit a tree written byte by byte from (mode, name, id): names git would refuse are kept."""
        tree = b"".join(
            mode.encode() + b" " + name + b"\0" + bytes.fromhex(blob) for mode, name, blob in entries
        )
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
