"""The files of a work tree as they are on disk: uncommitted changes and untracked files, read like a commit.

The back of git.py. git is asked only what it tracks and what it ignores. Files are read and hashed here: `git add`,
`git status` and `git diff` would run the filters that a repository's own configuration names. What a filter stands
in front of (Git LFS, git-crypt) is therefore taken as it is committed, and left out when it never was: on disk it may
be a secret in the clear.
"""

import hashlib
import os
import stat
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO

from codechunk.errors import GitError, UsageError
from codechunk.git.address import Source
from codechunk.git.process import GitRunner
from codechunk.git.repository import MAX_ENTRIES, OpenedRepository, Repository, TreeEntry, local_repository, shown_path
from codechunk.process.stop import Stop
from codechunk.selection.skip import FILTERED

# What the index of a work tree is called where others have a branch. Not a valid name of one (git forbids the tilde).
WORKING_TREE_REF = "~working-tree"
# Contents that differ from what is committed are copied when they are found, so that what is hashed is what is read
# although an editor may write meanwhile. They are small: beyond this many bytes they go to a temporary file.
_IN_MEMORY_BYTES = 32 << 20
_BLOBS_AT_ONCE = 100
# Less than a pipe holds: git answers while it is asked, and neither side may wait for the other.
_ASKED_BYTES = 8 << 10
# Filters that only leave things out; what they leave out of notebooks is not indexed anyway.
_HARMLESS = {b"nbstripout"}
_REGULAR, _SYMLINK, _SUBMODULE = "100644", "120000", "160000"
_FILE = "100"  # regular, executable or not
_NO_COMMIT = "0" * 40


@dataclass(frozen=True, slots=True)
class _Tracked:
    """A line of git's index. `absent`: it is not on disk on purpose (a sparse checkout)."""

    path: bytes
    mode: str
    blob: str
    absent: bool


