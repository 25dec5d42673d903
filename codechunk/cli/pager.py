"""Lines on stdout, through a pager where git would take one: on a terminal, when they are longer than it."""

import io
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from codechunk.cli.places import without_links
from codechunk.cli.session import terminal_is_lent

# What git sets where the user has not: leave at once when it fits, keep colours, keep the screen.
_ENVIRONMENT = {"LESS": "FRX", "LV": "-c"}


def write_lines(console: Console, lines: Sequence[Text], *, pager: bool) -> None:
    """Write the lines, none of them wrapped by us."""
    command = pager_command(os.environ) if pager and console.is_terminal and _is_longer(console, lines) else None
    if command is not None and _paged(console, lines, command):
        return
    _print(console, lines)


def pager_command(environ: Mapping[str, str]) -> list[str] | None:
    """The pager's words; None when none is wanted."""
    named = environ.get("CODECHUNK_PAGER", environ.get("PAGER", "less"))
    with suppress(ValueError):  # a quote that does not end
        command = shlex.split(named)
        return command if command not in ([], ["cat"]) else None
    return None


def _is_longer(console: Console, lines: Sequence[Text]) -> bool:
    rows = sum(max(1, -(-cell_len(line.plain) // console.width)) for line in lines)
    return rows >= console.size.height  # the prompt needs one


def _paged(console: Console, lines: Sequence[Text], command: Sequence[str]) -> bool:
    """Whether the pager could be started. One that is left early has shown what was wanted."""
    text = io.StringIO()
    same = Console(
        file=text,
        force_terminal=True,
        color_system="256" if console.color_system else None,
        no_color=console.no_color,
        width=console.width,
        highlight=False,
        soft_wrap=True,
    )
    _print(same, [without_links(line) for line in lines])
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**_ENVIRONMENT, **os.environ})
    except OSError:
        return False
    with terminal_is_lent():
        process.communicate(text.getvalue().encode("utf-8", "backslashreplace"))
    return True


def _print(console: Console, lines: Sequence[Text]) -> None:
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False)
