"""The child process that chunks files for `codechunk.pool.pool`: `python -m codechunk.pool.child`.

Reads tasks from stdin and writes one answer each, in order, until stdin ends. It limits itself (memory,
time, core files), because the parent may be busy with its database while a file misbehaves here. Imports
only what chunking needs.
"""

import ctypes
import dataclasses
import gc
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from codechunk.chunking import ChunkSettings, chunk_source
from codechunk.pool.frames import EXIT_OUT_OF_MEMORY, MEBIBYTE, FrameHead, frame, pack_chunks, read_frame
from codechunk.selection import secrets
from codechunk.text.chunks import Chunk
from codechunk.text.sampling import is_sampled
from codechunk.text.tokens import count_tokens
from codechunk.text.words import index_words

_PR_SET_PDEATHSIG = 1
_PAGE = resource.getpagesize()
# However much memory the process already has, a file is let to have this much.
_LEAST_MEMORY = 64 * MEBIBYTE
_STDERR_BYTES = MEBIBYTE


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Orders:
    """What holds for all files: comes with the first message."""

    settings: ChunkSettings
    counting: str
    sample_percent: float
    seed: str
    memory_bytes: int
    secrets: secrets.SecretsMode


def main() -> None:
    """Serve until stdin ends. Exits with EXIT_OUT_OF_MEMORY when a file needs more than its memory."""
    tasks, answers = _take_over_stdio()
    opening = read_frame(tasks)
    if opening is None:
        return
    head = opening[0]
    _tie_to_parent(head["parent"])
    orders = _Orders(
        settings=ChunkSettings(**head["settings"]),
        counting=head["token_mode"],
        sample_percent=head["sample_percent"],
        seed=head["seed"],
        memory_bytes=head["memory_bytes"],
        secrets=head["secrets"],
    )
    _warm_up(orders)
    _lower(resource.RLIMIT_CORE, 0)
    # Pipes are not files: this only stops native code from filling the disk through stderr.
    _lower(resource.RLIMIT_FSIZE, _STDERR_BYTES)
    try:
        _serve(tasks, answers, orders)
    except MemoryError:
        os._exit(EXIT_OUT_OF_MEMORY)  # at once: anything more would need memory
    except BrokenPipeError:
        os._exit(0)  # the parent is gone or has no more use for us


def _serve(tasks: IO[bytes], answers: IO[bytes], orders: _Orders) -> None:
    answers.write(frame({"ready": True}))
    answers.flush()
    while (message := read_frame(tasks)) is not None:
        head, data = message
        _limit_memory(orders.memory_bytes)
        # The default action of SIGALRM ends the process, also in the middle of native code.
        signal.setitimer(signal.ITIMER_REAL, head["seconds"])
        answer, body = _answer(head, data, orders)
        signal.setitimer(signal.ITIMER_REAL, 0)
        retire = _has_grown(orders.memory_bytes)
        answers.write(frame({"flight": head["flight"], "retire": retire, **answer}, body))
        answers.flush()
        if retire:
            return


def _take_over_stdio() -> tuple[IO[bytes], IO[bytes]]:
    """The two pipes under private numbers: whatever prints to stdout from now on goes to stderr."""
    tasks = os.fdopen(os.dup(0), "rb", buffering=MEBIBYTE)
    answers = os.fdopen(os.dup(1), "wb", buffering=256 * 1024)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return tasks, answers