class WorkingTree(Repository):
    """What is on disk, behind the same questions as a commit; `commit` arguments are not looked at."""

    def __init__(self, git_dir: Path, runner: GitRunner, *, root: Path, max_file_bytes: int) -> None:
        """Look at every file once; what is found then is what `list_tree` and `blobs` give.

        Raises:
            GitError: git or the disk cannot be read.
        """
        super().__init__(git_dir, runner)
        self._root, self._max_bytes = root, max_file_bytes
        self._real_root = root.resolve()
        self._copies: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - kept
        weakref.finalize(self, self._copies.close)
        self._copied: dict[str, tuple[int, int]] = {}
        self._is_inside = cache(self._inside)
        self._hash = _object_format(runner, git_dir)
        self._runner = replace(runner, cwd=root, options=(f"--git-dir={git_dir}", f"--work-tree={root}"))
        self.as_committed = 0
        """Files that differ on disk and are taken as they are committed: git changes them on the way to the disk."""
        self._entries = sorted(self._look(), key=lambda entry: os.fsencode(entry.path))

    def list_tree(self, commit: str = "", *, limit: int = MAX_ENTRIES) -> Iterator[TreeEntry]:  # noqa: ARG002
        """Every file, symbolic link and submodule, in git's order. GitError when there are more than `limit`."""
        if len(self._entries) > limit:
            raise GitError(f"{self._root} has more than {limit:,} files; refused.")
        yield from self._entries

    def named(self, commit: str, name: str) -> Iterator[TreeEntry]:  # noqa: ARG002
        """The entries with this file name, in any folder."""
        return (entry for entry in self._entries if entry.path.rpartition("/")[2] == name)

    def blobs(self, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """(id, content) for each id, in their order: from the copies where the file differs, else from git."""
        pending = iter(ids)
        while some := list(islice(pending, _BLOBS_AT_ONCE)):
            committed = super().blobs(blob for blob in some if blob not in self._copied)
            for blob in some:
                yield (blob, self._copy(blob)) if blob in self._copied else next(committed)

    def read_path(self, commit: str, path: str, *, max_bytes: int) -> bytes | None:  # noqa: ARG002
        """The content of one regular file, None when there is none. GitError when it is larger than `max_bytes`."""
        for entry in self._entries:
            if entry.path == path and entry.mode.startswith(_FILE):
                if (entry.size or 0) > max_bytes:
                    raise GitError(f"{path} in {self._root} is larger than {max_bytes:,} bytes.")
                return next(self.blobs([entry.blob]))[1]
        return None

    def identity(self) -> str:
        """What stands for a commit: HEAD's id, with a hash of the files behind it when they differ from HEAD's."""
        done = self._runner.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        head = done.stdout.decode().strip() or _NO_COMMIT
        committed = _digest(super().list_tree(head)) if done.status == 0 else ""
        here = _digest(self._entries)
        return head if here == committed else f"{head}+{here[:12]}"

    # ------------------------------------------------------------------ what is there

    def _look(self) -> Iterator[TreeEntry]:
        changed: list[tuple[_Tracked, TreeEntry]] = []
        for tracked in self._tracked():
            entry = self._entry(tracked.path, tracked)
            if entry is None:
                continue
            if entry.blob == tracked.blob or entry.mode == _SYMLINK:
                yield entry
            else:
                changed.append((tracked, entry))
        untracked = [entry for path in self._untracked() if (entry := self._entry(path, None)) is not None]
        filtered, converted = self._changed_by_git([entry for _, entry in changed] + untracked)
        for tracked, entry in changed:
            as_committed = entry.path in filtered or entry.path in converted
            self.as_committed += as_committed
            yield replace(entry, blob=tracked.blob) if as_committed else entry
        for entry in untracked:
            yield replace(entry, mode=FILTERED) if entry.path in filtered else entry

    def _tracked(self) -> Iterator[_Tracked]:
        """git's index; of a conflict one of its sides."""
        seen: set[bytes] = set()
        for record in self._asked("ls-files", "-z", "-t", "--stage"):
            head, _, path = record.partition(b"\t")  # "H 100644 <blob> 0\t<path>"
            tag, mode, blob, _ = head.split()
            if path not in seen:
                seen.add(path)
                yield _Tracked(path, mode.decode(), blob.decode(), absent=tag == b"S")

    def _untracked(self) -> Iterator[bytes]:
        ignored = _excludes_file(self._runner)
        options = () if ignored is None else ("-c", f"core.excludesFile={ignored}")
        runner = replace(self._runner, options=(*options, *self._runner.options))
        return _records(runner, "ls-files", "-z", "--others", "--exclude-standard")

    def _asked(self, *arguments: str) -> Iterator[bytes]:
        return _records(self._runner, *arguments)

    def _changed_by_git(self, entries: Iterable[TreeEntry]) -> tuple[set[str], set[str]]:
        """Paths whose content git changes on its way to the disk: by a filter, and by ident or another encoding."""
        # A path that is not valid UTF-8 is skipped anyway, and is not here as it is on disk.
        asked_for = (entry.path for entry in entries if entry.mode != _SUBMODULE and entry.valid_path)
        names = deque(os.fsencode(path) + b"\0" for path in asked_for)
        filtered: set[str] = set()
        converted: set[str] = set()
        while names:
            asked = names.popleft()
            while names and len(asked) + len(names[0]) < _ASKED_BYTES:
                asked += names.popleft()
            done = self._runner.run(
                "check-attr", "-z", "--stdin", "filter", "ident", "working-tree-encoding", stdin=asked
            )
            if done.status != 0:
                raise self._runner.error(done.status, done.stderr)
            fields = done.stdout.split(b"\0")  # path, attribute, value, and again
            for path, name, value in zip(fields[0::3], fields[1::3], fields[2::3], strict=False):
                if value in (b"unspecified", b"unset") or (name == b"filter" and value in _HARMLESS):
                    continue
                (filtered if name == b"filter" else converted).add(os.fsdecode(path))
        return filtered, converted

    def _entry(self, name: bytes, tracked: _Tracked | None) -> TreeEntry | None:
        """What is at a path, None when nothing that git could commit is there."""
        path, valid = shown_path(name)
        if tracked is not None and (tracked.absent or tracked.mode == _SUBMODULE):
            return TreeEntry(path=path, mode=tracked.mode, blob=tracked.blob, size=None, valid_path=valid)
        if name.endswith(b"/"):  # a repository of its own inside this one
            return TreeEntry(path=path.rstrip("/"), mode=_SUBMODULE, blob=_NO_COMMIT, size=None, valid_path=valid)
        full = self._root / os.fsdecode(name)
        if not self._is_inside(full.parent):
            return None
        try:
            status = full.lstat()
            if stat.S_ISLNK(status.st_mode):
                target = os.fsencode(full.readlink())
                return TreeEntry(path=path, mode=_SYMLINK, blob=self._id(target), size=len(target), valid_path=valid)
            if not stat.S_ISREG(status.st_mode):
                return None
            # Not the disk's executable bit: it changes nothing that is indexed, and some file systems have none.
            mode = tracked.mode if tracked is not None and tracked.mode != _SYMLINK else _REGULAR
            blob = self._blob(full, status, tracked)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise GitError(f"{path} in {self._root} cannot be read: {exc.strerror}.") from exc
        return TreeEntry(path=path, mode=mode, blob=blob, size=status.st_size, valid_path=valid)

    def _inside(self, folder: Path) -> bool:
        """Whether a folder is where its path says: a tracked folder may have become a link to anywhere."""
        return folder.resolve() == self._real_root / folder.relative_to(self._root)

    def _blob(self, full: Path, status: os.stat_result, tracked: _Tracked | None) -> str:
        """The blob id of a file's content; a content that git does not have is copied."""
        if status.st_size > self._max_bytes:  # not indexed, and so not read: its size tells whether it changed
            if tracked is not None and self._size(tracked.blob) == status.st_size:
                return tracked.blob
            return self._id(b"too large: %d bytes in %s" % (status.st_size, bytes(full)))
        descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(self._max_bytes + 1)
        blob = self._id(data)
        if tracked is not None and blob != tracked.blob and b"\r\n" in data:
            # Line ends that git changed on the way to the disk (core.autocrlf, eol=crlf) are changed back, as `git add`
            # would: or one edited line would be a whole file of new texts.
            plain = data.replace(b"\r\n", b"\n")
            ((_, committed),) = super().blobs([tracked.blob])
            if self._id(plain) == tracked.blob or b"\r" not in committed:
                data, blob = plain, self._id(plain)
        if blob not in self._copied and (tracked is None or blob != tracked.blob):
            self._copied[blob] = self._copies.seek(0, os.SEEK_END), len(data)
            self._copies.write(data)
        return blob

    def _size(self, blob: str) -> int | None:
        done = self._runner.run("cat-file", "-s", blob)
        return int(done.stdout) if done.status == 0 else None

    def _id(self, data: bytes) -> str:
        digest = hashlib.new(self._hash, b"blob %d\0" % len(data), usedforsecurity=False)
        digest.update(data)
        return digest.hexdigest()

    def _copy(self, blob: str) -> bytes:
        start, size = self._copied[blob]
        self._copies.seek(start)
        return self._copies.read(size)


def open_working_tree(
    source: Source,
    *,
    max_file_bytes: int,
    timeout_s: float = 600,
    say: Callable[[str], None] = lambda _: None,
    stop: Stop | None = None,
) -> OpenedRepository:
    """The work tree of a local repository as it is on disk; `say` gets a sentence about what is not.

    Raises:
        UsageError: the source has none: it is a URL, or a bare repository.
        GitError: git or the disk cannot be read.
    """
    if source.kind != "local":
        raise UsageError(f"--working-tree needs the path of a local repository; {source.url} is a URL.")
    git_dir, runner = local_repository(source, timeout_s, stop or Stop())
    root = Path(source.url)
    if not (root / ".git").exists():
        raise UsageError(f"--working-tree needs a work tree; {source.url} is a bare repository.")
    tree = WorkingTree(git_dir, runner, root=root, max_file_bytes=max_file_bytes)
    if tree.as_committed:
        files = "1 changed file is" if tree.as_committed == 1 else f"{tree.as_committed:,} changed files are"
        say(
            f"{files} taken as committed: a git filter (Git LFS, git-crypt), ident or working-tree-encoding stands "
            f"between the repository and the disk."
        )
    return OpenedRepository(repository=tree, ref=WORKING_TREE_REF, commit=tree.identity())


def _excludes_file(runner: GitRunner) -> Path | None:
    """The user's own list of files that git ignores in all repositories; the one thing of theirs that is read."""
    home = os.environ.get("HOME")
    if not home:
        return None
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path(home, ".config"), "git")
    for config in (Path(home, ".gitconfig"), folder / "config"):  # the first wins, as in git
        env = {**runner.env, "HOME": home, "GIT_CONFIG_GLOBAL": str(config)}
        done = replace(runner, env=env).run("config", "--type=path", "--get", "core.excludesFile")
        if done.status == 0 and (named := os.fsdecode(done.stdout.rstrip(b"\n"))):
            return Path(named)
    return folder / "ignore"


def _object_format(runner: GitRunner, git_dir: Path) -> str:
    """The hash that ids are made with: sha1 or sha256."""
    done = replace(runner, options=(f"--git-dir={git_dir}",)).run("rev-parse", "--show-object-format")
    return done.stdout.decode().strip() or "sha1"


def _records(runner: GitRunner, *arguments: str) -> Iterator[bytes]:
    done = runner.run(*arguments)
    if done.status != 0:
        raise runner.error(done.status, done.stderr)
    return iter(done.stdout.split(b"\0")[:-1])


def _digest(entries: Iterable[TreeEntry]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.mode} {entry.blob} {entry.path}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
