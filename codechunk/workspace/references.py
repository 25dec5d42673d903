"""What a person means by a repository: the only resolver of NAME, NAME@REF, a URL or a path."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from codechunk.errors import CodechunkError, NotFound, UsageError
from codechunk.git.address import parse_source
from codechunk.state import IndexRow, RepositoryRow, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a person named: a repository with all its refs (`whole`), or the indexes of one ref of it."""

    repository: RepositoryRow
    indexes: Sequence[IndexRow]
    whole: bool


def named(state: State, name: str) -> Named:
    """The repository, or the ref of one, that `name` means.

    1. A repository's name or URL as they are shown, alone or with `@REF`.
    2. If that is nobody's: the address of a repository as `index` takes it, alone or with `@REF`. So a path may be
       relative, `.`, a folder inside the repository, or end in `/` or `/.git`, and a URL may lack its `.git`.

    Raises:
        NotFound: there is no such thing; the sentence lists what there is.
        UsageError: there is more than one, because names, paths and refs may contain an `@`; the sentence names them.
    """
    indexes = state.catalog.every_index()
    repositories = state.inventory.repositories()
    address = _addresses()
    for means in (
        lambda row, words: words in {row.name, row.url},
        lambda row, words: row.url == address(words),
        lambda row, words: _bare(row.url) == _bare(address(words)),
    ):
        found = _matching(repositories, indexes, name, means)
        if found:
            break
    if len(found) == 1:
        return found[0]
    if not found:
        raise _unknown(name, indexes)
    ways = [one.repository.url if one.whole else f"{one.repository.url}@{one.indexes[0].ref}" for one in found]
    raise UsageError(f"{name!r} may be several things; say which: {' or '.join(ways)}.")


def every(state: State, name: str) -> list[Named]:
    """What `name` means when it may mean several: as `named`, or a glob over names, URLs and names with `@REF`.

    Raises:
        NotFound: there is no such thing; the sentence lists what there is.
        UsageError: it is no glob, and there is more than one.
    """
    try:
        return [named(state, name)]
    except NotFound:
        if not any(mark in name for mark in "*?["):
            raise
    indexes = state.catalog.every_index()
    found: list[Named] = []
    for row in state.inventory.repositories():
        mine = [index for index in indexes if index.repository_id == row.id]
        if fnmatchcase(row.name, name) or fnmatchcase(row.url, name):
            found.append(Named(repository=row, indexes=mine, whole=True))
        elif some := [index for index in mine if fnmatchcase(f"{row.name}@{index.ref}", name)]:
            found.append(Named(repository=row, indexes=some, whole=False))
    if not found:
        raise _unknown(name, indexes)
    return found


def _unknown(name: str, indexes: Sequence[IndexRow]) -> NotFound:
    known = sorted({f"{index.repository}@{index.ref}" for index in indexes})
    there = f"there is {', '.join(known)}" if known else "nothing is indexed yet"
    return NotFound(f"No repository {name!r}; {there}.")


def published(state: State, name: str) -> list[IndexRow]:
    """The published indexes of what `name` means (see `named`): what `--repo` restricts a command to.

    Raises:
        NotFound: there is no such thing, or it was never published.
        UsageError: there is more than one.
    """
    ids = {index.id for index in named(state, name).indexes}
    every = state.catalog.indexes()
    found = [index for index in every if index.id in ids]
    if not found:
        known = ", ".join(sorted({f"{index.repository}@{index.ref}" for index in every})) or "none at all yet"
        raise NotFound(
            f"No index of {name!r} is published yet; there is {known}. `codechunk jobs list` shows how far its runs "
            f"are."
        )
    return found


def _matching(
    repositories: Sequence[RepositoryRow],
    indexes: Sequence[IndexRow],
    name: str,
    means: Callable[[RepositoryRow, str], bool],
) -> list[Named]:
    """Every repository that the whole of `name` means, and every ref for which the part before its `@REF` does."""
    found: list[Named] = []
    for row in repositories:
        mine = [index for index in indexes if index.repository_id == row.id]
        if means(row, name):
            found.append(Named(repository=row, indexes=mine, whole=True))
        for ref in sorted({index.ref for index in mine}):
            if name.endswith(f"@{ref}") and means(row, name.removesuffix(f"@{ref}")):
                same = [index for index in mine if index.ref == ref]
                found.append(Named(repository=row, indexes=same, whole=False))
    return found


def _addresses() -> Callable[[str], str]:
    """A function that gives the URL or path which `index` would read for some words; they are looked up once each.

    A word alone is a name, also when a folder is called so: only what looks like a path or a URL is one. What is none,
    or is not there any more, stays as it is.
    """

    @cache
    def address(words: str) -> str:
        if not any(mark in words for mark in "/:.~"):
            return words
        try:
            return parse_source(words).url
        except CodechunkError:
            return words

    return address


def _bare(url: str) -> str:
    """A URL or path without what people write or leave out at its end."""
    return url.rstrip("/").removesuffix(".git").rstrip("/")
