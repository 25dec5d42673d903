"""Acceptance: codechunk for Python programs. What a program sees, and what it must not notice."""

import asyncio
import io
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo
from paid_helpers import small_repository

import codechunk
from codechunk.config.load import load_config
from codechunk.errors import CodechunkError, NotFound, UsageError
from codechunk.progress import Event, Silence

FREE = {"embedding": {"provider": "synthetic", "dimensions": 128}}


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return small_repository(tmp_path / "demo")


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[GeminiEmulator]:
    with GeminiEmulator(faults=Faults(job_seconds=0.05)) as running:
        monkeypatch.setenv("CODECHUNK_GEMINI_API_KEY", running.key)
        yield running


def paid(tmp_path: Path, emulator: GeminiEmulator) -> codechunk.Codechunk:
    """A library with the emulator as its provider."""
    embedding = {"base_url": emulator.url, "dimensions": 128}
    batch = {"poller_interval": "100ms", "max_retries": 0, "fallback_to_sequential": False}
    return codechunk.open(tmp_path / "data", config={"embedding": embedding, "batch_processing": batch})


def test_a_repository_is_indexed_and_searched(tmp_path: Path, repo: GitRepo) -> None:
    events: list[Event] = []
    with codechunk.open(data_dir=tmp_path / "data", config=FREE) as cc:
        document = cc.index(repo.path, ref="main", on_progress=events.append)
        assert (document.status, document.published, document.chunks.ready) == ("succeeded", True, 6)
        answers = cc.search("value number 3", repository=str(repo.path), languages=["python"], limit=2)
        assert answers[0].path == "f3.py"
        assert len(answers) <= 2
        assert [entry.repository for entry in cc.repositories()] == ["demo"]
        assert [job.id for job in cc.jobs()] == [document.job_id]
        assert cc.estimate(repo.path).texts_to_embed == 6
        assert cc.index(repo.path).mode_reason == "nothing changed"
        stats = cc.queue.stats()
        assert (stats.pending, stats.processing, stats.ready, stats.failed) == (0, 0, 6, 0)
        assert (cc.queue.flush(force=True), cc.queue.sync()) == ([], 0)
    assert {event.kind for event in events} == {"stage", "progress"}
    assert len(cc.repositories()) == 1, "a call after closing opens it again"
    cc.close()


def test_texts_go_through_the_queue_in_batch_jobs(tmp_path: Path, repo: GitRepo, emulator: GeminiEmulator) -> None:
    with paid(tmp_path, emulator) as cc:
        assert cc.index(repo.path, mode="batch", wait=False).status == "embedding"
        assert cc.queue.stats().processing == 6
        emulator.finish()
        assert cc.queue.sync() == 6
        assert cc.queue.sync() == 0, "a second look brings nothing anew"
        assert cc.jobs()[0].status == "succeeded"
        assert cc.search("value number 3")[0].path == "f3.py"
    assert set(emulator.paid.values()) == {1}


