"""Acceptance: `codechunk show` and `similar`: lines as searches know them, and what is like them."""

from pathlib import Path

import pytest
from cli_helpers import Cli
from git_helpers import GitRepo

TEXT = "def one():\n    return 1\n\n\ndef two():\n    return 2\n"


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "demo")
    made.commit(
        {"src/a.py": TEXT, "package-lock.json": '{"lockfileVersion": 3}\n', "latin.c": b"int x; // gr\xf6\xdfe\n"}
    )
    return made


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.mark.parametrize("source", ["{}", "file://{}"], ids=["local", "mirror"])
def test_lines_are_those_of_the_indexed_commit(cli: Cli, repo: GitRepo, source: str) -> None:
    commit = cli.index(source.format(repo.path))["commit"]
    repo.commit({"src/a.py": "gone = True\n"}, "later")
    lines = cli.run("show", "src/a.py:5-6").out.splitlines()
    assert lines == [f"src/a.py:5-6 of 6  demo@main  {commit[:12]}", "   5: def two():", "   6:     return 2"]
    assert cli.run("show", "src/a.py", "--json").json["text"] == TEXT
    assert cli.run("show", "src/a.py:2", "--json").json["text"] == "    return 1\n"
    assert cli.run("show", "./src/a.py:5-99", "--json").json["end_line"] == 6
    assert "größe" in cli.run("show", "latin.c").out


def test_a_file_that_is_not_indexed_says_why(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    for place, told in (
        ("package-lock.json", "package-lock.json of demo@main is not indexed (skipped: generated)."),
        ("a.py", "There is no file a.py in demo@main; there is src/a.py."),
        ("nothing.py", "There is no file nothing.py in demo@main: neither indexed nor left out."),
        ("src/a.py:7-9", "src/a.py has 6 lines; src/a.py:7-9 names none of them."),
        ("src/a.py:5-2", "names none of them"),
        ("src/a.py:0", "names none of them"),
    ):
        done = cli.run("show", place)
        assert (done.code, done.out) == (2, "")
        assert told in done.err


def test_several_repositories_and_refs_are_told_apart(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    assert "Nothing is indexed yet" in cli.run("show", "src/a.py").err
    cli.index(repo.path)
    other = GitRepo(tmp_path / "other")
    other.commit({"src/a.py": "other = 1\n"})
    cli.index(other.path)
    assert "src/a.py is in demo, other: say which with --repo" in cli.run("show", "src/a.py").err
    assert "other = 1" in cli.run("show", "src/a.py", "--repo", "other").out
    repo.git("branch", "old")
    repo.commit({"src/a.py": "new = 1\n"}, "new")
    cli.index(repo.path)
    cli.index(repo.path, "--ref", "old")
    assert "def one" in cli.run("show", "src/a.py", "--repo", "demo", "--ref", "old").out
    assert "new = 1" in cli.run("show", "src/a.py", "--repo", "demo@main").out
    assert "Nothing is indexed at 'v9'" in cli.run("show", "src/a.py", "--ref", "v9").err


def test_the_working_tree_is_read_from_disk(cli: Cli, repo: GitRepo) -> None:
    (repo.path / "src/a.py").write_text("uncommitted = 1\n")
    cli.index(repo.path, "--working-tree")
    assert "uncommitted = 1" in cli.run("show", "src/a.py").out


def test_a_repository_that_is_gone_is_a_sentence(cli: Cli, repo: GitRepo) -> None:
    import shutil

    cli.index(f"file://{repo.path}")
    shutil.rmtree(cli.data / "mirrors")
    done = cli.run("show", "src/a.py")
    assert done.code == 1
    assert "index it again to have it back" in done.err


# ---------------------------------------------------------------- similar

ADD = """def add_{0}(ledger, amount):
    ledger.total += amount
    ledger.lines.append(amount)
    return ledger.total
"""


def test_similar_code_is_found_by_the_stored_vectors(cli: Cli, tmp_path: Path) -> None:
    for name, other in (("one", "bill"), ("two", "cash")):
        repo = GitRepo(tmp_path / name)
        repo.commit(
            {f"{other}.py": ADD.format(other), f"{name}_zoo.py": "class Walrus:\n    def dive(self):\n        pass\n"}
        )
        cli.index(repo.path)
    found = cli.run("similar", "bill.py:2", "--json").json
    assert (found[0]["path"], found[0]["repository"]) == ("cash.py", "two")
    assert "bill.py" not in [answer["path"] for answer in found]
    assert 0.5 < found[0]["score"] <= 1
    assert cli.run("similar", "bill.py:2", "-k", "1").out.startswith(" 1  two  cash.py:1  add_cash")
    assert {answer["repository"] for answer in cli.run("similar", "bill.py:2", "--repo", "one", "--json").json} <= {
        "one"
    }


def test_a_place_without_code_has_nothing_similar(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    for place, told in (
        ("src/a.py", "Name a line: src/a.py:LINE."),
        ("src/a.py:99", "There is no code on line 99 of src/a.py."),
        ("package-lock.json:1", "is not indexed (skipped: generated)"),
    ):
        done = cli.run("similar", place)
        assert (done.code, done.out) == (2, "")
        assert told in done.err
