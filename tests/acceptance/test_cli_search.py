"""Acceptance: how `codechunk search` shows what it found, to people, editors and chats."""

from pathlib import Path

import pytest
from cli_helpers import Cli
from git_helpers import GitRepo

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
