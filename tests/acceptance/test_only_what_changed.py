"""What each kind of change costs, in texts that the provider sold: the table of issue 5, row by row."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos_helpers import Trial, WarmStart
from gemini_emulator import GeminiEmulator

SETTINGS = {"CODECHUNK_EMBEDDING__DIMENSIONS": "128", "CODECHUNK_EMBEDDING__DIRECT_BATCH": "100"}
FUNCTIONS = 150


class Buyer(Trial):
    """codechunk in a data directory of its own, with the ledger of the provider beside it."""

    def index(self, source: str | Path, *arguments: str | Path) -> dict[str, Any]:  # type: ignore[override]
        """Index; must succeed. Returns the document; what it says was sent is what the provider sold."""
        before = self.emulator.paid.total()
        done = self.do("index", source, "--mode", "sequential", "--json", *arguments)
        assert done.code == 0, done.err
        document: dict[str, Any] = done.json
        assert document["status"] == "succeeded"
        assert document["embedding"]["texts_sent"] == self.emulator.paid.total() - before
        return document

    def pays(self, source: str | Path, *arguments: str | Path) -> int:
        """How many texts an index buys."""
        sent: int = self.index(source, *arguments)["embedding"]["texts_sent"]
        return sent

    def finds(self, query: str, *arguments: str) -> list[dict[str, Any]]:
        """Search; must succeed."""
        done = self.do("search", query, "--json", *arguments)
        assert done.code == 0, done.err
        found: list[dict[str, Any]] = done.json
        return found

    def paths(self) -> set[str]:
        """Paths of which anything is in the tables of chunks."""
        return {path for (path,) in self.sql("SELECT s.path FROM chunks c JOIN sources s ON s.id = c.source_id")}


@pytest.fixture
def buyer(tmp_path: Path, warm: WarmStart) -> Iterator[Buyer]:
    with GeminiEmulator() as emulator, Buyer(tmp_path / "run", warm, emulator, SETTINGS) as buyer:
        yield buyer
        assert set(emulator.paid.values()) <= {1}, "a text was bought twice"


def python(name: str, seed: int) -> str:
    lines = "".join(f"    total += step_{seed}_{line}(value)\n" for line in range(9))
    return f'def {name}(value):\n    """Number {seed}."""\n    total = 0\n{lines}    return total\n'


def small(name: str) -> str:
    """A Python file of three functions."""
    return "\n\n".join(python(f"{name}_{part}", part) for part in range(3))


MANY_FORMATS = {
    "src/shop/cart.py": small("cart"),
    "src/shop/order.go": "package shop\n\nfunc Order(n int) int {\n\treturn n * 2\n}\n",
    "src/shop/view.ts": "export class View {\n  draw(depth: number): number {\n    return depth + 1\n  }\n}\n",
    "src/shop/page.html": "<html>\n<body>\n<h1>Shop</h1>\n<p>Buy one.</p>\n</body>\n</html>\n",
    "src/shop/schema.sql": "CREATE TABLE orders (id INTEGER PRIMARY KEY, total REAL);\n",
    "src/shop/notes.md": "# Notes\n\nHow carts are kept.\n\n## Orders\n\nHow orders are sent.\n",
    "src/shop/settings.yaml": "shop:\n  name: corner\n  open: true\n",
    "src/shop/book.ipynb": '{"cells": [{"cell_type": "code", "metadata": {}, "outputs": [], "source": ["x = 1"]}],'
    ' "metadata": {}, "nbformat": 4, "nbformat_minor": 5}\n',
    "src/shop/Dockerfile": "FROM scratch\nCOPY cart.py /cart.py\n",
    "src/shop/blob.bin": b"\0\1\2",
    "README.md": "# Shop\n\nA shop.\n",
}


def method(name: str, seed: int) -> str:
    return "".join(f"    {line}".rstrip() + "\n" for line in python(name, seed).splitlines())


def go(name: str, seed: int) -> str:
    lines = "".join(f"\ttotal += step{seed}x{line}(value)\n" for line in range(9))
    return f"// {name} is number {seed}.\nfunc {name}(value int) int {{\n\ttotal := 0\n{lines}\treturn total\n}}\n"


def typescript(name: str, seed: int) -> str:
    lines = "".join(f"  total += step{seed}x{line}(value)\n" for line in range(9))
    return f"export function {name}(value: number): number {{\n  let total = 0\n{lines}  return total\n}}\n"


# Long enough to be a chunk of its own, with a line more or less: a shorter one shares the chunk of the first method.
LONG_HEAD = (
    '"""A long class."""\n\n'
    + "".join(f"from package.module_{number} import name_{number}, other_{number}\n" for number in range(7))
    + '\n\nclass Long:\n    """Much."""\n\n'
)
# path -> first lines, a function of a name and a number, a comment line
LONG_FILES: dict[str, tuple[str, Callable[[str, int], str], str]] = {
    "long.py": ('"""A long module."""\n\nimport os\n\n\n', python, "# one line more\n"),
    "methods.py": (LONG_HEAD, method, "# one line more\n"),
    "long.go": ("package long\n\n", go, "// one line more\n"),
    "long.ts": ("import { a } from './a'\n\n", typescript, "// one line more\n"),
}


def long_file(path: str, changed: dict[int, str] | None = None) -> str:
    """A file of 150 functions, some of them replaced."""
    head, function, _ = LONG_FILES[path]
    parts = [function(f"work{number}", number) for number in range(FUNCTIONS)]
    for number, text in (changed or {}).items():
        parts[number] = text
    return head + "\n\n".join(parts)


# ---- 0 texts ----


def test_nothing_changed_and_a_commit_without_changes_cost_nothing(buyer: Buyer) -> None:
    buyer.repo.commit(MANY_FORMATS)
    assert buyer.pays(buyer.repo.path) > 0
    assert buyer.pays(buyer.repo.path) == 0
    buyer.repo.commit({})
    assert buyer.pays(buyer.repo.path) == 0
    assert buyer.pays(buyer.repo.path, "--full") == 0
    assert buyer.pays(buyer.repo.path) == 0


def test_a_second_clone_elsewhere_costs_nothing(buyer: Buyer, tmp_path: Path) -> None:
    buyer.repo.commit({"old.py": small("old")})
    buyer.repo.commit(MANY_FORMATS, delete=["old.py"])
    first = buyer.index(buyer.repo.path)
    assert first["embedding"]["texts_sent"] > 10
    for name, options in {"clone": [], "bare": ["--bare"], "shallow": ["--depth=1"]}.items():
        clone = tmp_path / "elsewhere" / name
        buyer.repo.git("clone", "-q", *options, f"file://{buyer.repo.path}", str(clone))
        for source in (clone, f"file://{clone}") if name == "bare" else (clone,):
            document = buyer.index(source)
            assert document["embedding"]["texts_sent"] == 0
            assert document["chunks"]["ready"] == document["chunks"]["total"] == first["chunks"]["total"]


def test_a_branch_with_equal_content_costs_nothing_and_a_changed_one_only_its_change(buyer: Buyer) -> None:
    repo = buyer.repo
    repo.commit(MANY_FORMATS)
    buyer.index(repo.path, "--ref", "main")
    repo.git("checkout", "-q", "-b", "side")
    assert buyer.pays(repo.path, "--ref", "side") == 0
    repo.commit({"src/shop/more.py": python("more", 77)})
    assert buyer.pays(repo.path, "--ref", "side") == 1
    repo.git("checkout", "-q", "main")
    repo.commit({"src/shop/main_only.py": python("main_only", 78)})
    assert [buyer.pays(repo.path, "--ref", ref) for ref in ("main", "side", "main", "side")] == [1, 0, 0, 0]
    repo.git("merge", "-q", "-m", "both", "side")
    assert buyer.pays(repo.path, "--ref", "main") == 0
    names = {hit["path"] for hit in buyer.finds("more", "--repo", f"{repo.path.name}@side")}
    assert "src/shop/more.py" in names
    assert "src/shop/main_only.py" not in names


@pytest.mark.parametrize(("way", "remote"), [("revert", False), ("force-push", True)])
def test_a_commit_indexed_before_costs_nothing(buyer: Buyer, way: str, remote: bool) -> None:
    repo = buyer.repo
    source = f"file://{repo.path}" if remote else str(repo.path)
    first = repo.commit(MANY_FORMATS)
    before = buyer.index(source)
    repo.commit({"src/shop/cart.py": small("trolley"), "new.py": python("new", 5)}, delete=["README.md"])
    assert buyer.pays(source) == 4
    if way == "revert":
        repo.git("revert", "--no-edit", "HEAD")
    else:
        repo.git("reset", "-q", "--hard", first)
    after = buyer.index(source)
    assert after["embedding"]["texts_sent"] == 0
    assert after["chunks"]["total"] == before["chunks"]["total"]
    assert (after["commit"] == first) == (way == "force-push")


def test_a_history_rewritten_with_equal_trees_costs_nothing(buyer: Buyer) -> None:
    repo = buyer.repo
    repo.commit(MANY_FORMATS)
    source = f"file://{repo.path}"
    buyer.index(source)
    repo.git("checkout", "-q", "--orphan", "rewritten")
    repo.commit_index("the only one")
    repo.git("branch", "-q", "-M", "rewritten", "main")
    document = buyer.index(source)
    assert document["commit"] == repo.sha
    assert document["embedding"]["texts_sent"] == 0
    assert document["chunks"]["new"] == document["chunks"]["deleted"] == 0
    repo.git("commit", "-q", "--amend", "--allow-empty", "-m", "amended")
    assert buyer.pays(source) == 0


# ---- renames ----


def test_a_rename_costs_nothing_and_nothing_is_left_at_the_old_path(buyer: Buyer) -> None:
    repo = buyer.repo
    repo.commit(MANY_FORMATS | {"src/shop/wheel.py": small("wheel")})
    first = buyer.index(repo.path)["chunks"]["total"]
    shop, deep, store = (repo.path / name for name in ("src/shop", "lib/deep", "src/store"))

    def rename_all() -> None:
        for path in sorted(shop.iterdir()):
            path.rename(path.with_name("new_" + path.name if path.suffix else path.name + ".new"))

    def move_all() -> None:
        deep.mkdir(parents=True)
        for path in sorted(shop.iterdir()):
            path.rename(deep / path.name)

    def swap() -> None:
        one, other, aside = (store / name for name in ("new_cart.py", "new_wheel.py", "aside"))
        for path, target in ((one, aside), (other, one), (aside, other)):
            path.rename(target)

    changes: dict[str, Callable[[], object]] = {
        "renamed": rename_all,
        "moved": move_all,
        "folder renamed": lambda: deep.rename(store),
        "swapped": swap,
        "copied": lambda: shutil.copytree(store, repo.path / "copy"),
    }
    for name, change in changes.items():
        change()
        repo.commit({})
        document = buyer.index(repo.path)
        assert document["embedding"]["texts_sent"] == 0, name
        assert document["chunks"]["total"] == first + (first - 1) * (name == "copied"), name
        there = {path for path in repo.git("ls-files").split("\n") if not path.endswith(".bin")}
        assert buyer.paths() == there
    found = {hit["path"] for hit in buyer.finds("cart wheel view", "-k", "50")}
    assert "src/store/new_cart.py" in found
    assert found <= there
    assert sorted(buyer.ids()) == sorted(row[0] for row in buyer.sql("SELECT chunk_id FROM chunks"))


# ---- one function, one line ----


@pytest.mark.parametrize("path", sorted(LONG_FILES))
def test_one_function_edited_in_a_long_file_costs_one_text(buyer: Buyer, path: str) -> None:
    function = LONG_FILES[path][1]
    buyer.repo.commit({path: long_file(path)})
    assert buyer.index(buyer.repo.path)["chunks"]["total"] >= FUNCTIONS
    sent = {}
    places = {"line changed": 0, "longer": 99}
    if path == "long.py":
        places |= {"line more": 75, "line less": FUNCTIONS - 1, "renamed": 20}
    for name, number in places.items():
        old = function(f"work{number}", number)
        lines = old.splitlines(keepends=True)
        longer = [lines[5].replace("5(", f"{extra}(") for extra in range(20, 40)]
        text = {
            "line changed": old.replace(f"{number}x4", "777x4").replace(f"{number}_4", "777_4"),
            "line more": "".join([*lines[:5], lines[5].replace("total +=", "total -="), *lines[5:]]),
            "line less": "".join([*lines[:5], *lines[6:]]),
            "renamed": old.replace(f"work{number}", f"other{number}"),
            "longer": "".join([*lines[:5], *longer, *lines[5:]]),
        }[name]
        assert text != old
        # The function that was changed before is as it was again: its text is known.
        buyer.repo.commit({path: long_file(path, {number: text})})
        sent[name] = buyer.pays(buyer.repo.path)
    assert {change: count for change, count in sent.items() if not 1 <= count <= 2} == {}
    assert sum(sent.values()) <= len(sent) + 1, sent


@pytest.mark.parametrize("path", sorted(LONG_FILES))
def test_one_line_inserted_at_the_top_of_a_long_file_costs_one_text_at_most(buyer: Buyer, path: str) -> None:
    text = long_file(path)
    comment = LONG_FILES[path][2]
    buyer.repo.commit({path: text})
    buyer.index(buyer.repo.path)
    sent = []
    for lines in (comment, "\n" + comment.replace("more", "again")):
        text = lines + text
        buyer.repo.commit({path: text})
        document = buyer.index(buyer.repo.path)
        sent.append(document["embedding"]["texts_sent"])
        assert document["chunks"]["total"] - document["chunks"]["new"] >= FUNCTIONS - 1
    assert max(sent) <= 1, sent
    place = next(hit for hit in buyer.finds("work75", "-k", "50") if "work75(" in hit["text"])
    assert "work75(" in "".join(text.splitlines(keepends=True)[place["start_line"] - 1 : place["end_line"]])


# ---- deletes ----


def test_a_deleted_file_costs_nothing_and_nothing_of_it_is_left(buyer: Buyer) -> None:
    repo = buyer.repo
    repo.commit({"stays.py": small("stays"), "goes.py": small("goes"), "twin.py": small("goes")})
    first = buyer.index(repo.path)
    repo.commit({}, delete=["goes.py", "twin.py"])
    after = buyer.index(repo.path)
    assert after["embedding"]["texts_sent"] == 0
    assert (after["files"]["deleted"], after["chunks"]["deleted"]) == (2, 6)
    assert after["chunks"]["total"] == first["chunks"]["total"] - 6 == 3
    assert {hit["path"] for hit in buyer.finds("goes_1", "-k", "50", "--anyway")} == {"stays.py"}
    chunks = {chunk_id for (chunk_id,) in buyer.sql("SELECT chunk_id FROM chunks")}
    assert set(buyer.ids()) == chunks == {row[0] for row in buyer.sql("SELECT chunk_id FROM index_chunks")}
    assert buyer.sql("SELECT path FROM sources UNION SELECT path FROM files") == [("stays.py",)]
    assert buyer.sql("SELECT rowid FROM chunk_words WHERE chunk_words MATCH 'goes'") == []
    # What was paid for is kept: the file comes back for nothing.
    repo.commit({"back.py": small("goes")})
    assert buyer.pays(repo.path) == 0
