"""Acceptance: options of codechunk itself are taken before and behind every command."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_helpers import Cli
from git_helpers import GitRepo

from codechunk import cli as front


def every_command(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups' commands too."""
    command = command or typer.main.get_command(front.app)
    for name, inner in getattr(command, "commands", {}).items():
        yield (*path, name)
        yield from every_command(inner, (*path, name))


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_every_command_takes_the_common_options_behind_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    command: Any = typer.main.get_command(front.app)
    context = command.make_context("codechunk", ["version"])
    common = {name for param in command.params for name in param.opts if name.startswith("-")}
    assert common >= {"--config", "--data-dir", "-q", "--quiet", "-v", "--verbose", "--log-format", "--version"}
    for word in words:
        command = command.commands[word]
        context = type(context)(command, info_name=word, parent=context)
    params = command.get_params(context)
    assert common <= {name for param in params for name in param.opts}
    names = [name for param in params for name in [*param.opts, *param.secondary_opts]]
    assert len(names) == len(set(names)), "an option has two meanings"


def test_they_mean_the_same_on_both_sides(tmp_path: Path) -> None:
    cli, other = Cli(tmp_path), tmp_path / "elsewhere"
    repo = GitRepo(tmp_path / "demo")
    repo.commit({"a.py": "def evict_oldest():\n    return 1\n"})
    done = cli.run("index", repo.path, "--test-embeddings", "--data-dir", other, "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (other / "state.db").exists()
    assert not cli.data.exists()
    for words in (("repos", "list", "--data-dir", other), ("repos", "--data-dir", other, "list")):
        assert "demo" in cli.run(*words).out
    told = cli.run("config", "show", "--log-format", "json", "--data-dir", other, "-v").out
    assert f"{other}" in told
    assert "debug" in told
    assert cli.run("search", "evict", "--version", "--data-dir", other).out.startswith("codechunk ")


def test_a_configuration_behind_the_command_is_read_and_checked(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    (tmp_path / "mine.yaml").write_text("embedding: {dimensions: 256}\n")
    assert "mine.yaml" in cli.run("config", "show", "--config", tmp_path / "mine.yaml").out
    gone = cli.run("config", "check", "--config", tmp_path / "gone.yaml")
    assert gone.code == 2
    assert "gone.yaml" in gone.err


@pytest.mark.parametrize(
    "words", [["-v", "repos", "list", "-q"], ["repos", "list", "-q", "-v"], ["-q", "repos", "-v", "list"]]
)
def test_verbose_and_quiet_exclude_each_other_wherever_they_stand(tmp_path: Path, words: list[str]) -> None:
    done = Cli(tmp_path).run(*words)
    assert done.code == 2
    assert "exclude each other" in done.err


def test_a_word_of_a_query_is_no_option_behind_two_dashes(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    repo = GitRepo(tmp_path / "demo")
    repo.commit({"a.py": "def quiet_option():\n    return '--quiet'\n"})
    cli.index(repo.path)
    assert cli.run("search", "--", "--quiet", "option").out.startswith(" 1  a.py:1")
