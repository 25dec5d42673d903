"""What is peculiar to Chroma, embedded and as a server: addresses, locks, damage. What every store must do is in
`test_vector_stores`."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from chroma_helpers import chroma_server, free_port
from waiting import wait_until

from codechunk.errors import IndexBusy, VectorStoreError
from codechunk.process.locks import FileLock
from codechunk.vectors.chroma import ChromaCollection, ChromaStore, _translated

Vectors = np.ndarray

COUNT = 2_600
IDS = [f"{n:032x}" for n in range(COUNT)]


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    """Unit vectors in all directions: among vectors that are alike, Chroma sometimes misses the nearest."""
    loose = np.random.default_rng(20261120).standard_normal((COUNT, 96))
    return (loose / np.linalg.norm(loose, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Chroma server of this module's own."""
    with chroma_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "chroma"


def embedded(directory: Path, *, write: bool = True) -> ChromaStore:
    return ChromaStore.open(directory=directory, url=None, write=write)


def fill(collection: ChromaCollection, vectors: Vectors, n: int) -> None:
    collection.upsert(IDS[:n], vectors[:n])


def probes(vectors: Vectors, n: int, step: int = 37) -> list[tuple[str, Vectors]]:
    return [(IDS[at], vectors[at]) for at in range(0, n, step)]


