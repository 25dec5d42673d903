"""Acceptance: the options of `search` that say whose code and which files answer, in processes of their own."""

from pathlib import Path

import pytest
from cli_helpers import Cli
from git_helpers import GitRepo

SOUP = "def stir(soup, spoon):\n    for turn in range(9):\n        spoon.turn(soup, turn)\n    return soup  # {}\n"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """It runs in the repository `one`; `two` and `three` are elsewhere."""
    made = Cli(tmp_path / "one")
    for name in ("one", "two", "three"):
        repo = GitRepo(tmp_path / name)
        repo.commit(
            {f"{name}.py": SOUP.format(name), f"tests/test_{name}.py": f"def test_stir_{name}():\n    stir()\n"}
        )
        made.index(repo.path)
    return made


def found(cli: Cli, *arguments: str) -> list[str]:
    return sorted(answer["path"] for answer in cli.search("stir the soup", *arguments))


def test_whose_code_answers_is_told_and_chosen(cli: Cli) -> None:
    assert found(cli) == ["one.py", "tests/test_one.py"]
    done = cli.run("search", "stir the soup")
    assert "Searching one, where you are; --all searches all 3 repositories." in done.err
    assert "where you are" not in cli.run("-q", "search", "stir the soup").err
    assert {path for path in found(cli, "--all") if path.endswith(("one.py", "two.py", "three.py"))} >= {
        "one.py",
        "two.py",
        "three.py",
    }
    assert found(cli, "--repo", "two", "--repo", "three@main", "--no-tests") == ["three.py", "two.py"]
    assert found(cli, "--repo", "t*", "--no-tests") == ["three.py", "two.py"]
    unknown = cli.run("search", "stir", "--repo", "two", "--repo", "nope")
    assert unknown.code == 2
    assert "No repository 'nope'; there is one@main, three@main, two@main." in unknown.err


def test_which_files_answer_is_chosen(cli: Cli) -> None:
    assert found(cli, "--content", "tests") == ["tests/test_one.py"]
    assert found(cli, "--content", "code", "--content", "docs") == ["one.py"]
    assert found(cli, "--content", "all") == ["one.py", "tests/test_one.py"]
    assert found(cli, "--all", "--path", "t*.py", "--path", "one.py", "--path", "!tests/") == [
        "one.py",
        "three.py",
        "two.py",
    ]
    for wrong in (["--content", "poems"], ["--content", "tests", "--no-tests"], ["--path", "!"]):
        assert cli.run("search", "stir", *wrong).code == 2, wrong
    nothing = cli.run("search", "stir", "--content", "docs")
    assert "Searched 2 files (2 chunks) of one@main." in nothing.err


def test_people_are_told_how_far_the_branch_has_gone_on(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "one")
    repo.commit({"more.py": "x = 1\n"})
    done = cli.run("search", "stir the soup", "--json")
    assert [answer["behind"] for answer in done.json] == [1, 1]
    assert "1 commit behind. `codechunk index" in done.err
