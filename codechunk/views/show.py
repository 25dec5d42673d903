"""A file, or lines of it, as it is at the commit that searches use: read from the repository, or from its mirror."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from codechunk.documents import ShownFile
from codechunk.errors import GitError, NotFound, UsageError
from codechunk.git.address import parse_source
from codechunk.git.repository import kept_repository
from codechunk.git.worktree import WORKING_TREE_REF
from codechunk.state import IndexRow
from codechunk.workspace.references import published
from codechunk.workspace.workspace import Workspace

_LINES = re.compile(r"(?P<path>.+?):(?P<first>\d+)(?:-(?P<last>\d+))?")
# Larger files are not read into memory for a look.
MOST_BYTES = 64 << 20
MOST_NAMED = 5


def shown_file(workspace: Workspace, place: str, *, repository: str | None, ref: str | None) -> ShownFile:
    """What `place` (PATH, PATH:LINE or PATH:FIRST-LAST) names.

    Args:
        repository: NAME, NAME@REF, URL or path; None looks in every repository.
        ref: only at this branch, tag or commit, as it was named when it was indexed.

    Raises:
        NotFound: no such file is indexed; the sentence says why, or which there are.
        UsageError: several repositories have it, or it has no such lines.
        GitError: the repository, or its mirror, is not there any more.
    """
    state = workspace.state
    found = _LINES.fullmatch(place)
    path, first, last = (
        (found["path"], int(found["first"]), int(found["last"] or found["first"])) if found else (place, 1, None)
    )
    path = path.removeprefix("./")
    indexes = state.catalog.indexes() if repository is None else published(state, repository)
    if not indexes:
        raise NotFound("Nothing is indexed yet: run `codechunk index <repo-url-or-path>` first.")
    if ref is not None:
        indexes = [index for index in indexes if index.ref == ref]
        if not indexes:
            raise NotFound(f"Nothing is indexed at {ref!r}; `codechunk repos list` shows what is.")
    entries = [(index, entry) for index in indexes if (entry := state.lookup.entry(index.published, path))]
    if not entries:
        raise NotFound(_missing(workspace, indexes, path))
    names = sorted({index.repository for index, _ in entries})
    if len(names) > 1:
        raise UsageError(f"{path} is in {', '.join(names)}: say which with --repo.")
    index, entry = max(entries, key=lambda pair: (pair[1].status == "indexed", pair[0].updated_at))
    if entry.status != "indexed":
        why = f": {entry.reason.replace('_', ' ')}" if entry.reason else ""
        raise NotFound(f"{path} of {index.repository}@{index.ref} is not indexed ({entry.status}{why}).")
    lines = _text(workspace, index, path).split("\n")
    if lines[-1] == "":
        lines.pop()
    end = len(lines) if last is None else min(last, len(lines))
    if not 1 <= first <= max(end, 1) or (last is not None and last < first):
        raise UsageError(f"{path} has {len(lines):,} lines; {place} names none of them.")
    return ShownFile(
        repository=index.repository,
        ref=index.ref,
        commit=index.commit or "",
        path=path,
        language=entry.language,
        start_line=first,
        end_line=end,
        lines=len(lines),
        text="".join(f"{line}\n" for line in lines[first - 1 : end]),
    )


def _missing(workspace: Workspace, indexes: Sequence[IndexRow], path: str) -> str:
    """Why there is nothing of that path, with the paths of files of that name."""
    name = PurePosixPath(path).name
    alike = sorted(
        {
            other
            for index in indexes
            for other, _ in workspace.state.lookup.files(index.published, containing=(name,))
            if PurePosixPath(other).name == name
        }
    )
    where = f"{indexes[0].repository}@{indexes[0].ref}" if len(indexes) == 1 else "what is indexed"
    if not alike:
        return f"There is no file {path} in {where}: neither indexed nor left out."
    more = f" and {len(alike) - MOST_NAMED:,} more" if len(alike) > MOST_NAMED else ""
    return f"There is no file {path} in {where}; there is {', '.join(alike[:MOST_NAMED])}{more}."


def _text(workspace: Workspace, index: IndexRow, path: str) -> str:
    config = workspace.config
    if index.ref == WORKING_TREE_REF:
        data = _on_disk(index, path)
    else:
        source = parse_source(index.url)
        repository = kept_repository(
            source, config.data_dir / "mirrors", timeout_s=config.git.timeout.total_seconds(), stop=workspace.stop
        )
        found = repository.read_path(index.commit or "", path, max_bytes=MOST_BYTES)
        if found is None:
            raise NotFound(f"{path} is no file of at most {MOST_BYTES >> 20} MiB at {(index.commit or '')[:12]}.")
        data = found
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _on_disk(index: IndexRow, path: str) -> bytes:
    try:
        return Path(index.url, path).read_bytes()
    except OSError as exc:
        raise GitError(f"{path} cannot be read in {index.url}: {exc.strerror}.") from exc
