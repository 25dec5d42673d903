"""`codechunk config show` and `codechunk config check`."""

import sys

from rich.text import Text

from codechunk.cli.terminal import stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import to_json


def show(loaded: Loaded, *, json: bool) -> None:
    """Print every key with its value and origin."""
    rows = loaded.settings()
    if json:
        write_json(to_json(rows))
        return
    console = stdout()
    widest_key, widest_value = max(len(row.key) for row in rows), max(len(row.value) for row in rows)
    for row in rows:
        style = "dim" if row.origin.startswith("default") else "cyan"
        value = Text(f"{row.value:<{widest_value}}  ", style="bold")
        console.print(Text(f"{row.key:<{widest_key}}  ") + value + Text(row.origin, style=style))


def check(loaded: Loaded) -> None:
    """Say that all is well; loading it was the check."""
    where = loaded.file or "defaults, environment and flags"
    sys.stdout.write(f"The configuration is valid ({where}).\n")
