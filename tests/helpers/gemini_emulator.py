"""An emulator of the parts of the Gemini Developer API that codechunk uses, for tests and for trying by hand.

    with GeminiEmulator(faults=Faults(job_seconds=0.2)) as emulator:
        client = genai.Client(api_key=emulator.key, http_options={"base_url": emulator.url})

It keeps a ledger of every text it was paid for (`paid`). The parts are in tests/emulator/.
"""

import dataclasses
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from emulator.faults import JOB, JOB_FAULTS, REQUEST_FAULTS, Faults, Shot, known
from emulator.files import StoredFile
from emulator.jobs import ENDS, Job
from emulator.server import Exchange, Server
from emulator.service import Service
from emulator.values import is_normalised, tokens_of, vector_of

__all__ = [
    "JOB_FAULTS",
    "REQUEST_FAULTS",
    "Exchange",
    "Faults",
    "GeminiEmulator",
    "Job",
    "Shot",
    "is_normalised",
    "tokens_of",
    "vector_of",
]
_LONGEST_KEPT_BODY = 1 << 16


class GeminiEmulator:
    """The service on a free port of 127.0.0.1, from `with` to the end of its block.

    Leaving the block raises when the emulator itself failed on a request: a test must not pass on its bugs.
    """

    def __init__(
        self,
        key: str = "test-key",
        seed: int = 0,
        faults: Faults | None = None,
        *,
        port: int = 0,
        on_request: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.key = key
        self._folder = tempfile.TemporaryDirectory(prefix="gemini-emulator-")
        self._service = Service(
            Path(self._folder.name), key=key, seed=seed, faults=faults if faults is not None else Faults()
        )
        self._server = Server(self._service, port, self._note)
        self._service.files.url = self.url
        self._server.admin.update(
            {
                "GET ledger": lambda _: self.ledger(),
                "POST faults": self._set_faults,
                "POST finish": self._finish,
                "POST expire_files": self._expire_files,
            }
        )
        self._on_request = on_request
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.log: list[tuple[str, str, int]] = []
        self.seen: deque[Exchange] = deque(maxlen=2000)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.hang_up_all()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._folder.cleanup()
        if self.crashes and error is None:
            raise RuntimeError("the emulator failed:\n" + "\n".join(self.crashes))

    # ---- what a client needs ----

    @property
    def url(self) -> str:
        """Its base URL, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    # ---- what happened ----

    @property
    def paid(self) -> Counter[str]:
        """Each text as it was sent -> how often a good vector for it was sold (produced), directly or by a job."""
        return self._service.paid

    @property
    def paid_by(self) -> dict[str, list[str]]:
        """Each text -> who sold it, in order: "direct" or the name of a job."""
        return self._service.paid_by

    @property
    def lost(self) -> Counter[str]:
        """Texts sold directly of which the client surely did not hear: buying those again is no mistake."""
        return self._service.lost

    @property
    def crashes(self) -> list[str]:
        """Tracebacks of the emulator's own bugs."""
        return self._server.crashes

    @property
    def faults(self) -> Faults:
        """The switches; change them at any time."""
        return self._service.faults

    @property
    def jobs(self) -> dict[str, Job]:
        """All jobs ever made, by name, with their states brought up to date; also deleted and vanished ones."""
        self._service.end_due()
        with self._service.lock:
            return dict(self._service.jobs)

    @property
    def files(self) -> dict[str, StoredFile]:
        """Uploads and results that are there now, by name."""
        return {file.name: file for file in self._service.files.newest_first()}

    def live_jobs(self) -> list[Job]:
        """Jobs that are PENDING or RUNNING, also when they were deleted: they go on and cost."""
        return [job for job in self.jobs.values() if job.live]

    def ledger(self) -> dict[str, Any]:
        """All of it as JSON, for another process."""
        jobs = self.jobs
        with self._service.lock:
            paid = dict(self._service.paid)
            paid_by = {text: list(sellers) for text, sellers in self._service.paid_by.items()}
            lost = dict(self._service.lost)
        with self._lock:
            requests = dict(self.requests)
        return {
            "texts": len(paid),
            "sold": sum(paid.values()),
            "more_than_once": {text: times for text, times in paid.items() if times > 1},
            "paid": paid,
            "paid_by": paid_by,
            "lost": lost,
            "requests": requests,
            "jobs": {
                job.name: {
                    "display_name": job.display_name,
                    "state": job.state,
                    "rows": len(job.rows),
                    "live": job.live,
                    "deleted": job.deleted,
                    "vanished": job.vanished,
                    "priority": job.priority,
                }
                for job in jobs.values()
            },
            "live": [job.name for job in jobs.values() if job.live],
            "files": {file.name: file.display_name for file in self.files.values()},
            "crashes": list(self.crashes),
        }

    # ---- what to make happen ----

    def fail_next(self, kind: str, fault: str, times: int = 1, *, skip: int = 0) -> None:
        """Let the next `times` requests of the kind fail so, after `skip` of them passed.

        `kind`: as in `requests`, or "any", or "job" for the end of the next job. The faults: REQUEST_FAULTS and
        JOB_FAULTS. Raises ValueError for a fault that does not exist.
        """
        if not known(kind, fault):
            raise ValueError(
                f"no fault {fault!r} for {kind!r}; there are: {sorted(JOB_FAULTS if kind == JOB else REQUEST_FAULTS)}"
            )
        self.faults.next.extend(Shot(kind, fault, skip) for _ in range(times))

    def finish(self, name: str | None = None) -> None:
        """End a live job now, or all of them, stuck ones too."""
        for job in [self.jobs[name]] if name else self.live_jobs():
            self._service.end(job)

    def set_state(self, name: str, state: str, error: dict[str, Any] | None = None) -> None:
        """Put a live job into a state, BATCH_STATE_...; one that is no end stays until `finish` or another call."""
        job = self.jobs[name]
        if not job.live:
            raise ValueError(f"{name} has ended already")
        if state in ENDS:
            self._service.end(job, state, error)
        else:
            job.pinned = state

    def expire_files(self, *, results: bool = False) -> None:
        """As if 48 hours had passed for all uploads; with `results` for the results too."""
        self._service.files.expire(results=results)

    def make_older(self, name: str, seconds: float) -> None:
        """Let a job have been created that much earlier."""
        self.jobs[name].created -= seconds

    # ---- inside ----

    def _note(self, exchange: Exchange) -> None:
        if exchange.body is not None and len(exchange.body) > _LONGEST_KEPT_BODY:
            exchange = exchange._replace(body=None)
        with self._lock:
            self.requests[exchange.kind] += 1
            self.log.append((exchange.kind, exchange.path, exchange.status))
            self.seen.append(exchange)
        if self._on_request:
            self._on_request(exchange)

    def _finish(self, wanted: dict[str, Any]) -> dict[str, Any]:
        self.finish(wanted.get("name"))
        return {}

    def _expire_files(self, wanted: dict[str, Any]) -> dict[str, Any]:
        self.expire_files(results=bool(wanted.get("results")))
        return {}

    def _set_faults(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Set fields of the switches from JSON: {"probability": 0.2, "next": [["create", "lost_after"]]}."""
        names = {field.name for field in dataclasses.fields(Faults)}
        if unknown := set(wanted) - names:
            raise ValueError(f"no such switches: {sorted(unknown)}")
        for name, value in wanted.items():
            if name == "next":
                for kind, fault, *rest in value:
                    self.fail_next(kind, fault, *rest)
            else:
                setattr(self.faults, name, set(value) if isinstance(value, list) else value)
        return {}


if __name__ == "__main__":
    from emulator.by_hand import main

    sys.exit(main())
