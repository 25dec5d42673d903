"""The queue and its batch jobs as people see them. Read from rows at the moment it is asked, never from a counter."""

import time
from collections.abc import Sequence

from codechunk.progress import BatchView
from codechunk.state import BatchRow, State

SHORT_ID = 12


def batch_views(state: State, rows: Sequence[BatchRow], costs: Sequence[float | None]) -> list[BatchView]:
    """Batch jobs as people see them; `costs` in USD, one for each."""
    waiting, now = state.batches.open_texts(), time.time()
    return [
        BatchView(
            id=row.id[:SHORT_ID],
            state=row.state,
            remote_state=None if row.remote_state is None else plain_state(row.remote_state),
            texts=row.texts,
            done=_done(row, waiting.get(row.id, 0)),
            age_s=_age_s(row, now),
            cost_usd=cost,
            note=_note(row, now),
        )
        for row, cost in zip(rows, costs, strict=True)
    ]


def plain_state(name: str) -> str:
    """The provider's word for a state without its shouting: `BATCH_STATE_RUNNING` is `running`."""
    return name.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_").lower()


def _done(row: BatchRow, waiting: int) -> int:
    if row.ended and row.state != "completed":
        return min(row.rows_ok, row.texts)
    return max(0, row.texts - waiting)


def _age_s(row: BatchRow, now: float) -> float:
    return max(0.0, (row.finished_at or now) - (row.submitted_at or row.created_at))


def _note(row: BatchRow, now: float) -> str:
    wait = row.next_at - now
    waits = row.state in {"pending_submission", "retry_scheduled"} and wait >= 1
    parts = [f"again in {wait:.0f} s" if waits else "", row.error or ""]
    return ": ".join(part for part in parts if part)
