"""What disturbs a run of index: kill -9, refs that move back, searches and other runs beside it, random histories."""

import random
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from chroma_helpers import chroma_server
from cli_helpers import Cli, collection_ids
from code_samples import function, many_files
from git_helpers import GitRepo
from waiting import wait_until


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def assert_like_fresh(cli: Cli, repo: GitRepo, place: Path) -> None:
    fresh = Cli(place)
    fresh.index(repo.path)
    expected, found = fresh.final_state(), cli.final_state()
    for name in expected:
        if name != "vectors":  # the cache keeps what was embedded before
            assert found[name] == expected[name], name
    assert collection_ids(cli.data) == collection_ids(fresh.data)


def test_a_rebuild_that_was_killed_is_finished_by_the_next_run_and_noticed_by_search(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit(many_files(100))
    cli.index(repo.path)
    total = cli.count("index_chunks")
    shutil.rmtree(cli.data / "chroma")
    goal = total // 4
    cli.kill_when(lambda: 0 < goal <= cli.count("index_chunks") < total, "index", repo.path, "--test-embeddings")
    assert cli.count("index_chunks") < total
    found = cli.run("search", "work 7", "--json")
    # Killed between two pages, or after Chroma took one and before that was recorded.
    assert "vectors are missing" in found.err or "vectors instead of" in found.err
    assert cli.count("index_chunks") == total
    cli.sql("DELETE FROM index_chunks WHERE chunk_id > '8'")
    shutil.rmtree(cli.data / "chroma")
    document = cli.index(repo.path)
    assert document["status"] == "succeeded"
    assert document["chunks"]["new"] == 0
    assert_like_fresh(cli, repo, tmp_path / "fresh")


def test_a_ref_that_moves_back_after_a_kill_gets_its_own_vectors_again(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    first = repo.commit({**many_files(60), "long.py": function("long", 150)})
    cli.index(repo.path)
    repo.commit({"long.py": function("long", 150, argument="other")} | many_files(60, lines=25))
    before = cli.count("embeddings")
    newly_stored = "SELECT count(*) FROM index_chunks WHERE embedding_id > ?"
    cli.kill_when(lambda: cli.sql(newly_stored, before)[0][0] > 0, "index", repo.path, "--test-embeddings")
    repo.git("reset", "-q", "--hard", first)
    cli.index(repo.path)
    assert_like_fresh(cli, repo, tmp_path / "fresh")


def test_searches_beside_an_indexing_process_all_succeed(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit(many_files(20))
    cli.index(repo.path)
    repo.commit(many_files(250, lines=30))
    process = cli.start("index", repo.path, "--test-embeddings")
    searches = 0
    while process.poll() is None:
        done = cli.run("search", "work 3 2", "--json", "-k", "3")
        assert done.code == 0, done.err
        assert len(done.json) == 3
        searches += 1
    assert process.communicate() is not None
    assert process.returncode == 0
    assert searches > 1


def test_a_search_never_rebuilds_what_another_process_is_filling_in_a_server(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    repo = GitRepo(tmp_path / "repo")
    repo.commit(many_files(20))
    (tmp_path / "server").mkdir()
    with chroma_server(tmp_path / "server") as url:
        environment = {"CODECHUNK_VECTORS__URL": url}
        assert cli.run("index", repo.path, "--test-embeddings", env=environment).code == 0
        repo.commit(many_files(200, lines=30))
        process = cli.start("index", repo.path, "--test-embeddings", "--json", env=environment)
        while process.poll() is None:
            done = cli.run("search", "work 3 2", "--json", env=environment)
            assert done.code == 0, done.err
            assert "rebuilding" not in done.err
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert '"succeeded"' in out


def test_two_refs_of_one_repository_are_not_indexed_at_once(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit(many_files(60))
    repo.git("branch", "other")
    (tmp_path / "server").mkdir()
    with chroma_server(tmp_path / "server") as url:
        environment = {"CODECHUNK_VECTORS__URL": url}
        first = cli.start("index", repo.path, "--test-embeddings", env=environment)
        wait_until(lambda: first.poll() is not None or cli.count("chunks") >= 50, "the first is at work")
        second = cli.run("index", repo.path, "--ref", "other", "--test-embeddings", env=environment)
        first.communicate()
        assert first.returncode == 0
        assert second.code in {0, 1}
        if second.code:
            assert "is being indexed by another codechunk process" in second.err


def test_a_full_run_that_was_killed_goes_on_and_is_not_forgotten(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit(many_files(150))
    cli.index(repo.path)
    total = cli.count("chunks")
    cli.kill_when(lambda: cli.count("chunks") >= total + 200, "index", repo.path, "--test-embeddings", "--full")
    saved = cli.count("chunks")
    cli.sql("UPDATE chunks SET tokens = tokens + 1000000 WHERE id > (SELECT max(id) - 100 FROM chunks)")
    document = cli.index(repo.path)
    assert saved > total
    assert document["files"]["unchanged"] == 0
    assert document["embedding"]["texts_sent"] == 0
    assert cli.sql("SELECT count(*) FROM chunks WHERE tokens > 1000000") == [(100,)]
    assert cli.count("chunks") == total
    assert cli.index(repo.path)["files"]["unchanged"] == 150


def test_runs_that_nobody_takes_up_do_not_stay_running(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit(many_files(60))
    cli.kill_when(lambda: cli.count("chunks") >= 50, "index", repo.path, "--test-embeddings")
    repo.commit({"m000.py": "x = 1\n"})
    cli.index(repo.path)
    assert sorted(row[0] for row in cli.sql("SELECT status FROM jobs")) == ["succeeded", "superseded"]


def test_waiting_texts_that_no_chunk_has_any_more_are_forgotten(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit({"a.py": function("plain", 5)})
    cli.index(repo.path)
    cli.sql("INSERT INTO embeddings (space_id, text_sha, state, attempts) VALUES (1, 'ff', 'pending', 0)")
    repo.commit({"b.py": function("second", 5)})
    cli.index(repo.path)
    assert cli.sql("SELECT count(*) FROM embeddings WHERE state = 'pending'") == [(0,)]


def mutate(files: dict[str, str], change: str, step: int, chance: random.Random, history: list[dict[str, str]]) -> None:
    """One random change to a set of files."""
    name = chance.choice(sorted(files))
    if change == "edit":
        files[name] = function(f"edit_{step}", chance.randrange(2, 60))
    elif change == "new":
        files[f"new{step}.py"] = function(f"fresh_{step}", 10)
    elif change == "copy":
        files[f"copy{step}.py"] = files[name]
    elif change == "delete" and len(files) > 1:
        del files[name]
    elif change == "move":
        files[f"moved{step}.py"] = files.pop(name)
    elif change == "restore":
        old = chance.choice(history)
        files.clear()
        files.update(old)
    elif change == "insert":
        files[name] = "# a line on top\n" + files[name]


@pytest.mark.parametrize("seed", range(2))
def test_after_random_histories_the_index_equals_a_fresh_one(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    cli = Cli(tmp_path)
    repo = GitRepo(tmp_path / "repo")
    files = {f"f{n}.py": function(f"start_{n}", chance.randrange(2, 40)) for n in range(8)}
    repo.commit(files)
    history = [dict(files)]
    cli.index(repo.path)
    for step in range(7):
        for change in chance.sample(["edit", "new", "copy", "delete", "move", "restore", "insert"], 2):
            mutate(files, change, step, chance, history)
        files.setdefault("keep.py", function("keep", 3))
        gone = [path.name for path in repo.path.glob("*.py") if path.name not in files]
        repo.commit(files, f"step {step}", delete=gone)
        history.append(dict(files))
        if chance.random() < 0.3:
            process = cli.start("index", repo.path, "--test-embeddings")
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.05, 1.0))  # a random moment
            process.kill()
            process.communicate()
        cli.index(repo.path)
    assert_like_fresh(cli, repo, tmp_path / "fresh")
