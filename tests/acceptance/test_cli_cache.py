"""Acceptance: `cache export` and `cache import`, so that a machine with an empty disk buys only what is new."""

import hashlib
import os
import signal
import stat
import subprocess
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Cli
from engine_helpers import open_state
from gemini_emulator import GeminiEmulator
from git_helpers import GitRepo
from paid_helpers import FUNCTION, Paid, small_repository
from queue_helpers import SPACE, add_texts, by_text, rows

from codechunk.errors import CodechunkError, UsageError
from codechunk.progress import Silence
from codechunk.state import IndexRow, Space, State
from codechunk.upkeep.vector_file import export_cache, import_cache
from codechunk.upkeep.vector_file_format import Record


@pytest.fixture(scope="module")
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator() as running:
        yield running


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, emulator: GeminiEmulator) -> "Shop":
    """A machine that has bought its six texts, and their cache; the tests change neither it nor its repository."""
    root = tmp_path_factory.mktemp("shop")
    cli, repo, file = Paid(root, emulator), small_repository(root / "demo"), root / "vectors.ccv"
    assert indexed(cli, repo) == 6
    exported = cli.run("cache", "export", file, "--json")
    assert exported.code == 0, exported.err
    return Shop(cli, repo, file, exported.json)


@dataclass(frozen=True)
class Shop:
    cli: Paid
    repo: GitRepo
    file: Path
    exported: dict[str, object]


def indexed(cli: Paid, repo: GitRepo, *more: str) -> int:
    """Index a repository with direct calls; returns how many texts were sent."""
    done = cli.paid("index", repo.path, "--mode", "sequential", "--json", *more)
    assert done.code == 0, done.err
    sent: int = done.json["embedding"]["texts_sent"]
    return sent


