"""Workflow: local files are cut as `index` would cut them. No database, no network."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from codechunk.config.settings import Config
from codechunk.documents import ChunkLine
from codechunk.errors import NotFound
from codechunk.pool.pool import ChunkPool, ParseTask
from codechunk.selection.skip import SkipReason, SkipRules, decode
from codechunk.text.chunks import Chunk, chunk_ids
from codechunk.text.sampling import SEED
from codechunk.workspace.commit_rules import cut_settings

# A file that is named is cut whatever its configured limit, up to this.
NAMED_FILE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """What became of one file: its chunks, or why there are none (`skipped` or `failed`)."""

    path: str
    chunks: Sequence[Chunk] = ()
    skipped: str | None = None
    failed: str | None = None

    def lines(self) -> list[ChunkLine]:
        """Its chunks as documents, in order."""
        return [
            ChunkLine(
                path=chunk.path,
                language=chunk.language,
                kind=str(chunk.kind),
                symbol=chunk.symbol,
                start_line=chunk.start_line,
                end_line=chunk.end_line,
                start_byte=chunk.start_byte,
                end_byte=chunk.end_byte,
                tokens=chunk.tokens,
                text=chunk.text,
                embedding_text=chunk.embedding_text,
                chunk_id=chunk_id,
            )
            for chunk, chunk_id in zip(self.chunks, chunk_ids("", self.chunks), strict=True)
        ]


def cut_local_files(config: Config, paths: Sequence[Path]) -> Iterator[LocalFile]:
    """Cut files, and those below folders, one by one in order of path.

    Raises:
        UsageError: at once, for a path that is no file and no folder.
    """
    for path in paths:
        if not path.is_file() and not path.is_dir():
            raise NotFound(f"There is no file or folder {path}.")
    return _cut(config, paths)


def _cut(config: Config, paths: Sequence[Path]) -> Iterator[LocalFile]:
    settings = cut_settings(config, jobs=1, attributes={})
    left_out: list[LocalFile] = []
    with ChunkPool(jobs=1, settings=settings.chunking, token_mode="all", sample_percent=100, seed=SEED) as pool:
        for result in pool.run(_tasks(config, paths, left_out)):
            yield from _taken(left_out)
            yield LocalFile(path=result.path, chunks=result.chunks, failed=result.error or None)
        yield from _taken(left_out)


def _taken(files: list[LocalFile]) -> list[LocalFile]:
    """The files that were left out since the last time."""
    found = files[:]
    files.clear()
    return found


def _tasks(config: Config, paths: Sequence[Path], left_out: list[LocalFile]) -> Iterator[ParseTask]:
    """A task for each readable file; one child cuts them in this order. What is skipped goes to `left_out`."""
    git = config.git
    in_folders = SkipRules.build(skip_generated=git.skip_generated, max_file_size=git.max_file_size)
    by_name = SkipRules.build(skip_generated=False, max_file_size=NAMED_FILE_BYTES)
    for number, (file, named) in enumerate(_files(paths)):
        rules = by_name if named else in_folders
        limit = NAMED_FILE_BYTES if named else git.max_file_size
        if file.stat().st_size > limit:
            left_out.append(LocalFile(path=str(file), skipped=str(SkipReason.TOO_LARGE)))
            continue
        data = file.read_bytes()
        decoded = decode(data)
        reason = rules.by_content(str(file), data)
        if decoded is None or reason is not None:
            left_out.append(LocalFile(path=str(file), skipped=str(reason or SkipReason.UNDECODABLE)))
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
