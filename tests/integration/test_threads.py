"""One App in several threads: work is stopped from another one, and searches go on while an index is made."""

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gemini_emulator import Exchange, GeminiEmulator
from git_helpers import GitRepo

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.errors import StateError, Stopped
from codechunk.pool.pool import ChunkPool, ParseTask
from codechunk.process.stop import Stop
from codechunk.progress import BatchView, Callback, Event, Silence
from codechunk.search.ranking import Query
from codechunk.state import State
from codechunk.state.database import MOST_CONNECTIONS

PATIENT_S = 20.0
SYNTHETIC = {"embedding.provider": "synthetic"}


def functions(files: int, each: int, word: str = "value") -> dict[str, bytes | str]:
    """Files of functions too large to share a chunk."""
    body = "\n".join(f"    total += weights[{n}] * {word}  # term {n} of the weighted sum" for n in range(40))
    return {
        f"m{file:03}.py": "\n\n".join(f"def {word}_{file}_{n}(weights, {word}):\n{body}\n" for n in range(each))
        for file in range(files)
    }


@dataclass
class InAThread:
    """Work in a thread that is not the main one, and how it ended."""

    work: Callable[[], Any]
    ended: "queue.SimpleQueue[Any]" = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.ended.put(self.work())
        except BaseException as exc:  # noqa: BLE001 - told to whoever asks for the result
            self.ended.put(exc)

    def result(self) -> Any:
        """What it returned or raised; fails when it does not end."""
        return self.ended.get(timeout=PATIENT_S)


@dataclass
class House:
    """A data directory, a repository and the emulator."""

    folder: Path
    repo: GitRepo
    emulator: GeminiEmulator
    heard: list[Callable[[Exchange], None]] = field(default_factory=list)
    """Called with every request to the emulator, before its answer."""

    def app(self, **flags: str) -> App:
        given = {"data_dir": str(self.folder / "data"), "embedding.base_url": self.emulator.url}
        environ = {**os.environ, "CODECHUNK_GEMINI_API_KEY": self.emulator.key}
        given |= {name.replace("__", "."): value for name, value in flags.items()}
        return App(load_config(config_file=None, flags=given, environ=environ, cwd=self.folder))

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.folder / "data" / "state.db", timeout=30)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def nothing_is_held(self) -> bool:
        held = "SELECT count(*) FROM {} WHERE owner IS NOT NULL"
        return self.sql(held.format("embeddings")) == self.sql(held.format("batches")) == [(0,)]

    def request(self, mode: Any = "auto", **changes: Any) -> IndexRequest:
        return IndexRequest(source=str(self.repo.path), mode=mode, jobs=1, **changes)

    def goes_on(self, mode: Any) -> None:
        """The next run finishes, and nothing was bought twice."""
        with self.app(batch_processing__poller_interval="1s") as app:
            document = app.index(self.request(mode), Silence())
        assert document.status == "succeeded"
        assert set(self.emulator.paid.values()) == {1}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    repo = GitRepo(tmp_path / "demo")
    repo.commit(functions(6, 4))
    heard: list[Callable[[Exchange], None]] = []
    with GeminiEmulator(on_request=lambda exchange: [hear(exchange) for hear in heard] and None) as emulator:
        yield House(tmp_path, repo, emulator, heard)


# ---------------------------------------------------------------- a stop from another thread


def test_direct_calls_are_brought_home_and_the_next_run_sends_the_rest(house: House) -> None:
    app = house.app()
    stop = app.workspace.stop

    def slow(exchange: Exchange) -> None:
        if house.emulator.requests["embed"] == 6:
            stop.ask("by the main thread")
        time.sleep(0.05)

    house.heard.append(slow)
    with app:
        ended = InAThread(lambda: app.index(house.request("sequential"), Silence())).result()
    assert isinstance(ended, Stopped)
    assert ended.reason == "by the main thread"
    assert house.sql("SELECT status, error FROM jobs") == [("embedding", "interrupted by the user")]
    assert house.nothing_is_held()
    ready = house.sql("SELECT count(*) FROM embeddings WHERE state = 'ready'")[0][0]
    assert 0 < ready == len(house.emulator.paid) < 24
    house.goes_on("sequential")


def test_cutting_ends_at_the_next_file_and_its_processes_with_it(house: House) -> None:
    house.repo.commit(functions(60, 8))
    app = house.app(**SYNTHETIC)
    stages: list[str] = []

    def tell(event: Event) -> None:
        stages.append(event.stage)
        if event.kind == "progress" and event.stage == "Chunking":
            app.workspace.stop.ask()

    with app:
        ended = InAThread(lambda: app.index(house.request(), Callback(tell))).result()
    assert isinstance(ended, Stopped)
    assert stages.count("Chunking") == 2, "the stage, and the first file"
    assert house.sql("SELECT status FROM jobs") == [("cancelled",)]
    with house.app(**SYNTHETIC) as app:
        document = app.index(house.request(), Silence())
    assert (document.status, document.files.indexed) == ("succeeded", 60)
    assert house.sql("SELECT status, attempts FROM jobs") == [("succeeded", 2)]


