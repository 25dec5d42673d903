"""The pool of parser processes, with real processes: what comes out, and what a hostile file may cost."""

import hashlib
import itertools
import os
import random
import select
import signal
import subprocess
import sys
import sysconfig
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from counting import calls_made
from waiting import wait_until

from codechunk.chunking import ChunkSettings, chunk_source
from codechunk.errors import CodechunkError
from codechunk.pool.frames import MEBIBYTE
from codechunk.pool.pool import ChunkPool, ParseResult, ParseTask, TokenMode
from codechunk.text.tokens import count_tokens
from codechunk.text.words import index_words

SETTINGS = ChunkSettings()

# The real child, with a parser that has the bugs a grammar can have: it obeys the file.
HOSTILE_CHILD = """
    import ctypes, dataclasses, os, sys, time
    from pathlib import Path
    from codechunk.pool import child

    chunk_file = child.chunk_source

    def chunk_source(data, *, parse=True, **rest):
        both, _, order = data.decode("latin-1").partition("!")
        if both != "always" and not parse:
            return chunk_file(data, parse=parse, **rest)
        if order == "hang":
            Path(__file__).with_name(f"hanging-{os.getpid()}").touch()
            while True:
                pass
        napped = Path(__file__).with_name("napping")
        if order == "nap" and not napped.exists():
            napped.touch()
            time.sleep(9000)
        if order == "segfault":
            ctypes.string_at(0)
        if order == "bug":
            raise RuntimeError("the list of nodes is empty")
        if order == "memory":
            hoard = [b"x" * (n + (1 << 20)) for n in range(4000)]
        if order == "native memory":
            os.write(2, b"tree-sitter failed to allocate 1073741824 bytes")
            os.abort()
        if order == "chatter":
            print("hello " * 1000, flush=True)
            os.write(1, b"ccp1" * 1000)
        chunks = chunk_file(data, parse=parse, **rest)
        if order == "fooled" and rest["trust_estimate"]:
            return [dataclasses.replace(chunk, header="x y " * 9000) for chunk in chunks]
        if order == "too long":
            return [dataclasses.replace(chunk, header="x y " * 9000) for chunk in chunks]
        if order == "out of span":
            return [dataclasses.replace(chunk, end_byte=10**6) for chunk in chunks]
        return chunks

    child.chunk_source = chunk_source
    child.main()
"""


@pytest.fixture
def hostile(tmp_path: Path) -> tuple[str, str]:
    script = tmp_path / "hostile_child.py"
    script.write_text(textwrap.dedent(HOSTILE_CHILD))
    return sys.executable, str(script)


def make_pool(
    *,
    jobs: int = 2,
    token_mode: TokenMode = "on_demand",
    sample_percent: int = 10,
    timeout_s: float = 10.0,
    memory_bytes: int = 500 * MEBIBYTE,
    child_argv: tuple[str, ...] | None = None,
) -> ChunkPool:
    return ChunkPool(
        jobs=jobs,
        settings=SETTINGS,
        token_mode=token_mode,
        sample_percent=sample_percent,
        seed="a seed",
        timeout_s=timeout_s,
        memory_bytes=memory_bytes,
        child_argv=child_argv,
    )


def make_task(key: int, data: bytes | str, *, counted: int = 0) -> ParseTask:
    content = data if isinstance(data, bytes) else data.encode()
    return ParseTask(key=key, path=f"file{key}.py", data=content, language="python", encoding="utf-8", counted=counted)


def harmless(first: int, count: int) -> Iterator[ParseTask]:
    return (make_task(key, f"def f{key}():\n    return {key}\n") for key in range(first, first + count))


def by_key(results: Iterator[ParseResult]) -> dict[int, ParseResult]:
    answers = list(results)
    keyed = {result.key: result for result in answers}
    assert len(keyed) == len(answers), "each task is answered once"
    return keyed


def stdlib_files(limit: int) -> list[tuple[str, bytes]]:
    """Files of the standard library, spread over it by a hash of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    found = [path for path in root.rglob("*.py") if "site-packages" not in path.parts]
    found.sort(key=lambda path: hashlib.sha256(str(path.relative_to(root)).encode()).digest())
    files = []
    for path in found:
        data = path.read_bytes()
        if data.isascii() and 0 < len(data) < 60_000:
            files.append((str(path.relative_to(root)), data))
    return files[:limit]


def napping(hostile: tuple[str, str]) -> Path:
    """There once a child has fallen asleep over a file that says so; the next one that reads it stays awake."""
    return Path(hostile[1]).with_name("napping")


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


_BEFORE: set[int] = set()


@pytest.fixture(autouse=True)
def _earlier_children() -> None:
    """Processes that serve the whole session (commands are forked from one) are nobody's leftovers."""
    _BEFORE.clear()
    _BEFORE.update(child.pid for child in psutil.Process().children())


