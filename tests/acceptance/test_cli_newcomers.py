"""Acceptance: what newcomers stumbled over."""

from pathlib import Path

import pytest
from cli_helpers import Cli
from git_helpers import GitRepo


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "demo")
    made.commit({f"f{number}.py": f"def part_{number}():\n    return {number}\n" for number in range(5)})
    return made


# ---------------------------------------------------------------- init


def test_init_writes_every_setting_with_its_default(cli: Cli) -> None:
    before = cli.run("config", "show", "--json").json
    done = cli.run("init")
    assert (done.code, done.out.startswith("Wrote codechunk.yaml")) == (0, True), done.err
    after = cli.run("config", "show", "--json").json
    assert [(row["key"], row["value"]) for row in after] == [(row["key"], row["value"]) for row in before]
    from_file = [row["key"] for row in after if "codechunk.yaml" in row["origin"]]
    others = {row["key"] for row in after} - set(from_file)
    assert {key for key in others if not key.startswith("pricing.")} <= {"data_dir", "gemini_api_key", "git_token"}
    assert (cli.root / "codechunk.yaml").read_text().count(" # ") > 40


def test_init_overwrites_nothing(cli: Cli) -> None:
    (cli.root / "codechunk.yaml").write_text("log: {level: debug}\n")
    done = cli.run("init")
    assert (done.code, done.err) == (2, "codechunk: codechunk.yaml is there already; it is left as it is.\n")
    assert (cli.root / "codechunk.yaml").read_text() == "log: {level: debug}\n"
    assert cli.run("init", "mine.yaml").code == 0
    assert cli.run("config", "check", "--config", "mine.yaml", "--json").json == {
        "valid": True,
        "file": str(cli.root / "mine.yaml"),
    }


def test_init_may_set_synthetic_vectors(cli: Cli, repo: GitRepo) -> None:
    assert cli.run("init", "--test-embeddings").code == 0
    assert cli.run("index", repo.path).code == 0


# ---------------------------------------------------------------- filters


def test_a_filter_that_would_empty_a_good_index_is_refused(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    done = cli.run("index", repo.path, "--test-embeddings", "--include", "*.zig")
    assert done.code == 2
    assert "leave nothing of demo@main: the index stays as it is" in done.err
    assert cli.search("part_3")[0]["path"] == "f3.py"
    assert cli.index(repo.path)["status"] == "succeeded"


def test_a_filter_that_leaves_out_most_of_an_index_says_so(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    few = cli.run("index", repo.path, "--test-embeddings", "--exclude", "f[0-3].py")
    assert few.code == 0
    assert "leave out 4 of the 5 files of demo@main that searches had" in few.err
    again = cli.run("index", repo.path, "--test-embeddings", "--exclude", "f[0-3].py")
    assert "leave out" not in again.err
    back = cli.run("index", repo.path, "--test-embeddings", "--exclude", "f0.py", "--json")
    assert "leave out" not in back.err
    assert back.json["embedding"]["texts_sent"] == 0


def test_a_first_index_of_nothing_says_why(cli: Cli, repo: GitRepo) -> None:
    done = cli.run("index", repo.path, "--test-embeddings", "--include", "*.zig")
    assert done.code == 0
    assert "leave nothing of demo@main." in done.err


# ---------------------------------------------------------------- counts


def test_one_is_not_counted_as_many_and_nothing_not_at_all(cli: Cli, tmp_path: Path) -> None:
    one = GitRepo(tmp_path / "one")
    one.commit({"a.py": "def alone():\n    return 1\n"})
    done = cli.run("index", one.path, "--test-embeddings")
    assert "Chunking: 1 file in " in done.err
    assert "Embedding: 1 text in " in done.err
    assert "vectors  1 text embedded" in done.err
    assert "chunks     1 of 1 file\n" in cli.run("repos", "show", "one").out
    gone = cli.run("repos", "remove", "one")
    assert "1 file, 1 chunk that only it had" in gone.out
    nothing = cli.run("gc")
    assert "0 chunks in" not in nothing.err
    assert "Removing: " in nothing.err
