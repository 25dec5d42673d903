"""The repository that a person stands in: where it is, what it was cloned from, which branch is out.

Reads only, asks no network, and never fails: what git does not tell is not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from codechunk.errors import CodechunkError
from codechunk.git.address import Source, parse_source, place_of
from codechunk.git.process import Finished
from codechunk.git.repository import local_repository
from codechunk.process.stop import Stop

TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Checkout:
    """A local repository. git is asked when something is wanted that the disk does not say."""

    root: Path
    """Its top folder, as `parse_source` has it."""
    stop: Stop = field(default_factory=Stop)

    @classmethod
    def of(cls, folder: Path, stop: Stop | None = None) -> "Checkout | None":
        """The repository that holds the folder; None when there is none."""
        try:
            source = parse_source(str(folder.resolve()))
        except (CodechunkError, OSError):
            return None
        return cls(Path(source.url), stop or Stop())

    @cached_property
    def main(self) -> Path:
        """The repository itself; another one than `root` for a linked work tree."""
        found = self._git("rev-parse", "--git-common-dir")
        if found is None:
            return self.root
        common = (self.root / found).resolve()
        return common.parent if common.name == ".git" else common

    @cached_property
    def branch(self) -> str | None:
        """The branch that is out; None for a detached HEAD."""
        return self._git("symbolic-ref", "--quiet", "--short", "HEAD")

    @cached_property
    def default_branch(self) -> str | None:
        """The branch that is out where it was cloned from, as far as git knows."""
        found = self._git("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
        return None if found is None else found.partition("/")[2] or None

    @cached_property
    def places(self) -> Sequence[str]:
        """Where its remotes are (see `place_of`)."""
        found = self._git("config", "--get-regexp", r"^remote\..*\.url$") or ""
        urls = [line.partition(" ")[2] for line in found.splitlines()]
        return [place for url in urls if (place := place_of(url)) is not None]

    def _git(self, *arguments: str) -> str | None:
        source = Source(kind="local", url=str(self.root), name=self.root.name, scheme="path")
        try:
            _, runner = local_repository(source, TIMEOUT_S, self.stop)
            done: Finished = runner.run(*arguments)
        except (CodechunkError, OSError):
            return None
        return done.stdout.decode("utf-8", "surrogateescape").strip() or None if done.status == 0 else None
