"""Which commit answered, and how old that is: each answer says so, and people are told when it is behind."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from codechunk.documents import Answer
from codechunk.errors import CodechunkError
from codechunk.git.address import parse_source
from codechunk.git.standing import Standing, standing
from codechunk.state import IndexRow
from codechunk.text.counted import counted
from codechunk.text.times import utc
from codechunk.workspace.workspace import Workspace

# So long it is not asked again: git takes some milliseconds for each repository.
KNOWN_FOR_S = 10.0
_AGES = ((365 * 86_400, "year"), (30 * 86_400, "month"), (86_400, "day"), (3_600, "hour"), (60, "minute"))


class Freshness:
    """Knows where the commits of some indexes stand."""

    def __init__(self, workspace: Workspace, indexes: Sequence[IndexRow], hint: Callable[[str], None] | None) -> None:
        """`hint`: hears what a person may like to know; None: nobody listens."""
        self._workspace, self._hint = workspace, hint
        self._indexes = {(index.repository, index.ref): index for index in indexes}
        self._known: dict[tuple[int, str], tuple[float, Standing]] = {}
        self._told: set[int] = set()

    def __call__(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers with the age of their commits."""
        return [self._dated(answer) for answer in answers]

    def _dated(self, answer: Answer) -> Answer:
        index = self._indexes.get((answer.repository, answer.ref))
        if index is None:
            return answer
        found = self._standing(index, answer.commit)
        if found.behind and self._hint is not None and index.id not in self._told:
            self._told.add(index.id)
            self._hint(_sentence(index, found.behind, found.committed_at))
        return replace(answer, committed_at=utc(found.committed_at), behind=found.behind)

    def _standing(self, index: IndexRow, commit: str) -> Standing:
        known = self._known.get((index.id, commit))
        if known is not None and time.monotonic() - known[0] < KNOWN_FOR_S:
            return known[1]
        try:
            source = parse_source(index.url)
        except CodechunkError:  # the folder is gone
            found = Standing()
        else:
            mirrors = self._workspace.config.data_dir / "mirrors"
            found = standing(source, commit=commit, ref=index.ref, mirrors=mirrors, stop=self._workspace.stop)
        self._known[index.id, commit] = time.monotonic(), found
        return found


def _sentence(index: IndexRow, behind: int, committed_at: float | None) -> str:
    commits = counted(behind, "commits")
    age = "" if committed_at is None else f", {age_in_words(time.time() - committed_at)}"
    return (
        f"{index.repository}@{index.ref} is searched as of {(index.commit or '')[:12]}{age}: {commits} behind. "
        f"`codechunk index {index.url} --ref {index.ref}` follows."
    )


def age_in_words(seconds: float) -> str:
    """A time that has passed, in its largest unit: `3 days old`."""
    for size, unit in _AGES:
        if seconds >= size:
            count = int(seconds // size)
            return f"{counted(count, f'{unit}s')} old"
    return "just now"
