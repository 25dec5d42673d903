"""The face: progress bars on a terminal, plain lines elsewhere, and foreign names made harmless."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from codechunk.process.log import mask_secrets
from codechunk.progress import BatchView, Reporter, Silence
from codechunk.text.counted import counted
from codechunk.text.money import usd

# A line in a log for a stage that lasts, not more often than this.
PLAIN_EVERY_S = 10.0
# Batch jobs in the live table, which must fit under the bars; the last line counts the others.
TABLE_ROWS = 12
# Columns of a file or pipe, where nothing must be cut off.
FILE_WIDTH = 10_000
STATE_COLOURS = {"processing": "cyan", "retry_scheduled": "yellow", "completed": "green", "failed": "red"}


def stderr() -> Console:
    """The console for people: stderr, with colour only on a terminal."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


class Rows:
    """Lines of a label and a value, aligned. The terminal wraps them, a file keeps them whole."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str]] = []

    def add(self, label: str, value: str) -> None:
        """Append a line; an empty label continues the one above."""
        self._rows.append((label, value))

    def show(self, console: Console) -> None:
        """Print them."""
        width = max(len(label) for label, _ in self._rows) + 2
        for label, value in self._rows:
            console.print(Text(f"{label:<{width}}", style="dim") + Text(value))


class _Stdout(Console):
    """Results for people. A reader that goes away (`| head`) is told to the caller, not an exit of its own."""

    def on_broken_pipe(self) -> None:
        """Raise what rich would turn into exit code 1."""
        raise BrokenPipeError


def stdout() -> Console:
    """The console for results: stdout, with colour only on a terminal; a table in a file is whole."""
    return _Stdout(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)


def write_json(document: object, *, indent: int | None = 2) -> None:
    """One JSON document and a newline on stdout; in ASCII where stdout cannot hold more."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    text = json.dumps(document, indent=indent, ensure_ascii=encoding != "utf8")
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
    if indent is not None:
        sys.stdout.flush()


def shown(text: str) -> str:
    """A path or symbol from a repository, made safe for a terminal: control characters are spelled out."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class _Rate(TextColumn):
    """Units per second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        """The rate since the stage began; the whole stage's when it is done."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} {task.fields['unit']}/s", style="progress.data.speed")


def duration(seconds: float) -> str:
    """A time span for people, in its two largest units: `12s`, `3m05s`, `2h07m`, `3d04h`."""
    whole = max(0, int(seconds))
    for size, unit, below, small in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // below:02d}{small}"
    return f"{whole}s"


def batch_table(rows: Sequence[BatchView], *, most: int) -> Table:
    """Batch jobs, one a line; when there are more than `most`, the last line counts the others."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("batch job", "state", "provider"):
        table.add_column(title, no_wrap=True)
    for title in ("rows", "age", "cost"):
        table.add_column(title, no_wrap=True, justify="right")
    table.add_column("", overflow="ellipsis", no_wrap=True)
    for row in rows[:most]:
        table.add_row(
            Text(shown(row.id)),
            Text(row.state, style=STATE_COLOURS.get(row.state, "")),
            Text(shown(row.remote_state or "-")),
            f"{row.done:,}/{row.texts:,}",
            duration(row.age_s),
            usd(row.cost_usd),
            Text(shown(mask_secrets(row.note)), style="yellow"),
        )
    if len(rows) > most:
        others = rows[most:]
        done, texts = sum(row.done for row in others), sum(row.texts for row in others)
        table.add_row(f"+{len(others):,} more", "", "", f"{done:,}/{texts:,}", "", "", "")
    return table


