"""What `doctor` answers."""

from dataclasses import dataclass
from typing import Literal

FindingStatus = Literal["ok", "warning", "error", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The answer to one question of `doctor`: how many things are wrong, in words, and the fix."""

    check: str
    """Name of the question."""
    status: FindingStatus
    """skipped: it could not be asked now."""
    count: int
    """How many things are wrong."""
    message: str
    """What was found, in a sentence."""
    mend: str = ""
    """The fix; empty when all is well."""
