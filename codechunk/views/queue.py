"""How the queue of texts stands."""

from codechunk.documents import QueueStatus
from codechunk.state import State


def queue_status(state: State) -> QueueStatus:
    """The document of `queue status --json`: texts by state, batch jobs by state, and what holds submissions back."""
    counts = state.queue.counts()
    throttle = state.queue.throttle()
    return QueueStatus(
        pending=counts.pending,
        processing=counts.processing,
        ready=counts.ready,
        failed=counts.failed,
        batches={str(name): count for name, count in state.batches.by_state().items()},
        throttled_until=None if throttle is None else throttle.until,
        throttle_reason=None if throttle is None else throttle.reason,
    )