def _tie_to_parent(parent: int) -> None:
    """Die with the parent (Linux), however it dies. Ctrl-C is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())  # a parent that blocks signals hands that down
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we were tied to it
        sys.exit(0)


def _warm_up(orders: _Orders) -> None:
    """Load vocabulary and one grammar now, so that the first file does not pay for it with its time."""
    chunk_source(b"def warm(): pass\n", path="warm.py", language="python", settings=orders.settings)
    count_tokens("warm")
    gc.collect()
    gc.freeze()


def _memory() -> tuple[int, int]:
    """Address space and resident memory of this process, bytes."""
    size, resident = Path("/proc/self/statm").read_bytes().split()[:2]
    return int(size) * _PAGE, int(resident) * _PAGE


def _limit_memory(memory_bytes: int) -> None:
    """Let the address space grow by what is missing to `memory_bytes` of resident memory.

    Resident memory has no limit of its own on Linux. Address space has, but libraries map far more of it than
    they use: so the limit is set anew for each file, relative to what is mapped now.
    """
    if sys.platform == "linux":
        mapped, resident = _memory()
        _lower(resource.RLIMIT_AS, mapped + max(_LEAST_MEMORY, memory_bytes - resident))


def _lower(which: int, limit: int) -> None:
    """Set the soft limit, never above a hard limit that the user's own shell has set."""
    hard = resource.getrlimit(which)[1]
    resource.setrlimit(which, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _has_grown(memory_bytes: int) -> bool:
    """Whether this process keeps too much memory to go on, after giving back what it can."""
    if sys.platform != "linux" or _memory()[1] < memory_bytes // 2:
        return False
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
    return _memory()[1] >= memory_bytes // 2


def _answer(head: FrameHead, data: bytes, orders: _Orders) -> tuple[FrameHead, bytes]:
    """Look for secrets in the whole file, since they may span chunks, and cut it; where it is to be skipped or
    refused because of them, only their places are answered."""
    if orders.secrets == "off":
        return _chunk_file(head, data, (), orders)
    spans = secrets.find(data)
    told = {"secrets": [(place.line, place.kind) for place in secrets.places(data, spans)]}
    if spans and orders.secrets != "redact":
        return {"rows": [], **told}, b""
    answer, body = _chunk_file(head, secrets.mask(data, spans), spans, orders)
    return {**answer, **told}, body


def _chunk_file(
    head: FrameHead, data: bytes, spans: Sequence[secrets.Span], orders: _Orders
) -> tuple[FrameHead, bytes]:
    """Cut a file whose secrets, at `spans`, are masked by X; in texts a marker takes the place of the X."""
    counted = head["counted"]
    chunks = _cut(head, data, orders, trust_estimate=True)
    counts = list(_counts(chunks, counted, orders))
    if _over(chunks, counts, counted, orders):
        # The size estimate was fooled: cut again with every piece counted, those counted before too, because
        # their ordinals may be others now. The caller notices when what it saved does not fit.
        counted = 0
        chunks = _cut(head, data, orders, trust_estimate=False)
        counts = list(_counts(chunks, counted, orders))
        if _over(chunks, counts, counted, orders):
            return {"error": f"a chunk is over the token limit of {orders.settings.max_tokens}"}, b""
    if spans:
        chunks = [_marked(chunk, head, data, spans, orders) for chunk in chunks]
        counts = list(_counts(chunks, counted, orders))
    items = [(chunk, tokens, index_words(chunk.text)) for chunk, tokens in zip(chunks, counts, strict=True)]
    rows, body = pack_chunks(items)
    return {"rows": rows}, body


def _marked(chunk: Chunk, head: FrameHead, data: bytes, spans: Sequence[secrets.Span], orders: _Orders) -> Chunk:
    """The chunk with markers for the secrets in its text, unless markers, which may be longer than what they
    replace, would take it over the token limit: then the X that it was cut with stay. So they do in its header."""
    start, end = chunk.start_byte, chunk.end_byte
    if not any(span.start < end and span.end > start for span in spans):
        return chunk
    text = secrets.redact(data, spans, start, end, encoding=head["encoding"])
    marked = dataclasses.replace(chunk, text=text)
    return marked if count_tokens(marked.embedding_text) <= orders.settings.max_tokens else chunk


def _over(chunks: list[Chunk], counts: list[int | None], counted: int, orders: _Orders) -> bool:
    """Whether a chunk is over the limit. Where the mode asks for no count, one is made for this and forgotten:
    only few bytes are proof, and no chunk over the limit may be stored in any mode."""
    limit = orders.settings.max_tokens
    for ordinal, (chunk, tokens) in enumerate(zip(chunks, counts, strict=True)):
        if ordinal < counted:
            continue
        text = chunk.embedding_text
        if tokens is None and (len(text) > limit or len(text.encode("utf-8", "surrogatepass")) > limit):
            tokens = count_tokens(text)
        if tokens is not None and tokens > limit:
            return True
    return False


def _cut(head: FrameHead, data: bytes, orders: _Orders, *, trust_estimate: bool) -> list[Chunk]:
    return chunk_source(
        data,
        path=head["path"],
        language=head["language"],
        encoding=head["encoding"],
        settings=orders.settings,
        parse=head["parse"],
        trust_estimate=trust_estimate,
    )


def _counts(chunks: list[Chunk], counted: int, orders: _Orders) -> Iterator[int | None]:
    """The exact token count of each chunk, None where the mode does not ask for it or it is known already."""
    for ordinal, chunk in enumerate(chunks):
        if orders.counting == "on_demand" or ordinal < counted:
            yield None
        elif orders.counting == "all" or is_sampled(chunk.embedding_text, orders.seed, orders.sample_percent):
            yield count_tokens(chunk.embedding_text)
        else:
            yield None


if __name__ == "__main__":
    main()
