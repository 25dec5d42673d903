"""What a run of `index` keeps in its row for later: how it is finished by anybody, and how it ended.

Two values in one JSON column (`jobs.plan`), with a loader that takes what it knows of other versions: unknown keys are
left alone, missing ones mean that it is not known. What is shown to people (`jobs.report`) is never read back.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self, TypeVar

VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The figures of a run when it ended, or when its texts went out; what they mean is told by `IndexDocument`."""

    discovered: int
    files: Sequence[tuple[str, str | None, int]]
    """Files by status and reason."""
    chunks: Mapping[str, int]
    """The chunks as in `IndexChunks`, and those that are not in the vector index (`unstored`)."""
    counted: int
    """Chunks with an exact token count."""
    tokens: int | None
    estimated: bool
    """Whether `tokens` is extrapolated."""
    secrets: tuple[int, int]
    """Secrets found, and files that hold them."""
    spent_usd: float | None

    @classmethod
    def parse(cls, value: object) -> Self | None:
        """From a JSON value; None for one that lacks something, or is of another kind."""
        try:
            found = _known(cls, value)
            return cls(
                **{
                    **found,
                    "files": [(str(status), reason, int(count)) for status, reason, count in found["files"]],
                    "chunks": {str(name): int(count) for name, count in found["chunks"].items()},
                    "secrets": (int(found["secrets"][0]), int(found["secrets"][1])),
                    "discovered": int(found["discovered"]),
                    "counted": int(found["counted"]),
                }
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run knows when its texts wait for vectors; kept with the job so that anybody can finish it."""

    generation: int
    commit: str
    identity: str
    token_mode: str
    discovered: int
    unchanged: int
    deleted_files: int
    mode: str
    mode_reason: str
    estimated_usd: float | None
    started_at: float
    changes: dict[str, int] | None = None
    """What `Changes.dump` gave; None in plans of codechunk before it reported changes."""
    tokens_to_send: int | None = None
    """Tokens of the texts that had no vector, by our count or estimate."""
    outcome: Outcome | None = None
    """How the run ended; None before that, and in plans of codechunk that did not keep it."""

    def dump(self) -> str:
        """As JSON."""
        return json.dumps({"version": VERSION, **asdict(self)})

    @classmethod
    def load(cls, text: str | None) -> Self | None:
        """From what `dump` wrote; None when there is nothing, or not enough to finish the run by."""
        try:
            value = json.loads(text or "null")
            found = _known(cls, value)
            return cls(**{**found, "outcome": Outcome.parse(found.get("outcome"))})
        except (TypeError, ValueError):
            return None


def _known(of: Callable[..., T], value: object) -> dict[str, Any]:
    """The keys of a JSON object that the dataclass has. Raises TypeError when it is no object."""
    if not isinstance(value, dict):
        raise TypeError("not an object")
    names = {item.name for item in fields(of)}  # type: ignore[arg-type]
    return {name: part for name, part in value.items() if name in names}
