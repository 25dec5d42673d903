"""How old a commit is, and how far its branch has gone on: asked of repositories on this disk, never of a network."""

import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from codechunk.errors import CodechunkError
from codechunk.git.address import Source
from codechunk.git.process import GitRunner
from codechunk.git.repository import mirror_path
from codechunk.git.worktree import WORKING_TREE_REF
from codechunk.process.stop import Stop

TIMEOUT_S = 5.0
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a commit stands. None: not known.

    Attributes:
        committed_at: seconds since 1970.
        behind: commits of its branch that it has not.
    """

    committed_at: float | None = None
    behind: int | None = None


def standing(source: Source, *, commit: str, ref: str, mirrors: Path, stop: Stop | None = None) -> Standing:
    """Where the commit of an index stands in the repository it was read from, as that is on this disk now.

    A mirror has one commit of a branch and not its history, so only a local repository can tell how far it has gone on.
    """
    commit = commit.partition("+")[0]  # behind it the hash of a work tree's changes
    if not _COMMIT.fullmatch(commit):
        return Standing()
    is_local = source.kind == "local"
    folder = Path(source.url) if is_local else mirror_path(source, mirrors)
    if not folder.is_dir():
        return Standing()
    where = _Where(folder, () if is_local else (f"--git-dir={folder}",))
    try:
        behind = _behind(where, commit, ref, stop or Stop()) if is_local else None
        return Standing(committed_at=_committed_at(where, commit), behind=behind)
    except (CodechunkError, OSError):
        return Standing()


@dataclass(frozen=True, slots=True)
class _Where:
    folder: Path
    options: tuple[str, ...]

    def run(self, *arguments: str, stop: Stop | None = None) -> str | None:
        """What git says; None when it cannot."""
        # The ceiling keeps git from taking the repository of a folder above when this one is broken.
        runner = GitRunner(
            cwd=self.folder,
            env={"GIT_CEILING_DIRECTORIES": str(self.folder.parent)},
            options=self.options,
            timeout_s=TIMEOUT_S,
            deadline=time.monotonic() + TIMEOUT_S,
            where=str(self.folder),
            stop=stop or Stop(),
        )
        done = runner.run(*arguments)
        return done.stdout.decode("utf-8", "surrogateescape").strip() or None if done.status == 0 else None


@lru_cache(maxsize=1_000)
def _committed_at(where: _Where, commit: str) -> float | None:
    found = where.run("show", "--no-patch", "--format=%ct", commit)
    return float(found) if found is not None and found.isdecimal() else None


def _behind(where: _Where, commit: str, ref: str, stop: Stop) -> int | None:
    branch = "HEAD" if ref == WORKING_TREE_REF else f"refs/heads/{ref}"
    found = where.run("rev-list", "--count", f"{commit}..{branch}", "--", stop=stop)
    return int(found) if found is not None and found.isdecimal() else None
