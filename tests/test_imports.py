"""Imports point down the picture in docs/design.md, and each outside thing is known to one room only."""

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "codechunk"

# From the top down. A room imports rooms of its own line or of lower ones.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"app"},
    {"run", "nearest"},
    {"publish", "garbage", "keeping"},
    {"parts"},
    {"config"},
    {"worker"},
    {"direct"},
    {"plan", "overview", "caching", "indexing", "embedding", "batch", "search", "heartbeat", "fit"},
    {"git", "state", "vectors", "gemini", "synthetic", "parsing", "settings"},
    {"chunking"},
    {
        "skip",
        "cachefile",
        "globs",
        "secrets",
        "source",
        "words",
        "sampling",
        "tokens",
        "retry",
        "jobs",
        "results",
        "models",
        "pricing",
    },
    {"report", "progress", "metrics", "log", "locks", "owner", "crash", "interrupts"},
    {"chunks", "changes"},
    {"cells"},
    {"errors"},
]
EDGES = {"git", "state", "vectors", "gemini", "synthetic", "parsing"}
# Modules that are the back of a room whose front is another module.
BACK_OF = {
    "calls": "direct",
    "gemini_http": "gemini",
    "gemini_wire": "gemini",
    "git_process": "git",
    "migrations": "state",
    "parse_child": "parsing",
    "parse_wire": "parsing",
    "vectors_guard": "vectors",
    "worktree": "git",
}
# Who may import what comes from outside and is hidden in one room.
HIDDEN = {
    "sqlalchemy": {"state"},
    "alembic": {"state"},
    "chromadb": {"vectors"},
    "google": {"gemini"},
    "httpx2": {"gemini"},
    "git": {"git"},
    "tree_sitter": {"chunking"},
    "tree_sitter_language_pack": {"chunking"},
    "tiktoken": {"tokens"},
    "typer": {"cli"},
    "yaml": {"config"},
    # vectors: only to keep chromadb from reading a .env file that came with a repository.
    "pydantic_settings": {"settings", "vectors"},
}


def rooms() -> dict[str, list[Path]]:
    """The files of each room: a module, or everything below a package."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":
            found.setdefault(BACK_OF.get(room, room), []).append(path)
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
    return {BACK_OF.get(name, name) for name in inner} - {room}


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
        if layer(other) < layer(room)
    ]
    assert upward == []


def test_edges_know_neither_each_other_nor_the_configuration() -> None:
    files = rooms()
    forbidden = EDGES | {"config", "settings"}
    known = {edge: inner_imports(edge, files[edge]) & forbidden for edge in EDGES & set(files)}
    assert {edge: others for edge, others in known.items() if others} == {}


def test_rooms_of_one_line_do_not_import_each_other_in_a_circle() -> None:
    graph = {room: inner_imports(room, files) for room, files in rooms().items()}
    for start in graph:
        reached, todo = set(), list(graph[start])
        while todo:
            room = todo.pop()
            if room not in reached:
                reached.add(room)
                todo.extend(graph.get(room, ()))
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
