"""Batch jobs and files as a provider describes them. Pure values."""

from dataclasses import dataclass
from typing import Literal

# Without the provider's prefixes. `unknown`: a state this version has not heard of, or none.
RemoteState = Literal[
    "pending", "running", "succeeded", "partially_succeeded", "failed", "cancelled", "expired", "unknown"
]
REMOTE_ENDS: tuple[RemoteState, ...] = ("succeeded", "partially_succeeded", "failed", "cancelled", "expired")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file in the provider's store, as it describes it. `sha256` is plain hex; times are seconds since 1970."""

    name: str
    display_name: str | None
    size_bytes: int | None
    sha256: str | None
    expires_at: float | None
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteJob:
    """A batch job as the provider describes it.

    `age_s` is measured by the provider's own clock (creation against the Date of its reply), so that a jump of ours
    does not make it old; None when the reply told no date. Row counts are None when the reply told none.
    """

    name: str
    display_name: str | None
    model: str | None
    state: RemoteState
    state_name: str
    result_file: str | None
    error: str | None
    created_at: float | None
    age_s: float | None
    rows: int | None = None
    rows_succeeded: int | None = None
    rows_failed: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in REMOTE_ENDS