@pytest.mark.parametrize("stage", ["Embedding", "Storing"])
def test_every_stage_that_tells_how_far_it_is_can_be_ended(house: House, stage: str) -> None:
    app = house.app(**SYNTHETIC)

    def tell(event: Event) -> None:
        if event.stage == stage:
            app.workspace.stop.ask()

    with app:
        ended = InAThread(lambda: app.index(house.request(), Callback(tell))).result()
    assert isinstance(ended, Stopped)
    assert house.sql("SELECT count(*) FROM indexes WHERE generation > 0") == [(0,)]
    with house.app(**SYNTHETIC) as app:
        assert app.index(house.request(), Silence()).status == "succeeded"


class TellsBatches(Silence):
    """Says when the batch jobs are shown."""

    def __init__(self) -> None:
        self.shown: queue.SimpleQueue[int] = queue.SimpleQueue()

    def batches(self, rows: Sequence[BatchView]) -> None:
        self.shown.put(len(rows))


def test_who_waits_for_batch_jobs_wakes_up_and_the_jobs_go_on(house: House) -> None:
    house.emulator.faults.stuck = True
    with house.app(batch_processing__poller_interval="1h") as app:
        told = TellsBatches()
        run = InAThread(lambda: app.index(house.request("batch"), told))
        assert told.shown.get(timeout=PATIENT_S) == 1
        app.workspace.stop.ask()
        assert isinstance(run.result(), Stopped)
    assert house.sql("SELECT status FROM jobs") == [("embedding",)]
    assert house.nothing_is_held()
    house.emulator.faults.stuck = False
    with house.app() as app:
        assert app.sync(Silence()).indexes_finished == 1
    assert set(house.emulator.paid.values()) == {1}
    assert house.emulator.requests["create"] == 1


def test_a_provider_that_hangs_is_left_when_the_patience_is_over_and_its_late_answer_changes_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codechunk.process.stop.PATIENCE_S", 0.2)
    house.emulator.faults.stall_s = 1.0
    house.emulator.fail_next("create", "stall")
    with house.app(batch_processing__reconcile_grace="1s") as app:
        state = app.workspace.state

        def ask(exchange: Exchange) -> None:
            if exchange.kind == "create":
                state.stop.ask()

        house.heard.append(ask)
        run = InAThread(lambda: app.index(house.request("batch"), Silence()))
        assert isinstance(run.result(), Stopped)
        (left,) = [thread for thread in threading.enumerate() if thread.name == "batch-0"]
        assert house.nothing_is_held()
        left.join(PATIENT_S)
        assert not left.is_alive()
    assert house.sql("SELECT state, remote_name FROM batches") == [("submitting", None)], "its claim was gone"
    house.heard.clear()
    with house.app(batch_processing__reconcile_grace="1s", batch_processing__poller_interval="1s") as app:
        assert app.index(house.request("batch"), Silence()).status == "succeeded"
    assert set(house.emulator.paid.values()) == {1}
    assert house.emulator.requests["create"] == 1


def test_a_worker_ends_and_returns(house: House) -> None:
    with house.app() as app:
        told = TellsBatches()
        worker = InAThread(lambda: app.work(told, interval_s=3600.0))
        told.shown.get(timeout=PATIENT_S)
        app.workspace.stop.ask()
        assert worker.result() is None


def test_a_file_that_is_cut_for_ever_holds_nobody_up() -> None:
    stop = Stop()
    mute = ("python3", "-c", "import sys, time; sys.stdin.buffer.read(1); time.sleep(600)")
    with ChunkPool(
        jobs=1,
        settings=_settings(),
        token_mode="on_demand",
        sample_percent=0.0,
        seed="s",
        timeout_s=600.0,
        child_argv=mute,
        stop=stop,
    ) as pool:
        task = ParseTask(key=1, path="a.py", data=b"x = 1\n", language="python", encoding="utf-8")
        run = InAThread(lambda: list(pool.run([task])))
        stop.ask()
        assert isinstance(run.result(), Stopped)
        assert pool.pids == []


def _settings() -> Any:
    from codechunk.chunking import ChunkSettings

    return ChunkSettings()


