"""Repositories through the git binary: mirrors of remote ones, trees, blobs.

Hides where a commit's objects come from (a bare shallow mirror, or a local repository read in place). It
never checks anything out, never uses GitPython's `Repo` or `clone_from`, and decides nothing about files.
"""

import base64
import contextlib
import hashlib
import logging
import os
import re
import resource
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urljoin

from codechunk.errors import GitError, UsageError
from codechunk.git.address import Source, parse_source
from codechunk.git.process import INHERITED_SSH, GitProcess, GitRunner, check_git, progress_reader
from codechunk.git.process import Progress as Progress
from codechunk.process.locks import FileLock
from codechunk.process.stop import Stop
from codechunk.slices import slices

__all__ = [
    "MAX_ENTRIES",
    "OpenedRepository",
    "Progress",
    "Repository",
    "Source",
    "TreeEntry",
    "check_git",
    "local_repository",
    "mirror_path",
    "open_repository",
    "parse_source",
]

log = logging.getLogger(__name__)

MIN_FREE_BYTES = 256 * 1024 * 1024
MAX_ENTRIES = 1_000_000
MAX_PATH_BYTES = 4096  # no file system holds a longer one; trees nested a million levels deep end here
LOCK_WAIT_S = 10.0
_READ_BYTES = 1 << 18
_PATHS_AT_ONCE = 200  # of up to MAX_PATH_BYTES each, as arguments of one command
# Never more unanswered requests on the way to cat-file than the smallest pipe holds (one page): writing
# cannot block, so neither side can wait for the other.
_AHEAD_BYTES = 4096
# check-ref-format's rules, and nothing that is more than a name (no `a..b`, `a:b`, `a^`, `@{1}`).
_REF = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]+(?<![/.])")
_COMMIT_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """One entry of a commit's tree.

    `size` in bytes, None for submodules and for blobs that are not in the repository. A path that is not
    valid UTF-8 is shown behind a slash with backslash escapes, and `valid_path` is False.
    """

    path: str
    mode: str
    blob: str
    size: int | None
    valid_path: bool


