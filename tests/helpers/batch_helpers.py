"""A workbench for batch jobs: a real state database, the emulator, the real edge between them, and no waits."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import open_state
from gemini_emulator import Exchange, Faults, GeminiEmulator, Job, vector_of
from queue_helpers import DIMENSIONS, MODEL, add_texts, by_text, rows, stored_vectors

from codechunk.providers.gemini.client import Gemini
from codechunk.providers.gemini.form import Form
from codechunk.sending import batch_poll
from codechunk.sending.batch import BatchJobs, BatchSettings
from codechunk.sending.calibration import Calibrator
from codechunk.sending.direct import Direct
from codechunk.sending.owner import new_owner
from codechunk.sending.worker import Worker, WorkerSettings
from codechunk.state import BatchRow, IndexRow, State
from codechunk.views.doctor import check_invariants

KEY = "test-key"
TEXTS = [f"def number_{n}():\n    return {n} * {n}" for n in range(10)]

# Nothing waits: what is put off is due at once.
SETTINGS = BatchSettings(
    prefix="codechunk",
    priority=0,
    max_texts=500,
    max_tokens=None,
    fall_back=True,
    initial_backoff_s=0.0,
    max_backoff_s=0.0,
    max_retries=3,
    submitter_poll_s=0.0,
    submission_initial_s=60.0,
    submission_max_s=1800.0,
    max_submissions=10,
    concurrent_submissions=1,
    poller_interval_s=0.0,
    concurrent_polls=5,
    max_age_s=48 * 3600.0,
    grace_s=60.0,
    lease_s=60.0,
)
FAST = {field_: getattr(SETTINGS, field_) for field_ in BatchSettings.__dataclass_fields__}
WORKER = WorkerSettings(
    batches=True,
    min_queue_size=1,
    max_queue_size=10_000,
    max_wait_s=1800.0,
    poller_interval_s=0.01,
    lease_s=60.0,
)
WORKING = {field_: getattr(WORKER, field_) for field_ in WorkerSettings.__dataclass_fields__}


class KilledError(BaseException):
    """Stands for kill -9 in the middle of a step."""


@dataclass
class Bench:
    """One vector space with texts that wait, the emulator, and hands for both."""

    folder: Path
    state: State
    emulator: GeminiEmulator
    index: IndexRow
    gemini: Gemini
    form: Form
    settled: list[float] = field(default_factory=list)

    @property
    def space_id(self) -> int:
        return self.index.space_id

    @property
    def batches_folder(self) -> Path:
        return self.folder / "batches"

    def fit(self, limit: int | None = 2048) -> Calibrator:
        return Calibrator(state=self.state, space_id=self.space_id, model=self.form.model, limit_tokens=limit)

    def machine(
        self,
        *,
        owner: str | None = None,
        provider: Any = None,
        limit: int | None = 2048,
        **changes: Any,
    ) -> BatchJobs:
        return BatchJobs(
            state=self.state,
            provider=self.gemini if provider is None else provider,
            calibrator=self.fit(limit),
            space_id=self.space_id,
            settings=BatchSettings(**{**FAST, **changes}),
            directory=self.batches_folder,
            owner=owner or new_owner(),
        )

    def worker(
        self,
        *,
        settings: dict[str, Any] | None = None,
        provider: Any = None,
        watch: Callable[[], None] = lambda: None,
        **changes: Any,
    ) -> Worker:
        owner = new_owner()
        machine = self.machine(owner=owner, provider=provider, **changes)
        direct = Direct(
            state=self.state,
            provider=self.gemini if provider is None else provider,
            space_id=self.space_id,
            owner=owner,
            calibrator=self.fit(),
            concurrency=2,
            texts_per_call=10,
            lease_s=60.0,
            attempts=2,
            first_wait_s=0.01,
        )

        def settle() -> int:
            self.settled.append(time.monotonic())
            return 0

        return Worker(
            state=self.state,
            space_id=self.space_id,
            owner=owner,
            batch_jobs=machine,
            direct=direct,
            settings=WorkerSettings(**{**WORKING, **(settings or {})}),
            others=lambda: [],
            settle=settle,
            watch=watch,
        )

    def planned(self, **changes: Any) -> BatchJobs:
        """A machine that has made its intents."""
        machine = self.machine(**changes)
        assert machine.plan() > 0
        return machine

    def out(self, **changes: Any) -> BatchJobs:
        """A machine whose remote jobs are all out."""
        machine = self.planned(**changes)
        machine.submit()
        assert {row.state for row in self.rows} == {"processing"}
        return machine

    def finish(self, machine: BatchJobs, *, turns: int = 20) -> None:
        """Plan, submit and poll until no text waits for a batch job any more."""
        for _ in range(turns):
            machine.plan()
            machine.submit()
            machine.poll()
            if (
                not self.state.batches.rows(open_only=True)
                and not self.state.queue.waiting(self.space_id, fallen_back=False)[0]
            ):
                return
        raise AssertionError(f"not done in {turns} turns: {self.rows}")

    # ---- what there is

    @property
    def rows(self) -> list[BatchRow]:
        """All batch jobs, oldest first."""
        return sorted(self.state.batches.rows(), key=lambda row: (row.created_at, row.id))

    @property
    def row(self) -> BatchRow:
        """The only batch job."""
        (only,) = self.rows
        return only

    @property
    def jobs(self) -> list[Job]:
        """All jobs at the provider, oldest first."""
        return sorted(self.emulator.jobs.values(), key=lambda job: job.number)

    @property
    def states(self) -> Counter[object]:
        return Counter(by_text(self.state, "state").values())

    def of_texts(self, column: str) -> dict[str, object]:
        """A column of `embeddings` by text."""
        return by_text(self.state, column)

    def sql(self, query: str) -> list[tuple[object, ...]]:
        return rows(self.state, query)

    def change(self, statement: str) -> None:
        """Change rows behind the product's back: what time would do, for instance."""
        with self.state.database.begin() as connection:
            connection.exec_driver_sql(statement)

    def stop_is_over(self) -> None:
        """As the next process: nobody has asked it to stop."""
        self.state.close()
        self.state = open_state(self.folder)

    def free_claims(self) -> None:
        """As if every process that held something had died."""
        self.change("UPDATE batches SET owner = NULL, lease_until = NULL")

    def grow_older(self, seconds: float) -> None:
        """As if everything about the batch jobs had happened so much earlier."""
        times = ("upload_began_at", "file_expires_at", "create_began_at", "cancel_began_at", "submitted_at", "next_at")
        self.change("UPDATE batches SET " + ", ".join(f"{name} = {name} - {seconds}" for name in times))

    def check(self, *, ready: Sequence[str] = TEXTS, paid: Callable[[str], int] = lambda _: 1) -> None:
        """These texts are ready, each with its own vector and bought as often as it should be; nothing is wrong."""
        vectors = stored_vectors(self.state)
        assert sorted(vectors) == sorted(ready)
        for text, vector in vectors.items():
            wanted = np.array(vector_of(self.form.sent(text), DIMENSIONS, self.form.model))
            np.testing.assert_allclose(vector, wanted / np.linalg.norm(wanted), atol=1e-3)
        assert self.emulator.paid == {self.form.sent(text): paid(text) for text in ready if paid(text)}
        self.sound()

    def sound(self) -> None:
        """No invariant is broken, and nothing is held by anybody."""
        wrong = [finding for finding in check_invariants(self.state) if finding.status == "error"]
        assert not wrong
        held = "SELECT count(*) FROM {} WHERE owner IS NOT NULL"
        assert self.sql(held.format("batches")) == [(0,)]
        assert self.sql(held.format("embeddings")) == [(0,)]


