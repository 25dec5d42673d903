"""How many definitions that universal-ctags names are the symbol of a chunk that holds their line.

    scripts/bench symbols --folder DIR [DIR ...] [--misses FILE] [--language rust]

Counts functions, methods, classes, structs, unions, enums, interfaces and traits of eight languages. Left out are
variables, fields, prototypes (without a body: defined elsewhere), names that ctags makes up, JavaScript's object
literals (ctags calls them classes) and C's `TEST(name) {` (ctags calls it a function TEST). Rust's `impl` blocks are
counted apart: what they name is defined elsewhere. Needs `ctags` (universal).
Prints a table by language: "named" counts a chunk with several symbols for each of them, "alone" only chunks with one,
"raw" is "named" with nothing left out. And of the same files the share of chunks under 50 characters: without white
space, with it, and without it but with the header that is embedded.
"""

import argparse
import json
import re
import subprocess
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tree_sitter import Node, Parser

from codechunk.chunking import ChunkSettings, chunk_source, detect_language
from codechunk.chunking.languages import load_language
from codechunk.selection.skip import SkipRules
from codechunk.text.chunks import Chunk

LANGUAGES = {
    "python": "Python",
    "javascript": "JavaScript",
    "typescript": "TypeScript",
    "go": "Go",
    "rust": "Rust",
    "java": "Java",
    "c": "C",
    "cpp": "C++",
}
KINDS = frozenset(
    {"function", "func", "method", "generator", "getter", "setter", "class", "struct", "union", "enum"}
    | {"interface", "annotation", "implementation"}
)
_SUFFIXES = re.compile(r"\.(?:py|js|mjs|cjs|jsx|ts|mts|cts|go|rs|java|c|h|cc|cpp|cxx|hpp|hh|hxx|ipp|inl)$")
_MADE_UP = re.compile(r"^(?:__anon|anonymous|AnonymousFunction|anonFunc)|^_$|^$")
_SCRIPTS = frozenset({".js", ".mjs", ".cjs", ".jsx"})
_CRUMB = 50
# Named things that have a signature and no body.
_DECLARATIONS = re.compile(
    r"^(?:function_signature_item|function_signature|(?:abstract_)?method_signature|method_declaration"
    r"|annotation_type_element_declaration|field_declaration|declaration|associated_type)$"
)
_FUNCTIONS = re.compile(
    r"function|arrow|closure|lambda|method|constructor_declaration|func_literal|^(?:block|statement_block)$"
)


@dataclass(frozen=True, slots=True)
class Tag:
    """One definition as ctags sees it."""

    path: Path
    line: int
    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file as the skip rules look at it."""

    path: str
    size: int
    mode: str = "100644"
    valid_path: bool = True


def source_files(folders: list[Path], only: str | None) -> Iterator[tuple[Path, str, bytes]]:
    """The files that codechunk would index: without what is generated, minified or somebody else's."""
    rules = SkipRules.build()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not _SUFFIXES.search(path.name) or path.is_symlink() or not path.is_file() or ".git" in path.parts:
                continue
            name = str(path.relative_to(folder))
            if rules.by_entry(OnDisk(name, path.stat().st_size)) or rules.by_content(name, data := path.read_bytes()):
                continue
            language = detect_language(path.name, data)
            if language in LANGUAGES and only in {None, language}:
                yield path, language, data


