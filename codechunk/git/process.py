"""One running git: its environment, its session, its deadline, and its words turned into sentences.

The only file that imports GitPython, of which it uses the process runner and the progress parser. It knows
how git is run safely (docs/design.md), not what for.
"""

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Self

from codechunk.errors import GitError, Kind
from codechunk.process.stop import Stop

# Older ones ignore GIT_CONFIG_GLOBAL (2.32) and GIT_CONFIG_COUNT (2.31): the isolation and the token would
# silently not be there.
MINIMUM_VERSION = (2, 32)
_STDERR_TAIL = 16_384
_PROGRESS = re.compile(r"(?:remote: )?[\w\s]+:\s+\d+(?:%|[ ,(]|$)")

# What git may inherit: where programs are, how to reach the network, which certificates to trust. Not HOME,
# not GIT_*, not our own keys.
_INHERITED = (
    "PATH", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH",
    "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
)  # fmt: skip
INHERITED_SSH = ("HOME", "SSH_AUTH_SOCK", "USER", "LOGNAME")
_ENVIRONMENT = {
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "SSH_ASKPASS": "/bin/false",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    # No master connection left behind: it would hold our pipe open.
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes -oConnectTimeout=30 -oControlMaster=no",
    "GIT_SSH_VARIANT": "ssh",
}
_CONFIG = (
    "core.hooksPath=/dev/null", "core.fsmonitor=false", "core.symlinks=false", "core.askPass=/bin/false",
    "credential.helper=", "protocol.allow=never", "transfer.fsckObjects=true", "fetch.fsckObjects=true",
    "fetch.recurseSubmodules=false", "fetch.unpackLimit=1", "transfer.unpackLimit=1",
    "fetch.writeCommitGraph=false", "http.followRedirects=false", "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30", "transfer.credentialsInUrl=die", "gc.auto=0", "maintenance.auto=false",
    # Untidy but harmless, and found in old repositories that people use every day.
    "fetch.fsck.zeroPaddedFilemode=ignore", "fetch.fsck.badTimezone=ignore", "fetch.fsck.badEmail=ignore",
    "fetch.fsck.missingEmail=ignore", "fetch.fsck.missingNameBeforeEmail=ignore",
    "fetch.fsck.missingSpaceBeforeDate=ignore",
    # A blob larger than this is streamed to the pack instead of being held in memory.
    "core.bigFileThreshold=32m",
    # A repository of somebody else (a mounted volume in CI) is safe to read: the check exists because its
    # configuration can name commands, and the commands run here (rev-parse, ls-tree, cat-file) call none of
    # them once fsmonitor, hooks and lazy fetching are off.
    "safe.directory=*",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a transfer is. `stage`: counting, compressing, receiving, resolving; `total` None = unknown."""

    stage: str
    current: int
    total: int | None
    message: str


def check_git() -> str:
    """The version of the git that will be used, such as "2.39.5"; GitError when missing or too old."""
    return _check_version(_git_binary())


@functools.cache
def _check_version(binary: str) -> str:
    done = GitRunner(cwd=Path("/"), timeout_s=30, binary=binary).run("version")
    found = re.search(rb"git version (\d+)\.(\d+)[^\s]*", done.stdout)
    if done.status != 0 or found is None:
        raise GitError(f"{binary} does not answer to 'git version'; install git 2.32 or newer.")
    version = found[0].decode().removeprefix("git version ")
    if (int(found[1]), int(found[2])) < MINIMUM_VERSION:
        raise GitError(f"git {version} is too old to be run safely; install git 2.32 or newer.")
    return version


def _git_binary() -> str:
    binary = shutil.which("git")
    if binary is None:
        raise GitError("git is not installed or not on the PATH; install git 2.32 or newer.")
    return binary


@dataclass(frozen=True, slots=True)
class Finished:
    """How a git that ran to its end ended. `status` is negative for a signal."""

    status: int
    stdout: bytes
    stderr: str


class GitProcess:
    """One running git in a session of its own; leaving the `with` block ends it and its helpers.

    Its own session has two effects: killing the group reaches git-remote-https and index-pack too, and a
    Ctrl-C in the terminal does not reach git, so ending it is always this class's work.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path, stop: Stop, *, stdin: bool, stdout: bool
    ) -> None:
        """Start `command`; GitError when the system does not let it start. `stop` ends it."""
        # Late: 60 ms that `codechunk --help` must not pay.
        from git.cmd import Git
        from git.exc import GitCommandNotFound

        # GitPython hands on the whole environment of this process; `env -u` takes out what git must not see
        # (names only, so no value becomes a process argument) and becomes git, keeping its process id.
        dropped = sorted(os.environ.keys() - env.keys() - {"LANGUAGE", "LC_ALL"})
        launcher = ["env", *(part for name in dropped for part in ("-u", name))]
        try:
            self._owner = Git(cwd).execute(
                [*launcher, *command],
                istream=subprocess.PIPE if stdin else None,
                as_process=True,
                with_stdout=stdout,
                env=env,
                start_new_session=True,
                restore_signals=True,
            )
        except (GitCommandNotFound, OSError) as exc:
            raise GitError(f"git could not be started ({type(exc).__name__}).") from exc
        assert isinstance(self._owner, Git.AutoInterrupt)  # noqa: S101 - as_process=True gives nothing else
        assert self._owner.proc is not None  # noqa: S101
        self._popen: subprocess.Popen[bytes] = self._owner.proc
        self._timer: threading.Timer | None = None
        self.timed_out = False
        self._stopped_by: Stop | None = None
        self._end_listening = stop.when_asked(partial(self._give_up, stop)) if not stop.holding else None
        self.status: int | None = None
        self._tail: _Tail | None = None

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._popen.pid

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to git; only when started with `stdin`."""
        return _pipe(self._popen.stdin)

    @property
    def stdout(self) -> IO[bytes]:
        """What git answers; only when started with `stdout`."""
        return _pipe(self._popen.stdout)

    @property
    def stderr(self) -> IO[bytes]:
        """git's words for people."""
        return _pipe(self._popen.stderr)

    def __enter__(self) -> Self:
        """The process itself."""
        return self

    def listen(self) -> None:
        """Read git's words in the background from now on, so that it never blocks on them."""
        self._tail = _Tail(self.stderr)

    def words(self) -> str:
        """The last words git said, once it has ended; after `listen`."""
        if self._tail is None:
            return ""
        self._tail.join()
        return self._tail.text

    def kill_after(self, seconds: float) -> None:
        """End git and its helpers in so many seconds."""
        self._timer = threading.Timer(max(seconds, 0), self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self) -> None:
        self.timed_out = True
        self.kill()

    def _give_up(self, stop: Stop) -> None:
        self._stopped_by = stop
        self.kill()

    def kill(self) -> None:
        """End git and its helpers now."""
        # The group is gone when git and all of its helpers ended by themselves.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """The exit status, negative for a signal; helpers left over by a git that failed are ended."""
        self.status = self._popen.wait()
        if self.status != 0:
            self.kill()
        return self.status

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End what still runs, close the pipes. Raises Stopped when git was ended for that."""
        if self._end_listening is not None:
            self._end_listening()
        if self.status is None:
            self.kill()
            self._popen.wait()
        if self._timer is not None:
            self._timer.cancel()
        streams = [self._popen.stdin, self._popen.stdout, self._popen.stderr]
        if self._tail is not None:
            # Closing a pipe that a thread reads would let it read whatever gets the number next.
            self._tail.join(timeout=5)
            if self._tail.is_alive():
                streams.pop()
        for stream in streams:
            if stream is not None:
                # A killed git leaves bytes nobody will read in the buffer of its standard input.
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if self._stopped_by is not None and kind is not GeneratorExit:
            self._stopped_by.raise_if_asked()  # instead of a sentence about a git that was killed


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - asked for when the process was started
    return stream


class _Tail(threading.Thread):
    """Reads a stream to its end and keeps the last of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._kept = b""
        self.start()

    def run(self) -> None:
        while data := os.read(self._stream.fileno(), _STDERR_TAIL):
            self._kept = (self._kept + data)[-_STDERR_TAIL:]

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")