def unit_vectors(count: int, *, dimensions: int = SPACE.dimensions, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def records_of(texts: list[str]) -> list[Record]:
    vectors = unit_vectors(len(texts)).astype("<f2")
    return [
        Record(sha=hashlib.sha256(text.encode()).hexdigest(), vector=vectors[row].tobytes(), tokens=7)
        for row, text in enumerate(texts)
    ]


def add_index(state: State, ref: str) -> IndexRow:
    return state.catalog.open_index(url="https://host.invalid/o/n", names=["o/n"], ref=ref, space=SPACE)


# ---------------------------------------------------------------- the way there and back


def test_a_machine_with_an_empty_disk_and_the_cache_sends_nothing(
    tmp_path: Path, shop: Shop, emulator: GeminiEmulator
) -> None:
    space = {"provider": "gemini", "model": "gemini-embedding-001", "dimensions": 128, "vectors": 6}
    told = {"file": str(shop.file), "bytes": shop.file.stat().st_size, "vectors": 6, "spaces": [space]}
    assert shop.exported == {**told, "seconds": shop.exported["seconds"]}
    assert stat.S_IMODE(shop.file.stat().st_mode) == 0o600
    runner, bought = Paid(tmp_path, emulator), dict(emulator.paid)
    imported = runner.run("cache", "import", shop.file, "--json")
    assert imported.code == 0, imported.err
    assert imported.json == {**told, "new": 6, "known": 0, "seconds": imported.json["seconds"]}
    assert indexed(runner, shop.repo) == 0
    assert dict(emulator.paid) == bought
    assert runner.final_state() == shop.cli.final_state()
    assert runner.sql("SELECT DISTINCT state, attempts, paid FROM embeddings") == [("ready", 0, None)]
    assert runner.sql("SELECT text_sha, tokens FROM embeddings ORDER BY 1") == shop.cli.sql(
        "SELECT text_sha, tokens FROM embeddings ORDER BY 1"
    )
    # a cache of a cache is the same file
    again = tmp_path / "again.ccv"
    assert runner.run("cache", "export", again).code == 0
    assert again.read_bytes() == shop.file.read_bytes()
    # and only what is new is bought
    copy = GitRepo(tmp_path / "demo")
    copy.commit({"new.py": FUNCTION.format(99), "old.py": FUNCTION.format(3)})
    assert indexed(runner, copy) == 1
    assert len(emulator.paid) == len(bought) + 1


def test_what_is_known_already_is_counted_and_stays(tmp_path: Path, shop: Shop) -> None:
    before = shop.cli.final_state()
    told = shop.cli.run("cache", "export", tmp_path / "v.ccv")
    assert (told.code, told.out) == (0, "")
    assert f"Exported 6 vectors to {tmp_path / 'v.ccv'}" in told.err
    again = shop.cli.run("cache", "import", shop.file)
    assert (again.code, again.out) == (0, "")
    assert "Imported 0 vectors" in again.err
    assert "6 were here already" in again.err
    assert shop.cli.final_state() == before
    quiet = shop.cli.run("-q", "cache", "import", shop.file)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_an_export_of_one_repository_holds_what_its_published_indexes_use(tmp_path: Path, shop: Shop) -> None:
    counts = {}
    with open_state(tmp_path) as state:
        main = add_texts(state, ["one", "two"], name="main")
        add_texts(state, ["two", "three", "four"], name="next")
        add_texts(state, ["five"], name="not published")
        texts = ["one", "two", "three", "four", "five", "of another repository"]
        state.cache.add(main.space_id, records_of(texts))
        for ref in ("main", "next"):
            index = add_index(state, ref)
            state.catalog.publish(index.next, commit="c" * 40, fingerprint="f", whole=True)
        for name in (None, "o/n", "o/n@main", "o/n@next"):
            told = export_cache(state, tmp_path / "v.ccv", repository=name, reporter=Silence())
            counts[name] = told.vectors
        with pytest.raises(UsageError, match="there is o/n@main, o/n@next"):
            export_cache(state, tmp_path / "w.ccv", repository="o/n@not published", reporter=Silence())
    assert counts == {None: 6, "o/n": 4, "o/n@main": 2, "o/n@next": 3}
    assert not (tmp_path / "w.ccv").exists()
    done = shop.cli.run("cache", "export", tmp_path / "x.ccv", "--repo", "demo@main")
    assert done.code == 0, done.err
    assert (tmp_path / "x.ccv").read_bytes() == shop.file.read_bytes()


def test_what_an_unfinished_run_has_cut_is_not_published_yet(tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        index = add_texts(state, ["old"], name="main")
        state.cache.add(index.space_id, records_of(["old", "new"]))
        state.catalog.publish(index.next, commit="c" * 40, fingerprint="f", whole=True)
        with state.database.begin() as connection:  # as the next generation is while it is written
            connection.exec_driver_sql("UPDATE files SET from_generation = 2")
        told = export_cache(state, tmp_path / "v.ccv", repository="o/n", reporter=Silence())
    assert told.vectors == 0


def test_texts_that_wait_for_a_provider_are_ready_with_the_cache(
    tmp_path: Path, shop: Shop, emulator: GeminiEmulator
) -> None:
    runner, bought = Paid(tmp_path, emulator), dict(emulator.paid)
    locked_out = {"CODECHUNK_GEMINI_API_KEY": "AIzaSyNotTheKeyNotTheKeyNotTheKeyNotTheKe"}
    assert runner.paid("index", shop.repo.path, "--mode", "sequential", **locked_out).code == 1
    assert dict(runner.sql("SELECT state, count(*) FROM embeddings GROUP BY 1")) == {"pending": 6}
    assert runner.run("cache", "import", shop.file, "--json").json["new"] == 6
    indexed(runner, shop.repo)
    assert dict(emulator.paid) == bought
    assert runner.run("doctor").code == 0


def test_a_text_that_waits_or_failed_is_ready_one_in_work_is_left_alone_and_a_vector_stays(tmp_path: Path) -> None:
    texts = ["waits", "failed", "in work", "bought"]
    with open_state(tmp_path) as state:
        index = add_texts(state, texts)
        in_work = by_text(state, "id")["in work"]
        for claimed in state.queue.claim(index.space_id, "somebody", most=4, lease_s=600):
            if claimed.text == "failed":
                state.queue.fail(claimed.embedding_id, "no")
            elif claimed.text == "bought":
                state.queue.save_direct([claimed.embedding_id], unit_vectors(1, seed=9), tokens=[3], requests=1)
        with state.database.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE embeddings SET state = 'pending', owner = NULL, lease_until = NULL"
                " WHERE state = 'processing' AND id != ?",
                (in_work,),
            )
        assert set(by_text(state, "state").values()) == {"pending", "failed", "processing", "ready"}
        kept = rows(state, "SELECT embedding_id, vector FROM vectors")
        records = records_of([*texts, "unknown here"])
        assert state.cache.add(index.space_id, records) == 3
        assert by_text(state, "state") == {
            "waits": "ready",
            "failed": "ready",
            "in work": "processing",
            "bought": "ready",
        }
        assert by_text(state, "tokens") == {"waits": 7, "failed": 7, "in work": None, "bought": 3}
        assert by_text(state, "error")["failed"] is None
        assert by_text(state, "owner")["in work"] == "somebody"
        assert by_text(state, "paid") == {"waits": None, "failed": None, "in work": None, "bought": "direct"}
        stored = rows(state, "SELECT embedding_id, vector FROM vectors")
        assert len(stored) == 4
        assert set(kept) <= set(stored)
        assert state.cache.add(index.space_id, records) == 0


# ---------------------------------------------------------------- refusals


def test_a_damaged_or_foreign_file_is_refused_and_nothing_changes(tmp_path: Path, shop: Shop) -> None:
    whole, file, runner = shop.file.read_bytes(), tmp_path / "vectors.ccv", Cli(tmp_path)
    middle = len(whole) // 2
    cases = {
        "is damaged": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "it was cut off": whole[:-1],
        "is not a cache file of codechunk": b"PK\x03\x04" + whole,
        "update codechunk": whole.replace(b"cache 1", b"cache 2", 1),
    }
    for sentence, data in cases.items():
        file.write_bytes(data)
        with pytest.raises(CodechunkError, match=f"{sentence}.*Nothing was imported"):
            import_cache(file, open_state=lambda: State(tmp_path / "state.db"), reporter=Silence())
    done = runner.run("cache", "import", file)
    assert done.code == 1
    assert sentence in done.err
    assert done.err.count("\n") == 1
    assert not (runner.data / "state.db").exists()
    assert not (tmp_path / "state.db").exists()


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, sentence in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "not a regular file"),
        (tmp_path / "gone.ccv", "cannot be read: No such file or directory"),
    ):
        with pytest.raises(CodechunkError, match=sentence):
            import_cache(path, open_state=lambda: State(tmp_path / "state.db"), reporter=Silence())
    assert not (tmp_path / "state.db").exists()
    cli = Cli(tmp_path)
    for direction in ("import", "export"):
        assert "not a pipe" in cli.run("cache", direction, "-").err