class TestServer:
    def test_a_name_chroma_does_not_allow_is_one_error(self, place: Path, server: str) -> None:
        for directory, url in ((place, None), (None, server)):
            with (
                ChromaStore.open(directory=directory, url=url, write=True) as store,
                pytest.raises(VectorStoreError),
            ):
                store.collection("a/b")

    def test_an_unreachable_server_is_one_sentence_with_its_address(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(VectorStoreError, match=url):
            ChromaStore.open(directory=None, url=url, write=True)

    def test_a_silent_server_times_out(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            with pytest.raises(VectorStoreError, match="timed out"):
                ChromaStore.open(
                    directory=None,
                    url=f"http://127.0.0.1:{silent.getsockname()[1]}",
                    write=True,
                    timeout_s=0.5,
                )

    @pytest.mark.parametrize(
        "url", ["localhost:8000", "ftp://host", "http://me:canary@host:1", "http://", "http://h:x"]
    )
    def test_an_odd_address_is_refused_without_showing_a_password(self, url: str) -> None:
        with pytest.raises(VectorStoreError) as caught:
            ChromaStore.open(directory=None, url=url, write=True)
        assert "canary" not in str(caught.value)

    def test_two_writers_may_use_a_server_at_once(self, server: str, vectors: Vectors) -> None:
        with (
            ChromaStore.open(directory=None, url=server, write=True) as one,
            ChromaStore.open(directory=None, url=server, write=True) as two,
        ):
            fill(one.collection("shared"), vectors, 10)
            assert two.collection("shared").count() == 10
            two.drop("shared")


HOLD = (
    "import sys; from pathlib import Path; from codechunk.vectors.chroma import ChromaStore;"
    "store = ChromaStore.open(directory=Path(sys.argv[2]), url=None, write=sys.argv[1] == 'index');"
    "print('ready', flush=True); sys.stdin.read(); store.close()"
)


@pytest.fixture
def holder(place: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts another process that holds the directory, as `index` (writer) or `search` (reader)."""
    processes: list[subprocess.Popen[str]] = []

    def start(word: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", HOLD, word, str(place), "https://me:canary@example.org/x.git"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def open_files_below(directory: Path) -> list[str]:
    files = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [file for file in files if file.startswith(str(directory))]


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each look at a lock waits for the next one; nobody really waits, the clock of the locks goes on."""
    taken: list[float] = []
    monkeypatch.setattr("codechunk.process.locks.time", SimpleNamespace(monotonic=lambda: sum(taken)))
    monkeypatch.setitem(FileLock.take.__kwdefaults__, "pause", taken.append)
    return taken


class TestLock:
    def test_a_second_process_is_told_at_once_who_has_the_index(
        self, place: Path, holder: Callable[[str], "subprocess.Popen[str]"], naps: list[float]
    ) -> None:
        process = holder("index")
        for write in (True, False):
            naps.clear()
            with pytest.raises(IndexBusy) as caught:
                embedded(place, write=write)
            assert sum(naps) < 0.5
            assert f"pid {process.pid}, `index " in str(caught.value)
            assert "canary" not in str(caught.value)
        process.kill()
        process.wait()
        embedded(place).close()

    def test_readers_share_and_a_writer_waits_for_them_only_a_little(
        self, place: Path, holder: Callable[[str], "subprocess.Popen[str]"], naps: list[float]
    ) -> None:
        embedded(place).close()
        process = holder("search")
        embedded(place, write=False).close()
        assert not naps
        with pytest.raises(IndexBusy, match="read by other codechunk processes"):
            embedded(place)
        assert 1.5 < sum(naps) < 5
        process.communicate("")
        embedded(place).close()

    def test_a_second_store_in_the_same_process_is_refused_too(self, place: Path) -> None:
        with embedded(place), pytest.raises(IndexBusy, match="is used by this process already"):
            embedded(place)

    def test_the_directory_and_the_lock_files_are_private(self, place: Path) -> None:
        with embedded(place):
            assert place.stat().st_mode & 0o777 == 0o700
            assert all(file.stat().st_mode & 0o077 == 0 for file in place.parent.glob("chroma.*"))

    def test_closing_frees_the_files_so_that_deleting_and_reopening_works(self, place: Path, vectors: Vectors) -> None:
        for _ in range(3):
            with embedded(place) as store:
                fill(store.collection("repo-main"), vectors, 1_200)
                assert store.collection("repo-main").count() == 1_200
            # SQLite's pool inside Chroma closes its file a moment later.
            wait_until(lambda: not open_files_below(place), "every file is closed")
            shutil.rmtree(place)

    @pytest.mark.parametrize("write", [True, False])
    def test_a_closed_store_says_so(self, place: Path, write: bool) -> None:
        embedded(place).close()
        store = embedded(place, write=write)
        store.close()
        store.close()
        with pytest.raises(VectorStoreError, match="closed"):
            store.collection("repo-main")

    def test_reading_before_anything_was_indexed_finds_nothing_and_makes_nothing(
        self, place: Path, vectors: Vectors
    ) -> None:
        with embedded(place, write=False) as store:
            assert store.names() == []
            assert store.collection("repo-main").query(vectors[0][np.newaxis], 3)[0] == []
        assert list(place.parent.iterdir()) == []


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory, vectors: Vectors) -> Path:
    """A directory with 2,600 vectors: 2,000 of them in HNSW files, 600 still in the log."""
    directory = tmp_path_factory.mktemp("healthy") / "chroma"
    with embedded(directory) as store:
        collection = store.collection("repo-main")
        for start in range(0, 2_600, 400):
            part = slice(start, start + 400)
            collection.upsert(IDS[part], vectors[part])
    return directory


@pytest.fixture
def copy(healthy: Path, place: Path) -> Path:
    shutil.copytree(healthy, place)
    return place


def segment(directory: Path) -> Path:
    (header,) = directory.glob("*/header.bin")
    return header.parent


def truncate(file: Path, share: float) -> None:
    os.truncate(file, int(file.stat().st_size * share))


class TestDamage:
    def mend_and_check(self, directory: Path, vectors: Vectors, *, match: str) -> None:
        """A reader and a writer see the damage; after dropping and filling again all is well."""
        with embedded(directory, write=False) as store:
            collection = store.collection("repo-main")
            seen = collection.check(expected=2_600, probes=probes(vectors, 2_600))
            assert seen is not None
            assert match in seen
        with embedded(directory) as store:
            assert store.collection("repo-main").check(expected=2_600, probes=probes(vectors, 2_600)) is not None
            store.drop("repo-main")
            collection = store.collection("repo-main")
            fill(collection, vectors, 2_600)
            assert collection.check(expected=2_600, probes=probes(vectors, 2_600)) is None
            assert store.recovered is None

    def test_an_undamaged_copy_is_healthy(self, copy: Path, vectors: Vectors) -> None:
        with embedded(copy) as store:
            assert store.collection("repo-main").check(expected=2_600, probes=probes(vectors, 2_600)) is None
            assert store.recovered is None

    def test_a_missing_hnsw_directory_is_seen(self, copy: Path, vectors: Vectors) -> None:
        shutil.rmtree(segment(copy))
        self.mend_and_check(copy, vectors, match="a file of its vectors is missing")

    @pytest.mark.parametrize("share", [0, 0.6])
    @pytest.mark.parametrize(
        "file",
        ["index_metadata.pickle", "link_lists.bin", "data_level0.bin", "length.bin", "header.bin"],
    )
    def test_a_file_cut_short_is_seen_and_does_not_crash_the_process(
        self, copy: Path, vectors: Vectors, file: str, share: float
    ) -> None:
        truncate(segment(copy) / file, share)
        match = "pickle" if file == "index_metadata.pickle" else f"{file} is cut short"
        self.mend_and_check(copy, vectors, match=match)

    def test_a_damaged_collection_refuses_work_instead_of_crashing(self, copy: Path, vectors: Vectors) -> None:
        truncate(segment(copy) / "link_lists.bin", 0.999)
        with embedded(copy) as store:
            collection = store.collection("repo-main")
            for work in (
                collection.count,
                lambda: collection.query(vectors[0][np.newaxis], 3)[0],
                lambda: fill(collection, vectors, 3),
                lambda: collection.delete(IDS[:1]),
            ):
                with pytest.raises(VectorStoreError, match="damaged"):
                    work()

    def test_vectors_overwritten_by_zeros_are_seen(self, copy: Path, vectors: Vectors) -> None:
        data = segment(copy) / "data_level0.bin"
        data.write_bytes(bytes(data.stat().st_size))
        with embedded(copy, write=False) as store:
            assert store.collection("repo-main").check(expected=2_600, probes=probes(vectors, 2_600)) is not None

    @pytest.mark.parametrize("how", ["garbage", "half"])
    def test_an_unreadable_database_is_begun_anew_by_a_writer_only(
        self, copy: Path, vectors: Vectors, how: str
    ) -> None:
        database = copy / "chroma.sqlite3"
        (copy / "not-ours.txt").write_text("stays")
        if how == "garbage":
            database.write_bytes(b"\x5a\xa5" * 20_000)
        else:
            truncate(database, 0.5)
        with pytest.raises(VectorStoreError, match="cannot be opened"):
            embedded(copy, write=False)
        with embedded(copy) as store:
            assert store.recovered is not None
            assert "database" in store.recovered
            assert sorted(file.name for file in copy.iterdir()) == ["chroma.sqlite3", "not-ours.txt"]
            collection = store.collection("repo-main")
            assert collection.check(expected=2_600, probes=[]) == "it holds 0 vectors instead of 2600"
            fill(collection, vectors, 100)
            assert collection.check(expected=100, probes=probes(vectors, 100)) is None
        with embedded(copy) as store:
            assert store.recovered is None

    @pytest.mark.parametrize("how", ["deleted", "emptied", "directory emptied"])
    def test_a_lost_database_shows_in_the_count(self, copy: Path, vectors: Vectors, how: str) -> None:
        if how == "deleted":
            (copy / "chroma.sqlite3").unlink()
        elif how == "emptied":
            truncate(copy / "chroma.sqlite3", 0)
        else:
            shutil.rmtree(copy)
            copy.mkdir()
        with embedded(copy) as store:
            collection = store.collection("repo-main")
            assert collection.check(expected=2_600, probes=[]) == "it holds 0 vectors instead of 2600"
            fill(collection, vectors, 10)
            assert collection.check(expected=10, probes=probes(vectors, 10)) is None

    def test_a_collection_that_cannot_even_be_dropped_takes_the_directory_with_it(self, copy: Path) -> None:
        with sqlite3.connect(copy / "chroma.sqlite3") as db:
            db.execute("DROP TABLE embeddings")
        db.close()
        with embedded(copy) as store:
            assert store.collection("repo-main").check(expected=2_600, probes=[]) is not None
            store.drop("repo-main")
            assert store.recovered is not None
            assert store.collection("repo-main").count() == 0

    def test_a_directory_that_is_a_file_is_one_error(self, place: Path) -> None:
        place.write_text("")
        with pytest.raises(VectorStoreError, match="cannot be used"):
            embedded(place)

    def test_a_panic_inside_chroma_becomes_one_error(self) -> None:
        panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
        with pytest.raises(VectorStoreError, match="it failed: oops"), _translated("it failed"):
            raise panic("oops")
        with pytest.raises(KeyboardInterrupt), _translated("it failed"):
            raise KeyboardInterrupt


def test_a_collection_of_another_format_is_begun_anew(place: Path, vectors: Vectors) -> None:
    with embedded(place) as store:
        fill(store.collection("repo-main"), vectors, 10)
        fill(store.collection("other"), vectors, 10)
    with sqlite3.connect(place / "chroma.sqlite3") as db:
        db.execute(
            "UPDATE collection_metadata SET int_value = 0 WHERE collection_id = "
            "(SELECT id FROM collections WHERE name = 'repo-main')"
        )
    db.close()
    with embedded(place) as store:
        assert store.collection("repo-main").count() == 0
        assert store.collection("other").count() == 10


def test_settings_in_the_environment_or_a_dotenv_file_do_not_reach_chroma(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("MIGRATIONS=1\nCHROMA_API_IMPL=evil.Module\nIS_PERSISTENT=maybe\n")
    code = (
        "import sys; from pathlib import Path; from codechunk.vectors.chroma import ChromaStore;"
        "print('chromadb' in sys.modules);"
        "store = ChromaStore.open(directory=Path('index'), url=None, write=True);"
        "print(store.names(), 'onnxruntime' in sys.modules, 'posthog' in sys.modules); store.close()"
    )
    env = {**os.environ, "CHROMA_SERVER_HTTP_PORT": "no-number", "PERSIST_DIRECTORY": "elsewhere"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout == "False\n[] False False\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == [".env", "index", "index.lock", "index.owner"]
