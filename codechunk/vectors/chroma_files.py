"""Guards of the directory that embedded Chroma works in: who owns it, and whether its files are whole.

The back of `vectors`: knows Chroma's files, not its API.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import sqlite3
import stat
import struct
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from codechunk.errors import IndexBusy, VectorStoreError
from codechunk.process.locks import ANOTHER_PROCESS, FileLock
from codechunk.process.whereabouts import Whereabouts

_READERS_GRACE_S = 2.0
# Readers who look whether there is a writer hold its lock for an instant, in which nobody can become one.
_LOOKS_GRACE_S = 0.1


class DirectoryLock:
    """Who uses the embedded directory: one writer, or any number of readers.

    Two lock files beside it, so that the directory itself can be thrown away. `.owner` is held by the writer
    for as long as it lives and names it, so a second writer fails at once. `.lock` is held shared by readers,
    who are brief, and alone by the writer, who waits a little for them. Nobody begins to read while a writer waits.
    """

    def __init__(self, directory: Path, *, write: bool) -> None:
        self.directory = directory
        owner = FileLock(_owner_file(directory))
        users = FileLock(directory.with_name(directory.name + ".lock"), shared=not write)
        self._locks = [users, owner]
        try:
            if write:
                self._take(owner, _LOOKS_GRACE_S, owner.path)
                owner.write(f"pid {os.getpid()}, `{_command()}`")
            elif has_writer(directory):
                raise IndexBusy(self._busy(owner.path, owner.holder()))
            self._take(users, _READERS_GRACE_S if write else 0.0, None if write else owner.path)
        except BaseException:
            self.release()
            raise

    def _take(self, lock: FileLock, wait_s: float, owner: Path | None) -> None:
        try:
            taken = lock.take(wait_s=wait_s)
        except OSError as exc:
            raise VectorStoreError(
                f"The vector index in {self.directory} cannot be locked ({exc}); keep it on a local disk."
            ) from exc
        if not taken:
            raise IndexBusy(self._busy(owner, lock.holder()))

    def _busy(self, owner: Path | None, holder: str) -> str:
        advice = "wait for it, or use a Chroma server (vectors.url)"
        if owner is None:
            holder = "other codechunk processes" if holder == ANOTHER_PROCESS else holder
            return f"The vector index in {self.directory} is being read by {holder}; {advice}."
        who = ""
        if holder == ANOTHER_PROCESS:
            with contextlib.suppress(OSError):
                who = owner.read_text(encoding="utf-8", errors="replace")
            who = f" ({who})" if who else ""
        return f"The vector index in {self.directory} is used by {holder}{who}; {advice}."

    def release(self) -> None:
        """Let others in."""
        for lock in self._locks:
            lock.release()


def _owner_file(directory: Path) -> Path:
    return directory.with_name(directory.name + ".owner")


def has_writer(directory: Path) -> bool:
    """Whether somebody writes in the directory, or waits for its readers to do so."""
    owner = FileLock(_owner_file(directory), shared=True)
    try:
        if not owner.path.exists():
            return False
        free = owner.take()
    except OSError:  # who opens the directory is told of it
        return False
    owner.release()
    return not free


def identity_beside(directory: Path, *, alone: bool = False) -> str:
    """A random name that the directory keeps for ever, in the file `.id` beside it; made by whoever asks first.

    Raises:
        VectorStoreError: the file cannot be read or made, or holds no name; with `alone` also when it is that of
            another directory, of which this one is a copy. `renew_identity` makes such a name anew.
    """
    file = _identity_file(directory)
    try:
        if not file.exists():
            directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make_identity(file)
        name, place = _named(file)
        copied = alone and place is not None and not place.may_be(Whereabouts.of(file.parent))
    except OSError as exc:
        raise VectorStoreError(f"The name of the vector index in {file} cannot be read or made: {exc}") from exc
    again = "the next search or run of index makes it anew, and rebuilds the vector index from the state database."
    if name is None:
        raise VectorStoreError(f"{file} does not hold the name of a vector index; {again}", kind="damaged")
    if copied and place is not None:
        raise VectorStoreError(
            f"{file} came with a copy of {place.path}, whose vector index it names; {again}", kind="damaged"
        )
    return f"directory {name}"


def renew_identity(directory: Path, *, alone: bool = False) -> None:
    """Give the directory another name when its file holds none, or with `alone` when that is another directory's.

    The caller has the lock to write. For the state database it is another store then, one that holds nothing yet. A
    directory that was moved keeps its name, and the file says where it is now.
    """
    file = _identity_file(directory)
    try:
        if not file.exists():
            return
        (name, place), here = _named(file), Whereabouts.of(file.parent)
        if name is not None and place is not None and (place == here or not (alone or place.may_be(here))):
            return
        copied = place is not None and not place.may_be(here)
        with _named_draft(file, None if copied else name) as draft:
            draft.replace(file)
        _save_folder(file.parent)
    except OSError as exc:
        raise VectorStoreError(f"The name of the vector index in {file} cannot be made anew: {exc}") from exc


def _named(file: Path) -> tuple[str | None, Whereabouts | None]:
    """The name in the file and the folder for which it was made; None for what is not there."""
    name, _, place = file.read_bytes().strip().partition(b"\n")
    good = re.fullmatch(rb"[0-9a-f]{32}", name)
    return (name.decode("ascii") if good else None), Whereabouts.read(place.decode(errors="replace"))


def _identity_file(directory: Path) -> Path:
    return directory.with_name(directory.name + ".id")


def _make_identity(file: Path) -> None:
    """The file appears whole or not at all, where the file system has links. If somebody else is faster, theirs
    counts."""
    with _named_draft(file) as draft, contextlib.suppress(FileExistsError):
        try:
            os.link(draft, file)
        except FileExistsError:
            raise
        except OSError:  # a file system without links, such as FAT or some network disks
            _write_new(file, draft.read_bytes())
    _save_folder(file.parent)


@contextlib.contextmanager
def _named_draft(file: Path, name: str | None = None) -> Iterator[Path]:
    """A file beside it with a name in it, a new one for None, which is gone afterwards unless it was moved."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.{uuid.uuid4().hex}")
    try:
        _write_new(draft, f"{name or uuid.uuid4().hex}\n{Whereabouts.of(file.parent).text}\n".encode())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _write_new(file: Path, content: bytes) -> None:
    """Make the file, mode 0600, safe on the disk; FileExistsError when there is one."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as made:  # noqa: PTH123 - of a descriptor, for its mode
        made.write(content)
        made.flush()
        os.fsync(descriptor)


def _save_folder(folder: Path) -> None:
    """Make safe on the disk which files the folder has. Some file systems cannot do it; they do without."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        if exc.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