def children_of_this_test() -> list[int]:
    children = {child.pid for child in psutil.Process().children()} - _BEFORE
    return [pid for pid in children if not is_gone(pid)]


def test_hundreds_of_real_files_come_back_exactly_as_chunked_in_process() -> None:
    files = stdlib_files(300)
    tasks = [
        ParseTask(key=key, path=path, data=data, language="python", encoding="utf-8")
        for key, (path, data) in enumerate(files)
    ]
    with make_pool(token_mode="all") as pool:
        results = by_key(pool.run(tasks))
    assert results.keys() == set(range(len(files)))
    assert pool.replaced == 0
    for key, (path, data) in enumerate(files):
        result = results[key]
        assert (result.path, result.fallback, result.error) == (path, None, None)
        expected = chunk_source(data, path=path, language="python", encoding="utf-8", settings=SETTINGS)
        for chunk, wanted, words in zip(result.chunks, expected, result.words, strict=True):
            assert chunk.text == wanted.text
            assert (chunk.start_byte, chunk.end_byte) == (wanted.start_byte, wanted.end_byte)
            assert (chunk.start_line, chunk.end_line) == (wanted.start_line, wanted.end_line)
            assert (chunk.kind, chunk.symbol, chunk.header) == (wanted.kind, wanted.symbol, wanted.header)
            assert type(chunk.kind) is type(wanted.kind)
            assert chunk.language == wanted.language == result.language
            assert words == index_words(wanted.text)
        for chunk in result.chunks[:2]:
            assert chunk.tokens == count_tokens(chunk.embedding_text)


def test_text_beyond_ascii_survives_the_pipe() -> None:
    source = 'NAME = "Grüße, 世界 🎉"\n\n\ndef gruß():\n    return "𝒳\x00"\n'
    odd = ParseTask(key=2, path="caf\udce9.py", data=b"x = '\xe9'\n", language="python", encoding="latin-1")
    with make_pool(jobs=1) as pool:
        results = by_key(pool.run([make_task(1, source), odd]))
    assert "".join(chunk.text for chunk in results[1].chunks).replace("\n", "") == source.replace("\n", "")
    assert results[2].path == "caf\udce9.py"
    assert "é" in results[2].chunks[0].text


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_hangs_the_parser_is_cut_by_lines_and_holds_nobody_back(
    hostile: tuple[str, str], jobs: int
) -> None:
    with make_pool(jobs=jobs, timeout_s=3.0, child_argv=hostile) as pool:
        order = list(pool.run(itertools.chain([make_task(0, "once!hang")], harmless(1, 60))))
    results = {result.key: result for result in order}
    assert results.keys() == set(range(61))
    assert results[0].fallback == "timeout"
    assert results[0].error is None
    assert results[0].chunks[0].text == "once!hang"
    assert all(results[key].fallback is None and results[key].chunks for key in range(1, 61))
    assert pool.replaced == 1
    if jobs == 2:
        assert order[-1].key == 0, "those queued behind it went to the other child"


@pytest.mark.parametrize(
    ("order", "reason"),
    [("segfault", "crashed"), ("bug", "crashed"), ("memory", "memory"), ("native memory", "memory")],
)
def test_a_file_that_kills_the_parser_costs_only_itself(hostile: tuple[str, str], order: str, reason: str) -> None:
    tasks = itertools.chain(harmless(1, 10), [make_task(0, f"once!{order}")], harmless(11, 10))
    with make_pool(jobs=1, child_argv=hostile) as pool:
        results = by_key(pool.run(tasks))
    assert results.keys() == set(range(21))
    assert (results[0].fallback, results[0].error) == (reason, None)
    assert results[0].chunks
    assert all(results[key].fallback is None and results[key].error is None for key in range(1, 21))
    assert pool.replaced == 1


@pytest.mark.parametrize(("order", "reason"), [("hang", "timeout"), ("segfault", "crashed")])
def test_a_file_that_cannot_even_be_cut_by_lines_is_an_error(hostile: tuple[str, str], order: str, reason: str) -> None:
    with make_pool(timeout_s=1.0, child_argv=hostile) as pool:
        results = by_key(pool.run([make_task(0, f"always!{order}"), *harmless(1, 3)]))
    assert results[0].error == f"parsing: {reason}; cutting it by lines: {reason}"
    assert results[0].chunks == []
    assert all(results[key].error is None for key in (1, 2, 3))
    assert pool.replaced == 2


