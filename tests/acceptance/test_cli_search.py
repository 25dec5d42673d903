"""Acceptance: how `codechunk search` shows what it found, to people, editors and chats."""

import re
from pathlib import Path

import pytest
from cli_helpers import COMMAND, Cli
from git_helpers import GitRepo
from terminal_helpers import on_a_terminal

from codechunk.text.tokens import count_tokens

CACHE = """#include "cache.h"

/* Frees the least recently used entry. */
int evict_oldest_key(struct cache *cache) {
    struct entry *victim = cache->tail;
    unlink_entry(cache, victim);
    free(victim);
    return 1;
}
"""
# Two functions that are too long to share a chunk.
LONG = "".join(
    f"def {name}(store):\n" + "".join(f"    store.write_{name}({line})\n" for line in range(20)) + "\n\n"
    for name in ("walrus", "penguin")
)
POOL = """class ConnectionPool:
    def acquire(self, timeout):
        \"\"\"Take an idle connection or open a new one.\"\"\"
        connection = self.idle.pop()
        return connection
"""


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, GitRepo]:
    root = tmp_path_factory.mktemp("search")
    cli, repo = Cli(root), GitRepo(root / "demo")
    many = {f"part{number}.py": f"def evict_part_{number}(key):\n    return key\n" for number in range(12)}
    repo.commit(
        {"src/cache.c": CACHE, "src/net/pool.py": POOL, "long.py": LONG, "README.md": "# Cache\n\nIt evicts.\n", **many}
    )
    cli.index(repo.path)
    # That its vectors are synthetic is told once a database: here, whichever test comes first.
    cli.run("search", "evict")
    return cli, repo


@pytest.fixture
def cli(indexed: tuple[Cli, GitRepo]) -> Cli:
    return indexed[0]


@pytest.fixture
def repo(indexed: tuple[Cli, GitRepo]) -> GitRepo:
    return indexed[1]


def test_a_search_fits_on_a_screen_and_in_900_tokens(cli: Cli) -> None:
    done = cli.run("search", "evict oldest key")
    lines = done.out.splitlines()
    assert lines[0].startswith(" 1  src/cache.c:4  evict_oldest_key")
    assert "      4: int evict_oldest_key(struct cache *cache) {" in lines
    assert lines[-1].startswith("10  ")
    assert len(lines) <= 24
    assert count_tokens(done.out) <= 900
    assert "\x1b" not in done.out + done.err


def test_locations_are_paths_with_lines_and_symbols(cli: Cli) -> None:
    lines = cli.run("search", "evict oldest key", "-l", "-k", "3").out.splitlines()
    assert lines[0] == "src/cache.c:1-9  evict_oldest_key"
    assert len(lines) == 3


@pytest.mark.parametrize("words", [["--full"], ["--context", "750"]])
def test_full_shows_all_lines_and_those_that_were_found_apart(cli: Cli, words: list[str]) -> None:
    done = cli.run("search", "penguin", "-k", "1", *words)
    head, *lines = done.out.splitlines()
    assert head.startswith("long.py:1-44  penguin  ")
    assert head.endswith("demo@main")
    assert lines[0] == "     1- def walrus(store):"
    assert lines[23] == "    24: def penguin(store):"


def test_looks_that_exclude_each_other_are_refused(cli: Cli) -> None:
    done = cli.run("search", "evict", "--full", "-l")
    assert (done.code, done.out) == (2, "")
    assert "--full and --locations exclude each other" in done.err


