"""What a search that found nothing has looked at, and what it has not: skipped, failed or waiting."""

from collections.abc import Sequence

from codechunk.search.path_glob import PathGlobs
from codechunk.state import IndexRow, State
from codechunk.text.counted import counted

# More files than these are only counted.
FILES_TOLD = 3


def why_nothing(state: State, indexes: Sequence[IndexRow], paths: Sequence[str]) -> list[str]:
    """Sentences for somebody whose question found nothing.

    Args:
        paths: the globs of --path.
    """
    told = [] if not paths else _of_paths(state, indexes, PathGlobs.parse(paths))
    return [*told, _searched(state, indexes)]


def _of_paths(state: State, indexes: Sequence[IndexRow], globs: PathGlobs) -> list[str]:
    """Why the files that are meant do not answer: they are not indexed, or there are none."""
    ids = [index.id for index in indexes]
    files = [file for file in state.inventory.files_with(ids, globs.pieces()) if globs.matches(file.path)]
    left_out = [file for file in files if file.status != "indexed"]
    if not files:
        return ["No file matches --path."]
    if not left_out:
        return []
    some = "; ".join(f"{file.path}: {_reason(file.status, file.reason)}" for file in left_out[:FILES_TOLD])
    more = f"; and {len(left_out) - FILES_TOLD:,} more" if len(left_out) > FILES_TOLD else ""
    return [f"Not indexed: {some}{more}."]


def _reason(status: str, reason: str | None) -> str:
    """Why a file is not indexed, in words: `too large`, `failed (…)`, `not cut yet`."""
    if status == "planned":
        return "not cut yet"
    words = (reason or status).replace("_", " ")
    return f"failed ({words})" if status == "failed" else words


def _searched(state: State, indexes: Sequence[IndexRow]) -> str:
    """How much was searched."""
    looked = state.inventory.coverage([index.id for index in indexes])
    names = [f"{index.repository}@{index.ref}" for index in indexes]
    where = names[0] if len(names) == 1 else f"{len(names)} indexes"
    parts = [f"Searched {counted(looked.files, 'files')} ({counted(looked.chunks, 'chunks')}) of {where}"]
    if looked.left_out:
        reasons = sorted(looked.left_out.items(), key=lambda item: (-item[1], item[0]))
        told = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in reasons)
        parts.append(f"not {counted(sum(looked.left_out.values()), 'files')}: {told}")
    if looked.waiting:
        parts.append(f"{counted(looked.waiting, 'texts')} wait for their vectors and were searched by words alone")
    if looked.failed:
        parts.append(f"{counted(looked.failed, 'texts')} got none (`codechunk queue retry`)")
    return "; ".join(parts) + "."
