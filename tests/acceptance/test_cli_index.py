"""Acceptance: `codechunk index` in a process of its own, on real git, SQLite and Chroma."""

import json
import sqlite3
import subprocess
from pathlib import Path

import pytest
from cli_helpers import Cli, collection_ids
from code_samples import function, many_files
from git_helpers import GitRepo

PYTHON_FILE = '''"""Retry helpers."""

import time


def retry_with_backoff(call, attempts=5):
    """Call until it succeeds, waiting longer each time."""
    for attempt in range(attempts):
        try:
            return call()
        except OSError:
            time.sleep(2 ** attempt)
    raise RuntimeError("gave up")


class ConnectionPool:
    """Keeps idle connections for reuse."""

    def __init__(self, size):
        self.size = size
        self.idle = []

    def acquire(self):
        """Take an idle connection or open a new one."""
        if self.idle:
            return self.idle.pop()
        return object()
'''

C_FILE = """#include <stdio.h>

/* Evict the least recently used key. */
int evict_oldest_key(struct cache *c) {
    struct entry *victim = c->tail;
    if (victim == NULL) return 0;
    unlink_entry(c, victim);
    return 1;
}
"""

FILES: dict[str, str | bytes] = {
    "src/net/pool.py": PYTHON_FILE,
    "src/cache.c": C_FILE,
    "README.md": "# Demo\n\nA small project.\n\n## Install\n\nRun make.\n",
    "tests/test_pool.py": "def test_pool_reuses_connections():\n    assert True\n",
    "vendor/lib.c": C_FILE,
    "package-lock.json": '{"lockfileVersion": 3}\n',
    "logo.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "empty.txt": "",
    "big.txt": "x" * 80 + "\n",
    "model.bin": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n",
}

DOCUMENT_KEYS = {
    "job_id", "repository", "url", "ref", "commit", "status", "mode", "mode_reason", "files", "chunks", "tokens",
    "changes", "embedding", "published", "secrets", "cost", "seconds",
}  # fmt: skip


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "demo")
    made.commit(FILES, "first")
    (made.path / "link").symlink_to("/etc/passwd")
    made.git("add", "link")
    made.commit_index("a link")
    return made


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_a_repository_is_indexed_and_every_file_is_accounted_for(cli: Cli, repo: GitRepo) -> None:
    document = cli.index(repo.path)
    assert set(document) == DOCUMENT_KEYS
    assert document["status"] == "succeeded"
    assert document["repository"] == "demo"
    assert document["ref"] == "main"
    assert document["commit"] == repo.sha
    files = document["files"]
    assert files["discovered"] == len(FILES) + 1 == files["indexed"] + files["skipped"] + files["failed"]
    assert files["skipped_by_reason"] == {
        "binary": 1, "empty": 1, "generated": 1, "lfs_pointer": 1, "symlink": 1, "vendored": 1,
    }  # fmt: skip
    chunks = document["chunks"]
    assert chunks["total"] == chunks["new"] == chunks["ready"] > 5
    assert chunks["pending"] == chunks["processing"] == chunks["failed"] == 0
    assert document["tokens"]["mode"] == "all"
    assert document["tokens"]["estimated"] is False
    assert document["tokens"]["total"] > 100
    assert document["embedding"]["model"].startswith("synthetic")
    assert document["cost"]["spent"] == 0
    assert sorted(collection_ids(cli.data)) == sorted(row[0] for row in cli.sql("SELECT chunk_id FROM index_chunks"))


