"""A chunker in a process of its own, asked over pipes: its memory is its own, and it may hang on a file.

`Worker` is the side that asks. Run as a program, this is the side that answers.
"""

import argparse
import gc
import json
import mmap
import os
import resource
import select
import signal
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.files import Entry, Pack
from benchmarks.health import Health, fields_of
from benchmarks.peers import PEERS, Chunker, Span, UnsupportedLanguageError

_GRACE_S = 10.0


class Worker:
    """Starts when first asked; is started again, without the file it was at, when it died or hung."""

    def __init__(self, name: str, folder: Path, *, max_tokens: int, limit_s: float) -> None:
        """`folder` holds the pack; `limit_s` is for one file."""
        self.excluded: list[tuple[str, bytes, str]] = []
        """Files that killed the process: path, data, why."""
        self._skipped: list[int] = []
        self._limit_s = limit_s
        self._pack = Pack(folder)
        self._mark_file = folder / f"mark-{name.replace(' ', '-')}"
        self._mark_file.write_bytes(bytes(8))
        self._name = name
        self._argv = [sys.executable, "-m", "benchmarks.worker", name, str(folder), str(max_tokens), str(limit_s)]
        self._argv.append(str(self._mark_file))
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, what: str, start: int, end: int | None) -> dict:
        """The answer about files [start, end). Ends only when the process has answered."""
        while True:
            process = self._started()
            request = {"what": what, "start": start, "end": end, "skipped": self._skipped}
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = self._awaited(process)
            if answer is not None:
                return json.loads(answer)
            self.close()
            if process.returncode > 0:
                raise RuntimeError(f"{self._name}: the bench itself failed, see above")
            at = self._at()
            if at in self._skipped:
                raise RuntimeError(f"{self._name} dies even without the file that it died at")
            entry = self._pack.entries[at]
            why = "hung" if process.returncode == -signal.SIGKILL else f"died with {process.returncode}"
            print(f"{self._name} {why} at {entry.path}", file=sys.stderr)
            self._skipped.append(at)
            self.excluded.append((entry.path, self._pack.data(entry), why))

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            scripts = Path(__file__).resolve().parents[1]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            self._process = subprocess.Popen(self._argv, cwd=scripts, **pipes)
        return self._process

    def _at(self) -> int:
        return int.from_bytes(self._mark_file.read_bytes(), "little")

    def _awaited(self, process: subprocess.Popen[bytes]) -> bytes | None:
        """The line that it answers; None when it died, or stands still at one file for too long."""
        at, since = self._at(), time.monotonic()
        while True:
            if select.select([process.stdout], [], [], 1.0)[0]:
                line = process.stdout.readline()
                if not line:
                    process.wait()
                return line or None
            if (now := self._at()) != at:
                at, since = now, time.monotonic()
            elif time.monotonic() - since > self._limit_s + _GRACE_S:
                return None


class TooLongError(BaseException):
    """The file took too long. No Exception: a chunker that swallows those must not swallow this."""


class _Answering:
    """The side that answers."""

    def __init__(self, name: str, folder: Path, max_tokens: int, limit_s: float, mark_file: Path) -> None:
        self.pack = Pack(folder)
        self.max_tokens = max_tokens
        self.limit_s = limit_s
        with mark_file.open("r+b") as file:
            self.mark = mmap.mmap(file.fileno(), 8)
        self.chunker = None if name == "bare parse" else PEERS[name]()
        self.work = _bare_parser() if self.chunker is None else self.chunker.pieces
        signal.signal(signal.SIGALRM, _too_long)

    def answer(self, request: dict) -> dict:
        numbers = range(request["start"], len(self.pack.entries) if request["end"] is None else request["end"])
        skipped = set(request["skipped"])
        files = [(number, self.pack.entries[number]) for number in numbers if number not in skipped]
        return self.timed(files) if request["what"] == "time" else fields_of(self.health(files))

    def timed(self, files: list[tuple[int, Entry]]) -> dict:
        by_language: dict[str, float] = defaultdict(float)
        chunks = size = taken = 0
        gc.collect()
        for number, entry in files:
            data = self.pack.data(entry)
            self.mark[:] = number.to_bytes(8, "little")
            start = time.process_time()
            try:
                signal.setitimer(signal.ITIMER_REAL, self.limit_s)
                chunks += len(self.work(data, entry.path, entry.language, self.max_tokens))
            except UnsupportedLanguageError:
                continue
            except (Exception, TooLongError):  # noqa: BLE001  whatever a chunker raises; `health` names it
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            by_language[entry.language] += time.process_time() - start
            size += entry.size
            taken += 1
        return {
            "cpu_s": sum(by_language.values()),
            "by_language": by_language,
            "bytes": size,
            "files": taken,
            "chunks": chunks,
            "peak_bytes": _peak_bytes(),
        }

    def health(self, files: list[tuple[int, Entry]]) -> Health:
        sums = Health()
        for number, entry in files:
            data = self.pack.data(entry)
            self.mark[:] = number.to_bytes(8, "little")
            try:
                signal.setitimer(signal.ITIMER_REAL, self.limit_s)
                pieces = self.chunker.kept(data, entry.path, entry.language, self.max_tokens)
            except UnsupportedLanguageError:
                continue
            except TooLongError:
                sums.failed(entry.path, data, "hung")
                continue
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  a panic in Rust is no Exception
                sums.failed(entry.path, data, type(error).__name__, str(error))
                continue
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            spans = self.chunker.spans(data, pieces)
            over_own = _over_own(self.chunker, spans, self.max_tokens)
            sums.add(entry.path, data, spans, limit=self.max_tokens, over_own=over_own)
        return sums


def _over_own(chunker: Chunker, spans: list[Span], max_tokens: int) -> int | None:
    if chunker.name == "codechunk":
        return None  # the limit of the bench is its own, and to count twice costs
    limit = chunker.limit(max_tokens)
    return sum(chunker.size(span.text) > limit for span in spans)


def _bare_parser() -> Callable[[bytes, str, str, int], Iterator]:
    from tree_sitter import Parser

    from codechunk.chunking.languages import load_language

    parsers: dict[str, Parser] = {}

    def parse(data: bytes, path: str, language: str, max_tokens: int) -> list:  # noqa: ARG001
        if language not in parsers:
            parsers[language] = Parser(load_language(language))
        parsers[language].parse(data)
        return []

    return parse


def _peak_bytes() -> int:
    """The most memory this process had at a time."""
    # On Linux, ru_maxrss begins with what the process that started this one had.
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _too_long(*_: object) -> None:
    raise TooLongError


def _main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in (("name", str), ("folder", Path), ("max_tokens", int), ("limit_s", float), ("mark_file", Path)):
        parser.add_argument(name, type=kind)
    args = parser.parse_args()
    # Packages print to the standard output what belongs elsewhere.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    answering = _Answering(**vars(args))
    for line in sys.stdin.buffer:
        answers.write(json.dumps(answering.answer(json.loads(line))).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    _main()
