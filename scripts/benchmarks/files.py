"""Real files for the benchmarks of chunkers: found once, packed into one blob that every measured process reads."""

import hashlib
import json
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import grammars
from codechunk.chunking import detect_language
from codechunk.chunking.languages import NEVER_PARSED
from codechunk.git.address import parse_source
from codechunk.git.repository import open_repository

MOST_BYTES = 1024 * 1024
_PROBED_BYTES = 8000


@dataclass(frozen=True, slots=True)
class Entry:
    """One packed file: `[offset, offset + size)` of the blob."""

    path: str
    language: str
    offset: int
    size: int


class Pack:
    """A folder with `blob` and `entries.json`. Files are read anew at every use, so that they cost no memory."""

    def __init__(self, folder: Path) -> None:
        """Open what `pack_files` made."""
        self.entries = [Entry(*row) for row in json.loads((folder / "entries.json").read_text())]
        self._blob = os.open(folder / "blob", os.O_RDONLY)

    def data(self, entry: Entry) -> bytes:
        """The bytes of one file."""
        return os.pread(self._blob, entry.size, entry.offset)


def pack_files(
    folders: list[Path], target: Path, *, most_files: int | None, most_bytes: int | None, only_parsed: bool
) -> Pack:
    """Pack the text files of `folders` (plain, or git repositories, whose HEAD is read), each content once.

    most_files, most_bytes: draw at random, with a fixed seed, until there are so many. only_parsed: leave out files
    without a grammar.
    """
    candidates: list[Path | tuple[str, bytes]] = []
    for folder in folders:
        candidates += _committed(folder) if _is_git(folder) else _names(folder)
    if most_files is not None or most_bytes is not None:
        random.Random(4).shuffle(candidates)
    seen: set[bytes] = set()
    entries: list[tuple[str, str, int, int]] = []
    offset = 0
    with (target / "blob").open("wb") as blob:
        for candidate in candidates:
            if len(entries) == most_files or (most_bytes is not None and offset >= most_bytes):
                break
            file = candidate if isinstance(candidate, tuple) else _read(candidate)
            if file is None or not _is_wanted(file[1], seen):
                continue
            path, data = file
            language = detect_language(path, data)
            if only_parsed and not _is_parsed(language):
                continue
            blob.write(data)
            entries.append((path, language, offset, len(data)))
            offset += len(data)
    (target / "entries.json").write_text(json.dumps(entries))
    return Pack(target)


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of the files of a folder, or of a git repository's HEAD."""
    if _is_git(folder):
        yield from _committed(folder)
        return
    for path in _names(folder):
        file = _read(path)
        if file is not None:
            yield file


def _is_parsed(language: str) -> bool:
    return language in grammars() and language != "markdown" and language not in NEVER_PARSED


def _is_wanted(data: bytes, seen: set[bytes]) -> bool:
    if not data or len(data) > MOST_BYTES or b"\0" in data[:_PROBED_BYTES]:
        return False
    digest = hashlib.sha256(data).digest()
    if digest in seen:
        return False
    seen.add(digest)
    return True


def _names(folder: Path) -> list[Path]:
    found = []
    for where, folders, files in os.walk(folder):
        folders.sort()
        found += [Path(where, name) for name in sorted(files)]
    return found


def _read(path: Path) -> tuple[str, bytes] | None:
    """None for what is no plain file, is too large, or may not be read."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_BYTES:
            return None
        return os.fsencode(path).decode("utf-8", "replace"), path.read_bytes()
    except OSError:
        return None


def _is_git(folder: Path) -> bool:
    return (folder / "HEAD").is_file() or (folder / ".git").exists()


def _committed(folder: Path) -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as unused:  # mirrors are for repositories elsewhere
        opened = open_repository(parse_source(str(folder)), ref=None, mirrors=Path(unused))
    entries = [
        entry
        for entry in opened.repository.list_tree(opened.commit)
        if entry.mode.startswith("100") and entry.size is not None
    ]
    contents = opened.repository.blobs(entry.blob for entry in entries)
    name = "/".join(folder.parts[-2:])
    for entry, (_, data) in zip(entries, contents, strict=True):
        yield f"{name}/{entry.path}", data