def tags_of(paths: list[Path], language: str) -> list[Tag]:
    """What ctags names in these files, in its order. Ends the program when ctags fails."""
    with tempfile.NamedTemporaryFile("w", suffix=".list", encoding="utf-8") as names:
        names.write("".join(f"{path}\n" for path in paths))
        names.flush()
        command = ["ctags", "--quiet", "--options=NONE", "--output-format=json", "--fields=+nK", "--sort=no"]
        command += [f"--language-force={LANGUAGES[language]}", "-L", names.name, "-f", "-"]
        done = subprocess.run(command, check=False, capture_output=True)
    if done.returncode:
        # It also warns of every tag without a name: hundreds of lines.
        raise SystemExit(f"ctags failed: {done.stderr.decode(errors='replace').splitlines()[-1]}")
    tags = []
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        row = json.loads(line)
        # Methods are "members" in Python, where all other languages call fields so.
        wanted = row.get("kind") in KINDS or (language == "python" and row.get("kind") == "member")
        if row.get("_type") == "tag" and wanted and not _MADE_UP.match(row["name"]):
            tags.append(Tag(Path(row["path"]), row["line"], row["name"], row["kind"]))
    return tags


def namesakes(tag: Tag, chunks: list[Chunk]) -> list[int]:
    """Of each chunk that has the tag's line and its name as the last part of a symbol: how many symbols it has."""
    first = bisect_right([chunk.end_line for chunk in chunks], tag.line - 1)
    name = squeezed(tag.name)
    found = []
    for chunk in chunks[first:]:
        if chunk.start_line > tag.line:
            break
        symbols = [squeezed(symbol) for symbol in (chunk.symbol or "").split(", ")]
        if any(symbol == name or symbol.endswith("." + name) for symbol in symbols):
            found.append(len(symbols))
    return found


def ink(text: str) -> int:
    return len("".join(text.split()))


def squeezed(name: str) -> str:
    """Without white space and the `#` of private names."""
    return "".join(name.split()).replace("#", "").strip("\"'`")


class Trees:
    """The syntax trees of the files that have misses: is it a prototype, and why was it missed."""

    def __init__(self, data: bytes, language: str) -> None:
        self.root = Parser(load_language(language)).parse(data).root_node
        self.data = data
        self.lines: dict[int, list[tuple[Node, bool]]] = {}
        todo = [(self.root, False)]
        while todo:
            node, within = todo.pop()
            name = node.child_by_field_name("name") or node.child_by_field_name("declarator")
            if name is not None or node.child_by_field_name("body") is not None:
                for line in {node.start_point[0] + 1, (name or node).start_point[0] + 1}:
                    self.lines.setdefault(line, []).append((node, within))
            inside = within or bool(_FUNCTIONS.search(node.type) and node.child_by_field_name("body"))
            todo.extend((child, inside) for child in node.named_children)

    def is_prototype(self, tag: Tag) -> bool:
        nodes = self._named(tag)
        return bool(nodes) and all(
            _DECLARATIONS.match(node.type) and node.child_by_field_name("body") is None and not self._has_value(node)
            for node, _ in nodes
        )

    def is_object(self, tag: Tag) -> bool:
        """Whether ctags calls an object literal (`const a = {b: 1}`) a class, as it does in JavaScript."""
        text = self.data.split(b"\n")[tag.line - 1]
        return tag.kind == "class" and tag.path.suffix in _SCRIPTS and not re.search(rb"\b(?:class|function)\b", text)

    def is_macro(self, tag: Tag) -> bool:
        """Whether ctags takes the macro of `TEST(name) {` for a function called TEST."""
        line = self.data.split(b"\n")[tag.line - 1].decode("utf-8", "replace")
        return tag.name.isupper() and bool(re.match(rf"\s*{re.escape(tag.name)}\s*\(", line))

    def reason(self, tag: Tag) -> str:
        nodes = self._named(tag)
        if not nodes:
            return "not in the tree"
        node, within = nodes[0]
        if within:
            return "nested in a function"
        small = len(b"".join((node.text or b"").split())) < _CRUMB
        return "small" if small else "other"

    def _named(self, tag: Tag) -> list[tuple[Node, bool]]:
        found = []
        for node, within in self.lines.get(tag.line, []):
            name = node.child_by_field_name("name") or node.child_by_field_name("declarator") or node
            text = (name.text or b"").decode("utf-8", "replace").partition("(")[0]
            if squeezed(tag.name) in squeezed(text):
                found.append((node, within))
        return found

    def _has_value(self, node: Node) -> bool:
        return node.child_by_field_name("value") is not None or b"=" in (node.text or b"") or b"{" in (node.text or b"")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", nargs="+", type=Path, required=True)
    parser.add_argument("--language", choices=sorted(LANGUAGES))
    parser.add_argument("--misses", type=Path, help="write every miss with its reason here")
    parser.add_argument("--max-tokens", type=int, default=512)
    args = parser.parse_args()
    settings = ChunkSettings(max_tokens=args.max_tokens)
    counts: Counter[tuple[str, str]] = Counter()
    misses: list[str] = []
    files: dict[str, list[tuple[Path, bytes]]] = {}
    for path, language, data in source_files(args.folder, args.language):
        files.setdefault(language, []).append((path, data))
    for language, members in files.items():
        by_path: dict[Path, list[Tag]] = {}
        for tag in tags_of([path for path, _ in members], language):
            by_path.setdefault(tag.path, []).append(tag)
        for path, data in members:
            chunks = chunk_source(data, path=path.name, language=language, settings=settings)
            counts[language, "chunks"] += len(chunks)
            counts[language, "crumbs"] += sum(ink(chunk.text) < _CRUMB for chunk in chunks)
            counts[language, "raw crumbs"] += sum(len(chunk.text) < _CRUMB for chunk in chunks)
            counts[language, "bare crumbs"] += sum(ink(chunk.embedding_text) < _CRUMB for chunk in chunks)
            misses += measure(by_path.get(path, []), chunks, data, language, counts)
    report(list(files), counts)
    if args.misses:
        args.misses.write_text("".join(f"{miss}\n" for miss in sorted(misses)), encoding="utf-8")