def test_a_file_that_is_no_cache_is_never_replaced_and_a_cache_is(tmp_path: Path) -> None:
    mine, empty, link = tmp_path / "thesis.txt", tmp_path / "empty", tmp_path / "link"
    mine.write_text("years of work")
    empty.touch()
    link.symlink_to(empty)
    cli = Cli(tmp_path)
    refused = cli.run("cache", "export", mine)
    assert refused.code == 2
    assert "name another file" in refused.err
    assert mine.read_text() == "years of work"
    with filled(tmp_path / "filled", 10) as state:
        for target in (empty, link, empty):
            export_cache(state, target, repository=None, reporter=Silence())
            assert empty.read_bytes().startswith(b"codechunk cache 1\n")
        assert link.is_symlink()
        for odd in (tmp_path, Path("/dev/null")):
            with pytest.raises(UsageError, match="not a cache file"):
                export_cache(state, odd, repository=None, reporter=Silence())
        with pytest.raises(CodechunkError, match="cannot be written: No such file or directory"):
            export_cache(state, tmp_path / "no" / "folder.ccv", repository=None, reporter=Silence())
    assert list(tmp_path.glob(".codechunk-*")) == []


def test_an_export_without_an_index_is_an_empty_cache(tmp_path: Path) -> None:
    file = tmp_path / "v.ccv"
    with State(tmp_path / "state.db") as state:
        assert export_cache(state, file, repository=None, reporter=Silence()).vectors == 0
        with pytest.raises(UsageError, match="nothing is indexed yet"):
            export_cache(state, file, repository="x", reporter=Silence())
    document = import_cache(file, open_state=lambda: State(tmp_path / "two.db"), reporter=Silence())
    assert (document.new, document.known, document.spaces) == (0, 0, [])


