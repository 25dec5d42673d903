"""`codechunk chunk`: how local files are cut, to stdout. No database, no network."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from codechunk.cli.session import EXIT_FAILED_CHUNKS
from codechunk.cli.terminal import shown, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import to_json
from codechunk.indexing.local_files import cut_local_files
from codechunk.text.chunks import Chunk


def run(loaded: Loaded, *, paths: Sequence[Path], json: bool) -> int:
    """Cut the files and print their chunks in order of path. Returns the exit code.

    Raises:
        UsageError: for a path that is no file and no folder.
    """
    console = stdout()
    code = 0
    for file in cut_local_files(loaded.config, paths):
        if file.failed:
            code = EXIT_FAILED_CHUNKS
            print(f"{shown(file.path)}: failed, {file.failed}", file=sys.stderr)
        elif file.skipped:
            print(f"{shown(file.path)}: skipped, {file.skipped}", file=sys.stderr)
        if json:
            for line in file.lines():
                write_json(to_json(line), indent=None)
        else:
            for chunk in file.chunks:
                _show(console, chunk)
    return code


def _show(console: Console, chunk: Chunk) -> None:
    line = Text(f"{shown(chunk.path)}:{chunk.start_line}-{chunk.end_line}", style="bold cyan")
    line.append(f"  {chunk.kind}", style="default")
    if chunk.symbol:
        line.append(f" {shown(chunk.symbol)}", style="bold")
    line.append(f"  {chunk.tokens} tokens", style="dim")
    console.print(line)
    for header in chunk.header.splitlines():
        console.print(Text(f"  | {shown(header)}", style="dim"))
    for text in chunk.text.rstrip("\n").split("\n"):
        console.print(Text("    " + "\t".join(shown(part) for part in text.rstrip("\r").split("\t"))))
