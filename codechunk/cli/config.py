"""`codechunk config show`, `codechunk config check` and `codechunk init`."""

import sys
from importlib.resources import files
from pathlib import Path

from rich.text import Text

from codechunk.cli.terminal import stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import ConfigCheck, to_json
from codechunk.errors import UsageError


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


def check(loaded: Loaded, *, json: bool) -> None:
    """Say that all is well; loading it was the check."""
    if json:
        write_json(to_json(ConfigCheck(valid=True, file=None if loaded.file is None else str(loaded.file))))
        return
    where = loaded.file or "defaults, environment and flags"
    sys.stdout.write(f"The configuration is valid ({where}).\n")


def init(file: Path, *, test_embeddings: bool) -> None:
    """Write the configuration that production is described by, with every key and its comment.

    Raises UsageError when there is a file of that name.
    """
    text = (files("codechunk") / "data" / "codechunk.yaml").read_text(encoding="utf-8")
    if test_embeddings:
        text = text.replace("use_test_embeddings: false ", "use_test_embeddings: true  ")
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError as exc:
        raise UsageError(f"{file} is there already; it is left as it is.") from exc
    sys.stdout.write(f"Wrote {file}: every setting with its default; `codechunk config check` says what is wrong.\n")
