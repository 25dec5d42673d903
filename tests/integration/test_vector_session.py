"""The vector store of one long-lived process: threads that search, and one that indexes."""

import os
import re
import shutil
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from git_helpers import GitRepo
from paid_helpers import FUNCTION, small_repository
from told_helpers import Told

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.errors import IndexBusy
from codechunk.process.locks import FileLock
from codechunk.progress import Silence
from codechunk.providers import synthetic
from codechunk.search.nearest import Nearest
from codechunk.search.ranking import Query
from codechunk.vectors.chroma_files import identity_beside
from codechunk.workspace import vector_session

HERE = "The vector index is being written by this process; wait for it."


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return small_repository(tmp_path / "demo")


@pytest.fixture(params=["chroma", "exact"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def app_in(folder: Path, backend: str) -> App:
    flags = {"data_dir": str(folder / "data"), "embedding.provider": "synthetic", "vectors.backend": backend}
    return App(load_config(config_file=None, flags=flags, environ=os.environ, cwd=folder))


@pytest.fixture
def app(tmp_path: Path, backend: str, repo: GitRepo) -> Iterator[App]:
    with app_in(tmp_path, backend) as made:
        made.index(IndexRequest(source=str(repo.path), jobs=1), Silence())
        yield made


only_chroma = pytest.mark.parametrize("backend", ["chroma"], indirect=True)


def first_path(app: App, words: str, told: Told) -> str:
    return app.search(Query(text=words, limit=1), repository=None, reporter=told)[0].path


def test_eight_threads_search_while_another_indexes(app: App, repo: GitRepo) -> None:
    """Every answer is right, nobody fails, and nothing is unsound afterwards."""
    told, over = Told(), threading.Event()

    def searches() -> int:
        count = 0
        while not over.is_set() or not count:
            assert first_path(app, "function_3", told) == "f3.py"
            count += 1
        return count

    def index() -> None:
        try:
            for number in range(3):
                repo.commit({f"new{number}.py": FUNCTION.format(100 + number)})
                app.index(IndexRequest(source=str(repo.path), jobs=1), told)
        finally:
            over.set()

    with ThreadPoolExecutor(9) as pool:
        searching = [pool.submit(searches) for _ in range(8)]
        pool.submit(index).result()
        assert sum(done.result() for done in searching) >= 8
    assert {sentence for sentence in told.sentences if HERE not in sentence} == set()
    after = Told()
    assert first_path(app, "function_102", after) == "new2.py"
    assert after.sentences == []
    assert app.index(IndexRequest(source=str(repo.path), jobs=1), after).mode_reason == "nothing changed"


@only_chroma
def test_a_writer_is_not_kept_waiting_by_a_search_that_stays_open(app: App, repo: GitRepo) -> None:
    told = Told()
    with app.searcher(None, told) as ask:
        assert ask(Query(text="function_3"))
        with app.workspace.vector_session() as writer:
            writer.open()
            assert ask(Query(text="function_3", limit=1))[0].path == "f3.py"
            assert told.sentences == [f"{HERE} Searching the vectors in the state database meanwhile."]
            writer.finish()
        with Nearest(app.workspace, told) as nearest:
            [index] = app.workspace.state.catalog.indexes()
            [vector] = synthetic.embed(["value"], index.space.dimensions)
            assert nearest(index, vector, 1) is not None, "the store itself answers again"
    assert len(told.sentences) == 1


@only_chroma
def test_a_writer_of_another_process_is_let_in_by_threads_that_search_without_end(
    app: App, tmp_path: Path, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another App has its own locks, like another process."""
    monkeypatch.setattr(vector_session, "READ_AT_LEAST_S", 0.0)
    told = Told()
    with app.searcher(None, told) as ask, app_in(tmp_path, "chroma") as other, ThreadPoolExecutor(1) as pool:
        assert ask(Query(text="function_3"))
        with other.workspace.vector_session() as writer:
            opening = pool.submit(writer.open)
            while not told.sentences and not opening.done():
                assert ask(Query(text="function_3", limit=1))[0].path == "f3.py"
            store = opening.result()
            for _ in range(3):
                assert ask(Query(text="function_3", limit=1))[0].path == "f3.py"
            [sentence] = told.sentences
            assert "is used by this process already" in sentence
            assert "Searching the vectors in the state database meanwhile" in sentence
            assert len(store.names()) == 1
            writer.finish()
        with Nearest(app.workspace, Told()) as nearest:
            [index] = app.workspace.state.catalog.indexes()
            [vector] = synthetic.embed(["value"], index.space.dimensions)
            assert nearest(index, vector, 1) is not None, "the store itself answers again"


@only_chroma
def test_a_store_that_was_just_opened_is_read_though_a_writer_waits_and_not_opened_again(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    [index] = app.workspace.state.catalog.indexes()
    [vector] = synthetic.embed(["value"], index.space.dimensions)
    monkeypatch.setattr(vector_session, "READ_AT_LEAST_S", 3_600.0)
    with FileLock(app.workspace.config.data_dir / "chroma.owner") as owner:
        with Nearest(app.workspace, Silence()) as nearest:
            assert nearest(index, vector, 1) is not None
            assert owner.take()
            assert nearest(index, vector, 1) is not None
        told = Told()
        with Nearest(app.workspace, told) as nearest:
            assert nearest(index, vector, 1) is None
        assert "is used by this process already" in told.sentences[0]


@only_chroma
def test_a_second_writer_of_the_same_process_is_refused_and_the_first_goes_on(app: App) -> None:
    with app.workspace.vector_session() as first, app.workspace.vector_session() as second:
        store = first.open()
        with pytest.raises(IndexBusy, match="written by this process"):
            second.open()
        second.close()
        with pytest.raises(IndexBusy, match="written by this process"), second.reading():
            pass
        assert len(store.names()) == 1
        first.finish()
        assert len(second.open().names()) == 1


@only_chroma
def test_a_session_that_failed_leaves_no_record_and_lets_others_in(app: App, repo: GitRepo) -> None:
    [index] = app.workspace.state.catalog.indexes()
    with pytest.raises(RuntimeError), app.workspace.vector_session() as session:
        session.open().collection(index.collection).delete([])
        (app.workspace.config.data_dir / "chroma" / "strange").write_text("somebody was here")
        raise RuntimeError
    with app.workspace.vector_session() as session:
        session.look()
        assert not session.is_current(index)
        session.open()
        session.finish([index.id])
        session.look()
        assert session.is_current(index)


def is_named(app: App) -> bool:
    text = (app.workspace.config.data_dir / "chroma.id").read_text()
    return re.fullmatch(r"[0-9a-f]{32}\n\[.*\]\n", text) is not None


@only_chroma
def test_between_two_objects_of_one_process_the_busy_sentence_says_so(tmp_path: Path, app: App, repo: GitRepo) -> None:
    with (
        app_in(tmp_path, "chroma") as other,
        app.workspace.vector_session() as session,
        session.reading(),
        pytest.raises(IndexBusy, match="is being read by this process already"),
    ):
        other.workspace.vector_backend.open(write=True)
    with app_in(tmp_path, "chroma") as other, app.workspace.vector_session() as session:
        session.open()
        for write in (True, False):
            with pytest.raises(IndexBusy, match=r"is used by this process already \(another thread or object of it\);"):
                other.workspace.vector_backend.open(write=write)
    with (
        app.workspace.alone_with(url="u", repository="demo"),
        app_in(tmp_path, "chroma") as other,
        pytest.raises(IndexBusy, match="demo is being indexed by this process already"),
        other.workspace.alone_with(url="u", repository="demo"),
    ):
        pass


@only_chroma
@pytest.mark.parametrize("way", ["moved", "copied"])
def test_a_data_directory_that_was_moved_or_copied_goes_on_without_work(
    tmp_path: Path, app: App, repo: GitRepo, way: str
) -> None:
    app.close()
    data, there = app.workspace.config.data_dir, tmp_path / "elsewhere"
    there.mkdir()
    name = (data / "chroma.id").read_text().split()[0]
    if way == "moved":
        data.rename(there / "data")
    else:
        shutil.copytree(data, there / "data")
    with app_in(there, "chroma") as other:
        told = Told()
        assert first_path(other, "function_3", told) == "f3.py"
        report = other.index(IndexRequest(source=str(repo.path), jobs=1), told)
        assert (report.mode_reason, report.embedding.texts_sent) == ("nothing changed", 0)
        assert told.sentences == []
        repo.commit({"late.py": FUNCTION.format(9)})
        report = other.index(IndexRequest(source=str(repo.path), jobs=1), told)
        assert (report.embedding.texts_sent, report.chunks.new) == (1, 1)
        assert told.sentences == []
        assert (there / "data" / "chroma.id").read_text().split()[0] == name


broken_names = pytest.mark.parametrize("content", [b"", b"half a na", b"\xff\xfe"])


@only_chroma
@broken_names
def test_doctor_tells_of_a_broken_name_of_the_directory_and_the_next_search_fixes_it(app: App, content: bytes) -> None:
    told = Told()
    (app.workspace.config.data_dir / "chroma.id").write_bytes(content)
    found = {finding.check: finding for finding in app.doctor()}
    assert found["vector_index"].status == "error"
    assert "chroma.id does not hold the name" in found["vector_index"].message
    assert found["index_is_complete"].status == "skipped"
    assert (app.workspace.config.data_dir / "chroma.id").read_bytes() == content, "doctor changes nothing"
    assert first_path(app, "function_3", told) == "f3.py"
    [sentence] = told.sentences
    assert "rebuilding it from the state database" in sentence
    assert is_named(app)
    assert [finding for finding in app.doctor() if finding.status in {"error", "warning"}] == []


@only_chroma
@broken_names
def test_a_run_of_index_fixes_a_broken_name_of_the_directory_and_buys_nothing(
    app: App, repo: GitRepo, content: bytes
) -> None:
    (app.workspace.config.data_dir / "chroma.id").write_bytes(content)
    report = app.index(IndexRequest(source=str(repo.path), jobs=1), Silence())
    assert (report.status, report.embedding.texts_sent) == ("succeeded", 0)
    assert is_named(app)
    told = Told()
    assert first_path(app, "function_3", told) == "f3.py"
    assert told.sentences == []


@only_chroma
def test_a_look_gives_a_directory_with_a_broken_name_another_one_and_lets_others_in(app: App) -> None:
    (app.workspace.config.data_dir / "chroma.id").write_bytes(b"")
    [index] = app.workspace.state.catalog.indexes()
    with app.workspace.vector_session() as session, app.workspace.vector_session() as other:
        session.look()
        assert not session.is_current(index)
        assert is_named(app)
        other.open()


@only_chroma
def test_a_name_that_breaks_while_the_store_is_read_does_not_hinder_closing(app: App) -> None:
    with app.workspace.vector_session() as session:
        with session.reading() as store:
            assert len(store.names()) == 1
        (app.workspace.config.data_dir / "chroma.id").write_bytes(b"")
    with app.workspace.vector_session() as writer:
        writer.open()


def test_a_name_is_made_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    name = identity_beside(tmp_path / "data" / "chroma")
    assert re.fullmatch("directory [0-9a-f]{32}", name)
    assert identity_beside(tmp_path / "data" / "chroma") == name
    [made] = (tmp_path / "data").iterdir()
    assert (made.name, stat.S_IMODE(made.stat().st_mode)) == ("chroma.id", 0o600)


def test_a_name_is_safe_on_the_disk_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[bool, int]] = []

    def record(descriptor: int) -> None:
        status = os.fstat(descriptor)
        saved.append((stat.S_ISDIR(status.st_mode), status.st_size if stat.S_ISREG(status.st_mode) else 0))

    monkeypatch.setattr(os, "fsync", record)
    identity_beside(tmp_path / "chroma")
    size = (tmp_path / "chroma.id").stat().st_size
    assert saved == [(False, size), (True, 0)]
    assert [path.name for path in tmp_path.iterdir()] == ["chroma.id"]
