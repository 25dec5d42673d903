"""`codechunk chunk`: how local files are cut, to stdout. No database, no network."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from codechunk.cli.session import EXIT_FAILED_CHUNKS
from codechunk.cli.terminal import shown, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.errors import UsageError
from codechunk.pool.pool import ChunkPool, ParseTask
from codechunk.selection.skip import SkipReason, SkipRules, decode
from codechunk.text.chunks import Chunk, chunk_ids
from codechunk.text.sampling import SEED
from codechunk.workspace.commit_rules import cut_settings

# A file that is named is cut whatever its configured limit, up to this.
NAMED_FILE_BYTES = 64 * 1024 * 1024


def run(loaded: Loaded, *, paths: Sequence[Path], json: bool) -> int:
    """Cut the files and print their chunks in order of path. Returns the exit code.

    Raises:
        UsageError: for a path that is no file and no folder.
    """
    for path in paths:
        if not path.is_file() and not path.is_dir():
            raise UsageError(f"There is no file or folder {path}.")
    settings = cut_settings(loaded.config, jobs=1, attributes={})
    console = stdout()
    code = 0
    with ChunkPool(jobs=1, settings=settings.chunking, token_mode="all", sample_percent=100, seed=SEED) as pool:
        for result in pool.run(_tasks(loaded, paths)):
            if result.error:
                code = EXIT_FAILED_CHUNKS
                print(f"{shown(result.path)}: failed, {result.error}", file=sys.stderr)
            for chunk, chunk_id in zip(result.chunks, chunk_ids("", result.chunks), strict=True):
                if json:
                    write_json(_document(chunk, chunk_id), indent=None)
                else:
                    _show(console, chunk)
    return code


def _tasks(loaded: Loaded, paths: Sequence[Path]) -> Iterator[ParseTask]:
    """A task for each readable file; one child cuts them in this order. Says what is skipped, and why."""
    git = loaded.config.git
    in_folders = SkipRules.build(skip_generated=git.skip_generated, max_file_size=git.max_file_size)
    by_name = SkipRules.build(skip_generated=False, max_file_size=NAMED_FILE_BYTES)
    for number, (file, named) in enumerate(_files(paths)):
        rules = by_name if named else in_folders
        limit = NAMED_FILE_BYTES if named else git.max_file_size
        if file.stat().st_size > limit:
            print(f"{shown(str(file))}: skipped, {SkipReason.TOO_LARGE}", file=sys.stderr)
            continue
        data = file.read_bytes()
        decoded = decode(data)
        reason = rules.by_content(str(file), data)
        if decoded is None or reason is not None:
            print(f"{shown(str(file))}: skipped, {reason or SkipReason.UNDECODABLE}", file=sys.stderr)
            continue
        yield ParseTask(key=number, path=str(file), data=data, language=None, encoding=decoded[0])


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """Files and whether they were named; below folders in order; links and .git are not followed."""
    for path in paths:
        if path.is_file():
            yield path, True
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name != ".git")
            for name in sorted(names):
                file = Path(folder, name)
                if file.is_file() and not file.is_symlink():
                    yield file, False


def _document(chunk: Chunk, chunk_id: str) -> dict[str, Any]:
    return {
        "path": chunk.path,
        "language": chunk.language,
        "kind": str(chunk.kind),
        "symbol": chunk.symbol,
        "start_line": chunk.start_line,
        "end_line": chunk.end_line,
        "start_byte": chunk.start_byte,
        "end_byte": chunk.end_byte,
        "tokens": chunk.tokens,
        "text": chunk.text,
        "embedding_text": chunk.embedding_text,
        "chunk_id": chunk_id,
    }


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