def test_search_finds_a_function_by_words_of_it(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    first = cli.search("evict least recently used key")[0]
    assert set(first) == {
        "score", "repository", "ref", "commit", "path", "language", "kind", "symbol", "start_line", "end_line", "text",
        "chunk_ids", "hit_lines", "file_rank", "content", "matched", "url", "absolute_path", "spans", "also",
        "committed_at", "behind",
    }  # fmt: skip
    assert first["path"] == "src/cache.c"
    assert "evict_oldest_key" in first["text"]
    lines = C_FILE.splitlines()
    assert first["text"].splitlines() == lines[first["start_line"] - 1 : first["end_line"]]
    pool = cli.search("take an idle connection", "--context", "0")[0]
    assert (pool["path"], pool["symbol"], pool["kind"]) == (
        "src/net/pool.py",
        "ConnectionPool.acquire",
        "method",
    )


def test_search_filters_by_language_path_kind_and_repository(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    assert {hit["language"] for hit in cli.search("key connection", "--language", "c")} == {"c"}
    assert {hit["path"] for hit in cli.search("connection", "--path", "tests/**")} == {"tests/test_pool.py"}
    assert {hit["kind"] for hit in cli.search("connection", "--kind", "method", "--context", "0")} == {"method"}
    assert cli.search("connection", "--repo", "demo@main")
    unknown = cli.run("search", "connection", "--repo", "other")
    assert unknown.code == 2
    assert "demo@main" in unknown.err


def test_nothing_is_embedded_twice(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    first = cli.index(repo.path)
    again = cli.index(repo.path)
    assert again["embedding"]["texts_sent"] == 0
    assert again["chunks"] == {**first["chunks"], "new": 0, "reused": first["chunks"]["total"]}
    assert again["files"]["unchanged"] == again["files"]["discovered"]
    clone = tmp_path / "elsewhere" / "copy"
    subprocess.run(["git", "clone", "-q", str(repo.path), str(clone)], check=True, capture_output=True)
    second = cli.index(clone)
    assert second["embedding"]["texts_sent"] == 0
    assert second["chunks"]["new"] == first["chunks"]["total"]
    full = cli.index(repo.path, "--full")
    assert full["embedding"]["texts_sent"] == 0
    assert full["chunks"]["total"] == first["chunks"]["total"]
    assert full["files"]["unchanged"] == 0


def test_changed_and_deleted_files_leave_nothing_stale(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    changed = PYTHON_FILE.replace("Take an idle connection or open a new one.", "Borrow a zebra.")
    repo.commit({"src/net/pool.py": "# a line on top\n\n" + changed}, "change", delete=["src/cache.c"])
    document = cli.index(repo.path)
    assert document["files"]["deleted"] == 1
    assert document["chunks"]["deleted"] >= 1
    assert document["embedding"]["texts_sent"] <= 3
    assert cli.search("borrow a zebra", "--context", "0")[0]["symbol"] == "ConnectionPool.acquire"
    found = [hit["path"] for hit in cli.search("evict oldest key")]
    assert "src/cache.c" not in found
    ids = sorted(row[0] for row in cli.sql("SELECT chunk_id FROM index_chunks"))
    assert ids == collection_ids(cli.data)
    fresh = Cli(cli.root / "fresh")
    fresh.index(repo.path)
    assert fresh.final_state()["chunks"] == cli.final_state()["chunks"]
    assert fresh.final_state()["stored"] == cli.final_state()["stored"]


def test_a_moved_function_keeps_its_id_and_gets_its_new_lines(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    before = cli.search("take an idle connection", "--context", "0")[0]
    repo.commit({"src/net/pool.py": "# one\n# two\n\n\nLIMIT = 3\n\n\n" + PYTHON_FILE}, "move down")
    cli.index(repo.path)
    after = cli.search("take an idle connection", "--context", "0")[0]
    assert after["chunk_ids"] == before["chunk_ids"]
    assert after["start_line"] == before["start_line"] + 7


def test_two_refs_stay_searchable_side_by_side(cli: Cli, repo: GitRepo) -> None:
    repo.git("tag", "-a", "v1", "-m", "one")
    cli.index(repo.path, "--ref", "v1")
    repo.commit({"src/new.py": "def brand_new_feature():\n    return 'walrus'\n"}, "more")
    second = cli.index(repo.path)
    assert second["embedding"]["texts_sent"] == 1
    assert not [hit for hit in cli.search("walrus", "--repo", "demo@v1") if hit["path"] == "src/new.py"]
    assert cli.search("walrus", "--repo", "demo@main")[0]["path"] == "src/new.py"


def test_remote_repositories_are_mirrored_and_updated(cli: Cli, repo: GitRepo) -> None:
    url = f"file://{repo.path}"
    first = cli.index(url)
    assert first["commit"] == repo.sha
    assert first["url"] == url
    repo.commit({"src/extra.py": "def added_later():\n    return 1\n"}, "later")
    second = cli.index(url)
    assert second["commit"] == repo.sha
    assert second["embedding"]["texts_sent"] == 1
    mirrors = list((cli.data / "mirrors").glob("*.git"))
    assert len(mirrors) == 1


def test_dry_run_shows_the_plan_and_the_reasons_and_writes_no_index(cli: Cli, repo: GitRepo) -> None:
    done = cli.run("index", repo.path, "--dry-run")
    assert done.code == 0, done.err
    for word in ("vendored", "vendor/lib.c", "package-lock.json", "symbolic links", "link", "to embed"):
        assert word in done.out
    plan = cli.run("index", repo.path, "--dry-run", "--json").json
    assert plan["dry_run"] is True
    assert {"path": "link", "reason": "symlink"} in plan["skipped"]
    assert cli.count("files") == cli.count("jobs") == 0
    document = cli.index(repo.path)
    assert plan["chunks"]["total"] == document["chunks"]["total"]
    assert plan["tokens"]["total"] == document["tokens"]["total"]
    assert plan["chunks"]["texts_to_embed"] == document["embedding"]["texts_sent"]
    later = cli.run("index", repo.path, "--dry-run", "--json", "--test-embeddings").json
    assert later["chunks"]["texts_to_embed"] == 0


def test_globs_and_the_ignore_file_of_the_commit_narrow_what_is_indexed(cli: Cli, repo: GitRepo) -> None:
    repo.commit({".codechunkignore": "*.md\n", "docs/a.md": "# A\n\ntext\n"}, "ignore")
    document = cli.index(repo.path, "--exclude", "/tests/")
    assert document["files"]["skipped_by_reason"]["excluded"] >= 3
    assert not [hit for hit in cli.search("install demo") if hit["path"].endswith(".md")]
    only = cli.index(repo.path, "--include", "*.c")
    assert only["files"]["indexed"] == 1


def test_token_modes_count_all_a_sample_or_nothing(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    exact = cli.index(repo.path)["tokens"]
    many = GitRepo(tmp_path / "many")
    many.commit(
        {f"m{n}.py": f"def function_number_{n}(value):\n    return value * {n} + len(str(value))\n" for n in range(300)}
    )
    sampled = Cli(tmp_path / "sampled").index(many.path, "--token-mode", "sample")["tokens"]
    again = Cli(tmp_path / "sampled2").index(many.path, "--token-mode", "sample")["tokens"]
    whole = Cli(tmp_path / "whole").index(many.path)["tokens"]
    assert sampled == again
    assert sampled["estimated"] is True
    assert 10 <= sampled["counted"] <= 60
    assert abs(sampled["total"] - whole["total"]) < 0.1 * whole["total"]
    other = Cli(tmp_path / "on-demand")
    uncounted = other.index(repo.path, "--token-mode", "on_demand")["tokens"]
    assert uncounted == {"mode": "on_demand", "counted": 0, "total": None, "estimated": False}
    assert other.sql("SELECT count(*) FROM chunks WHERE tokens IS NOT NULL") == [(0,)]
    later = other.index(repo.path, "--full")["tokens"]
    assert later == exact


def test_changed_chunking_settings_are_told_and_cost_no_embedding_of_known_texts(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    done = cli.run("index", repo.path, "--test-embeddings", "--json", env={"CODECHUNK_CHUNKING__MAX_TOKENS": "100"})
    assert done.code == 0, done.err
    assert "max_tokens 512 -> 100" in done.err
    assert done.json["embedding"]["texts_sent"] < done.json["chunks"]["total"]


def test_exit_code_1_is_a_failure_in_one_sentence(cli: Cli, tmp_path: Path) -> None:
    done = cli.run("index", tmp_path / "nowhere", "--test-embeddings")
    assert done.code == 1
    assert len(done.err.strip().splitlines()) == 1
    assert "Traceback" not in done.err
    missing = cli.run("index", f"file://{tmp_path}/gone.git", "--test-embeddings")
    assert missing.code == 1
    assert len(missing.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["index"],
        ["index", ".", "--jobs", "0"],
        ["index", ".", "--mode", "quick"],
        ["index", "ext::sh -c true", "--test-embeddings"],
        ["search", "x", "--kind", "poem"],
        ["search", " "],
        ["nonsense"],
        ["-v", "-q", "config", "check"],
        ["--log-format", "xml", "config", "check"],
    ],
)
def test_exit_code_2_is_wrong_usage(cli: Cli, arguments: list[str]) -> None:
    done = cli.run(*arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.err.strip()


def test_without_a_key_index_says_what_to_set_before_cloning_anything(cli: Cli, repo: GitRepo) -> None:
    done = cli.run("index", f"file://{repo.path}")
    assert done.code == 2
    assert "CODECHUNK_GEMINI_API_KEY" in done.err
    assert "--test-embeddings" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (cli.data / "mirrors").exists()


def test_exit_code_3_when_a_chunk_failed_for_good(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    row = cli.sql("SELECT id FROM embeddings ORDER BY id LIMIT 1")[0][0]
    cli.sql("DELETE FROM index_chunks WHERE embedding_id = ?", row)
    cli.sql("DELETE FROM vectors WHERE embedding_id = ?", row)
    cli.sql("UPDATE embeddings SET state = 'failed', error = 'rejected by the provider' WHERE id = ?", row)
    done = cli.run("index", repo.path, "--test-embeddings", "--full", "--json")
    assert done.code == 3
    assert done.json["status"] == "partial"
    assert done.json["chunks"]["failed"] == 1
    assert "rejected by the provider" in done.err


def test_a_second_index_on_the_same_data_directory_is_told_at_once(cli: Cli, repo: GitRepo) -> None:
    import fcntl

    cli.index(repo.path)
    with (cli.data / "chroma.owner").open("r+") as owner, (cli.data / "chroma.lock").open("r+") as lock:
        fcntl.flock(owner, fcntl.LOCK_EX)
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = cli.run("index", repo.path, "--test-embeddings", "--full")
        assert done.code == 1
        assert "another codechunk process" in done.err
        search = cli.run("search", "evict oldest key", "--json")
        assert search.code == 0
        assert search.json[0]["path"] == "src/cache.c"
        assert "state database" in search.err


@pytest.mark.parametrize("damage", ["deleted", "hnsw gone", "sqlite garbage"])
def test_a_damaged_vector_index_is_rebuilt_with_a_sentence_and_no_embedding(
    cli: Cli, repo: GitRepo, damage: str
) -> None:
    import shutil

    cli.index(repo.path)
    ids = collection_ids(cli.data)
    before = cli.search("evict oldest key")
    chroma = cli.data / "chroma"
    if damage == "deleted":
        shutil.rmtree(chroma)
    elif damage == "hnsw gone":
        for folder in chroma.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
        sqlite3.connect(chroma / "chroma.sqlite3").execute("DELETE FROM embeddings_queue").connection.commit()
    else:
        (chroma / "chroma.sqlite3").write_bytes(b"garbage" * 1000)
    done = cli.run("index", repo.path, "--test-embeddings", "--json")
    assert done.code == 0, done.err
    assert "rebuilt" in done.err
    assert done.json["embedding"]["texts_sent"] == 0
    assert collection_ids(cli.data) == ids
    assert cli.search("evict oldest key") == before


def test_search_mends_a_deleted_vector_index_by_itself(cli: Cli, repo: GitRepo) -> None:
    import shutil

    cli.index(repo.path)
    ids = collection_ids(cli.data)
    shutil.rmtree(cli.data / "chroma")
    done = cli.run("search", "evict oldest key", "--json")
    assert done.json[0]["path"] == "src/cache.c"
    assert "rebuilding" in done.err
    assert collection_ids(cli.data) == ids


def test_a_damaged_state_database_is_a_sentence(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    (cli.data / "state.db").write_bytes(b"not a database" * 500)
    for suffix in ("-wal", "-shm"):
        (cli.data / f"state.db{suffix}").unlink(missing_ok=True)
    done = cli.run("index", repo.path, "--test-embeddings")
    assert done.code == 1
    assert "damaged" in done.err
    assert "Traceback" not in done.err


def test_chunk_prints_exact_slices_as_json_lines_without_a_database(cli: Cli, repo: GitRepo) -> None:
    done = cli.run("chunk", repo.path / "src", "--json")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert set(rows[0]) == {
        "path", "language", "kind", "symbol", "start_line", "end_line", "start_byte", "end_byte", "tokens", "text",
        "embedding_text", "chunk_id",
    }  # fmt: skip
    for row in rows:
        data = Path(row["path"]).read_bytes()
        assert data[row["start_byte"] : row["end_byte"]].decode() == row["text"]
        assert row["tokens"] > 0
    assert not cli.data.exists()


def test_a_changed_attributes_file_reaches_files_that_did_not_change(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    marked = "# Code generated by protoc. DO NOT EDIT.\n" + function("generated", 5)
    repo.commit({"sub/g.py": marked, "a.py": function("plain", 5)})
    assert cli.index(repo.path)["files"]["skipped_by_reason"] == {"generated": 1}
    repo.commit({"sub/.gitattributes": "g.py -linguist-generated\n"})
    assert cli.index(repo.path)["files"]["indexed"] == 3
    repo.commit({"sub/.gitattributes": "*.py linguist-generated\n"})
    assert cli.index(repo.path)["files"]["skipped_by_reason"] == {"generated": 1}


def test_paths_that_read_alike_are_two_files(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit({"a.py": function("plain", 5)})
    blob = repo.add_blob(b"x = 1\n")
    repo.add_entry(b"caf\xe9.py", "100644", blob)
    repo.add_entry(b"caf\\xe9.py", "100644", blob)
    repo.commit_index("alike")
    assert cli.index(repo.path)["files"]["discovered"] == 3
    repo.add_entry("b.py", "100644", blob)
    repo.commit_index("more")
    document = cli.index(repo.path)
    assert document["files"]["discovered"] == 4
    assert document["files"]["skipped_by_reason"] == {"undecodable": 1}


def test_another_token_mode_counts_what_is_missing(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit(many_files(40))
    assert cli.index(repo.path, "--token-mode", "on_demand")["tokens"]["total"] is None
    sampled = cli.index(repo.path, "--token-mode", "sample")["tokens"]
    assert 0 < sampled["counted"] < cli.count("chunks")
    assert sampled["estimated"] is True
    assert cli.index(repo.path, "--token-mode", "all")["tokens"]["counted"] == cli.count("chunks")


@pytest.mark.parametrize("name", ["q?b=1", "per%20cent", "hash#tag", "with space"])
def test_a_data_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    cli = Cli(tmp_path)
    cli.data = tmp_path / name / "data"
    repo = GitRepo(tmp_path / "repo")
    repo.commit({"a.py": function("plain", 5)})
    cli.index(repo.path)
    assert cli.search("plain")[0]["path"] == "a.py"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["home", name, "repo"])


def test_every_command_has_help_with_an_example(cli: Cli) -> None:
    for command in (["index"], ["search"], ["chunk"], ["config"], ["config", "show"], ["config", "check"], []):
        done = cli.run(*command, "--help")
        assert done.code == 0
        assert "Example" in done.out
        assert "codechunk" in done.out


def test_odd_words_are_usage_errors_and_no_bugs(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "at@v2")
    repo.commit({"a.py": function("plain", 5)})
    cli.index(repo.path)
    assert cli.search("plain", "--repo", "at@v2")
    assert cli.search("plain", "--repo", "at@v2@main")
    assert cli.run("search", "plain", "--path", "!").code == 2
    assert cli.run("chunk", tmp_path / "nothing").code == 2