def test_an_app_that_was_stopped_begins_nothing_more(house: House) -> None:
    with house.app(**SYNTHETIC) as app:
        app.index(house.request(), Silence())
        app.workspace.stop.ask()
        with pytest.raises(Stopped):
            app.index(house.request(full=True), Silence())
        with pytest.raises(Stopped):
            app.search(Query(text="weighted sum"), repository=None, reporter=Silence())
        with pytest.raises(Stopped):
            app.export_cache(house.folder / "vectors.ccv", None, Silence())
    assert not (house.folder / "vectors.ccv").exists()


# ---------------------------------------------------------------- several threads at work


def test_as_many_threads_read_at_once_as_there_are_connections_and_more_wait_for_their_turn(tmp_path: Path) -> None:
    with State(tmp_path / "state.db") as state:
        together = threading.Barrier(MOST_CONNECTIONS)
        left = threading.Semaphore(0)

        def read() -> int:
            with state.database.read() as connection:
                together.wait(PATIENT_S)
                left.release()
                return int(connection.exec_driver_sql("SELECT 1").scalar_one())

        readers = [InAThread(read) for _ in range(MOST_CONNECTIONS)]
        for _ in readers:
            left.acquire()
        one_more = InAThread(lambda: state.catalog.indexes())
        assert [reader.result() for reader in readers] == [1] * MOST_CONNECTIONS
        assert one_more.result() == []
        assert state.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_a_database_that_all_connections_of_are_in_use_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codechunk.state.database.BUSY_TIMEOUT_MS", 50)
    with State(tmp_path / "state.db") as state, ExitStack() as held:
        for _ in range(MOST_CONNECTIONS):
            held.enter_context(state.database.read())
        with pytest.raises(StateError, match="too many threads"):
            state.catalog.indexes()


def open_files_of(folder: Path) -> list[str]:
    found = []
    for entry in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # the folder itself, which was open while it was listed
            found.append(str(entry.readlink()))
    return [path for path in found if path.startswith(str(folder))]


def test_closing_lets_transactions_end_and_refuses_what_comes_after(tmp_path: Path) -> None:
    state = State(tmp_path / "state.db")
    inside, go_on = threading.Event(), threading.Event()

    def work() -> int:
        with state.database.begin() as connection:
            inside.set()
            assert go_on.wait(PATIENT_S)
            connection.exec_driver_sql("CREATE TABLE marks (n)")
        state.catalog.indexes()
        return 1

    worker = InAThread(work)
    assert inside.wait(PATIENT_S)
    state.close()
    go_on.set()
    ended = worker.result()
    assert isinstance(ended, StateError)
    assert "closed" in str(ended)
    assert open_files_of(tmp_path) == []
    with State(tmp_path / "state.db") as again, again.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM marks").scalar_one() == 0


def test_an_app_that_is_closed_while_another_thread_searches_opens_again_with_the_next_call(house: House) -> None:
    with house.app(**SYNTHETIC) as app:
        app.index(house.request(), Silence())
        searching, closed = threading.Event(), threading.Event()

        def search() -> Any:
            with app.searcher(None, Silence()) as ask:
                ask(Query(text="weighted sum"))
                searching.set()
                assert closed.wait(PATIENT_S)
                return ask(Query(text="weighted sum"))

        searcher = InAThread(search)
        assert searching.wait(PATIENT_S)
        app.close()
        closed.set()
        assert isinstance(searcher.result(), StateError)
        assert app.search(Query(text="weighted sum"), repository=None, reporter=Silence())


def test_eight_threads_search_while_another_indexes(house: House) -> None:
    """Every answer is of the old commit or of the new one, and nobody is in anybody's way."""
    old, new = functions(6, 4, "value"), functions(6, 4, "amount")
    with house.app(**SYNTHETIC) as app:
        app.index(house.request(), Silence())
        house.repo.commit(new)
        done = threading.Event()
        answered: list[list[str]] = []

        def search() -> int:
            count = 0
            while not (done.is_set() and count):
                answers = app.search(Query(text="weighted sum", limit=3), repository="demo", reporter=Silence())
                answered.append([answer.text for answer in answers])
                count += 1
            return count

        searchers = [InAThread(search) for _ in range(8)]
        try:
            document = InAThread(lambda: app.index(house.request(), Silence())).result()
        finally:
            done.set()
        counts = [searcher.result() for searcher in searchers]
        assert not [count for count in counts if isinstance(count, BaseException)]
        assert not isinstance(document, BaseException), document
        assert document.status == "succeeded"
        sources = "\n".join(map(str, [*old.values(), *new.values()]))
        assert all(answers and all(text.strip() in sources for text in answers) for answers in answered)
        found = app.search(Query(text="weighted sum", limit=3), repository="demo", reporter=Silence())
        assert all("amount" in answer.text for answer in found)