class Repository:
    """The objects of one git directory, read without a checkout."""

    def __init__(self, git_dir: Path, runner: GitRunner) -> None:
        """The git directory `git_dir`; made by `open_repository`."""
        self.git_dir = git_dir
        self._git = replace(runner, cwd=git_dir, options=(f"--git-dir={git_dir}",), timeout_s=None, deadline=None)

    def list_tree(self, commit: str, *, limit: int = MAX_ENTRIES) -> Iterator[TreeEntry]:
        """Every entry of the commit's tree, streamed, in git's order (by path bytes).

        GitError when there are more than `limit` entries, a path is longer than MAX_PATH_BYTES, or objects
        are missing.
        """
        records = self._records("ls-tree", "-r", "-z", "-l", "--full-tree", _checked_commit(commit))
        for count, record in enumerate(records, start=1):
            if count > limit:
                raise GitError(f"{self._git.where} has more than {limit:,} files in one commit; refused.")
            yield self._entry_of(record)

    def named(self, commit: str, name: str) -> Iterator[TreeEntry]:
        """The entries of the commit's tree with this file name, in any folder; a third of the time of `list_tree`."""
        end = b"/" + os.fsencode(name)
        # Without -l: it makes git look every blob up.
        records = self._records("ls-tree", "-r", "-z", "--name-only", "--full-tree", _checked_commit(commit))
        # Longer ones fit into no command, and `list_tree` refuses them.
        found = (path for path in records if (b"/" + path).endswith(end) and len(path) <= MAX_PATH_BYTES)
        paths = [os.fsdecode(path) for path in found]
        for some in slices(paths, _PATHS_AT_ONCE):
            for record in self._records("ls-tree", "-z", "-l", "--full-tree", commit, "--", *some):
                yield self._entry_of(record)

    def _entry_of(self, record: bytes) -> TreeEntry:
        """One line of `ls-tree -l -z`: "<mode> <type> <id> <size, right-aligned>\\t<path>"."""
        meta, _, name = record.partition(b"\t")
        mode, _, blob, size = meta.split()
        if len(name) > MAX_PATH_BYTES:
            raise GitError(f"{self._git.where} has a path of more than {MAX_PATH_BYTES} bytes; refused.")
        path, valid = shown_path(name)
        # "-" for a submodule, "BAD" for a blob that is not here (a partial clone).
        size_bytes = int(size) if size.isdigit() else None
        return TreeEntry(path=path, mode=mode.decode(), blob=blob.decode(), size=size_bytes, valid_path=valid)

    def blobs(self, ids: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """(id, content) for each id, in their order, from one `cat-file --batch` stream.

        `ids` is read at most about a hundred ahead, in the caller's thread; one blob is in memory at a time.
        GitError for an id that is no blob of this repository.
        """
        pending = iter(ids)
        waiting: deque[str] = deque()
        with self._git.start("cat-file", "--batch", stdin=True) as process:
            process.listen()
            room = _AHEAD_BYTES
            while True:
                room = self._ask(process, pending, waiting, room)
                if not waiting:
                    break
                blob = waiting.popleft()
                room += len(blob) + 1
                yield blob, self._read_blob(process, blob)
            process.stdin.close()
            process.wait()

    @staticmethod
    def _ask(process: GitProcess, ids: Iterator[str], waiting: deque[str], room: int) -> int:
        """Write as many further ids as fit into `room` bytes; the room that is left."""
        batch = []
        while room > 2 * 64 + 2:  # always space for the next id, whatever its length
            blob = next(ids, None)
            if blob is None:
                break
            batch.append(_checked_commit(blob))
            room -= len(blob) + 1
        if batch:
            waiting.extend(batch)
            with contextlib.suppress(BrokenPipeError):  # reading the answer tells why
                process.stdin.write(("\n".join(batch) + "\n").encode())
                process.stdin.flush()
        return room

    def _read_blob(self, process: GitProcess, blob: str) -> bytes:
        header = process.stdout.readline()
        words = header.split()
        if len(words) == 3 and words[1] == b"blob":
            size = int(words[2])
            data = process.stdout.read(size + 1)
            if len(data) == size + 1:
                return data[:-1]
        elif len(words) == 2 and words[1] == b"missing":
            raise GitError(
                f"An object ({blob}) is missing in {self._git.where}; if it is a partial clone, run "
                "'git fetch --refetch' there, or index its remote URL."
            )
        elif header.endswith(b"\n"):
            raise GitError(f"{blob} in {self._git.where} is not a file.")
        raise self._git.error(process.wait(), process.words())

    def read_path(self, commit: str, path: str, *, max_bytes: int) -> bytes | None:
        """The content of one regular file of the commit, None when there is none.

        GitError when it is larger than `max_bytes`.
        """
        if not path or "\0" in path:
            return None
        args = ("ls-tree", "-z", "-l", "--full-tree", _checked_commit(commit), "--", path)
        for record in self._records(*args):
            meta, _, name = record.partition(b"\t")
            mode, _, blob, size = meta.split()
            if name != path.encode("utf-8", "surrogateescape") or mode not in (b"100644", b"100755"):
                continue
            if not size.isdigit() or int(size) > max_bytes:
                raise GitError(f"{path} in {self._git.where} is larger than {max_bytes:,} bytes.")
            return next(self.blobs([blob.decode()]))[1]
        return None

    def _records(self, *arguments: str) -> Iterator[bytes]:
        """The NUL-terminated records of one git command, streamed; GitError when it fails."""
        with self._git.start(*arguments) as process:
            process.listen()
            rest = b""
            descriptor = process.stdout.fileno()
            while data := os.read(descriptor, _READ_BYTES):
                *records, rest = (rest + data).split(b"\0")
                yield from records
            if (status := process.wait()) != 0:
                raise self._git.error(status, process.words())


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRepository:
    """A repository and the commit that was asked for.

    `ref`: the branch or tag as typed; for HEAD the branch it points at; a full commit id when detached.
    """

    repository: Repository
    ref: str
    commit: str


def open_repository(
    source: Source,
    *,
    ref: str | None,
    mirrors: Path,
    token: str | None = None,
    timeout_s: float = 600,
    on_progress: Callable[[Progress], None] | None = None,
    min_free_bytes: int = MIN_FREE_BYTES,
    lock_wait_s: float = LOCK_WAIT_S,
    stop: Stop | None = None,
) -> OpenedRepository:
    """The commit `ref` (default: HEAD) of `source`, its objects at hand.

    A remote repository is fetched, one commit deep, into a bare mirror below `mirrors`; nothing is fetched
    when the mirror holds the wanted commit already. A local one is read in place. `timeout_s` bounds all of
    git's work here. Raises UsageError for a `ref` that is no name, GitError for all that can go wrong
    outside, Stopped when `stop` is asked; a failure or an interrupt leaves no half-made mirror.
    """
    check_git()
    if ref is not None and not _REF.fullmatch(ref):
        raise UsageError(f"--ref {ref!r} is not a valid name of a branch, tag or commit.")
    wanted = None if ref == "HEAD" else ref
    if source.kind == "local":
        return _open_local(source, wanted, timeout_s, stop or Stop())
    runner = _remote_runner(source, mirrors, token, timeout_s, stop or Stop())
    with _writing(mirrors):
        mirrors.mkdir(mode=0o700, parents=True, exist_ok=True)
    fetch = _Fetch(runner=runner, url=source.url, on_progress=on_progress, min_free_bytes=min_free_bytes)
    return _open_remote(source, wanted, mirrors, fetch, lock_wait_s)


def kept_repository(source: Source, mirrors: Path, *, timeout_s: float, stop: Stop) -> Repository:
    """The repository as it is on this disk: a local one, or the mirror of a remote one. Nothing is fetched.

    Raises GitError when it is not there any more.
    """
    if source.kind == "local":
        git_dir, runner = local_repository(source, timeout_s, stop)
    else:
        git_dir = mirror_path(source, mirrors)
        if not git_dir.is_dir():
            raise GitError(f"the mirror of {source.url} is not there any more; index it again to have it back.")
        runner = replace(_remote_runner(source, mirrors, None, timeout_s, stop), env={})
    return Repository(git_dir, replace(runner, options=(f"--git-dir={git_dir}",)))


def shown_path(name: bytes) -> tuple[str, bool]:
    """A path of a tree as text, and whether it is valid UTF-8; else it is escaped."""
    try:
        return name.decode(), True
    except UnicodeDecodeError:
        # No path of a tree begins with a slash, so what is shown is never the name of another file.
        escaped = name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
        return f"/{escaped}", False


def mirror_path(source: Source, mirrors: Path) -> Path:
    """Where the mirror of a remote source is kept: a readable name and a hash of the URL."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{source.host}-{source.name}").strip("-.")[-60:]
    digest = hashlib.sha256(source.url.encode()).hexdigest()[:16]
    return mirrors / f"{readable.lstrip('-.') or 'repository'}-{digest}.git"


def _checked_commit(text: str) -> str:
    if not _COMMIT_ID.fullmatch(text):
        raise ValueError(f"not a full object id: {text!r}")
    return text


# --- local repositories ---------------------------------------------------------------------------------


def local_repository(source: Source, timeout_s: float, stop: Stop) -> tuple[Path, GitRunner]:
    """The git directory of a local source, and how git is run in it. Raises GitError when it is no repository."""
    root = Path(source.url)
    # The ceiling keeps git from taking the repository of a folder above when this one is broken.
    env = {"GIT_CEILING_DIRECTORIES": str(root.parent)}
    deadline = time.monotonic() + timeout_s
    runner = GitRunner(cwd=root, env=env, timeout_s=timeout_s, deadline=deadline, where=source.url, stop=stop)
    found = runner.run("rev-parse", "--absolute-git-dir")
    if found.status != 0:
        raise runner.error(found.status, found.stderr)
    return Path(os.fsdecode(found.stdout.rstrip(b"\n"))), runner


def _open_local(source: Source, ref: str | None, timeout_s: float, stop: Stop) -> OpenedRepository:
    git_dir, runner = local_repository(source, timeout_s, stop)
    opened = replace(runner, options=(f"--git-dir={git_dir}",))
    if ref is None:
        candidates = ["HEAD"]
    elif ref.startswith("refs/"):
        candidates = [ref]
    else:
        candidates = [
            f"refs/heads/{ref}",
            f"refs/tags/{ref}",
            f"refs/remotes/{ref}",
            f"refs/remotes/origin/{ref}",
        ]
        if re.fullmatch(r"[0-9a-fA-F]{4,64}", ref):
            candidates.append(ref)
    questions = "".join(f"{candidate}^{{commit}}\n" for candidate in candidates)
    done = opened.run("cat-file", "--batch-check", stdin=questions.encode("utf-8", "surrogateescape"))
    if done.status != 0:
        raise opened.error(done.status, done.stderr)
    for candidate, answer in zip(candidates, done.stdout.decode(errors="replace").split("\n"), strict=False):
        words = answer.split()
        if len(words) == 3 and words[1] == "commit":
            label = _local_label(opened, ref, candidate, words[0])
            return OpenedRepository(repository=Repository(git_dir, runner), ref=label, commit=words[0])
    if ref is None:
        raise GitError(
            f"{source.url} has no commits yet; commit something, or name a branch with --ref.", kind="not_found"
        )
    raise GitError(f"{source.url} has no branch, tag or commit {ref!r}; check --ref.", kind="not_found")


def _local_label(runner: GitRunner, ref: str | None, candidate: str, commit: str) -> str:
    if ref is None:
        head = runner.run("symbolic-ref", "--quiet", "--short", "HEAD")
        name = head.stdout.decode("utf-8", "backslashreplace").strip()
        return name if head.status == 0 and name else commit
    return commit if candidate == ref and not ref.startswith("refs/") else _short(ref)


def _short(ref: str) -> str:
    return re.sub(r"^refs/(?:heads|tags)/", "", ref)


# --- mirrors --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the remote says `--ref` is: the label, the name to fetch, the commit it stands at."""

    label: str
    remote_ref: str
    commit: str

    @property
    def kept_as(self) -> str:
        # Hashed: `a` and `a/b` cannot both be refs, but both may have been branches, one after the other.
        return "refs/codechunk/" + hashlib.sha256(self.remote_ref.encode("utf-8", "replace")).hexdigest()[:20]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetch:
    """How to fetch: the runner, and `url`, which differs from the source's after a redirect."""

    runner: GitRunner
    url: str
    on_progress: Callable[[Progress], None] | None
    min_free_bytes: int


def _remote_runner(source: Source, mirrors: Path, token: str | None, timeout_s: float, stop: Stop) -> GitRunner:
    """A runner that may speak the source's own protocol and no other."""
    env = {"GIT_ALLOW_PROTOCOL": source.scheme, "GIT_CEILING_DIRECTORIES": str(mirrors.resolve().parent)}
    secrets: tuple[str, ...] = ()
    if source.scheme == "ssh":
        env |= {name: os.environ[name] for name in INHERITED_SSH if name in os.environ}
    token = (token or "").strip()
    if token and source.scheme == "https":
        encoded = base64.b64encode(f"x-access-token:{token}".encode()).decode()
        secrets = (token, encoded)
        # By environment, and only for this host: neither `ps` nor a file nor another server gets to see it.
        host = source.url.split("/")[2]
        env |= {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.https://{host}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {encoded}",
        }
    return GitRunner(
        cwd=mirrors,
        env=env,
        options=("-c", f"protocol.{source.scheme}.allow=always"),
        timeout_s=timeout_s,
        deadline=time.monotonic() + timeout_s,
        secrets=secrets,
        where=source.url,
        stop=stop,
    )


def _open_remote(source: Source, ref: str | None, mirrors: Path, fetch: _Fetch, lock_wait_s: float) -> OpenedRepository:
    wanted, fetch = _ask_remote(source, ref, fetch)
    path = mirror_path(source, mirrors)
    reader = replace(fetch.runner, env={}, secrets=())
    with _locked(path.with_suffix(".lock"), lock_wait_s, fetch.runner):
        _remove_leftovers(mirrors, path)
        commit = _held(reader, path, wanted)
        if commit != wanted.commit:
            log.debug("Fetching the repository", extra={"action": "fetch", "url": source.url, "ref": wanted.label})
            if _is_repository(reader, path):
                _update_mirror(path, wanted, fetch)
            else:
                _make_mirror(path, wanted, fetch)
            commit = _held(reader, path, wanted)
    if commit is None:
        raise GitError(f"{wanted.label!r} in {source.url} does not name a commit; check --ref.", kind="not_found")
    return OpenedRepository(repository=Repository(path, reader), ref=wanted.label, commit=commit)


def _ask_remote(source: Source, ref: str | None, fetch: _Fetch) -> tuple[_Wanted, _Fetch]:
    """What the remote has under `ref`, and where to fetch it from (another URL after a redirect)."""
    if ref is not None and _COMMIT_ID.fullmatch(ref.lower()):
        return _Wanted(ref.lower(), ref.lower(), ref.lower()), fetch
    names = ["HEAD"] if ref is None else [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    # `v1^{}` is what an annotated tag v1 points at.
    patterns = [pattern for name in names for pattern in (name, f"{name}^{{}}")]
    done = fetch.runner.run("ls-remote", "--symref", "--", fetch.url, *patterns)
    if done.status != 0 and re.search(r"returned error: 30[12378]", done.stderr):
        fetch = replace(fetch, url=_redirected(source, fetch))
        done = fetch.runner.run("ls-remote", "--symref", "--", fetch.url, *patterns)
    if done.status != 0:
        raise fetch.runner.error(done.status, done.stderr, ref=ref)
    ids: dict[str, str] = {}
    head = None
    for line in done.stdout.decode("utf-8", "surrogateescape").split("\n"):
        value, _, name = line.partition("\t")
        if value.startswith("ref: ") and name == "HEAD":
            head = value.removeprefix("ref: ")
        elif _COMMIT_ID.fullmatch(value):
            ids[name] = value
    for name in names:
        if name in ids:
            commit = ids.get(f"{name}^{{}}", ids[name])
            label = _short(ref) if ref is not None else _short(head) if head else commit
            return _Wanted(label, name, commit), fetch
    if ref is None:
        raise GitError(
            f"{source.url} is empty: its default branch has no commits; name another one with --ref.", kind="not_found"
        )
    raise GitError(
        f"{source.url} has no branch or tag {ref!r}; check --ref (a commit needs its full id).", kind="not_found"
    )


def _redirected(source: Source, fetch: _Fetch) -> str:
    """The new URL of a repository that has moved, if it stayed on its server; else GitError naming it.

    git follows no redirect itself (one could lead into a private network, or carry the token along), and does
    not say where it would have led, so it is asked again with a trace of the HTTP headers, kept in memory.
    """
    env = {**fetch.runner.env, "GIT_TRACE_CURL": "2", "GIT_TRACE_CURL_NO_DATA": "1", "GIT_TRACE_REDACT": "1"}
    done = replace(fetch.runner, env=env).run("ls-remote", "--", fetch.url, "HEAD")
    found = re.search(r"Recv header:? location: (\S+)", done.stderr, re.IGNORECASE)
    location = urljoin(fetch.url, fetch.runner.mask(found[1])) if found else "an unknown address"
    target = location.split("/info/refs")[0]
    try:
        moved = parse_source(target)
    except (UsageError, GitError):
        raise GitError(f"{source.url} redirects to {target}, which is not a repository's address.") from None
    here, there = source.url.split("/")[:3], moved.url.split("/")[:3]
    if here != there:
        raise GitError(f"{source.url} has moved to {moved.url}; give that URL if you trust it.", kind="usage")
    log.warning("The repository has moved", extra={"action": "redirect", "url": source.url, "to": moved.url})
    return moved.url


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """What the system refuses inside, as a GitError that names the folder of the mirrors."""
    try:
        yield
    except OSError as exc:
        raise GitError(f"The git mirrors in {folder} cannot be written: {exc.strerror}.") from exc


@contextlib.contextmanager
def _locked(path: Path, wait_s: float, runner: GitRunner) -> Iterator[None]:
    """Hold the lock file of one mirror; GitError when another process keeps it for longer than `wait_s`."""
    with FileLock(path) as lock:
        with _writing(path.parent):
            taken = lock.take(wait_s=wait_s, pause=runner.stop.wait)
        if not taken:
            raise GitError(
                f"{runner.where} is being fetched by {lock.holder()}; run again when it is done.", kind="busy"
            )
        yield


def _remove_leftovers(mirrors: Path, path: Path) -> None:
    """Remove what killed processes left: temporary mirrors, and lock and pack files inside the mirror `path`.

    The caller holds the lock of `path`; a temporary mirror of another repository is removed only when nobody
    holds the lock of that one.
    """
    for folder in mirrors.glob("*.git.tmp-*"):
        final = folder.name.partition(".tmp-")[0]
        if final == path.name:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with FileLock((mirrors / final).with_suffix(".lock")) as lock:
            if lock.take():
                shutil.rmtree(folder, ignore_errors=True)
    for leftover in (*path.glob("*.lock"), *path.glob("refs/**/*.lock"), *path.glob("objects/pack/tmp_*")):
        leftover.unlink(missing_ok=True)
    for quarantine in path.glob("objects/tmp_objdir-*"):
        shutil.rmtree(quarantine, ignore_errors=True)


def _is_repository(reader: GitRunner, path: Path) -> bool:
    if not path.is_dir():
        return False
    return replace(reader, options=(f"--git-dir={path}",)).run("rev-parse", "--git-dir").status == 0


def _held(reader: GitRunner, path: Path, wanted: _Wanted) -> str | None:
    """The commit that the mirror keeps for the wanted ref, None when it has none."""
    if not path.is_dir():
        return None
    here = replace(reader, options=(f"--git-dir={path}",))
    done = here.run("rev-parse", "--verify", "--quiet", f"{wanted.kept_as}^{{commit}}")
    return done.stdout.decode().strip() if done.status == 0 else None


def _make_mirror(path: Path, wanted: _Wanted, fetch: _Fetch) -> None:
    """Fetch into a new repository beside `path`, then rename it: `path` exists complete or not at all."""
    with _writing(path.parent):
        temporary = Path(tempfile.mkdtemp(prefix=f"{path.name}.tmp-", dir=path.parent))
    try:
        kind = "sha256" if len(wanted.commit) == 64 else "sha1"
        done = fetch.runner.run(
            "init", "--quiet", "--bare", "--template=", f"--object-format={kind}", "--", str(temporary)
        )
        if done.status != 0:
            raise fetch.runner.error(done.status, done.stderr)
        _run_fetch(temporary, wanted, fetch)
        with _writing(path.parent):
            if path.exists():  # not a repository any more: damaged beyond use, and derived anyway
                shutil.rmtree(path)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _update_mirror(path: Path, wanted: _Wanted, fetch: _Fetch) -> None:
    try:
        _run_fetch(path, wanted, fetch)
    finally:
        _remove_leftovers(path.parent, path)


def _run_fetch(git_dir: Path, wanted: _Wanted, fetch: _Fetch) -> None:
    free = shutil.disk_usage(git_dir).free
    if free < fetch.min_free_bytes:
        raise GitError(
            f"Only {free >> 20} MiB are free in {git_dir.parent}, {fetch.min_free_bytes >> 20} MiB are "
            "needed; free some space and run the command again."
        )
    runner = replace(fetch.runner, options=(*fetch.runner.options, f"--git-dir={git_dir}"))
    process = runner.start(
        "fetch", "--progress", "--depth=1", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
        "--", fetch.url, f"+{wanted.remote_ref}:{wanted.kept_as}", stdout=False,
    )  # fmt: skip
    with process:
        largest = max(free - fetch.min_free_bytes, 1 << 20)
        _limit(process, largest)
        stderr = progress_reader(process, fetch.on_progress)
        status = process.wait()
        runner.check_time(process)
        if status != 0:
            # A git that ran into the limit died of SIGXFSZ, which its parent does not mention.
            sizes = [pack.stat().st_size for pack in git_dir.glob("objects/pack/tmp_pack_*")]
            words = f"{stderr}\nFile too large" if max(sizes, default=0) >= largest else stderr
            raise runner.error(status, words, ref=wanted.label)


def _limit(process: GitProcess, file_bytes: int) -> None:
    """No core dump, and no file that eats the space others need (Linux; elsewhere the preflight has to do).

    From outside rather than in a `preexec_fn`, which is unsafe in a program with threads: git starts its
    helpers, which inherit the limits, after it has parsed its arguments. No limit of address space:
    index-pack maps whole packs.
    """
    if hasattr(resource, "prlimit"):
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
