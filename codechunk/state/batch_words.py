"""Our batch jobs: the words for their states, and the key of a text in one. Pure values."""

from typing import Literal, NewType

# pending_submission -> submitting -> processing -> completed; from failure retry_scheduled ->
# pending_submission; ends completed | failed | cancelled (docs/design.md, 4).
BatchState = Literal[
    "pending_submission", "submitting", "processing", "retry_scheduled", "completed", "failed", "cancelled"
]
BATCH_STATES: tuple[BatchState, ...] = (
    "pending_submission",
    "submitting",
    "processing",
    "retry_scheduled",
    "completed",
    "failed",
    "cancelled",
)
BATCH_ENDS: tuple[BatchState, ...] = ("completed", "failed", "cancelled")

# Request key on the wire: `chunk_` and 32 hex digits.
RequestKey = NewType("RequestKey", str)


def request_key(text_sha: str) -> RequestKey:
    """The key of a text in a batch job, from the hex sha256 of the text: 128 bits, unique in any job."""
    return RequestKey(f"chunk_{text_sha[:32]}")
