"""Batch jobs: their life, what they sell when they end, and how they look on the wire."""

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from emulator.faults import Faults
from emulator.wire import Json, Row, timestamp

ENDS = {
    "BATCH_STATE_SUCCEEDED",
    "BATCH_STATE_FAILED",
    "BATCH_STATE_CANCELLED",
    "BATCH_STATE_EXPIRED",
    "BATCH_STATE_PARTIALLY_SUCCEEDED",
}
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.EmbedContentBatch"
# Codes of google.rpc.Code in the `error` of a job that ended badly.
ERRORS: dict[str, Json] = {
    "BATCH_STATE_FAILED": {"code": 13, "message": "The batch could not be processed."},
    "BATCH_STATE_CANCELLED": {"code": 1, "message": "The operation was cancelled."},
    "BATCH_STATE_EXPIRED": {"code": 4, "message": "The batch did not finish in time and expired."},
}


@dataclass
class Job:
    """A job and its rows. `created` is seconds since 1970 by the emulator's clock; `state` a BATCH_STATE_ name."""

    name: str
    model: str
    display_name: str | None
    rows: list[Row]
    created: float
    number: int
    input_file: str | None = None
    priority: int = 0
    state: str = "BATCH_STATE_PENDING"
    ended_at: float | None = None
    error: Json | None = None
    result_file: str | None = None
    succeeded: int = 0
    failed: int = 0
    deleted: bool = False
    vanished: bool = False
    pinned: str | None = None
    started: float = field(default_factory=time.monotonic)
    inline_result: Path | None = None
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def texts(self) -> list[str]:
        """The texts in the order they were sent."""
        return [row.text for row in self.rows]

    @property
    def keys(self) -> list[str | None]:
        """Their keys, in the same order."""
        return [row.key for row in self.rows]

    @property
    def tokens(self) -> int:
        """What it holds of the quota of enqueued tokens while it is live."""
        return sum(row.tokens for row in self.rows)

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.ended_at is not None

    @property
    def live(self) -> bool:
        """Whether it may still cost something."""
        return not self.ended and not self.vanished

    def refresh(self, faults: Faults) -> None:
        """Bring `state` of a live job up to date; ending it is the service's business."""
        if not self.live:
            return
        half = faults.job_seconds / 2
        running = half > 0 and time.monotonic() - self.started >= half
        self.state = faults.unknown_state or self.pinned or f"BATCH_STATE_{'RUNNING' if running else 'PENDING'}"

    def is_due(self, faults: Faults, *, polled: bool) -> bool:
        """Whether it should end now. Without a duration only being asked for by name ends it."""
        if not self.live or faults.stuck or faults.unknown_state or self.pinned:
            return False
        if faults.job_seconds <= 0:
            return polled
        return time.monotonic() - self.started >= faults.job_seconds

    def resource(self, *, with_inlined: bool = True) -> Json:
        """The long-running operation as it looks on the wire; fields that are zero or empty are left out."""
        metadata: Json = {"@type": _TYPE, "model": f"models/{self.model}"}
        if self.display_name:
            metadata["displayName"] = self.display_name
        if self.input_file:
            metadata["inputConfig"] = {"fileName": self.input_file}
        output = self._output(with_inlined=with_inlined)
        if output:
            metadata["output"] = output
        metadata["createTime"] = timestamp(self.created)
        if self.ended_at is not None:
            metadata["endTime"] = timestamp(self.ended_at)
        metadata["updateTime"] = timestamp(self.ended_at or self.created)
        metadata["batchStats"] = self._stats()
        metadata["state"] = self.state
        if self.priority:
            metadata["priority"] = str(self.priority)
        metadata["name"] = self.name
        found: Json = {"name": self.name, "metadata": metadata}
        if self.ended:
            found["done"] = True
            if self.error:
                found["error"] = self.error
            else:
                found["response"] = {"@type": f"{_TYPE}Output", **output}
        return found

    def _stats(self) -> Json:
        total = len(self.rows)
        counts = {
            "requestCount": total,
            "successfulRequestCount": self.succeeded,
            "failedRequestCount": self.failed if self.ended else 0,
            "pendingRequestCount": 0 if self.ended else total,
        }
        return {name: str(count) for name, count in counts.items() if count}

    def _output(self, *, with_inlined: bool) -> Json:
        if self.result_file:
            return {"responsesFile": self.result_file}
        if self.inline_result is None or not with_inlined:
            return {}
        answers = []
        for line in self.inline_result.read_bytes().splitlines():
            try:
                answer = json.loads(line)
            except ValueError:
                # A line spoilt on purpose has no counterpart in an inlined reply.
                continue
            answer.pop("key", None)
            answers.append(answer)
        return {"inlinedResponses": {"inlinedResponses": answers}}
