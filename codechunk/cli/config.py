"""`codechunk config show` and `codechunk config check`."""

import sys

from rich.text import Text

from codechunk.cli.terminal import stdout, write_json
from codechunk.config.load import Loaded


def show(loaded: Loaded, *, json: bool) -> None:
    """Print every key with its value and origin."""
    rows = loaded.rows()
    if json:
        document = [{"key": key, "value": value, "origin": origin} for key, value, origin in rows]
        write_json(document)
        return
    console = stdout()
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, value, origin in rows:
        style = "dim" if origin.startswith("default") else "cyan"
        line = Text(f"{key:<{widths[0]}}  ") + Text(f"{value:<{widths[1]}}  ", style="bold") + Text(origin, style=style)
        console.print(line)


def check(loaded: Loaded) -> None:
    """Say that all is well; loading it was the check."""
    where = loaded.file or "defaults, environment and flags"
    sys.stdout.write(f"The configuration is valid ({where}).\n")