def test_real_hostile_files_stay_within_the_limits() -> None:
    # The last one takes the Python grammar several seconds: it comes back because it is cut off.
    noise = random.Random(7)  # any noise will do
    hostile_files = [
        b"x = " + b"1+" * 500_000 + b"1\n",
        b"(" * MEBIBYTE,
        b"\n".join(noise.randbytes(60).replace(b"\n", b"") for _ in range(17_000)),
    ]
    peak = 0
    with make_pool(jobs=1, timeout_s=1.0) as pool:
        list(pool.run(harmless(0, 1)))
        for key, data in enumerate(hostile_files):
            (result,) = pool.run([make_task(key, data)])
            assert result.chunks or result.error
            peak = max([peak, *(psutil.Process(pid).memory_info().rss for pid in pool.pids)])
    assert result.fallback == "timeout"
    assert peak < 500 * MEBIBYTE


def test_a_child_never_holds_more_memory_than_allowed(tmp_path: Path, hostile: tuple[str, str]) -> None:
    script = tmp_path / "measure.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import resource
            from codechunk.chunking import ChunkSettings
            from codechunk.pool.pool import ChunkPool, ParseTask

            task = ParseTask(key=0, path="a.py", data=b"x!memory", language="python", encoding="utf-8")
            with ChunkPool(jobs=1, settings=ChunkSettings(), token_mode="on_demand", sample_percent=10,
                           seed="s", memory_bytes=200 << 20, child_argv={hostile!r}) as pool:
                print(*(result.fallback for result in pool.run([task])))
            print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=True)
    fallback, peak_kib = done.stdout.split()
    assert fallback == "memory"
    assert 150 * 1024 < int(peak_kib) < 205 * 1024


def test_a_child_that_has_grown_is_relieved_and_loses_no_file() -> None:
    # Half of the limit is below what a child needs to exist: it retires after each file.
    with make_pool(jobs=1, memory_bytes=20 * MEBIBYTE) as pool:
        results = by_key(pool.run(harmless(0, 4)))
    assert all(result.fallback is None and result.chunks for result in results.values())
    assert len(results) == 4
    assert pool.replaced == 0


def test_a_child_killed_from_outside_is_replaced_and_its_file_parsed_again_whole(
    hostile: tuple[str, str],
) -> None:
    with make_pool(jobs=1, child_argv=hostile) as pool:
        results = pool.run(itertools.chain(harmless(1, 1), [make_task(0, "once!nap")], harmless(2, 20)))
        answers = [next(results)]
        wait_until(napping(hostile).exists, "the child read the file")
        os.kill(pool.pids[0], signal.SIGKILL)
        answers += results
    assert {answer.key for answer in answers} == set(range(22))
    assert all(answer.fallback is None and answer.error is None for answer in answers)
    assert pool.replaced == 1


def test_a_stopped_child_is_killed_by_the_parent(hostile: tuple[str, str]) -> None:
    # SIGSTOP also stops the child's own timer from ending it.
    with make_pool(jobs=1, timeout_s=2.0, child_argv=hostile) as pool:
        results = pool.run(itertools.chain(harmless(1, 1), [make_task(0, "once!nap")], harmless(2, 5)))
        answers = [next(results)]
        wait_until(napping(hostile).exists, "the child read the file")
        os.kill(pool.pids[0], signal.SIGSTOP)
        answers += results
    keyed = {answer.key: answer for answer in answers}
    assert keyed.keys() == set(range(7))
    assert keyed[0].fallback == "timeout"
    assert pool.replaced == 1


def test_what_a_child_prints_does_not_reach_the_wire(hostile: tuple[str, str]) -> None:
    with make_pool(jobs=1, child_argv=hostile) as pool:
        results = by_key(pool.run([make_task(0, "once!chatter"), *harmless(1, 5)]))
    assert all(result.fallback is None and result.error is None for result in results.values())
    assert pool.replaced == 0


