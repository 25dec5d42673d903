"""`codechunk config show` and `codechunk config check`."""

import sys

from rich.table import Table
from rich.text import Text

from codechunk.cli.terminal import stdout, write_json
from codechunk.config import Loaded


def show(loaded: Loaded, *, json: bool) -> None:
    """Print every key with its value and origin."""
    rows = loaded.rows()
    if json:
        document = [{"key": key, "value": value, "origin": origin} for key, value, origin in rows]
        write_json(document)
        return
    table = Table.grid(padding=(0, 2))
    for key, value, origin in rows:
        style = "dim" if origin.startswith("default") else "cyan"
        table.add_row(Text(key), Text(value, style="bold"), Text(origin, style=style))
    stdout().print(table)


def check(loaded: Loaded) -> None:
    """Say that all is well; loading it was the check."""
    where = loaded.file or "defaults, environment and flags"
    sys.stdout.write(f"The configuration is valid ({where}).\n")
