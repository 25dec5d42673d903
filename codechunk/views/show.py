"""A file, or lines of it, as it is at the commit that searches use: read from the repository, or from its mirror."""

from pathlib import Path

from codechunk.documents import ShownFile
from codechunk.errors import GitError, NotFound, UsageError
from codechunk.git.address import parse_source
from codechunk.git.repository import kept_repository
from codechunk.git.worktree import WORKING_TREE_REF
from codechunk.state import IndexRow
from codechunk.workspace.indexed_file import indexed_file
from codechunk.workspace.workspace import Workspace

# Larger files are not read into memory for a look.
MOST_BYTES = 64 << 20


def shown_file(workspace: Workspace, place: str, *, repository: str | None, ref: str | None) -> ShownFile:
    """What `place` (PATH, PATH:LINE or PATH:FIRST-LAST) names; see `indexed_file` for all of it.

    Raises:
        NotFound, UsageError: as `indexed_file` does; or the file has no such lines.
        GitError: the repository, or its mirror, is not there any more.
    """
    file = indexed_file(workspace.state, place, repository=repository, ref=ref)
    index, path = file.index, file.path
    lines = _text(workspace, index, path).split("\n")
    if lines[-1] == "":
        lines.pop()
    first = 1 if file.first is None else file.first
    last = len(lines) if file.last is None else file.last
    end = min(last, len(lines))
    if last < first or not 1 <= first <= max(end, 1):
        raise UsageError(f"{path} has {len(lines):,} lines; {place} names none of them.")
    return ShownFile(
        repository=index.repository,
        ref=index.ref,
        commit=index.commit or "",
        path=path,
        language=file.language,
        start_line=first,
        end_line=end,
        lines=len(lines),
        text="".join(f"{line}\n" for line in lines[first - 1 : end]),
    )


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