@pytest.mark.parametrize(
    "noise",
    [
        "b'no message at all, but long enough to be one'",
        "wire.frame({'ready': True}) + b'\\0' * 40",
        "wire.frame({'ready': True}) + b'ccp1' + b'\\xff' * 8",
        "wire.frame({'ready': True}) + wire.frame({'flight': 999, 'rows': []})",
        "wire.frame({'ready': True}) + wire.frame({'flight': 1, 'rows': [[1, 2]]})",
        "wire.frame({'ready': True}) + wire.frame({'flight': 1, 'rows': 7}, b'\\xff')",
    ],
)
def test_a_child_that_sends_garbage_is_not_believed(tmp_path: Path, noise: str) -> None:
    script = tmp_path / "garbage.py"
    script.write_text(
        "import sys, time\nfrom codechunk.pool import frames as wire\n"
        f"sys.stdin.buffer.read(40)\nsys.stdout.buffer.write({noise})\nsys.stdout.flush()\ntime.sleep(30)\n"
    )
    with make_pool(jobs=1, child_argv=(sys.executable, str(script))) as pool:
        if "ready" not in noise:
            with pytest.raises(CodechunkError, match="cannot start"):
                list(pool.run(harmless(0, 1)))
        else:
            results = list(pool.run(harmless(0, 1)))
            assert [(result.fallback, bool(result.error)) for result in results] == [("crashed", True)]
    assert children_of_this_test() == []


def test_a_chunk_outside_of_its_file_is_refused(hostile: tuple[str, str]) -> None:
    with make_pool(jobs=1, child_argv=hostile) as pool:
        (result,) = pool.run([make_task(0, "once!out of span")])
    assert result.fallback == "crashed"
    assert result.chunks[-1].end_byte <= len("once!out of span")


def test_a_fooled_estimate_is_cut_again_with_every_piece_counted(hostile: tuple[str, str]) -> None:
    with make_pool(jobs=1, token_mode="all", child_argv=hostile) as pool:
        (result,) = pool.run([make_task(0, "once!fooled")])
    assert result.error is None
    assert [chunk.text for chunk in result.chunks] == ["once!fooled"]
    assert result.chunks[0].tokens is not None


def test_a_chunk_over_the_token_limit_fails_its_file(hostile: tuple[str, str]) -> None:
    with make_pool(jobs=1, token_mode="all", child_argv=hostile) as pool:
        (result,) = pool.run([make_task(0, "once!too long")])
    assert result.chunks == []
    assert "over the token limit" in str(result.error)


@pytest.mark.parametrize("source", ["import no_such_module_anywhere", "raise SystemExit(3)"])
def test_a_child_that_cannot_start_is_one_clear_error(source: str) -> None:
    with (
        make_pool(child_argv=(sys.executable, "-c", source)) as pool,
        pytest.raises(CodechunkError, match=r"cannot start \((.*no_such_module_anywhere.*|exit code 3)\)"),
    ):
        list(pool.run(harmless(0, 50)))
    assert pool.replaced == 3
    assert children_of_this_test() == []


def test_an_interpreter_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    with (
        make_pool(child_argv=(str(tmp_path / "nothing"),)) as pool,
        pytest.raises(CodechunkError, match="Cannot start a parser process"),
    ):
        list(pool.run(harmless(0, 1)))


def test_children_die_with_a_parent_that_was_killed(tmp_path: Path, hostile: tuple[str, str]) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from codechunk.chunking import ChunkSettings
            from codechunk.pool.pool import ChunkPool, ParseTask

            def tasks():
                for key in range(10):
                    yield ParseTask(key=key, path="a.py", data=b"x = 1", language="python", encoding="utf-8")
                for key in range(10, 12):
                    yield ParseTask(key=key, path="a.py", data=b"x!hang", language="python", encoding="utf-8")

            with ChunkPool(jobs=2, settings=ChunkSettings(), token_mode="on_demand", sample_percent=10,
                           seed="s", timeout_s=60.0, child_argv={hostile!r}) as pool:
                for number, result in enumerate(pool.run(tasks()), start=1):
                    if number == 10:
                        print(*pool.pids, flush=True)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(is_gone(pid) for pid in pids)
        wait_until(lambda: len(list(tmp_path.glob("hanging-*"))) == 2, "both children parse")
        parent.kill()
    wait_until(lambda: all(is_gone(pid) for pid in pids), "the children died with their parent")


def test_closing_the_generator_early_leaves_no_children() -> None:
    with make_pool() as pool:
        results = pool.run(harmless(0, 10_000))
        next(results)
        assert len(children_of_this_test()) == 2
        results.close()
        assert pool.pids == []
        assert children_of_this_test() == []
        assert len(by_key(pool.run(harmless(0, 10)))) == 10, "the pool can be used again"


def test_an_error_of_the_caller_leaves_no_children() -> None:
    def broken() -> Iterator[ParseTask]:
        yield from harmless(0, 5)
        raise CodechunkError("git was killed")

    with make_pool() as pool:
        with pytest.raises(CodechunkError, match="git was killed"):
            list(pool.run(broken()))
        assert children_of_this_test() == []


