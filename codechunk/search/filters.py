"""What a query restricts itself to, as the database takes it: --language, --kind, --path, --content. Pure."""

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache

from codechunk.search.content import CONTENTS, Content, content_of
from codechunk.search.path_glob import PathGlobs
from codechunk.state import Filter


def filter_of(
    *, languages: Sequence[str], kinds: Sequence[str], paths: Sequence[str], content: Sequence[Content]
) -> Filter:
    """The filter. Raises UsageError for a path that is no glob.

    Files are looked at only when they have been found, so that a filter costs nothing where most files pass.
    """
    globs = PathGlobs.parse(paths)
    contents = frozenset(content)
    restricts = bool(paths) or not (contents >= frozenset(CONTENTS) or not contents)
    return Filter(
        languages=tuple(languages),
        kinds=tuple(kinds),
        passing=_passing(globs, contents) if restricts else None,
        pieces=globs.pieces() if restricts else (),
    )


def _passing(globs: PathGlobs, contents: Collection[Content]) -> Callable[[str, str], bool]:
    matches = lru_cache(maxsize=None)(globs.matches)  # a file has many chunks

    def passing(path: str, language: str) -> bool:
        return matches(path) and (not contents or content_of(path, language) in contents)

    return passing
