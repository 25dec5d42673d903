"""A pool of killable child processes that chunk files: a hostile file costs itself, never the run.

Hides processes, pipes and limits. Knows nothing of git or of the state database. One thread, no locks: the
generator `ChunkPool.run` does all the work. The child's side is `codechunk.pool.child`.
"""

import contextlib
import dataclasses
import logging
import os
import selectors
import signal
import site
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from codechunk.errors import CodechunkError
from codechunk.pool.frames import (
    EXIT_OUT_OF_MEMORY,
    MEBIBYTE,
    BrokenWire,
    FrameHead,
    frame,
    take_frame,
    unpack_chunks,
    unpack_secrets,
)
from codechunk.process.stop import Stop
from codechunk.selection.secrets import Place, SecretsMode
from codechunk.text.chunks import Chunk

if TYPE_CHECKING:
    # Only the type: the parent has no need of the parser and the tokenizer in its own memory.
    from codechunk.chunking import ChunkSettings

log = logging.getLogger(__name__)

TokenMode = Literal["all", "sample", "on_demand"]
# Of the time for one file, the share of the syntax parser; the rest is for cutting it by lines after all.
_PARSE_SHARE = 0.6
# The child stops itself with a timer, even while nobody reads here. This is the second net under it.
_KILL_GRACE_S = 1.0
_START_TIMEOUT_S = 60.0
_START_TRIES = 3
_TICK_S = 0.1
# Enough queued in each child to keep it busy while the caller of `run` writes to its database: a quarter less
# wall time than with two tasks each, measured with a caller that takes 10 ms for every 50 chunks.
_TASKS_PER_CHILD = 16
_BYTES_PER_CHILD = 256 * 1024
# Finished results kept while the caller is busy with an earlier one.
_READY_RESULTS = 64
_READY_BYTES = 4 * MEBIBYTE
_READ_BYTES = 256 * 1024
# Files queued behind one that takes longer than this are given to another child as well.
_SLOW_S = 0.5
# Signals nobody's file can raise by itself: somebody (or the kernel, out of memory) killed the child.
_FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGINT, -signal.SIGQUIT}
# What native code says before it aborts because its allocation was refused (tree-sitter, Rust).
_OUT_OF_MEMORY = ("failed to allocate", "memory allocation of", "bad_alloc", "MemoryError")
# Needed to start the same interpreter again. Nothing else of the environment reaches a child: no keys.
_KEPT_ENVIRONMENT = (
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONHOME",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseTask:
    """One file to chunk. `key` is the caller's own. Chunks before ordinal `counted` are not counted again."""

    key: int
    path: str
    data: bytes
    language: str | None
    encoding: str
    counted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseResult:
    """What became of one task.

    `words` holds `index_words(chunk.text)` of each chunk. `fallback` says why the syntax parser was abandoned
    and the file cut by lines (`timeout`, `crashed`, `memory`), None for a normal result. `error` says why
    there are no chunks at all, None when there are. `secrets` tells where secrets are in the file, None when
    they were not looked for; the chunks hold markers instead of them, or there are none (see ChunkPool).
    """

    key: int
    path: str
    chunks: list[Chunk]
    words: list[str]
    language: str | None
    fallback: str | None
    error: str | None
    secrets: list[Place] | None = None


@dataclass(slots=True, eq=False)
class _Flight:
    """A task on its way. It belongs to one child (`holder`) or waits; only its holder's answer counts."""

    number: int
    task: ParseTask
    cause: str | None = None
    """Why the syntax parser was abandoned; if set, the file is cut by lines."""
    spared: bool = False
    """A child was killed from outside while it worked on this, and the file was not blamed."""
    holder: "_Child | None" = None


class _Child:
    """One process, its pipes, and the tasks it was given, in the order in which it takes them up."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str], hello: bytes) -> None:
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115  a pipe could fill up and block the child
        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.stderr,
                env=environment,
                cwd="/",  # `python -m` looks for modules in the current folder: it may be somebody else's
                bufsize=0,
                start_new_session=True,  # Ctrl-C reaches the parent only
            )
        except BaseException:
            self.stderr.close()
            raise
        assert self.process.stdin is not None  # noqa: S101  for the type checker
        assert self.process.stdout is not None  # noqa: S101
        self.stdin = self.process.stdin.fileno()
        self.stdout = self.process.stdout.fileno()
        os.set_blocking(self.stdin, False)
        os.set_blocking(self.stdout, False)
        self.started = time.monotonic()
        self.ready = False
        self.alive = True
        self.queue: deque[_Flight] = deque()
        self.queued_bytes = 0
        self.inbox = bytearray()
        self.outbox: deque[tuple[_Flight | None, memoryview]] = deque([(None, memoryview(hello))])
        self.unsent: set[int] = set()
        self.clock: float | None = None
        """When work on the first task of the queue was last seen to begin or go on; None while it is not."""
        self.slow = False

    @property
    def has_room(self) -> bool:
        return not self.slow and len(self.queue) < _TASKS_PER_CHILD and self.queued_bytes < _BYTES_PER_CHILD

    def give(self, flight: _Flight, seconds: float) -> None:
        task = flight.task
        head: FrameHead = {
            "flight": flight.number,
            "path": task.path,
            "language": task.language,
            "encoding": task.encoding,
            "counted": task.counted,
            "parse": flight.cause is None,
            "seconds": seconds,
        }
        flight.holder = self
        self.queue.append(flight)
        self.queued_bytes += len(task.data)
        self.unsent.add(flight.number)
        self.outbox.append((flight, memoryview(frame(head, task.data))))
        self.flush()

    def flush(self) -> None:
        """Write what the pipe takes now. Never blocks; a closed pipe shows at the reading end."""
        while self.outbox:
            flight, data = self.outbox[0]
            try:
                written = os.write(self.stdin, data)
            except BlockingIOError:
                return
            except BrokenPipeError:
                self.outbox.clear()
                return
            if written < len(data):
                self.outbox[0] = (flight, data[written:])
                continue
            self.outbox.popleft()
            if flight is not None:
                self.unsent.discard(flight.number)
                if self.ready and self.queue and flight is self.queue[0]:
                    self.clock = time.monotonic()

    def restart_clock(self) -> None:
        working = self.ready and self.queue and self.queue[0].number not in self.unsent
        self.clock = time.monotonic() if working else None
        self.slow = False

    def receive(self) -> bool:
        """Read what is there; False when the child has closed its end."""
        try:
            data = os.read(self.stdout, _READ_BYTES)
        except BlockingIOError:
            return True
        self.inbox += data
        if data and self.clock is not None:
            self.clock = time.monotonic()  # an answer on its way is no slow file
        return bool(data)

    def frames(self) -> Iterator[tuple[FrameHead, bytes]]:
        """The complete messages received. Raises BrokenWire for anything else."""
        while True:
            # A child out of its mind must not fill our memory: no honest answer comes near this.
            limit = 16 * MEBIBYTE + (32 * len(self.queue[0].task.data) if self.queue else 0)
            message = take_frame(self.inbox, limit)
            if message is None:
                return
            yield message

    def surrender(self, keep: int = 0) -> list[_Flight]:
        """Take the tasks behind the first `keep` from this child, and return them."""
        flights = [flight for flight in list(self.queue)[keep:] if flight.holder is self]
        for flight in flights:
            flight.holder = None
        return flights

    def end(self) -> tuple[int, str]:
        """Make sure the process is gone and everything is closed; gives its exit code and its last words."""
        self.alive = False
        self.process.kill()
        code = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        size = os.fstat(self.stderr.fileno()).st_size
        said = os.pread(self.stderr.fileno(), 8192, max(0, size - 8192)).decode("utf-8", "replace").strip()
        self.stderr.close()
        return code, said


class ChunkPool:
    """Chunks files in child processes that may take `timeout_s` and `memory_bytes` for one file.

    `timeout_s` is wall time for a file altogether, without the start of a process. `memory_bytes` bounds a
    child's whole resident memory (Linux only; elsewhere only time is limited). Children start when there is
    work for them (the first with `start`) and stay until `close`; use the pool as a context manager. One `run` at a
    time, and from a thread that outlives the pool: on Linux the children die with the thread that started them.

    `token_mode` is `all` (every chunk counted), `sample` (`sample_percent` of the chunks, drawn by a hash of
    `seed` and the text, so independent of order and of the machine) or `on_demand` (none).
    `secrets` says what becomes of secrets: `redact` puts markers in their place, `skip` and `fail` give no chunks of
    a file that holds any, `off` gives the exact bytes.
    `child_argv` replaces the command of a child; it is for tests.
    """

    def __init__(
        self,
        *,
        jobs: int,
        settings: "ChunkSettings",
        token_mode: TokenMode,
        sample_percent: float,
        seed: str,
        secrets: SecretsMode = "off",
        timeout_s: float = 10.0,
        memory_bytes: int = 500 * MEBIBYTE,
        child_argv: Sequence[str] | None = None,
        stop: Stop | None = None,
    ) -> None:
        """Start nothing yet."""
        self.replaced = 0
        """Children replaced so far, because they died or were killed."""
        self._stop = stop or Stop()
        self._jobs = max(1, jobs)
        self._timeout_s = timeout_s
        self._argv = child_argv or (sys.executable, "-m", "codechunk.pool.child")
        self._environment = _child_environment()
        self._hello = frame(
            {
                "settings": dataclasses.asdict(settings),
                "token_mode": token_mode,
                "sample_percent": sample_percent,
                "seed": seed,
                "memory_bytes": memory_bytes,
                "secrets": secrets,
                "parent": os.getpid(),
            }
        )
        self._selector = selectors.DefaultSelector()
        self._children: list[_Child] = []
        self._waiting: deque[_Flight] = deque()
        self._ready: deque[tuple[ParseResult, int]] = deque()
        self._ready_bytes = 0
        self._flights = 0
        self._failed_starts = 0
        self._running = False

    def __enter__(self) -> Self:
        """The pool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all children."""
        self.close()

    def start(self) -> None:
        """Start the first child now: it takes a third of a second, in which the caller may find out what to cut.

        Raises CodechunkError when no child can be started.
        """
        if not self._children:
            self._start_child().flush()

    def close(self) -> None:
        """End all children. Safe to call twice."""
        self._drop_everything()
        self._selector.close()

    @property
    def pids(self) -> list[int]:
        """The process ids of the living children."""
        return [child.process.pid for child in self._children]

    def run(self, tasks: Iterable[ParseTask]) -> Iterator[ParseResult]:
        """One result for each task, as they finish, in no order.

        `tasks` is read as far as the children need it (some 256 KiB or one file each), and results wait in a
        bounded queue, so memory does not grow with the number of tasks. Closing the generator early, or an
        exception from `tasks`, ends the children. Raises CodechunkError when no child can be started, Stopped when
        somebody has asked for it.
        """
        if self._running:
            raise RuntimeError("this pool already runs another stream of tasks")
        self._running = True
        source = iter(tasks)
        finished = False
        try:
            self._feed(source)
            while True:
                self._stop.raise_if_asked()
                while self._ready:
                    result, size = self._ready.popleft()
                    self._ready_bytes -= size
                    yield result
                    if len(self._ready) < _READY_RESULTS and self._ready_bytes < _READY_BYTES:
                        self._turn(source, 0.0)
                if not self._waiting and not any(child.queue for child in self._children):
                    break
                self._turn(source, _TICK_S)
            finished = True
        finally:
            self._running = False
            if not finished:
                self._drop_everything()

    def _turn(self, source: Iterator[ParseTask], timeout_s: float) -> None:
        """Read, write and feed whatever can be, after waiting at most `timeout_s` for something to do."""
        for key, events in self._selector.select(timeout_s):
            child: _Child = key.data
            if child.alive and events & selectors.EVENT_WRITE:
                child.flush()
                self._watch_writing(child)
            if child.alive and events & selectors.EVENT_READ:
                self._read(child)
        # Only after reading: while the caller kept us waiting, an answer may have come in time.
        now = time.monotonic()
        for child in list(self._children):
            self._check_clock(child, now)
        self._feed(source)

    def _feed(self, source: Iterator[ParseTask]) -> None:
        """Hand out tasks, the emptiest child first, starting children while there is more work than them."""
        while len(self._children) < self._jobs or any(child.has_room for child in self._children):
            flight = self._next_flight(source)
            if flight is None:
                return
            room = [child for child in self._children if child.has_room]
            child = min(room, key=lambda c: (len(c.queue) > 0, c.queued_bytes), default=None)
            if child is None or (child.queue and len(self._children) < self._jobs):
                child = self._start_child()
            share = _PARSE_SHARE if flight.cause is None else 1 - _PARSE_SHARE
            child.give(flight, share * self._timeout_s)
            self._watch_writing(child)

    def _next_flight(self, source: Iterator[ParseTask]) -> _Flight | None:
        if self._waiting:
            return self._waiting.popleft()
        task = next(source, None)
        if task is None:
            return None
        self._flights += 1
        return _Flight(number=self._flights, task=task)

    def _start_child(self) -> _Child:
        try:
            child = _Child(self._argv, self._environment, self._hello)
        except OSError as exc:
            raise CodechunkError(f"Cannot start a parser process: {exc.strerror or exc}.") from exc
        self._children.append(child)
        self._selector.register(child.stdout, selectors.EVENT_READ, child)
        return child

    def _watch_writing(self, child: _Child) -> None:
        watched = child.stdin in self._selector.get_map()
        if child.outbox and not watched:
            self._selector.register(child.stdin, selectors.EVENT_WRITE, child)
        elif watched and not child.outbox:
            self._selector.unregister(child.stdin)

    def _read(self, child: _Child) -> None:
        is_open = child.receive()
        try:
            for head, body in child.frames():
                self._answer(child, head, body)
                if not child.alive:
                    return
        except BrokenWire as exc:
            log.debug("A parser process sent %s", exc)
            self._lose(child, "crashed")
            return
        if not is_open:
            # Its exit code is on the way, and says more than the one that killing would leave.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(1.0)
            self._lose(child, None)

    def _answer(self, child: _Child, head: FrameHead, body: bytes) -> None:
        if not child.ready:
            if head.get("ready") is not True:
                raise BrokenWire("no greeting")
            child.ready = True
            self._failed_starts = 0
            child.restart_clock()
            return
        if not child.queue or head.get("flight") != child.queue[0].number:
            raise BrokenWire("an answer to another question")
        flight = child.queue[0]
        if flight.holder is child:
            result = _result(flight, head, body)
            flight.holder = None
            self._ready.append((result, len(flight.task.data)))
            self._ready_bytes += len(flight.task.data)
        child.queue.popleft()
        child.queued_bytes -= len(flight.task.data)
        child.restart_clock()
        if head.get("retire") is True:
            # It has grown and leaves by itself, in good order: what it had not begun goes to another.
            self._waiting.extendleft(reversed(child.surrender()))
            self._forget(child)

    def _check_clock(self, child: _Child, now: float) -> None:
        if not child.ready:
            if now - child.started > _START_TIMEOUT_S:
                self._lose(child, "timeout")
            return
        if child.clock is None or not child.queue:
            return
        first = child.queue[0]
        share = _PARSE_SHARE if first.cause is None else 1 - _PARSE_SHARE
        if now - child.clock > share * self._timeout_s + _KILL_GRACE_S:
            self._lose(child, "timeout")
        elif self._jobs > 1 and not child.slow and now - child.clock > _SLOW_S:
            # It will still come to those queued behind; its answers to them will be ignored.
            child.slow = True
            self._waiting.extend(child.surrender(keep=1))

    def _lose(self, child: _Child, cause: str | None) -> None:
        """Replace a child that died (`cause` None) or has to: the file in work pays, the others move on."""
        code, said = self._forget(child)
        said = said.splitlines()[-1][:500] if said else ""
        self.replaced += 1
        flights = child.surrender()
        if not child.ready:
            self._failed_starts += 1
            if self._failed_starts >= _START_TRIES:
                raise CodechunkError(
                    f"The parser process cannot start ({said or cause or f'exit code {code}'}). "
                    "Reinstall codechunk, or run `codechunk doctor`."
                )
        elif flights and flights[0] is child.queue[0] and flights[0].number not in child.unsent:
            self._charge(flights.pop(0), cause or _cause_of_death(code, said), said)
        self._waiting.extendleft(reversed(flights))

    def _charge(self, flight: _Flight, cause: str, said: str) -> None:
        if cause == "killed" and not flight.spared:
            # Not the file's doing, most likely: the same commit must give the same chunks. Once more, whole.
            flight.spared = True
            self._waiting.appendleft(flight)
            return
        why = "crashed" if cause == "killed" else cause
        log.warning(
            "Chunking %r failed: %s",
            flight.task.path,
            why,
            extra={"action": "parse_failed", "by_lines": flight.cause is not None, "last_words": said},
        )
        if flight.cause is None:
            flight.cause = why
            self._waiting.appendleft(flight)
            return
        detail = f" ({said})" if said else ""
        error = f"parsing: {flight.cause}; cutting it by lines: {why}{detail}"
        self._ready.append((_failure(flight, error), 0))

    def _forget(self, child: _Child) -> tuple[int, str]:
        self._children.remove(child)
        for descriptor in (child.stdin, child.stdout):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        return child.end()

    def _drop_everything(self) -> None:
        for child in list(self._children):
            child.process.kill()  # all at once, so that waiting for one does not let the others go on
        for child in list(self._children):
            self._forget(child)
        self._waiting.clear()
        self._ready.clear()
        self._ready_bytes = 0


def _cause_of_death(code: int, said: str) -> str:
    if code == -signal.SIGALRM:
        return "timeout"
    if code in _FROM_OUTSIDE:
        return "killed"
    if code == EXIT_OUT_OF_MEMORY or any(words in said for words in _OUT_OF_MEMORY):
        return "memory"
    return "crashed"


def _child_environment() -> dict[str, str]:
    """The few variables a child gets: enough to import this very package, no secrets."""
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    environment |= {
        "PYTHONSAFEPATH": "1",
        "PYTHONUTF8": "1",
        # One thread each: there are as many children as cores, and each thread maps memory of its own.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }
    root = Path(__file__).absolute().parent.parent.parent
    paths = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    # An installed package is found anyway; putting site-packages first could hide the standard library.
    if str(root) not in site.getsitepackages():
        paths.insert(0, str(root))
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in paths)
    return environment


def _failure(flight: _Flight, error: str) -> ParseResult:
    task = flight.task
    return ParseResult(
        key=task.key,
        path=task.path,
        chunks=[],
        words=[],
        language=task.language,
        fallback=flight.cause,
        error=error,
    )


def _result(flight: _Flight, head: FrameHead, body: bytes) -> ParseResult:
    """The result in a child's answer. Raises BrokenWire for any answer that is not well formed."""
    task = flight.task
    error = head.get("error")
    if error is not None:
        return _failure(flight, str(error))
    chunks, words = unpack_chunks(head.get("rows"), body, path=task.path, size_bytes=len(task.data))
    return ParseResult(
        key=task.key,
        path=task.path,
        chunks=chunks,
        words=words,
        language=chunks[0].language if chunks else task.language,
        fallback=flight.cause,
        error=None,
        secrets=unpack_secrets(head.get("secrets")),
    )