def look_of(directory: Path) -> str | None:
    """Names, sizes and times of the files below the directory, as a hash; None when it is none."""
    if not directory.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        try:
            status = path.stat()
        except FileNotFoundError:  # a journal that a writer has just removed
            continue
        if stat.S_ISREG(status.st_mode) and not path.name.endswith(("-journal", "-wal", "-shm")):
            digest.update(f"{path.relative_to(directory)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _command() -> str:
    """This process's command line for other people's eyes: short, and without the user:password of a URL."""
    return re.sub(r"://[^/@\s]*@", "://", " ".join(sys.argv[1:]))[:80]


def saved_segments(directory: Path) -> dict[str, str]:
    """Collection name -> the folder its vectors were saved in, for collections that have saved any yet."""
    select = (
        "SELECT c.name, s.id FROM collections c JOIN segments s ON s.collection = c.id "
        "JOIN max_seq_id m ON m.segment_id = s.id WHERE s.scope = 'VECTOR'"
    )
    database = (directory / "chroma.sqlite3").absolute().as_uri() + "?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(database, uri=True)) as db:
            return dict(db.execute(select))
    except sqlite3.OperationalError:
        return {}  # no database yet, or the tables of another Chroma: nothing known against them
    except sqlite3.DatabaseError as exc:
        raise VectorStoreError(f"The vector index in {directory} cannot be opened: {exc}", kind="damaged") from exc


def damage(segment: Path) -> str | None:
    """What is wrong with the files of a collection's vectors, or None; looked at before Chroma reads them.

    Chroma reads past the end of files that are too short and kills the process (segmentation fault, 1.5.9),
    and says nothing at all when the directory of the vectors is gone.
    """
    try:
        return _cut_short(segment)
    except OSError as exc:
        return f"a file of its vectors is missing ({exc.strerror}: {Path(exc.filename).name})"


def _cut_short(segment: Path) -> str | None:
    """Compare the sizes of the HNSW files with what their header promises; format 1 of Chroma's hnswlib."""
    header = (segment / "header.bin").read_bytes()
    if len(header) < 4 or struct.unpack_from("<i", header)[0] == 1:
        if len(header) != 100:
            return "header.bin is cut short"
        _, _, elements, element_bytes = struct.unpack_from("<4Q", header, 4)
        least = {"data_level0.bin": elements * element_bytes, "length.bin": elements * 4}
        for file, size in least.items():
            if (segment / file).stat().st_size < size:
                return f"{file} is cut short"
        links = (segment / "link_lists.bin").read_bytes()
        # A length in bytes and as many bytes of links for each element; both are whole 32-bit words.
        words = memoryview(links[: len(links) // 4 * 4]).cast("I")
        at, end = 0, len(words)
        for _ in range(elements):
            if at >= end:
                return "link_lists.bin is cut short"
            at += 1 + words[at] // 4
        if at > end:
            return "link_lists.bin is cut short"
    return None


_NOT_DAMAGE = {5, 6, 8, 10, 13, 14, 23}
"""SQLite's codes for busy, locked, read-only, I/O error, full, cannot open, not allowed."""


def is_damage(error: VectorStoreError) -> bool:
    """Whether emptying the directory could help; a full disk or a missing permission would only come back."""
    cause = error.__cause__
    if isinstance(cause, OSError):
        return False
    code = re.search(r"\(code: (\d+)\)", str(cause))
    return code is None or int(code[1]) & 0xFF not in _NOT_DAMAGE


def remove_files(directory: Path) -> None:
    """Remove what Chroma made: its database and the folders of its segments. Anything else stays."""
    try:
        for entry in directory.iterdir():
            if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", entry.name):
                shutil.rmtree(entry)
            elif entry.name.startswith("chroma.sqlite3"):
                entry.unlink()
    except OSError as exc:
        raise VectorStoreError(f"The damaged vector index in {directory} cannot be removed: {exc}") from exc
