"""Acceptance: `repos list | show | remove`: exactly what was named goes, and nothing that was paid for."""

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_helpers import WarmStart
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo
from repos_helpers import Keeper, age, three_branches

from codechunk.config.load import load_config
from codechunk.vectors.chroma_files import DirectoryLock
from codechunk.workspace.workspace import Workspace

# More than a removal has.
MOST_POINTS = 15


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator(faults=Faults()) as running:
        yield running


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return three_branches(tmp_path / "demo")


@pytest.fixture
def cli(tmp_path: Path, warm: WarmStart, emulator: GeminiEmulator, repo: GitRepo) -> Iterator[Keeper]:
    with Keeper(tmp_path / "keeper", warm, emulator, repo) as keeper:
        yield keeper


def test_list_tells_of_each_index_its_ref_commit_age_and_chunks(cli: Keeper, repo: GitRepo) -> None:
    assert cli.document("repos", "list") == []
    cli.bought()
    cli.bought("feature")
    documents = cli.document("repos", "list")
    assert [(one["ref"], one["files"], one["chunks"]) for one in documents] == [("feature", 7, 7), ("main", 6, 6)]
    main = documents[1]
    assert main["commit"] == repo.git("rev-parse", "main")
    assert main["url"] == str(repo.path)
    assert 0 <= main["age_s"] < 120
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", main["updated_at"])
    assert (main["provider"], main["dimensions"], main["job"]) == ("gemini", 128, None)
    printed = cli.run("repos", "list").out
    assert re.search(rf"demo +main +{main['commit'][:12]} +\d+s +6 +6 +gemini-embedding", printed), printed


