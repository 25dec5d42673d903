"""`codechunk cache export | import`: vectors to a file that travels, and back."""

from pathlib import Path

from rich.text import Text

from codechunk.app import App
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import reporter, shown, stderr, write_json
from codechunk.config.load import Loaded
from codechunk.documents import to_json
from codechunk.errors import UsageError


def export(loaded: Loaded, *, file: Path, repository: str | None, json: bool, quiet: bool) -> None:
    """Write the vectors to a file and say how many they are, and how large it is."""
    _refuse_dash(file)
    with reporter(stderr(), quiet=quiet) as progress, App(loaded, stop=current_stop()) as app:
        document = app.export_cache(file, repository, progress)
    if json:
        write_json(to_json(document))
    elif not quiet:
        _say(f"Exported {document.vectors:,} vectors to {file} ({_size(document.bytes)}).")


def import_(loaded: Loaded, *, file: Path, json: bool, quiet: bool) -> None:
    """Take in the vectors of a file and say how many were new."""
    _refuse_dash(file)
    with reporter(stderr(), quiet=quiet) as progress, App(loaded, stop=current_stop()) as app:
        document = app.import_cache(file, progress)
    if json:
        write_json(to_json(document))
    elif not quiet:
        _say(
            f"Imported {document.new:,} vectors from {file} ({_size(document.bytes)}); "
            f"{document.known:,} were here already."
        )


def _refuse_dash(file: Path) -> None:
    """A pipe cannot be renamed into place or read twice; `-` would be a file of that name."""
    if str(file) == "-":
        raise UsageError("A cache is a file, not a pipe: name one. (./- is a file of that name.)")


def _say(sentence: str) -> None:
    stderr().print(Text(shown(sentence)))


def _size(size_bytes: int) -> str:
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:,.1f} kB"
    return f"{size_bytes / 1e6:,.1f} MB"