def test_the_repository_is_named_as_soon_as_two_are_indexed(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    for name in ("one", "two"):
        repo = GitRepo(tmp_path / name)
        repo.commit({f"{name}.py": f"def evict_{name}(key):\n    return key\n"})
        cli.index(repo.path)
    assert cli.run("search", "evict_one", "-k", "1").out.startswith(" 1  one  one.py:1  evict_one")
    assert cli.run("search", "evict_one", "-k", "1", "--repo", "one").out.startswith(" 1  one.py:1  evict_one")


def test_words_need_no_quotes(cli: Cli) -> None:
    quoted = cli.run("search", "evict oldest key", "-k", "3")
    for words in (
        ["-k", "3", "evict", "oldest", "key"],
        ["evict", "oldest", "-n", "3", "key"],
        ["evict oldest", "key", "--limit", "3"],
    ):
        assert cli.run("search", *words).out == quoted.out


def test_lines_are_what_an_editor_jumps_to(cli: Cli, repo: GitRepo) -> None:
    lines = cli.run("search", "evict oldest key", "--format", "lines", "-k", "2").out.splitlines()
    assert lines[0] == "demo/src/cache.c:4: int evict_oldest_key(struct cache *cache) {"
    path, number, code = lines[1].split(":", 2)
    assert code.strip() == (cli.root / path).read_text().splitlines()[int(number) - 1].strip()


def test_markdown_has_a_heading_and_a_fenced_block(cli: Cli) -> None:
    text = cli.run("search", "evict oldest key", "--format", "md", "-k", "1").out
    assert text.startswith("**` src/cache.c:1-9 `** ` evict_oldest_key ` in ` demo@")
    assert f"```c\n{CACHE}```\n" in text


def test_markdown_holds_any_code(tmp_path: Path) -> None:
    cli, repo = Cli(tmp_path), GitRepo(tmp_path / "demo")
    repo.commit({"fence.md": "# Fence\n\n````\n```c\nwalrus\n```\n````\n"})
    cli.index(repo.path)
    text = cli.run("search", "walrus", "--format", "md").out
    assert "\n`````markdown\n" in text
    assert text.endswith("\n`````\n")


def test_json_has_two_spellings_and_other_formats_exclude_it(cli: Cli) -> None:
    assert cli.run("search", "evict", "--format", "json").json == cli.run("search", "evict", "--json").json
    for words in (["--json", "--format", "md"], ["-l", "--format", "lines"], ["--format", "poem"]):
        assert cli.run("search", "evict", *words).code == 2


# ---------------------------------------------------------------- on a terminal


def terminal(cli: Cli, *words: str, rows: int = 24, columns: int = 80, **env: str) -> str:
    command = [*COMMAND, "--data-dir", str(cli.data), "search", "evict oldest key", *words]
    code, told = on_a_terminal(command, rows=rows, columns=columns, cwd=cli.root, env=cli.environment(env))
    assert code == 0, told
    return told


def plain(told: str) -> list[str]:
    return re.sub(r"\x1b\][^\x1b]*\x1b\\|\x1b\[[0-9;?]*[A-Za-z]|\r", "", told).splitlines()


@pytest.mark.parametrize(("rows", "columns"), [(24, 80), (30, 120), (12, 60)])
def test_a_terminal_is_not_overrun(cli: Cli, rows: int, columns: int) -> None:
    lines = plain(terminal(cli, rows=rows, columns=columns))
    assert lines[0].startswith(" 1  src/cache.c:4  evict_oldest_key")
    assert len(lines) <= max(rows - 2, 10 + 3)
    assert max(map(len, lines)) <= columns


def test_a_terminal_gets_colours_and_links_to_the_files(cli: Cli, repo: GitRepo) -> None:
    told = terminal(cli, "-k", "1")
    assert f";file://{repo.path}/src/cache.c\x1b\\" in told
    assert "\x1b[94" in told or "\x1b[96" in told
    assert "\x1b[9" not in terminal(cli, "-k", "1", NO_COLOR="1")


def test_what_is_longer_than_the_terminal_goes_through_the_pager(cli: Cli, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text(f'#!/bin/sh\n{{ echo "LESS=$LESS"; cat; }} > {tmp_path}/paged\n')
    pager.chmod(0o755)
    env = {"CODECHUNK_PAGER": str(pager)}
    assert terminal(cli, "--full", **env).strip().endswith("\x1b[?25h")
    head, first, *_ = plain((tmp_path / "paged").read_text())
    assert head == "LESS=FRX"
    assert first.startswith("src/cache.c:1-9")
    assert "\x1b]8" not in (tmp_path / "paged").read_text()
    (tmp_path / "paged").unlink()
    terminal(cli, "-k", "1", **env)
    assert plain(terminal(cli, "--full", "--no-pager", **env))[0].startswith("src/cache.c:1-9")
    assert cli.run("search", "evict oldest key", "--full", env=env).out.startswith("src/cache.c:1-9")
    assert not (tmp_path / "paged").exists()


def test_a_pager_that_is_not_there_or_leaves_early_is_no_error(cli: Cli) -> None:
    assert "src/cache.c:1-9" in "".join(plain(terminal(cli, "--full", CODECHUNK_PAGER="/no/such/pager")))
    terminal(cli, "--full", CODECHUNK_PAGER="true")


# ---------------------------------------------------------------- in an editor


def test_open_starts_the_editor_at_the_line(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    editor = tmp_path / "nano"
    editor.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/words\n')
    editor.chmod(0o755)
    done = cli.run("search", "evict oldest key", "--open", "1", env={"VISUAL": str(editor), "EDITOR": "false"})
    assert (done.code, done.out) == (0, ""), done.err
    assert (tmp_path / "words").read_text() == f"+4 {repo.path}/src/cache.c\n"


@pytest.mark.parametrize(
    ("editor", "code", "told"),
    [
        ("false", 1, "the editor false ended with code 1"),
        ("/no/such/editor", 1, "cannot be started"),
        ("vi 'x", 2, "cannot be read"),
    ],
)
def test_an_editor_that_fails_is_a_sentence(cli: Cli, editor: str, code: int, told: str) -> None:
    done = cli.run("search", "evict oldest key", "--open", "1", env={"VISUAL": editor})
    assert done.code == code
    assert told in done.err


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    cli, repo = Cli(tmp_path), GitRepo(tmp_path / "demo")
    repo.commit({"a.py": "def evict():\n    return 1\n"})
    cli.index(f"file://{repo.path}")
    done = cli.run("search", "evict", "--open", "1", env={"VISUAL": "false"})
    assert done.code == 1
    assert "a.py of demo@main is not on this disk" in done.err
    none = cli.run("search", "evict", "--open", "7", env={"VISUAL": "false"})
    assert (none.code, none.err) == (2, "codechunk: There is no answer 7 to open: one answer was found.\n")