# ---------------------------------------------------------------- ends in the middle


def filled(folder: Path, count: int, *, dimensions: int = 4) -> State:
    """A database with so many vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    state = State(folder / "state.db")
    space = state.catalog.space_id(
        Space(provider="gemini", model="m", dimensions=dimensions, task="t", header_version=1)
    )
    values = unit_vectors(count, dimensions=dimensions).astype("<f2")
    records = [
        Record(sha=hashlib.sha256(b"%d" % number).hexdigest(), vector=values[number].tobytes(), tokens=None)
        for number in range(count)
    ]
    assert state.cache.add(space, records) == count
    return state


class Stopped(Silence):
    """Ctrl-C after so many words of the workflow."""

    def __init__(self, after: int) -> None:
        self.left = after

    def stage(self, name: str, total: int | None, unit: str) -> None:
        self.advance()

    def reach(self, current: int, *, total: int | None) -> None:
        self.advance()

    def advance(self, count: int = 1) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def test_an_export_that_is_interrupted_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    file = folder / "vectors.ccv"
    with filled(tmp_path, 3000) as state:
        for old in (None, b"codechunk cache 1\nan older one"):
            if old is not None:
                file.write_bytes(old)
            for after in range(4):  # at the stage, at each thousand but the last, at the end
                with pytest.raises(KeyboardInterrupt):
                    export_cache(state, file, repository=None, reporter=Stopped(after))
                assert (file.read_bytes() if file.exists() else None) == old
                assert [path.name for path in folder.iterdir()] == ([file.name] if old else [])
        assert export_cache(state, file, repository=None, reporter=Stopped(4)).vectors == 3000


def test_an_import_that_is_interrupted_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    file = tmp_path / "vectors.ccv"
    with filled(tmp_path / "one", 9000) as one:
        export_cache(one, file, repository=None, reporter=Silence())
        expected = rows(one, "SELECT text_sha, vector FROM embeddings JOIN vectors ON embedding_id = id ORDER BY 1")
    target = tmp_path / "two.db"
    # the words are: Checking, three blocks, Importing, three blocks
    known = []
    for after in (3, 4, 5, 6):
        with pytest.raises(KeyboardInterrupt):
            import_cache(file, open_state=lambda: State(target), reporter=Stopped(after))
        known.append(target.exists() and len(rows(State(target), "SELECT 1 FROM vectors")))
    assert known == [False, False, 4096, 8192]
    document = import_cache(file, open_state=lambda: State(target), reporter=Silence())
    assert (document.new, document.known) == (808, 8192)
    query = "SELECT text_sha, vector FROM embeddings JOIN vectors ON embedding_id = id ORDER BY 1"
    assert rows(State(target), query) == expected


def test_a_signal_ends_an_export_with_exit_130_and_no_leftovers(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    filled(cli.data, 4000, dimensions=4096).close()
    out = tmp_path / "out"
    out.mkdir()
    code = cli.kill_when(lambda: any(out.iterdir()), "cache", "export", out / "v.ccv", sig=signal.SIGTERM)
    assert code == 130
    assert list(out.iterdir()) == []


def test_a_full_disk_is_a_sentence_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")
    try:
        with (
            filled(tmp_path, 1000, dimensions=256) as state,
            pytest.raises(CodechunkError, match=r"cannot be written: No space left on device; free some space"),
        ):
            export_cache(state, folder / "v.ccv", repository=None, reporter=Silence())
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", folder], check=True)


def test_memory_does_not_grow_with_the_cache(tmp_path: Path) -> None:
    with filled(tmp_path / "one", 8000, dimensions=1024) as state:
        tracemalloc.start()
        export_cache(state, tmp_path / "v.ccv", repository=None, reporter=Silence())
        import_cache(tmp_path / "v.ccv", open_state=lambda: State(tmp_path / "two.db"), reporter=Silence())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # 16 MB of vectors; a block of 4 MiB is there as bytes, as columns and as float32
    assert peak < 30_000_000, peak
