"""Times as documents and sentences show them. Pure."""

from datetime import UTC, datetime
from typing import overload


@overload
def utc(seconds: float) -> str: ...
@overload
def utc(seconds: None) -> None: ...
@overload
def utc(seconds: float | None) -> str | None: ...
def utc(seconds: float | None) -> str | None:
    """A time in seconds since 1970 as ISO 8601 in UTC, to the second; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
