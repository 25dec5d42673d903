"""What all commands share: the options before them, their exit codes, the words of their arguments."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codechunk.errors import CodechunkError, Stopped
from codechunk.process.interrupt import (
    EXIT_INTERRUPTED,
    INTERRUPTED,
    STOPPING,
    hush,
    is_importing,
    leave_at_once,
)
from codechunk.process.stop import Stop

if TYPE_CHECKING:
    from codechunk.config.load import Loaded

EXIT_FAILED_CHUNKS = 3
EXIT_BUG = 70
# How many signals ask. The next one ends the process wherever it is: two errors may be on their way already.
MOST_ASKS = 2

_stop: ContextVar[Stop] = ContextVar("stop")

Source = Annotated[
    str,
    typer.Argument(
        help="https://, ssh://, git@host:path or file:// URL, or the path of a local git repository.",
        metavar="SOURCE",
    ),
]
JobId = Annotated[str, typer.Argument(help="Id of a job, or the beginning of it.", metavar="ID")]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]


@dataclass(slots=True)
class Session:
    """The options of codechunk itself, and what they open."""

    config_file: Path | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    quiet: bool = False
    verbose: bool = False
    loaded: "Loaded | None" = None

    def choose(self, name: str, value: Any) -> None:
        """Set an option of codechunk itself, typed before or behind the command. The last one holds."""
        match name:
            case "config":
                self.config_file = value
            case "data_dir":
                self.flags["data_dir"] = str(value)
            case "verbose":
                self.verbose, self.flags["log.level"] = True, "debug"
            case "quiet":
                self.quiet = True
            case "log_format":
                self.flags["log.format"] = value
        if self.verbose and self.quiet:
            raise typer.BadParameter("-v and -q exclude each other.")

    def load(self, flags: dict[str, Any] | None = None, *, log_file: bool = True) -> "Loaded":
        """The configuration with this command's flags, and logging set up by it."""
        from codechunk.config.load import load_config
        from codechunk.process import log

        self.loaded = load_config(
            config_file=self.config_file,
            flags={**self.flags, **(flags or {})},
            environ=os.environ,
            cwd=_working_directory(),
        )
        config = self.loaded.config
        level = "warning" if self.quiet else config.log.level
        if self.loaded.origins["log.level"] == "default" and config.log.format == "text" and sys.stderr.isatty():
            level = "warning"  # people are told in sentences; the file has all of it
        log.setup(
            level=level,
            format=config.log.format,
            file=config.data_dir / "logs" / "codechunk.log" if log_file else None,
            secrets=self.loaded.secret_values(),
        )
        return self.loaded


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether an option was given, and is no default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as exc:
        raise CodechunkError("the current directory was deleted; change to one that exists.") from exc


def current_stop() -> Stop:
    """The Stop of the command that runs: signals ask it."""
    return _stop.get()


@contextmanager
def signals_ask(stop: Stop) -> Iterator[None]:
    """SIGINT and SIGTERM ask `stop`, and interrupt this thread, the main one, unless it is in a section.

    A second one ends the patience, and interrupts again; a third one ends the process, and so does the first while a
    module is imported. Those that are ignored stay so (nohup, and shells that put jobs in the background).
    """
    asks = 0

    def heard(number: int, frame: FrameType | None) -> None:
        nonlocal asks
        asks += 1
        if asks > MOST_ASKS or (is_importing(frame) and not stop.holding):
            leave_at_once()
        stop.ask(signal.Signals(number).name)
        stop.interrupt()

    before = {number: signal.getsignal(number) for number in STOPPING}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in ours:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextmanager
def terminal_is_lent() -> Iterator[None]:
    """While a pager or an editor has the terminal, Ctrl-C is meant for it."""
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn what a command raises into one sentence and an exit code; wrong usage is Typer's own business."""
    stop = Stop()
    token = _stop.set(stop)
    try:
        with signals_ask(stop):
            yield
            sys.stdout.flush()  # here, where an error can still be told
    except (Stopped, KeyboardInterrupt):
        code = tell_interrupted()
    except CodechunkError as exc:
        code = _complain(str(exc), exc.exit_code)
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`): no error, and nothing more to write to.
        _drop_output()
        code = 0
    except typer.Exit:
        raise
    except OSError as exc:  # no space for the output, no permission, a folder that is gone: the user's world
        _drop_output()
        where = f" ({exc.filename})" if exc.filename else ""
        code = _complain(f"{exc.strerror or exc}{where}.", 1)
    except Exception as exc:  # noqa: BLE001 - the top: a bug, told in one sentence with its log
        code = _bug(exc)
    else:
        return
    finally:
        _stop.reset(token)
    raise typer.Exit(code)


def _drop_output() -> None:
    """Let what is still buffered for stdout go nowhere, or Python would fail once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell_interrupted() -> int:
    """Say that a signal ended the command. Returns the exit code."""
    return _complain(INTERRUPTED, EXIT_INTERRUPTED)


def _complain(sentence: str, code: int) -> int:
    """The last words: one sentence, whatever signals still come."""
    hush()
    from codechunk.process.log import mask_secrets

    typer.echo(f"codechunk: {mask_secrets(sentence)}", err=True)
    return code


def _bug(exc: Exception) -> int:
    logging.getLogger("codechunk").debug("Bug", exc_info=exc)
    files = [
        handler.baseFilename for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)
    ]
    if not files:
        import traceback

        traceback.print_exception(exc)
    where = f"; the traceback is in {files[0]}" if files else ""
    return _complain(f"this is a bug in codechunk ({type(exc).__name__}: {exc}){where}.", EXIT_BUG)
