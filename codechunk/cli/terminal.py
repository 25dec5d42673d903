"""The face: progress bars on a terminal, plain lines elsewhere, and foreign names made harmless."""

import json
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
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
from rich.text import Text

from codechunk.progress import Reporter, Silence

# A line in a log for a stage that lasts, not more often than this.
PLAIN_EVERY_S = 10.0


def stderr() -> Console:
    """The console for people: stderr, with colour only where somebody looks at it."""
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
    """The console for results: stdout, with colour only where somebody looks at it."""
    return _Stdout(soft_wrap=True, highlight=False)


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


class Bars:
    """Progress as bars with counts and rates. A context manager: the bars stay when it is left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
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

    def _finish(self) -> None:
        if self._name:
            seconds = time.monotonic() - self._started
            self._line(f"{self._name}: {self._count:,} {self._unit} in {seconds:.1f} s")
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


__all__ = ["Bars", "Lines", "Quiet", "Reporter", "reporter", "shown", "stderr"]
