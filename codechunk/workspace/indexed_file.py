"""What a person means by PATH, PATH:LINE or PATH:FIRST-LAST: a file of an index, or the reason why it is none."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from codechunk.errors import NotFound, UsageError
from codechunk.state import IndexRow, State
from codechunk.workspace.references import published

_LINES = re.compile(r"(?P<path>.+?):(?P<first>\d+)(?:-(?P<last>\d+))?")
MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedFile:
    """A file that searches have. `first` and `last` are None when no lines were named."""

    index: IndexRow
    path: str
    language: str | None
    first: int | None
    last: int | None


def indexed_file(state: State, place: str, *, repository: str | None, ref: str | None) -> IndexedFile:
    """The file, and the lines of it, that `place` names.

    Args:
        repository: NAME, NAME@REF, URL or path; None looks in every repository.
        ref: only at this branch, tag or commit, as it was named when it was indexed.

    Raises:
        NotFound: no such file is indexed; the sentence says why, or which there are.
        UsageError: several repositories have it.
    """
    found = _LINES.fullmatch(place)
    path = (found["path"] if found else place).removeprefix("./")
    indexes = state.catalog.indexes() if repository is None else published(state, repository)
    if not indexes:
        raise NotFound("Nothing is indexed yet: run `codechunk index <repo-url-or-path>` first.")
    if ref is not None:
        indexes = [index for index in indexes if index.ref == ref]
        if not indexes:
            raise NotFound(f"Nothing is indexed at {ref!r}; `codechunk repos list` shows what is.")
    entries = [(index, entry) for index in indexes if (entry := state.lookup.entry(index.published, path))]
    if not entries:
        raise NotFound(_missing(state, indexes, path))
    names = sorted({index.repository for index, _ in entries})
    if len(names) > 1:
        raise UsageError(f"{path} is in {', '.join(names)}: say which with --repo.")
    index, entry = max(entries, key=lambda pair: (pair[1].status == "indexed", pair[0].updated_at))
    if entry.status != "indexed":
        why = f": {entry.reason.replace('_', ' ')}" if entry.reason else ""
        raise NotFound(f"{path} of {index.repository}@{index.ref} is not indexed ({entry.status}{why}).")
    first = int(found["first"]) if found else None
    return IndexedFile(
        index=index,
        path=path,
        language=entry.language,
        first=first,
        last=int(found["last"]) if found and found["last"] else first,
    )


def _missing(state: State, indexes: Sequence[IndexRow], path: str) -> str:
    """Why there is nothing of that path, with the paths of files of that name."""
    name = PurePosixPath(path).name
    alike = sorted(
        {
            other
            for index in indexes
            for other, _ in state.lookup.files(index.published, containing=(name,))
            if PurePosixPath(other).name == name
        }
    )
    where = f"{indexes[0].repository}@{indexes[0].ref}" if len(indexes) == 1 else "what is indexed"
    if not alike:
        return f"There is no file {path} in {where}: neither indexed nor left out."
    more = f" and {len(alike) - MOST_NAMED:,} more" if len(alike) > MOST_NAMED else ""
    return f"There is no file {path} in {where}; there is {', '.join(alike[:MOST_NAMED])}{more}."
