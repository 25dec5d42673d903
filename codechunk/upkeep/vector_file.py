"""Workflow: the vectors of the state database to a file that travels, and back."""

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from codechunk.documents import CacheExported, CacheImported, CacheSpace
from codechunk.errors import CodechunkError, UsageError
from codechunk.progress import Reporter
from codechunk.state import Space, State
from codechunk.state.vector_rows import Record, Section
from codechunk.upkeep.vector_file_format import CacheReader, is_cache, write
from codechunk.workspace.references import published

REPORTED_EVERY = 1000


def export_cache(state: State, path: Path, *, repository: str | None, reporter: Reporter) -> CacheExported:
    """Write all vectors to the file `path`, mode 0600, and return the document of `cache export --json`.

    A cache file that is there is replaced, all at once; after an error, a kill or Ctrl-C it is as it was.

    Args:
        repository: NAME, NAME@REF, URL or path: only what its published indexes use.

    Raises:
        UsageError: nothing is indexed under that name, or `path` is there and is no cache file.
        CodechunkError: the file cannot be written.
    """
    started = time.monotonic()
    target = Path(os.path.realpath(path))  # through a link, not in its place
    used_by = None if repository is None else published(state, repository)
    with _told(f"{path} cannot be written"):
        _refuse_to_replace(target, path)
        with state.cache.content(used_by) as content, _replacing(target) as file:
            total = sum(section.vectors for section in content.sections)
            reporter.stage("Exporting", total, "vectors")
            write(file, content.sections, _counted(content.records, reporter))
            reporter.reach(total, total=total)
        size = target.stat().st_size
    return CacheExported(**_figures(path, size, content.sections, started))


def import_cache(path: Path, *, open_state: Callable[[], State], reporter: Reporter) -> CacheImported:
    """Take in the vectors of the file `path` and return the document of `cache import --json`.

    1. The file is read to its end and every record checked. What is wrong with it is told here, and then nothing, not
       even the database, has been touched.
    2. It is read again, and each block is one transaction. Killed here, the same command goes on.

    Raises:
        CodechunkError: there is no such file, or it is damaged, newer than this program, or no cache file at all.
    """
    started = time.monotonic()
    with _opened(path) as file:
        reader = _checked(file, path, reporter)
        total = sum(section.vectors for section in reader.sections)
        reporter.stage("Importing", total, "vectors")
        new = 0
        state = open_state()
        rows = {section: state.catalog.space_id(_space(section)) for section in reader.sections}
        for block in reader.blocks():
            new += state.cache.add(rows[block.section], block.records)
            reporter.advance(len(block.records))
    return CacheImported(**_figures(path, reader.size_bytes, reader.sections, started), new=new, known=total - new)


def _refuse_to_replace(target: Path, path: Path) -> None:
    """Refuse to replace a file that is not a cache file: it was not written here. An empty one may be replaced."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode):
        with target.open("rb") as file:
            if target.stat().st_size == 0 or is_cache(file):
                return
    raise UsageError(f"{path} is there already and is not a cache file of codechunk; name another file, or remove it.")


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A new file beside `target` that takes its place, on the disk to stay, when the block ends well."""
    temporary = target.with_name(f".codechunk-{secrets.token_hex(8)}.part")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The file for reading; a pipe, which can be read only once, and would be waited for, is refused."""
    with _told(f"{path} cannot be read"):
        if not stat.S_ISREG(path.stat().st_mode):
            raise CodechunkError(
                f"{path} is not a regular file: no cache file of codechunk. Nothing was imported.", kind="usage"
            )
        file = path.open("rb")
    with file:
        yield file


def _checked(file: BinaryIO, path: Path, reporter: Reporter) -> CacheReader:
    """The file's reader, after everything in it was found right."""
    with _told(f"{path} cannot be read"):
        reader = CacheReader(file, str(path))
        reporter.stage("Checking", sum(section.vectors for section in reader.sections), "vectors")
        for block in reader.blocks():
            reporter.advance(len(block.records))
    return reader


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Errors of the file system, in a sentence."""
    try:
        yield
    except OSError as exc:
        fix = "; free some space and run the same command again" if exc.errno in {errno.ENOSPC, errno.EDQUOT} else ""
        raise CodechunkError(
            f"{what}: {exc.strerror or exc}{fix}.", kind="not_found" if isinstance(exc, FileNotFoundError) else None
        ) from exc


def _counted(records: Iterable[Record], reporter: Reporter) -> Iterator[Record]:
    for number, record in enumerate(records, 1):
        yield record
        if number % REPORTED_EVERY == 0:
            reporter.advance(REPORTED_EVERY)


def _space(section: Section) -> Space:
    return Space(
        provider=section.provider,
        model=section.model,
        dimensions=section.dimensions,
        task=section.task,
        header_version=section.header_version,
    )


def _figures(path: Path, size_bytes: int, sections: Sequence[Section], started: float) -> dict[str, Any]:
    """What both documents say of the file."""
    return {
        "file": str(path),
        "bytes": size_bytes,
        "vectors": sum(section.vectors for section in sections),
        "spaces": [
            CacheSpace(
                provider=section.provider,
                model=section.model,
                dimensions=section.dimensions,
                vectors=section.vectors,
            )
            for section in sections
        ],
        "seconds": round(time.monotonic() - started, 3),
    }
