"""The store without a copy: `vectors.backend: exact` compares the vectors of the state database."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from git_helpers import GitRepo
from paid_helpers import FUNCTION, small_repository
from told_helpers import Told

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.errors import UsageError
from codechunk.progress import Silence
from codechunk.providers import synthetic
from codechunk.search.nearest import Nearest
from codechunk.search.ranking import Query
from codechunk.state import Filter


def app_in(data: Path, **flags: str) -> App:
    given = {name.replace("__", "."): value for name, value in flags.items()}
    flags = {"data_dir": str(data), "embedding.provider": "synthetic", "vectors.backend": "exact", **given}
    return App(load_config(config_file=None, flags=flags, environ=os.environ, cwd=data.parent))


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return small_repository(tmp_path / "demo")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    with app_in(tmp_path / "data") as made:
        yield made


def request(repo: GitRepo) -> IndexRequest:
    return IndexRequest(source=str(repo.path), jobs=1)


def held(app: App) -> int:
    with app.workspace.state.database.read() as connection:
        return sum(
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in ("stores", "index_stores", "index_chunks")
        )


def test_a_repository_is_indexed_searched_changed_and_kept_clean_without_a_second_copy(app: App, repo: GitRepo) -> None:
    told = Told()
    first = app.index(request(repo), told)
    assert first.status == "succeeded"
    assert first.chunks.ready == 6
    assert app.index(request(repo), told).mode_reason == "nothing changed"
    [best, *_] = app.search(Query(text="function 3"), repository=None, reporter=told)
    assert best.path.startswith("f")
    repo.commit({"late.py": "def only_late(value):\n    return value * 7\n"}, delete=["f1.py"])
    changed = app.index(request(repo), told)
    assert changed.changes.chunks.added == changed.changes.chunks.deleted == 1
    answers = app.search(Query(text="only late"), repository=None, reporter=told)
    assert answers[0].path == "late.py"
    assert "f1.py" not in {answer.path for answer in answers}
    app.remove_repository("demo", told)
    removed = app.collect_garbage(told, dry_run=False, drop_cache=True)
    assert removed.vectors == 7
    assert told.sentences == []
    assert [finding for finding in app.doctor() if finding.status == "error"] == []
    assert held(app) == 0
    assert not list(app.workspace.config.data_dir.glob("chroma*"))


def test_doctor_finds_all_well(app: App, repo: GitRepo) -> None:
    app.index(request(repo), Silence())
    findings = {finding.check: finding for finding in app.doctor()}
    assert findings["vector_index"].message == "all 1 indexes hold what they should"
    assert {name: found.message for name, found in findings.items() if found.status in {"error", "warning"}} == {}


def test_doctor_looks_at_no_copy_of_a_store_that_is_not_used(app: App, tmp_path: Path, repo: GitRepo) -> None:
    """The copy in Chroma, which `exact` does not use, is behind and lacks what was published since."""
    with app_in(tmp_path / "data", vectors__backend="chroma") as chroma:
        chroma.index(request(repo), Silence())
    repo.commit({"late.py": "def only_late(value):\n    return value * 7\n"}, delete=["f1.py"])
    app.index(request(repo), Silence())
    found = {finding.check: finding.status for finding in app.doctor()}
    assert (found["index_is_complete"], found["index_holds_nothing_old"]) == ("skipped", "skipped")
    with app_in(tmp_path / "data", vectors__backend="chroma") as chroma:
        found = {finding.check: finding.status for finding in chroma.doctor()}
        assert (found["index_is_complete"], found["index_holds_nothing_old"]) == ("ok", "ok")
        told = Told()
        assert chroma.search(Query(text="only late"), repository=None, reporter=told)[0].path == "late.py"
        assert len(told.sentences) == 1
        assert "follows" in told.sentences[0]


def test_its_nearest_are_those_of_comparing_all_vectors(app: App, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "many")
    repo.commit({f"m{n}.py": "\n".join(FUNCTION.format(100 * n + m) for m in range(20)) for n in range(30)})
    app.index(request(repo), Silence())
    state = app.workspace.state
    [index] = state.catalog.indexes()
    pages = list(state.lookup.vectors(index.published, Filter()))
    ids = [chunk_id for page, _ in pages for chunk_id in page]
    matrix = np.concatenate([vectors for _, vectors in pages]).astype(np.float64)
    assert len(ids) > 100
    with Nearest(app.workspace, Silence()) as nearest:
        for text in ("function 1203", "value", "return 7"):
            [query] = synthetic.embed([text], index.space.dimensions)
            similarity = matrix @ query.astype(np.float64)
            found = nearest(index, query, 40)
            assert found is not None
            best = sorted(range(len(ids)), key=lambda row: (-similarity[row], ids[row]))[:40]
            assert [score for _, score in found] == pytest.approx([similarity[row] for row in best], abs=1e-5)
            least = similarity[best[-1]] + 1e-5
            assert {id_ for id_, score in found if score > least} == {
                ids[row] for row in best if similarity[row] > least
            }


def store_answers(app: App) -> set[str]:
    """The ids that the store itself gives for all there is."""
    [index] = app.workspace.state.catalog.indexes()
    [vector] = synthetic.embed(["value"], index.space.dimensions)
    with Nearest(app.workspace, Silence()) as nearest:
        return {id_ for id_, _ in nearest(index, vector, 100) or []}


def stored_ids(app: App) -> set[str]:
    [index] = app.workspace.state.catalog.indexes()
    return {id_ for ids, _ in app.workspace.state.lookup.vectors(index.published, Filter()) for id_ in ids}


def test_a_long_lived_process_sees_a_repository_that_was_removed_and_indexed_again(
    app: App, tmp_path: Path, repo: GitRepo
) -> None:
    app.index(request(repo), Silence())
    first, [index] = store_answers(app), app.workspace.state.catalog.indexes()
    assert first == stored_ids(app)
    with app_in(tmp_path / "data") as other:
        other.remove_repository("demo", Silence())
        repo.commit({f"f{number}.py": FUNCTION.format(100 + number) for number in range(6)})
        other.index(request(repo), Silence())
        [again] = other.workspace.state.catalog.indexes()
    assert (again.id, again.publications, again.collection) == (index.id, index.publications, index.collection)
    assert stored_ids(app) != first
    assert store_answers(app) == stored_ids(app)


def test_a_long_lived_process_sees_vectors_that_came_without_a_publication(
    app: App, tmp_path: Path, repo: GitRepo
) -> None:
    app.index(request(repo), Silence())
    app.export_cache(tmp_path / "vectors.bin", None, Silence())
    lost = "SELECT id FROM embeddings ORDER BY id LIMIT 2"
    with app.workspace.state.database.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM vectors WHERE embedding_id IN ({lost})")
        connection.exec_driver_sql(f"UPDATE embeddings SET state = 'failed' WHERE id IN ({lost})")
        connection.exec_driver_sql("UPDATE indexes SET whole = false")
    assert len(store_answers(app)) == 4
    with app_in(tmp_path / "data") as other:
        other.import_cache(tmp_path / "vectors.bin", Silence())
    assert store_answers(app) == stored_ids(app)
    assert len(stored_ids(app)) == 6


def test_going_over_to_exact_and_back_buys_and_loses_nothing(app: App, tmp_path: Path, repo: GitRepo) -> None:
    with app_in(tmp_path / "data", vectors__backend="chroma") as chroma:
        chroma.index(request(repo), Silence())
        before = chroma.search(Query(text="value"), repository=None, reporter=Silence())
        told = Told()
        assert app.index(request(repo), told).mode_reason == "nothing changed"
        assert app.search(Query(text="value"), repository=None, reporter=told) == before
        repo.commit({"late.py": "def only_late(value):\n    return value * 7\n"})
        assert app.index(request(repo), told).embedding.texts_sent == 1
        assert told.sentences == []
        again = chroma.index(request(repo), told)
        assert again.embedding.texts_sent == 0
        assert again.mode_reason == "nothing changed"
        assert chroma.search(Query(text="only late"), repository=None, reporter=told)[0].path == "late.py"


def test_chromadb_is_never_imported(tmp_path: Path, repo: GitRepo) -> None:
    script = (
        "import os, sys; from pathlib import Path; from codechunk.app import App, IndexRequest\n"
        "from codechunk.config.load import load_config; from codechunk.progress import Silence\n"
        "from codechunk.search.ranking import Query\n"
        "flags = {'data_dir': sys.argv[1], 'vectors.backend': 'exact', 'embedding.provider': 'synthetic'}\n"
        "app, told = App(load_config(config_file=None, flags=flags, environ=os.environ, cwd=Path.cwd())), Silence()\n"
        "app.index(IndexRequest(source=sys.argv[2], jobs=1), told)\n"
        "found = app.search(Query(text='value'), repository=None, reporter=told)\n"
        "app.collect_garbage(told, dry_run=False, drop_cache=False); app.doctor()\n"
        "app.remove_repository('demo', told)\n"
        "print(len(found), 'chromadb' in sys.modules, 'codechunk.vectors.chroma' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "data"), str(repo.path)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("6 False False\n", "")


def test_an_unknown_store_is_refused_with_the_nearest_name_and_exact_has_no_server(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"vectors\.backend = chrome .*did you mean chroma\?"):
        app_in(tmp_path, vectors__backend="chrome")
    with pytest.raises(UsageError, match=r"vectors\.url = .*which has no server"):
        app_in(tmp_path, vectors__url="http://127.0.0.1:1")