def test_leaving_the_pool_ends_its_children_and_closing_twice_is_harmless() -> None:
    with make_pool() as pool:
        list(pool.run(harmless(0, 10)))
        assert len(children_of_this_test()) == len(pool.pids) > 0
    pool.close()
    assert children_of_this_test() == []


def test_an_empty_stream_starts_nothing() -> None:
    with make_pool() as pool:
        assert list(pool.run([])) == []
        assert pool.pids == []


def test_thousands_of_tiny_files_cost_little_each_and_no_more_when_there_are_many() -> None:
    def calls_per_file(files: int) -> float:
        results: list[ParseResult] = []
        made = calls_made(lambda: results.extend(pool.run(harmless(0, files))))
        assert {result.key for result in results} == set(range(files))
        return made / files

    with make_pool() as pool:
        list(pool.run(harmless(0, 2)))
        few, many = calls_per_file(500), calls_per_file(5_000)
    assert many < 200
    assert many < 1.5 * few


def test_an_endless_stream_is_read_only_as_far_as_it_is_consumed() -> None:
    pulled = 0
    text = b"some words to fill a file\n" * 10_000

    def endless() -> Iterator[ParseTask]:
        nonlocal pulled
        for key in itertools.count():
            pulled += 1
            yield ParseTask(key=key, path="a.txt", data=text, language="text", encoding="utf-8")

    process = psutil.Process()
    with make_pool() as pool:
        results = pool.run(endless())
        for _ in range(10):
            next(results)
        before = process.memory_info().rss
        ahead = []
        for consumed, _ in enumerate(itertools.islice(results, 60), start=11):
            ahead.append(pulled - consumed)
        assert max(ahead) < 40
        assert process.memory_info().rss - before < 60 * MEBIBYTE
        results.close()


def test_a_slow_caller_is_not_taken_for_a_slow_file(monkeypatch: pytest.MonkeyPatch) -> None:
    large = b"def function():\n    return 'a line of some length'\n\n\n" * 5_000
    with make_pool(timeout_s=30.0) as pool:
        results = pool.run(make_task(key, large) for key in range(6))
        first = next(results)
        working = [child.stdout for child in pool._children if child.clock is not None]
        wait_until(lambda: len(select.select(working, [], [], 1.0)[0]) == len(working), "each has an answer begun")
        now = time.monotonic
        monkeypatch.setattr("codechunk.pool.pool.time.monotonic", lambda: now() + 3_600.0)
        answers = [first, *results]
    assert all(answer.fallback is None and answer.error is None for answer in answers)
    assert pool.replaced == 0


def test_the_sample_is_drawn_by_text_and_does_not_depend_on_the_order() -> None:
    tasks = list(harmless(0, 400))
    with make_pool(token_mode="sample", sample_percent=25) as pool:
        forth = by_key(pool.run(tasks))
        back = by_key(pool.run(reversed(tasks)))
    assert forth == back
    counted = [result.chunks[0].tokens for result in forth.values() if result.chunks[0].tokens is not None]
    assert 60 < len(counted) < 140
    assert all(tokens > 0 for tokens in counted)


def test_chunks_that_were_counted_before_are_not_counted_again() -> None:
    source = "\n\n".join(f"def function_{n}(argument):\n" + "    print(argument)\n" * 60 for n in range(6))
    with make_pool(jobs=1, token_mode="all") as pool:
        fresh, resumed = sorted(
            pool.run([make_task(0, source), make_task(1, source, counted=2)]), key=lambda result: result.key
        )
    assert len(fresh.chunks) > 2
    assert None not in [chunk.tokens for chunk in fresh.chunks]
    assert [chunk.tokens for chunk in resumed.chunks] == [
        None,
        None,
        *(chunk.tokens for chunk in fresh.chunks[2:]),
    ]


def test_on_demand_counts_nothing() -> None:
    with make_pool(jobs=1) as pool:
        (result,) = pool.run(harmless(0, 1))
    assert result.chunks[0].tokens is None


def test_a_child_gets_no_secret_and_no_ctrl_c(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Nor does it import what lies in the folder the user happens to be in.
    (tmp_path / "hashlib.py").write_text("raise RuntimeError('imported from the current folder')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECHUNK_GEMINI_API_KEY", "a canary")
    with make_pool(jobs=1) as pool:
        list(pool.run(harmless(0, 1)))
        (pid,) = pool.pids
        assert "a canary" not in psutil.Process(pid).environ().values()
        assert os.getsid(pid) != os.getsid(0)
        imported = Path(f"/proc/{pid}/maps").read_text() if sys.platform == "linux" else ""
    assert "chromadb" not in imported
    assert pool.replaced == 0
