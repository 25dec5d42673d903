"""`codechunk chunk`: how local files are cut, to stdout. No database, no network."""

import json as jsonlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from codechunk.app import App
from codechunk.chunks import Chunk, chunk_ids
from codechunk.cli.terminal import shown
from codechunk.config import Loaded
from codechunk.errors import UsageError
from codechunk.parsing import ChunkPool, ParseTask
from codechunk.skip import SkipRules, decode


def run(loaded: Loaded, *, paths: Sequence[Path], json: bool) -> None:
    """Cut the files and print their chunks in order of path.

    Raises:
        UsageError: for a path that does not exist.
    """
    for path in paths:
        if not path.exists():
            raise UsageError(f"There is no file or folder {path}.")
    settings = App(loaded).cut_settings(jobs=1)
    git = loaded.config.git
    rules = SkipRules.build(
        skip_generated=git.skip_generated, skip_vendored=git.skip_vendored, max_file_size=git.max_file_size
    )
    console = Console(soft_wrap=True, highlight=False)
    failed = 0
    with ChunkPool(
        jobs=1,
        settings=settings.chunking,
        token_mode="all",
        sample_percent=100,
        seed="",
    ) as pool:
        for file in _files(paths):
            data = file.read_bytes()
            decoded = decode(data)
            reason = rules.by_content(str(file), data)
            if decoded is None or reason is not None:
                print(f"{shown(str(file))}: skipped, {reason or 'undecodable'}", file=sys.stderr)
                continue
            task = ParseTask(key=0, path=str(file), data=data, language=None, encoding=decoded[0])
            for result in pool.run([task]):
                if result.error:
                    failed += 1
                    print(f"{shown(str(file))}: failed, {result.error}", file=sys.stderr)
                for chunk, chunk_id in zip(result.chunks, chunk_ids("", result.chunks), strict=True):
                    if json:
                        sys.stdout.write(jsonlib.dumps(_document(chunk, chunk_id), ensure_ascii=False) + "\n")
                    else:
                        _show(console, chunk)


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Files, and the files below folders in order; links and repositories' own folders are not followed."""
    for path in paths:
        if path.is_file():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if name != ".git")
            for name in sorted(names):
                file = Path(folder, name)
                if file.is_file() and not file.is_symlink():
                    yield file


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
