"""Imports point down the picture in docs/design.md, and each outside thing is known to one room only."""

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent.parent / "codechunk"

# From the top down. A room (a package, or a module of the root) imports rooms of lower lines only.
LAYERS = [
    {"__main__"},
    {"cli", "library"},
    {"app"},
    {"indexing", "search", "views", "upkeep"},
    {"workspace"},
    {"sending"},
    {"config"},
    {"git", "state", "vectors", "pool"},
    {"providers"},
    {"chunking"},
    {"selection"},
    {"text"},
    {"process", "progress", "documents"},
    {"errors", "versions", "slices"},
]
EDGES = {"git", "state", "vectors", "pool", "providers"}
MOST_LINES = 600
# Who may import what comes from outside and is hidden in one room.
HIDDEN = {
    "sqlalchemy": {"state"},
    "alembic": {"state"},
    "chromadb": {"vectors"},
    "google": {"providers"},
    "httpx2": {"providers"},
    "git": {"git"},
    "tree_sitter": {"chunking"},
    "tree_sitter_language_pack": {"chunking"},
    "tiktoken": {"text"},
    "typer": {"cli"},
    "yaml": {"config"},
    # vectors: only to keep chromadb from reading a .env file that came with a repository.
    "pydantic_settings": {"config", "vectors"},
}


def rooms() -> dict[str, list[Path]]:
    """The files of each room: a module, or everything below a package."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":
            found.setdefault(room, []).append(path)
    return found


def imported(path: Path) -> set[tuple[str, ...]]:
    """Every module a file imports, late and type-checking imports included, as parts of its dotted name."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            module = tuple((node.module or "").split("."))
            # `from codechunk import tokens` names a room, `from codechunk import __version__` does not.
            if module == ("codechunk",):
                names |= {("codechunk", alias.name) for alias in node.names if alias.name[0] != "_"}
            else:
                names.add(module)
    return names


def inner_imports(room: str, files: list[Path]) -> set[str]:
    parts = {name for path in files for name in imported(path)}
    inner = {name[1] for name in parts if name[0] == "codechunk" and len(name) > 1}
    return inner - {room}


def layer(room: str) -> int:
    numbers = [number for number, names in enumerate(LAYERS) if room in names]
    assert numbers, f"give the new room {room} a line in LAYERS and in docs/design.md"
    return numbers[0]


def test_every_room_has_its_place_in_the_picture() -> None:
    assert sorted(set(rooms()) - set().union(*LAYERS)) == [], "give each a line in LAYERS and in docs/design.md"


def test_imports_point_down() -> None:
    upward = [
        f"{room} imports {other}"
        for room, files in rooms().items()
        for other in inner_imports(room, files)
        if layer(other) <= layer(room)
    ]
    assert upward == []


def test_edges_know_neither_each_other_nor_the_configuration() -> None:
    files = rooms()
    strangers = [
        f"{edge} imports {other}"
        for edge in sorted(EDGES)
        for other in inner_imports(edge, files[edge]) & (EDGES | {"config"})
    ]
    assert strangers == []


def test_no_module_is_longer_than_a_reader_holds() -> None:
    long = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def modules() -> dict[str, set[str]]:
    """What every module imports of codechunk, by dotted names."""
    paths = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        paths[".".join(("codechunk", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")] = (
            path
        )
    found: dict[str, set[str]] = {}
    for name, path in paths.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= whole & set(paths) or {node.module}
        found[name] &= set(paths)
    return found


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = modules()
    del graph["codechunk"]  # imports its own modules late, for whoever asks for them
    for start in graph:
        reached: set[str] = set()
        todo = list(graph[start])
        while todo:
            module = todo.pop()
            if module not in reached:
                reached.add(module)
                todo.extend(graph.get(module, ()))
        assert start not in reached, f"{start} imports itself in the end"


def test_each_outside_thing_is_known_to_one_room_only() -> None:
    strangers = [
        f"{path.relative_to(PACKAGE)} imports {name[0]}"
        for room, files in rooms().items()
        for path in files
        for name in imported(path)
        if name[0] in HIDDEN and room not in HIDDEN[name[0]]
    ]
    assert strangers == []


def test_codechunk_is_never_imported_at_a_price() -> None:
    """`import codechunk` brings in nothing but the standard library and itself."""
    outside = {name[0] for name in imported(PACKAGE / "__init__.py")} - set(sys.stdlib_module_names)
    assert outside <= {"codechunk"}