def measure(
    tags: list[Tag], chunks: list[Chunk], data: bytes, language: str, counts: Counter[tuple[str, str]]
) -> list[str]:
    """Count the tags of one file and give its misses, one line each."""
    missed = []
    # What is left out is left out whether it is named or not: else the share would be flattered.
    trees = Trees(data, language) if tags else None
    for tag in tags:
        found = namesakes(tag, chunks)
        counts[language, "raw"] += 1
        counts[language, "raw named"] += bool(found)
        if trees is None or trees.is_prototype(tag) or trees.is_object(tag) or trees.is_macro(tag):
            counts[language, "left out"] += 1
            continue
        group = "impl" if tag.kind == "implementation" else "all"
        if not found:
            reason = trees.reason(tag)
            counts[language, f"{group} {reason}"] += 1
            missed.append(f"{language}\t{reason}\t{tag.kind}\t{tag.name}\t{tag.path}:{tag.line}")
        counts[language, group] += 1
        counts[language, f"{group} named"] += bool(found)
        counts[language, f"{group} alone"] += 1 in found
    return missed


def report(languages: list[str], counts: Counter[tuple[str, str]]) -> None:
    head = ["language", "definitions", "named %", "alone %", "small", "nested", "no tree", "other", "left out", "raw %"]
    head += ["impls", "impl %", "chunks", "crumbs %", "with white", "with header"]
    print(" ".join(f"{word:>11}" for word in head))
    reasons = ("small", "nested in a function", "not in the tree", "other")
    for language in [*languages, "total"]:
        names = languages if language == "total" else [language]

        def total(key: str, names: list[str] = names) -> int:
            return sum(counts[name, key] for name in names)

        row: list[object] = [language, total("all")]
        row += [share(total(key), total("all")) for key in ("all named", "all alone")]
        row += [total(f"all {reason}") for reason in reasons]
        row += [total("left out"), share(total("raw named"), total("raw"))]
        row += [total("impl"), share(total("impl named"), total("impl")), total("chunks")]
        row += [share(total(key), total("chunks")) for key in ("crumbs", "raw crumbs", "bare crumbs")]
        print(" ".join(f"{cell:>11}" for cell in row))


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}" if whole else "-"


if __name__ == "__main__":
    main()
