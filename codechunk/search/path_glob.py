"""The globs after --path: which files they match, and what the database can sort out before a path is looked at. Pure.

Globs are those of .gitignore, by pathspec. A database knows none of their rules, so it is given less: pieces of fixed
text that every path the glob matches has, in this order. What is left after that is matched exactly.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

from codechunk.errors import UsageError

_WILD = re.compile(r"[*?]+")


@dataclass(frozen=True, slots=True)
class PathGlob:
    """A glob that a person typed."""

    glob: str
    _spec: GitIgnoreSpec

    @classmethod
    def parse(cls, glob: str) -> "PathGlob":
        """Raises UsageError for what is no glob."""
        try:
            return cls(glob, GitIgnoreSpec.from_lines([glob]))
        except ValueError as exc:
            raise UsageError(f"--path {glob!r} is not a glob: {exc}") from exc

    def matches(self, path: str) -> bool:
        """Whether a file is meant: by its own name, or by that of a folder it is in."""
        return self._spec.match_file(path)

    def pieces(self) -> Sequence[str]:
        """Texts that every matching path contains, one after the other; none where the glob is too clever to say.

        Slashes around wildcards are no part of them: `a/**/b` matches `a/b`.
        """
        if "\\" in self.glob or self.glob.startswith(("!", "#")):
            return ()
        before_class = self.glob.rstrip().partition("[")[0]
        return tuple(piece for part in _WILD.split(before_class) if (piece := part.strip("/")))


@dataclass(frozen=True, slots=True)
class PathGlobs:
    """Several globs. A file is meant that matches one of `wanted`, where there are any, and none of `unwanted`."""

    wanted: Sequence[PathGlob]
    unwanted: Sequence[PathGlob]

    @classmethod
    def parse(cls, globs: Sequence[str]) -> "PathGlobs":
        """What people typed; a `!` in front excludes, and `\\!` is a file whose name begins so.

        Raises:
            UsageError: one of them is no glob.
        """
        unwanted = [glob for glob in globs if glob.startswith("!") and glob.strip() != "!"]
        return cls(
            [PathGlob.parse(glob) for glob in globs if glob not in unwanted],
            [PathGlob.parse(glob[1:]) for glob in unwanted],
        )

    def matches(self, path: str) -> bool:
        """Whether a file is meant."""
        if self.wanted and not any(glob.matches(path) for glob in self.wanted):
            return False
        return not any(glob.matches(path) for glob in self.unwanted)

    def pieces(self) -> Sequence[Sequence[str]]:
        """For each wanted glob the texts that paths contain (see `PathGlob.pieces`); none where one cannot say."""
        every = [glob.pieces() for glob in self.wanted]
        return every if all(every) else ()