def test_list_tells_of_an_index_that_waits_for_its_first_vectors(
    cli: Keeper, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    emulator.faults.stuck = True
    started = cli.run("index", repo.path, "--mode", "batch", "--no-wait", "--json").json
    [document] = cli.document("repos", "list")
    assert (document["commit"], document["age_s"], document["chunks"]) == (None, None, 0)
    assert document["job"] == {"id": started["job_id"], "status": "embedding"}
    assert started["job_id"] in cli.run("repos", "list").out


def test_show_tells_what_a_ref_is_made_of_and_what_it_shares(cli: Keeper, repo: GitRepo) -> None:
    repo.commit({"vendor/x.min.js": "a" * 10, "picture.png": b"\x89PNG\r\n\x1a\n\0\0"})
    cli.bought()
    cli.bought("feature")
    document = cli.document("repos", "show", "demo")
    assert [ref["ref"] for ref in document["refs"]] == ["feature", "main"]
    feature, main = document["refs"]
    assert feature["languages"] == {"python": 7}
    assert feature["kinds"] == {"function": 7}
    assert feature["shared_chunks"] == main["shared_chunks"] == 6
    assert sum(main["files_left_out"].values()) == 2
    one = cli.document("repos", "show", "demo@feature")
    assert [ref["ref"] for ref in one["refs"]] == ["feature"]
    printed = cli.run("repos", "show", "demo@feature").out
    for word in ("python 7", "function 7", "6 shared", feature["commit"], str(repo.path)):
        assert word in printed, word


def test_removing_one_ref_leaves_another_with_equal_content_as_it_was(
    cli: Keeper, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    for ref in ("main", "release", "feature"):
        cli.bought(ref)
    cache = cli.cache()
    before = cli.run("search", "value number 3", "--repo", "demo@main", "--json").json
    document = cli.document("repos", "remove", "demo@feature")
    assert (document["refs"], document["contents"], document["chunks"]) == (["feature"], 1, 1)
    assert document["vectors_kept"] == 7
    document = cli.document("repos", "remove", "demo@release")
    assert (document["contents"], document["chunks"], document["collections_left"]) == (0, 0, [])
    assert cli.listed() == [("demo", "main")]
    assert cli.run("search", "value number 3", "--repo", "demo@main", "--json").json == before
    found = cli.document("search", "only_in_feature", "--anyway")
    assert found
    assert "extra.py" not in {answer["path"] for answer in found}
    assert cli.cache() == cache
    bought = dict(emulator.paid)
    assert cli.bought("main")["mode_reason"] == "nothing changed", "the look of the vector index was not followed"
    assert sorted(cli.held()) == sorted(row[0] for row in cli.sql("SELECT chunk_id FROM index_chunks"))
    assert len(cli.held()) == 6
    assert cli.errors() == []
    # And back: everything is in the cache.
    assert cli.bought("feature")["chunks"]["total"] == 7
    assert cli.bought("release")["status"] == "succeeded"
    assert dict(emulator.paid) == bought
    assert len(cli.held()) == 6 + 6 + 7


def test_the_name_alone_removes_all_refs_and_says_what_it_costs_to_come_back(
    cli: Keeper, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    cli.bought("main")
    cli.bought("feature")
    done = cli.run("repos", "remove", "demo")
    assert done.code == 0, done.err
    assert "demo@feature, demo@main" in done.out
    assert "7 vectors stay in the cache: indexing it again buys nothing" in done.out
    assert cli.listed() == []
    for table in ("repositories", "indexes", "files", "sources", "chunks", "chunk_words", "index_chunks", "jobs"):
        assert cli.count(table) == 0, table
    assert cli.count("vectors") == 7
    assert list(cli.held()) == []
    bought = dict(emulator.paid)
    cli.bought("feature")
    assert dict(emulator.paid) == bought


def test_texts_that_are_out_with_a_removed_repository_come_back_into_the_cache(
    cli: Keeper, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    emulator.faults.stuck = True
    cli.run("index", repo.path, "--mode", "batch", "--no-wait")
    document = cli.document("repos", "remove", "demo")
    assert (document["texts_out"], document["vectors_kept"], len(document["jobs_ended"])) == (6, 0, 1)
    assert cli.sql("SELECT state, count(*) FROM embeddings GROUP BY 1") == [("processing", 6)]
    emulator.faults.stuck = False
    emulator.finish()
    assert cli.run("queue", "sync").code == 0
    assert cli.sql("SELECT state, count(*) FROM embeddings GROUP BY 1") == [("ready", 6)]
    assert cli.bought("main")["status"] == "succeeded"
    assert set(emulator.paid.values()) == {1}
    assert cli.errors() == []


def test_texts_that_only_waited_for_a_removed_repository_are_never_bought(
    cli: Keeper, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    emulator.faults.stuck = True
    assert cli.run("index", repo.path, "--mode", "batch", "--no-wait").code == 0
    cli.sql("UPDATE embeddings SET state = 'pending', batch_id = NULL WHERE id <= 2")
    document = cli.document("repos", "remove", "demo@main")
    assert (document["texts"], document["texts_without_vector"]) == (2, 2)
    assert cli.count("embeddings") == 4


def test_names_and_refs_with_at_signs_and_slashes_mean_exactly_one_thing(cli: Keeper, tmp_path: Path) -> None:
    plain, odd = GitRepo(tmp_path / "a"), GitRepo(tmp_path / "a@x" / "a@b")
    for number, made in enumerate((plain, odd)):
        made.commit({"f.py": f"def f{number}():\n    return {number}\n"})
    plain.git("branch", "b")
    plain.git("branch", "feature/x@1")
    for ref in ("main", "b", "feature/x@1"):
        cli.bought(ref, source=plain.path)
    cli.bought(source=odd.path)
    assert cli.listed() == [("a", "b"), ("a", "feature/x@1"), ("a", "main"), ("a@b", "main")]
    doubt = cli.run("repos", "remove", "a@b")
    assert doubt.code == 2
    assert f"{plain.path}@b" in doubt.err
    assert str(odd.path) in doubt.err
    assert len(cli.listed()) == 4
    unknown = cli.run("repos", "remove", "a@fe")
    assert unknown.code == 2
    assert "a@feature/x@1" in unknown.err
    cli.document("repos", "remove", "a@feature/x@1")
    cli.document("repos", "remove", f"{plain.path}@b")
    assert cli.listed() == [("a", "main"), ("a@b", "main")]
    cli.document("repos", "remove", "a@b")
    assert cli.listed() == [("a", "main")]


def test_the_mirror_stays_until_the_last_ref_is_removed(cli: Keeper, repo: GitRepo) -> None:
    for ref in ("main", "feature"):
        cli.bought(ref, source=f"file://{repo.path}/.git")
    name = cli.listed()[0][0]
    [mirror] = (cli.data / "mirrors").glob("*.git")
    assert cli.document("repos", "show", name)["mirror_bytes"] > 0
    assert cli.document("repos", "remove", f"{name}@feature")["mirror_bytes"] is None
    assert mirror.is_dir()
    assert cli.document("repos", "remove", f"{name}@main")["mirror_bytes"] > 0
    assert list((cli.data / "mirrors").glob("*.git*")) == []


def test_a_repository_that_a_process_works_on_is_not_removed(cli: Keeper, repo: GitRepo) -> None:
    cli.bought()
    workspace = Workspace(load_config(config_file=None, flags={"data_dir": str(cli.data)}, environ={}, cwd=cli.root))
    with workspace.alone_with(url=str(repo.path), repository="demo"):
        done = cli.run("repos", "remove", "demo")
    assert done.code == 1
    assert "demo is being indexed by another codechunk process" in done.err
    assert cli.listed() == [("demo", "main")]


def test_a_collection_that_cannot_be_dropped_now_is_left_to_gc(cli: Keeper, repo: GitRepo) -> None:
    cli.bought()
    cli.bought("feature")
    lock = DirectoryLock(cli.data / "chroma", write=True)
    try:
        done = cli.run("repos", "remove", "demo@feature", "--json")
    finally:
        lock.release()
    assert done.code == 0, done.err
    assert len(done.json["collections_left"]) == 1
    assert "`codechunk gc` removes them" in done.err
    assert cli.document("gc")["collections"] == 1
    assert cli.bought()["mode_reason"] == "nothing changed", "the look of the vector index was not followed"
    assert len(cli.held()) == 6


def test_a_kill_at_any_point_of_a_removal_is_mended_by_gc_or_by_removing_again(
    tmp_path: Path, warm: WarmStart, emulator: GeminiEmulator, repo: GitRepo
) -> None:
    ground = Keeper(tmp_path / "ground", warm, emulator, repo)
    ground.bought()
    ground.bought("feature", source=f"file://{repo.path}/.git")
    name = next(name for name, ref in ground.listed() if ref == "feature")
    points = []
    for number in range(1, MOST_POINTS):
        cli = Keeper(tmp_path / str(number), warm, emulator, repo)
        shutil.copytree(ground.data, cli.data)
        done = cli.do("repos", "remove", name, crash_at=number)
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done.err
        points.append(done.err.strip().rpartition(": ")[2])
        age(cli.data / "mirrors")
        if number % 2 == 0:
            assert cli.run("repos", "remove", name).code in {0, 2}
        cli.document("gc")
        assert_nothing_is_left(cli)
    assert len(points) >= 6, points


def assert_nothing_is_left(cli: Keeper) -> None:
    """Of the removed repository with its seven chunks, beside the other with six of the same texts."""
    found = cli.document("gc")
    for what in ("files", "contents", "chunks", "texts", "collections", "mirrors", "leftovers", "skipped"):
        assert not found[what], found
    assert [ref for _, ref in cli.listed()] == ["main"]
    assert (cli.count("repositories"), cli.count("chunks"), cli.count("vectors")) == (1, 6, 7)
    assert len(cli.held()) == 6
    assert list((cli.data / "mirrors").glob("*.git*")) == []
    assert cli.errors() == []