def progress_reader(process: GitProcess, on_progress: Callable[[Progress], None] | None) -> str:
    """Read a transfer's standard error to its end, in this thread; its words without the progress lines.

    In this thread so that a Ctrl-C, or an error in `on_progress`, ends the transfer.
    """
    # Late, as in GitProcess.
    from git.util import RemoteProgress

    stages = {
        RemoteProgress.COUNTING: "counting",
        RemoteProgress.COMPRESSING: "compressing",
        RemoteProgress.RECEIVING: "receiving",
        RemoteProgress.RESOLVING: "resolving",
    }

    class Reader(RemoteProgress):
        def update(
            self,
            op_code: int,
            cur_count: str | float,
            max_count: str | float | None = None,
            message: str = "",
        ) -> None:
            stage = stages.get(op_code & self.OP_MASK)
            if stage is not None and on_progress is not None:
                text = "".join(char if char.isprintable() else " " for char in message)
                total = int(max_count) if max_count else None
                on_progress(Progress(stage=stage, current=int(cur_count or 0), total=total, message=text))

    handle = Reader().new_message_handler()
    words: deque[str] = deque(maxlen=100)
    rest = b""
    while data := os.read(process.stderr.fileno(), 65_536):
        # Lines end with \r while they count; whatever the other side sends, at most so much is kept of one.
        *lines, rest = re.split(rb"[\r\n]+", rest[-_STDERR_TAIL:] + data)
        for line in lines:
            text = line[:1000].decode("utf-8", "replace")
            if not _PROGRESS.match(text):
                words.append(text)
            handle(text)
    words.append(rest[:1000].decode("utf-8", "replace"))
    return "\n".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitRunner:
    """How git is run for one source: environment, options, folder, deadline, and what to keep secret."""

    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    options: tuple[str, ...] = ()
    timeout_s: float | None = None
    deadline: float | None = None  # monotonic seconds
    binary: str = field(default_factory=_git_binary)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    where: str = ""
    stop: Stop = field(default_factory=Stop, repr=False)

    def start(self, *arguments: str, stdin: bool = False, stdout: bool = True) -> GitProcess:
        """A running git; use it in a `with` block."""
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        env = inherited | _ENVIRONMENT | {"GIT_ALLOW_PROTOCOL": "none"} | dict(self.env)
        config = [part for value in _CONFIG for part in ("-c", value)]
        command = [self.binary, "--no-pager", *config, *self.options, *arguments]
        self.stop.raise_if_asked()
        process = GitProcess(command, env, self.cwd, self.stop, stdin=stdin, stdout=stdout)
        if self.deadline is not None:
            process.kill_after(self.deadline - time.monotonic())
        elif self.timeout_s is not None:
            process.kill_after(self.timeout_s)
        return process

    def run(self, *arguments: str, stdin: bytes = b"") -> Finished:
        """Run to the end; small answers only. GitError when the time is over, any exit status otherwise."""
        with self.start(*arguments, stdin=bool(stdin)) as process:
            process.listen()
            if stdin:
                with contextlib.suppress(BrokenPipeError):  # the exit status says why it did not listen
                    process.stdin.write(stdin)
                    process.stdin.close()
            output = process.stdout.read()
            status = process.wait()
            words = process.words()
            self.check_time(process)
        return Finished(status, output, words)

    def check_time(self, process: GitProcess) -> None:
        """GitError when the process was ended because its time was over."""
        if process.timed_out:
            limit = f" within {self.timeout_s:g} s" if self.timeout_s is not None else " in time"
            raise GitError(f"{self.where or 'git'} did not answer{limit}; check the connection, or raise git.timeout.")

    def mask(self, text: str) -> str:
        """`text` without secrets and without characters that could steer a terminal, on one line."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        text = re.sub(r"://[^/\s@]+@", "://***@", text)
        return " ".join("".join(char if char.isprintable() else " " for char in text).split())

    def error(self, status: int, stderr: str, *, ref: str | None = None) -> GitError:
        """The one sentence for a git that failed."""
        if status < 0:
            return GitError(f"git was killed (signal {-status}) while reading {self.where}; run the command again.")
        words = self.mask(stderr)
        for pattern, sentence in _SENTENCES:
            if found := re.search(pattern, words, re.IGNORECASE):
                detail = found[1] if found.re.groups else ""
                kind: Kind | None = "not_found" if sentence in _NOT_FOUND else None
                return GitError(sentence.format(where=self.where, ref=ref or "HEAD", detail=detail), kind=kind)
        lines = [self.mask(line) for line in re.split(r"[\r\n]+", stderr) if line.strip()]
        fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
        last = (fatal or lines or [f"exit status {status}"])[-1]
        return GitError(f"git could not read {self.where}: {last[:300]}")


_NO_REF = "{where} has no branch, tag or commit {ref!r}; check --ref."
_NO_COMMIT = "The server of {where} does not hand out the commit {ref}; name a branch or a tag that contains it."
_NO_REPOSITORY = (
    "There is no repository at {where}, or you may not read it; check the URL, and set CODECHUNK_GIT_TOKEN if it is "
    "private."
)
_NOT_FOUND = {_NO_REF, _NO_COMMIT, _NO_REPOSITORY}

# git's words (LC_ALL=C) -> ours. The first match wins: causes on this machine come before what follows from
# them on the wire.
_SENTENCES = (
    (r"no space left on device|disk quota exceeded|died of signal 25|file too large",
     "The disk is full: git could not store {where}; free some space and run the command again."),
    (r"dubious ownership",
     "git refuses {where} because it belongs to another user; index it by its path as its owner."),
    (r"(?:unable to create|could not create|cannot mkdir|unable to write)\S* [^:]*: "
     r"(?:permission denied|read-only)",
     "git may not write its mirror of {where}; check the permissions of the data directory."),
    (r"from promisor remote",
     "{where} is a partial clone and lacks some of the files; run 'git fetch --refetch' there, or index its "
     "remote URL."),
    (r"transport '(\w+)' not allowed",
     "{where} leads to the protocol '{detail}', which is not allowed here; give the repository's own URL."),
    (r"host key verification failed",
     "The ssh host key of {where} is not known; connect once with ssh, or add it to ~/.ssh/known_hosts."),
    (r"couldn't find remote ref|could not find remote branch|invalid refspec",
     _NO_REF),
    (r"not our ref|unadvertised object|does not allow request for",
     _NO_COMMIT),
    (r"permission denied \(|publickey",
     "{where} refused the ssh login; load the right key (ssh-add) and check that you may read the "
     "repository."),
    (r"authentication failed|could not read (?:username|password)|terminal prompts disabled|error: 40[134]"
     r"|repository [^ ]* ?not found|repository not exported|does not appear to be a git repository|not found:"
     r"|http basic: access denied|repository not found|/info/refs not (?:found|valid)",
     _NO_REPOSITORY),
    (r"could not resolve host(?:name)?|name or service not known|unable to look up",
     "The host of {where} was not found; check the URL and the network."),
    (r"certificate|ssl_connect|gnutls_handshake|tls connect",
     "The TLS certificate of {where} could not be verified; GIT_SSL_CAINFO may name a certificate file of "
     "your own."),
    (r"connection refused|timed out|failed to connect|couldn't connect|unable to connect"
     r"|network is unreachable"
     r"|no route to host|operation too slow|connection reset|empty reply",
     "{where} cannot be reached; check the URL and the network, then run the command again."),
    (r"fsck error|error: object [0-9a-f]{40,64}: |error in (?:tree|object|packed)",
     "{where} contains damaged or dangerous objects and was refused (git's check of what it received "
     "failed)."),
    (r"died of signal (\d+)",
     "git was killed (signal {detail}) while fetching {where}; run the command again."),
    (r"early eof|unexpected disconnect|hung up unexpectedly|unpack-objects failed|rpc failed"
     r"|connection closed",
     "The connection to {where} broke off; run the command again."),
    # Alone, without a word of index-pack about the pack: it did not live to say one.
    (r"invalid index-pack output",
     "git's index-pack was killed while fetching {where} (out of memory?); run the command again."),
)  # fmt: skip