class _BarsAndBatches(Progress):
    """Bars, and below them the batch jobs."""

    batch_jobs: Sequence[BatchView] = ()

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is drawn, from the top down."""
        yield from super().get_renderables()
        if self.batch_jobs:
            yield batch_table(self.batch_jobs, most=TABLE_ROWS)


class Bars:
    """Progress as bars with counts and rates. A context manager: the bars stay when it is left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = _BarsAndBatches(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """End the bar before and begin one."""
        self._finish()
        self._task = self._progress.add_task(name, total=total, unit=unit)

    def advance(self, count: int = 1) -> None:
        """Move the bar."""
        if self._task is not None:
            self._progress.advance(self._task, count)

    def reach(self, current: int, *, total: int | None) -> None:
        """Set the bar."""
        if self._task is not None:
            self._progress.update(self._task, completed=current, total=total)

    def say(self, sentence: str) -> None:
        """A sentence above the bars."""
        self._console.print(Text(f"! {shown(sentence)}", style="yellow"))

    def batches(self, rows: Sequence[BatchView]) -> None:
        """Draw the table under the bars again."""
        self._progress.batch_jobs = tuple(rows)

    def _finish(self) -> None:
        if self._task is None:
            return
        task = self._progress.tasks[-1]
        self._progress.update(self._task, total=task.completed, completed=task.completed)
        self._task = None


class Lines:
    """Progress as plain lines: one when a stage begins and ends, and one every PLAIN_EVERY_S seconds."""

    def __init__(self) -> None:
        self._name, self._unit = "", ""
        self._total: int | None = None
        self._count = 0
        self._started = self._told = time.monotonic()
        self._batch_states: dict[str, tuple[str, str | None]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """End the stage before and begin one."""
        self._finish()
        self._name, self._total, self._unit, self._count = name, total, unit, 0
        self._started = self._told = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Count, and tell it now and then."""
        self.reach(self._count + count, total=self._total)

    def reach(self, current: int, *, total: int | None) -> None:
        """Set the count, and tell it now and then."""
        self._count, self._total = current, total
        if time.monotonic() - self._told >= PLAIN_EVERY_S:
            self._told = time.monotonic()
            of = f" of {self._total:,}" if self._total else ""
            self._line(f"{self._name}: {self._count:,}{of} {self._unit}")

    def say(self, sentence: str) -> None:
        """A sentence on a line of its own."""
        self._line(shown(sentence))

    def batches(self, rows: Sequence[BatchView]) -> None:
        """A line for every batch job that is new, or in another state than before."""
        for row in rows:
            now = (row.state, row.remote_state)
            if self._batch_states.get(row.id) == now:
                continue
            self._batch_states[row.id] = now
            remote = f" ({shown(row.remote_state)})" if row.remote_state else ""
            cost = "" if row.cost_usd is None else f", {usd(row.cost_usd)}"
            note = f": {shown(mask_secrets(row.note))}" if row.note else ""
            self._line(
                f"batch job {shown(row.id)}: {row.state}{remote}, {row.done:,} of {row.texts:,} rows, "
                f"{duration(row.age_s)}{cost}{note}"
            )

    def _finish(self) -> None:
        if self._name:
            seconds = time.monotonic() - self._started
            # A stage that had nothing to count, such as the removal of what has no chunks, took its time all the same.
            what = f"{counted(self._count, self._unit)} in " if self._count or self._total else ""
            self._line(f"{self._name}: {what}{seconds:.1f} s")
            self._name = ""

    @staticmethod
    def _line(text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Quiet(Silence):
    """Only sentences that the user must read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""

    def say(self, sentence: str) -> None:
        """A sentence on a line of its own."""
        print(shown(sentence), file=sys.stderr, flush=True)


def reporter(console: Console, *, quiet: bool) -> Bars | Lines | Quiet:
    """What fits the place: bars on a terminal, plain lines elsewhere, only sentences when asked to be quiet."""
    if quiet:
        return Quiet()
    return Bars(console) if console.is_terminal else Lines()


__all__ = [
    "Bars",
    "Lines",
    "Quiet",
    "Reporter",
    "batch_table",
    "counted",
    "duration",
    "reporter",
    "shown",
    "stderr",
    "usd",
]
