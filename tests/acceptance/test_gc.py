"""Acceptance: `gc` removes what nothing refers to, nothing that was paid for, and nothing somebody works with."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos_helpers import WarmStart
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo
from repos_helpers import Keeper, age, three_branches

from codechunk.config.load import load_config
from codechunk.git.repository import mirror_path, parse_source
from codechunk.workspace.workspace import Workspace

NUMBERS = (
    "indexes",
    "files",
    "contents",
    "chunks",
    "texts",
    "vectors",
    "tokens",
    "collections",
    "copies",
    "mirrors",
    "leftovers",
)
# Longer ago than an unfinished run is kept.
LONG_AGO_S = 15 * 86_400
# Where the vectors of a run with one direct call are in Chroma: after claimed, came, stored, claimed.
VECTORS_STORED = 5
MAKE_COLLECTION = (
    "import sys, chromadb\n"
    "from chromadb.config import Settings\n"
    "client = chromadb.PersistentClient(sys.argv[1], settings=Settings(anonymized_telemetry=False))\n"
    "client.create_collection(sys.argv[2], embedding_function=None)\n"
)


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


def numbers(document: Any) -> dict[str, int]:
    return {name: document[name] for name in NUMBERS if document[name]}


def interrupted(cli: Keeper, repo: GitRepo) -> None:
    """A second commit of main whose run is killed when its vectors are in Chroma and nothing is published."""
    repo.commit({"f0.py": "def changed(value):\n    return value * 1000\n"}, delete=["f1.py"])
    done = cli.do("index", repo.path, "--mode", "sequential", crash_at=VECTORS_STORED)
    assert "vectors stored" in done.err


def begun_long_ago(cli: Keeper) -> None:
    cli.sql("UPDATE jobs SET started_at = started_at - ? WHERE status = 'running'", LONG_AGO_S)


def leave_files(cli: Keeper) -> list[Path]:
    """What killed processes and other people left in the data directory. Returns what must stay."""
    batches, mirrors = cli.data / "batches", cli.data / "mirrors"
    for folder in (batches, mirrors):
        folder.mkdir(exist_ok=True)
    (batches / f"{'a' * 32}.jsonl").write_text("{}\n" * 9)
    (batches / f"{'b' * 32}-0.results.jsonl").write_text("{}\n" * 9)
    gone = mirror_path(parse_source("https://example.com/gone/gone.git"), mirrors)
    partial = mirrors / f"{gone.name}.tmp-1234"
    for folder in (gone, partial):
        folder.mkdir()
        (folder / "HEAD").write_text("ref: refs/heads/main\n")
    theirs = mirrors / "important.git"
    theirs.mkdir()
    (theirs / "HEAD").write_text("ref: refs/heads/main\n")
    (batches / "notes.txt").write_text("mine")
    age(batches)
    age(mirrors)
    fresh = batches / f"{'c' * 32}.jsonl"
    fresh.write_text("{}\n")
    return [theirs, batches / "notes.txt", fresh]


def test_a_dry_run_tells_what_gc_then_removes_and_a_second_one_finds_nothing(cli: Keeper, repo: GitRepo) -> None:
    cli.bought()
    cli.bought("feature", source=f"file://{repo.path}/.git")
    cli.sql("DELETE FROM files WHERE path = 'extra.py'")
    cli.sql("DELETE FROM index_chunks WHERE chunk_id NOT IN (SELECT chunk_id FROM chunks JOIN files USING (source_id))")
    interrupted(cli, repo)
    begun_long_ago(cli)
    cli.sql(
        "INSERT INTO embeddings(space_id, text_sha, state, attempts, route) VALUES (1, 'x', 'pending', 0, 'any'),"
        " (1, 'y', 'failed', 3, 'any')"
    )
    stay = leave_files(cli)
    made = cli.launch(cli.data / "chroma", f"codechunk-{'0' * 32}", script=MAKE_COLLECTION).wait()
    assert made is not None
    assert made.code == 0, made.err
    everything = sorted(path for path in cli.data.rglob("*") if "mirrors" in path.parts or "batches" in path.parts)
    told = cli.document("gc", "--dry-run")
    assert told["dry_run"] is True
    assert sorted(p for p in cli.data.rglob("*") if "mirrors" in p.parts or "batches" in p.parts) == everything
    assert numbers(told) == {
        "files": 1,  # the changed f0.py; f1.py lives again
        "contents": 2,  # that one, and extra.py
        "chunks": 2,
        "texts": 2,
        "collections": 1,
        "mirrors": 1,
        "leftovers": 3,
    }
    cache = cli.cache()
    done = cli.document("gc")
    assert numbers(done) == numbers(told)
    assert done["kept"] == told["kept"]
    assert done["kept"]["vectors"] == 2
    assert cli.cache() == cache
    again = cli.document("gc")
    assert numbers(again) == numbers(cli.document("gc", "--dry-run")) == {}
    assert "Nothing to remove." in cli.run("gc").out
    assert all(path.exists() for path in stay)
    assert cli.errors() == []


def test_the_work_of_an_interrupted_run_is_kept_at_first_and_removed_when_nobody_goes_on_with_it(
    cli: Keeper, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    cli.bought()
    calm = sorted(cli.held())
    record = cli.sql("SELECT * FROM index_chunks ORDER BY chunk_id")
    interrupted(cli, repo)
    # As if that run had also put another vector under the id of a chunk that stays.
    cli.sql("UPDATE index_chunks SET embedding_id = (SELECT max(id) FROM embeddings) WHERE chunk_id = ?", calm[0])
    assert numbers(cli.document("gc")) == {}
    assert len(cli.held()) == 7
    begun_long_ago(cli)
    assert numbers(cli.document("gc")) == {"files": 1, "contents": 1, "chunks": 1}
    assert sorted(cli.held()) == calm
    assert cli.sql("SELECT * FROM index_chunks ORDER BY chunk_id") == record
    assert sorted(job["status"] for job in cli.document("jobs", "list")) == ["cancelled", "succeeded"]
    assert "f1.py" in {answer["path"] for answer in cli.document("search", "function_1")}
    assert cli.errors() == []
    # What was bought is bought: the run that nobody went on with goes on after all.
    bought = dict(emulator.paid)
    document = cli.bought()
    assert document["status"] == "succeeded"
    assert dict(emulator.paid) == bought
    assert len(cli.held()) == 5
    assert cli.errors() == []


def test_vectors_stay_unless_the_cache_is_dropped(cli: Keeper, repo: GitRepo, emulator: GeminiEmulator) -> None:
    cli.bought()
    cli.bought("feature")
    cli.document("repos", "remove", "demo@feature")
    kept = cli.document("gc")["kept"]
    assert kept["vectors"] == 1
    assert kept["tokens"] > 0
    assert "1 vectors that no chunk uses now are kept" in cli.run("gc").out
    told = cli.document("gc", "--dry-run", "--drop-cache")
    done = cli.document("gc", "--drop-cache")
    assert numbers(done) == numbers(told) == {"vectors": 1, "tokens": kept["tokens"]}
    assert done["kept"]["vectors"] == 0
    assert cli.count("vectors") == 6
    assert cli.errors() == []
    bought = dict(emulator.paid)
    cli.bought()
    assert dict(emulator.paid) == bought
    cli.bought("feature")
    assert sum(emulator.paid.values()) == sum(bought.values()) + 1


def test_dropping_vectors_of_batch_jobs_does_not_look_like_buying_twice(cli: Keeper, repo: GitRepo) -> None:
    cli.document("index", repo.path, "--mode", "batch")
    cli.document("repos", "remove", "demo")
    assert cli.document("gc", "--drop-cache")["vectors"] == 6
    found = {finding["check"]: finding["status"] for finding in cli.document("doctor")}
    assert found["texts_bought_once"] == "ok"
    assert set(found.values()) <= {"ok", "skipped", "warning"}
    assert cli.held() == []
    assert cli.document("index", repo.path, "--mode", "batch")["status"] == "succeeded"
    assert len(cli.held()) == 6


def test_a_repository_that_a_process_works_on_is_left_out_and_named(cli: Keeper, repo: GitRepo) -> None:
    cli.bought()
    interrupted(cli, repo)
    begun_long_ago(cli)
    workspace = Workspace(load_config(config_file=None, flags={"data_dir": str(cli.data)}, environ={}, cwd=cli.root))
    with workspace.alone_with(url=str(repo.path), repository="demo"):
        for words in (("gc", "--dry-run"), ("gc",)):
            document = cli.document(*words)
            assert numbers(document) == {}
            assert ["demo is being indexed" in sentence for sentence in document["skipped"]] == [True]
    assert cli.bought()["status"] == "succeeded"


def test_gc_during_a_run_takes_nothing_that_the_run_needs(cli: Keeper, repo: GitRepo, emulator: GeminiEmulator) -> None:
    emulator.faults.job_seconds = 3.0
    running = cli.launch("index", repo.path, "--mode", "batch", "--json")
    rounds = 0
    while running.wait(0.05) is None:
        # The file of a job that has ended is nobody's any more, also when the run has not come to remove it itself.
        assert numbers(cli.document("gc", "--drop-cache")).keys() <= {"leftovers"}
        rounds += 1
    done = running.wait()
    assert done is not None
    assert done.code == 0, done.err
    assert rounds >= 2
    assert len(cli.held()) == 6
    assert set(emulator.paid.values()) == {1}
    assert cli.errors() == []


def test_a_batch_job_that_is_out_keeps_its_files_and_rows(cli: Keeper, repo: GitRepo, emulator: GeminiEmulator) -> None:
    emulator.faults.stuck = True
    assert cli.run("index", repo.path, "--mode", "batch", "--no-wait").code == 0
    [(batch,)] = cli.sql("SELECT id FROM batches")
    mine = cli.data / "batches" / f"{batch}-0.results.jsonl"
    mine.write_text("{}\n")
    age(cli.data / "batches")
    assert numbers(cli.document("gc")) == {}
    assert mine.exists()
    assert cli.sql("SELECT state, count(*) FROM embeddings GROUP BY 1") == [("processing", 6)]


def test_an_index_that_was_never_finished_goes_when_nobody_goes_on_with_it(
    cli: Keeper, repo: GitRepo, emulator: GeminiEmulator
) -> None:
    emulator.faults.stuck = True
    cli.run("index", f"file://{repo.path}/.git", "--mode", "batch", "--no-wait")
    cli.sql("UPDATE jobs SET started_at = started_at - ?", LONG_AGO_S)
    cli.sql("UPDATE indexes SET updated_at = updated_at - ?", LONG_AGO_S)
    told = cli.document("gc", "--dry-run")
    assert numbers(told) == {"indexes": 1, "files": 6, "contents": 6, "chunks": 6, "mirrors": 1}
    assert numbers(cli.document("gc")) == numbers(told)
    assert (cli.listed(), cli.count("repositories")) == ([], 0)
    emulator.finish()
    assert cli.run("queue", "sync").code == 0
    assert cli.count("vectors") == 6


def test_space_in_the_database_is_given_back_and_backups_are_only_named(cli: Keeper, tmp_path: Path) -> None:
    large = GitRepo(tmp_path / "large")
    large.commit({f"f{number}.txt": os.urandom(20_000).hex() for number in range(40)})
    cli.index(large.path)
    cli.document("repos", "remove", "large")
    (cli.data / "state.db.backup-0002").write_bytes(b"1234")
    before = (cli.data / "state.db").stat().st_size
    document = cli.document("gc", "--drop-cache")
    assert (cli.data / "state.db").stat().st_size < before / 2
    assert document["bytes_freed"] > before / 2
    assert [backup["bytes"] for backup in document["kept"]["backups"]] == [4]
    assert (cli.data / "state.db.backup-0002").exists()
    assert cli.errors() == []


def test_what_a_store_held_whose_name_is_lost_is_forgotten_and_keeps_no_vector_back(cli: Keeper, repo: GitRepo) -> None:
    cli.bought()
    (cli.data / "chroma.id").unlink()
    repo.commit({}, delete=["f1.py"])
    cli.bought()
    assert cli.count("stores") == 2
    told = cli.document("gc", "--dry-run", "--drop-cache")
    assert (told["copies"], told["vectors"]) == (1, 1)
    assert cli.count("stores") == 2, "a dry run changes nothing"
    assert numbers(cli.document("gc", "--drop-cache")) == numbers(told)
    assert (cli.count("stores"), cli.count("index_stores"), cli.count("index_chunks")) == (1, 1, 5)
    assert numbers(cli.document("gc", "--dry-run", "--drop-cache")) == {}
    assert cli.bought()["mode_reason"] == "nothing changed"
    assert cli.errors() == []


def test_what_a_store_held_that_is_not_used_any_more_is_forgotten_and_filled_again_when_it_is(
    cli: Keeper, repo: GitRepo
) -> None:
    exact = {"CODECHUNK_VECTORS__BACKEND": "exact"}
    cli.bought()
    told = cli.document("gc", "--dry-run", "--drop-cache", env=exact)
    assert numbers(told) == {"copies": 1}
    repo.commit({}, delete=["f1.py"])
    cli.document("index", repo.path, "--ref", "main", "--mode", "sequential", env=exact)
    gone = cli.document("gc", "--drop-cache", env=exact)
    assert (gone["copies"], gone["vectors"]) == (1, 1)
    assert (cli.count("index_stores"), cli.count("index_chunks")) == (0, 0)
    again = cli.bought()
    assert (again["status"], again["embedding"]["texts_sent"], len(cli.held())) == ("succeeded", 0, 5)
    assert cli.errors() == []