@contextmanager
def bench(
    folder: Path,
    texts: Sequence[str] = TEXTS,
    *,
    faults: Faults | None = None,
    on_request: Callable[[Exchange], None] | None = None,
    model: str = MODEL,
    timeout_s: float = 10.0,
    tokens: int | None = 20,
) -> Iterator[Bench]:
    """A workbench with these texts waiting."""
    form = Form(model, DIMENSIONS)
    folder.mkdir(exist_ok=True)
    with (
        open_state(folder) as state,
        GeminiEmulator(key=KEY, faults=faults, on_request=on_request) as emulator,
        Gemini(api_key=KEY, form=form, base_url=emulator.url, timeout_s=timeout_s) as gemini,
    ):
        index = add_texts(state, texts, tokens=tokens)
        yield Bench(folder=folder, state=state, emulator=emulator, index=index, gemini=gemini, form=form)


def spoil(made: Bench, job: Job, change: Any) -> None:
    """End a job and rewrite its result file: `change` gets its lines and returns bytes."""
    made.emulator.finish(job.name)
    path = made.emulator.files[str(job.result_file)].path
    path.write_bytes(change(path.read_bytes().splitlines(keepends=True)))


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let polling stop dead at a crash point."""

    def crash(point: str) -> None:
        if point == name:
            raise KilledError

    monkeypatch.setattr(batch_poll, "crash", crash)