def test_a_flush_names_the_batch_jobs_that_it_made_or_none(
    tmp_path: Path, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    with paid(tmp_path, emulator) as cc:
        assert cc.queue.flush(force=True) == [], "nothing waits"
        cc.index(repo.path, mode="batch", wait=False)
        state = cc._app.workspace.state
        with state.database.begin() as connection:  # as if they had never been put into a batch job
            connection.exec_driver_sql("UPDATE embeddings SET state = 'pending', batch_id = NULL")
            connection.exec_driver_sql("DELETE FROM batches")
        assert cc.queue.flush(min_size=7) == []
        [made] = cc.queue.flush(min_size=6)
        assert [row.id for row in state.batches.rows()] == [made]
        emulator.finish()
        assert cc.queue.sync() == 6


def test_a_limit_of_money_stops_before_anything_is_sent(
    tmp_path: Path, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    with paid(tmp_path, emulator) as cc:
        with pytest.raises(CodechunkError, match="more than --max-cost"):
            cc.index(repo.path, max_cost=0.0)
        assert not emulator.paid
        assert cc.index(repo.path, mode="sequential").status == "succeeded"


def test_a_local_file_is_cut_without_a_database(tmp_path: Path, repo: GitRepo) -> None:
    with codechunk.open(data_dir=tmp_path / "data", config=FREE) as cc:
        [chunk] = cc.chunk_file(repo.path / "f1.py")
        assert (chunk.symbol, chunk.start_line) == ("function_1", 1)
        (tmp_path / "x.bin").write_bytes(b"\0\1\2\3")
        assert cc.chunk_file(tmp_path / "x.bin") == []
        for wrong in ("nowhere.py", tmp_path):
            with pytest.raises(UsageError):
                cc.chunk_file(wrong)
    assert not (tmp_path / "data").exists()


def test_what_goes_wrong_is_an_error_with_a_kind(
    tmp_path: Path, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CODECHUNK_GEMINI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with codechunk.open(data_dir=tmp_path / "data") as cc, pytest.raises(UsageError, match="No Gemini key"):
        cc.index(repo.path)
    with codechunk.open(data_dir=tmp_path / "data", config=FREE) as cc:
        with pytest.raises(UsageError, match="Nothing is indexed yet"):
            cc.search("x")
        cc.index(repo.path)
        with pytest.raises(NotFound) as caught:
            cc.search("x", repository="nope")
        assert caught.value.kind == "not_found"
        for wrong in ({"query": " "}, {"query": "x", "limit": 0}, {"query": "x", "kinds": ["poem"]}):
            with pytest.raises(UsageError):
                cc.search(**wrong)  # type: ignore[arg-type]


def test_a_single_language_or_kind_is_one_and_not_its_letters(tmp_path: Path, repo: GitRepo) -> None:
    with codechunk.open(data_dir=tmp_path / "data", config=FREE) as cc:
        cc.index(repo.path)
        one = cc.search("function_1", languages="python", kinds="function")
        assert [answer.path for answer in one] == [
            answer.path for answer in cc.search("function_1", languages=["python"], kinds=["function"])
        ]
        assert cc.search("function_1", path="f1.py", content="code", here=repo.path) == cc.search(
            "function_1", path=["*.py", "!f[02-9].py"], content=["code", "docs"], repository=["demo"]
        )
        with pytest.raises(UsageError, match="There is no content poems"):
            cc.search("function_1", content="poems")  # type: ignore[arg-type]
        with pytest.raises(NotFound, match="Nothing is indexed in rust"):
            cc.search("function_1", languages="rust")
        with pytest.raises(UsageError, match="There is no kind poem"):
            cc.search("function_1", kinds="poem")
        with pytest.raises(UsageError, match=r"git\.include"):
            codechunk.open(tmp_path / "data", config={"git.include": "src/*.py"})


def test_settings_come_from_a_mapping_or_a_file_and_not_from_the_environment_or_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODECHUNK_EMBEDDING__DIMENSIONS", "999")
    monkeypatch.setenv("CODECHUNK_CONFIG", str(tmp_path / "nowhere.yaml"))
    (tmp_path / "codechunk.yaml").write_text("embedding: {dimensions: 998}\n")
    (tmp_path / "mine.yaml").write_text("embedding: {dimensions: 256}\ndata_dir: from-file\n")
    monkeypatch.chdir(tmp_path)

    def config(cc: codechunk.Codechunk) -> tuple[int, Path]:
        found = cc._app.workspace.config
        return found.embedding.dimensions, found.data_dir

    assert config(codechunk.open("d")) == (768, tmp_path / "d")
    assert config(codechunk.open(config="mine.yaml")) == (256, tmp_path / "from-file")
    assert config(codechunk.open("d", config={"embedding.dimensions": 384})) == (384, tmp_path / "d")
    assert config(codechunk.open("d", config={"embedding": {"dimensions": 384}})) == (384, tmp_path / "d")
    prices = codechunk.open("d", config={"pricing": {"a.b": {"direct": 1}}})._app.workspace.config.pricing
    assert prices == {"a.b": {"direct": 1}}
    for wrong in ({"embeding": {}}, {"embedding": {"dimension": 1}}, {"embedding": 1}, {"embedding.dimensions": "x"}):
        with pytest.raises(UsageError):
            codechunk.open("d", config=wrong)
    with pytest.raises(UsageError, match=r"embedding\.dimensions"):
        codechunk.open("d", config={"embedding": {"dimension": 1}})
    with pytest.raises(UsageError, match="cannot be read"):
        codechunk.open("d", config=tmp_path / "gone.yaml")


def test_the_configuration_of_a_bare_command_needs_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "codechunk.yaml").write_text("embedding: {dimensions: 256}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECHUNK_WORKER__MIN_QUEUE_SIZE", "7")
    loaded = load_config()
    assert (loaded.config.embedding.dimensions, loaded.config.worker.min_queue_size) == (256, 7)


def test_a_program_notices_nothing_of_it(tmp_path: Path, repo: GitRepo, capfd: pytest.CaptureFixture[str]) -> None:
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in signals]
    handlers, level = logging.getLogger().handlers[:], logging.getLogger("codechunk").level
    with codechunk.open(data_dir=tmp_path / "data", config=FREE) as cc:
        cc.index(repo.path)
        cc.search("value")
        cc.chunk_file(repo.path / "f1.py")
    assert capfd.readouterr() == ("", "")
    assert [signal.getsignal(number) for number in signals] == before
    assert (logging.getLogger().handlers, logging.getLogger("codechunk").level) == (handlers, level)


def test_it_works_in_a_thread_and_where_an_event_loop_runs(tmp_path: Path, repo: GitRepo) -> None:
    found: list[str] = []
    cc = codechunk.open(data_dir=tmp_path / "data", config=FREE)

    def work() -> None:
        cc.index(repo.path)
        found.append(cc.search("value number 3")[0].path)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    async def notebook() -> None:
        found.append(cc.search("value number 4")[0].path)
        found.append(cc.index(repo.path).status)

    asyncio.run(notebook())
    cc.close()
    assert found == ["f3.py", "f4.py", "succeeded"]


def test_what_the_callback_raises_ends_the_call_and_the_next_one_goes_on(tmp_path: Path, repo: GitRepo) -> None:
    def stop(event: Event) -> None:
        raise io.UnsupportedOperation(event.stage)

    with codechunk.open(data_dir=tmp_path / "data", config=FREE) as cc:
        with pytest.raises(io.UnsupportedOperation):
            cc.index(repo.path, on_progress=stop)
        assert cc.index(repo.path).chunks.ready == 6


def test_importing_it_loads_nothing_but_the_standard_library() -> None:
    script = (
        "import sys, codechunk\n"
        "assert 'open' in dir(codechunk) and codechunk.__version__\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-I",
            "-c",
            f"import sys; sys.path.append({str(Path(codechunk.__file__).parent.parent)!r})\n{script}",
        ],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "['__main__', 'codechunk']\n", done.stderr


def test_every_command_that_takes_a_repository_takes_it_by_any_name(tmp_path: Path, repo: GitRepo) -> None:
    with codechunk.open(data_dir=tmp_path / "data", config=FREE) as cc:
        cc.index(repo.path)
        app = cc._app
        for words in ("demo", "demo@main", str(repo.path), f"{repo.path}/", f"{repo.path}/.git", f"{repo.path}@main"):
            assert app.repository(words).repository == "demo", words
            assert cc.search("value", repository=words, limit=1), words
            exported = app.export_cache(tmp_path / "v.ccv", words, Silence())
            assert exported.vectors == 6, words
        assert app.remove_repository(f"{repo.path}/", Silence()).refs == ["main"]
        assert cc.repositories() == []


@pytest.mark.parametrize(
    "wrong", [{"mode": "foo"}, {"max_cost": float("nan")}, {"max_cost": -1.0}], ids=["mode", "no number", "negative"]
)
def test_what_no_command_line_lets_through_is_refused_before_anything_is_sent(
    tmp_path: Path, repo: GitRepo, emulator: GeminiEmulator, wrong: dict[str, Any]
) -> None:
    with paid(tmp_path, emulator) as cc:
        with pytest.raises(UsageError):
            cc.index(repo.path, wait=False, **wrong)
        assert cc.queue.stats().pending == 0
    assert not emulator.paid


def test_a_callback_that_raises_ends_the_call_and_the_run_is_written_down_as_failed(
    tmp_path: Path, repo: GitRepo
) -> None:
    def enough(event: Event) -> None:
        raise RuntimeError("seen enough")

    with codechunk.open(tmp_path / "data", config=FREE) as cc:
        with pytest.raises(RuntimeError, match="seen enough"):
            cc.index(repo.path, on_progress=enough)
        assert [(job.status, job.error) for job in cc.jobs()] in ([], [("failed", "RuntimeError: seen enough")])
        assert cc.index(repo.path).status == "succeeded"


def test_prices_of_models_whose_names_have_dots_can_be_written_with_dots(tmp_path: Path) -> None:
    config = {**FREE, "pricing.text-3.5.direct": 0.1, "pricing": {"m-1.2": {"batch": 1}}}
    with codechunk.open(tmp_path / "data", config=config) as cc:
        assert cc.repositories() == []
    with pytest.raises(UsageError):
        codechunk.open(tmp_path / "data", config={"pricing": {5: {"direct": 1, "sideways": 2}}})
