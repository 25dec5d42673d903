"""How a workflow tells whoever watches what it is doing: the terminal, plain lines, a callback, or nobody."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A batch job as it is shown to people.

    `state` is ours and `remote_state` the provider's, None before it has the job. `texts` were sent, `done` have come
    back. `age_s` is how long it exists, in seconds; `cost_usd` is None where no price is known; `note` says why it
    waits or what went wrong, and may be empty.
    """

    id: str
    state: str
    remote_state: str | None
    texts: int
    done: int
    age_s: float
    cost_usd: float | None
    note: str


class Reporter(Protocol):
    """Receives stages, counts, sentences and the batch jobs."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """A new stage begins and the one before it ends. `total` is None when it is not known."""

    def advance(self, count: int = 1) -> None:
        """`count` more units of the stage are done."""

    def reach(self, current: int, *, total: int | None) -> None:
        """The stage stands at `current` units of `total`, None when that is not known."""

    def say(self, sentence: str) -> None:
        """Something the user should read now."""

    def batches(self, rows: Sequence[BatchView]) -> None:
        """All batch jobs that are waited for, as they stand now; they replace the ones told before."""


class Silence:
    """A reporter that keeps everything to itself."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Ignore it."""

    def advance(self, count: int = 1) -> None:
        """Ignore it."""

    def reach(self, current: int, *, total: int | None) -> None:
        """Ignore it."""

    def say(self, sentence: str) -> None:
        """Ignore it."""

    def batches(self, rows: Sequence[BatchView]) -> None:
        """Ignore it."""


class Stoppable:
    """A reporter that calls `check`, which may raise, before each step it tells: there the work can be ended."""

    def __init__(self, reporter: Reporter, check: Callable[[], None]) -> None:
        self._reporter, self._check = reporter, check

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Check, then tell."""
        self._check()
        self._reporter.stage(name, total, unit)

    def advance(self, count: int = 1) -> None:
        """Check, then tell."""
        self._check()
        self._reporter.advance(count)

    def reach(self, current: int, *, total: int | None) -> None:
        """Check, then tell."""
        self._check()
        self._reporter.reach(current, total=total)

    def say(self, sentence: str) -> None:
        """Only tell: what must be read is also said while work ends."""
        self._reporter.say(sentence)

    def batches(self, rows: Sequence[BatchView]) -> None:
        """Only tell."""
        self._reporter.batches(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a workflow told.

    `stage`, `done`, `total` and `unit` say where the stage stands after it; `total` is None when it is not known.
    `sentence` is set when the kind is "sentence", and `batches` when it is "batches".
    """

    kind: Literal["stage", "progress", "sentence", "batches"]
    stage: str
    done: int
    total: int | None
    unit: str
    sentence: str | None = None
    batches: tuple[BatchView, ...] = ()


class Callback:
    """A reporter that turns everything it is told into one call of a function.

    The function is called in the thread that works: while it runs, the work waits, and what it raises ends the work.
    """

    def __init__(self, on_progress: Callable[[Event], None]) -> None:
        self._tell = on_progress
        self._stage, self._unit = "", ""
        self._done = 0
        self._total: int | None = None

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Tell that a stage begins."""
        self._stage, self._total, self._unit, self._done = name, total, unit, 0
        self._event("stage")

    def advance(self, count: int = 1) -> None:
        """Tell where the stage stands."""
        self.reach(self._done + count, total=self._total)

    def reach(self, current: int, *, total: int | None) -> None:
        """Tell where the stage stands."""
        self._done, self._total = current, total
        self._event("progress")

    def say(self, sentence: str) -> None:
        """Tell a sentence."""
        self._event("sentence", sentence=sentence)

    def batches(self, rows: Sequence[BatchView]) -> None:
        """Tell the batch jobs."""
        self._event("batches", batches=tuple(rows))

    def _event(
        self,
        kind: Literal["stage", "progress", "sentence", "batches"],
        *,
        sentence: str | None = None,
        batches: tuple[BatchView, ...] = (),
    ) -> None:
        self._tell(
            Event(
                kind=kind,
                stage=self._stage,
                done=self._done,
                total=self._total,
                unit=self._unit,
                sentence=sentence,
                batches=batches,
            )
        )
