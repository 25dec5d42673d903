"""When to try again: pure arithmetic of waits. Seconds everywhere."""

import random

# How long a job of a few texts may be young before it is looked at less often.
_PATIENCE_S = 60.0
_FULL_JOB_TEXTS = 500
_SHORTEST_POLL_S = 1.0


def backoff_s(failures: int, *, initial_s: float, most_s: float) -> float:
    """The wait after the `failures`-th failure in a row (1, 2, ...): initial, doubled each time, at most `most_s`."""
    return min(most_s, initial_s * 2.0 ** min(max(failures, 1) - 1, 32))


def jittered_s(wait_s: float) -> float:
    """The wait, up to a quarter longer, so that those who failed together do not come back together."""
    return wait_s * random.uniform(1.0, 1.25)  # noqa: S311 - no secret


def poll_wait_s(texts: int, age_s: float, *, interval_s: float) -> float:
    """How long to leave a remote job alone: seconds for tens of texts, up to `interval_s` for hundreds or old ones."""
    by_size = interval_s * min(1.0, texts / _FULL_JOB_TEXTS)
    by_age = 1.0 + max(0.0, age_s) / _PATIENCE_S
    return min(interval_s, max(_SHORTEST_POLL_S, by_size * by_age))
