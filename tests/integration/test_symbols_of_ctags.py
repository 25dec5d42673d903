"""Definitions that universal-ctags names are found under their names; what `scripts/bench symbols` measures."""

import importlib.util
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from codechunk.chunking import chunk_source

ROOT = Path(__file__).parent.parent.parent
SOURCES = {
    "a.py": "import os\n\n\ndef outer(first, second):\n    return first + second\n\n\n"
    "class Thing:\n    size, width, height = 3, 4, 5\n\n    def area(self, of=None):\n        return self.size\n",
    "a.ts": "export interface $Shape { area: number; width: number; label: string }\n"
    "export class Box {\n  label: string = 'a box';\n\n  #hide(of: string) { return this.label + of }\n}\n",
    "a.go": "package a\n\ntype Box struct {\n\tName string\n}\n\nfunc (b *Box) Area() int { return 1 }\n",
    "a.c": "typedef struct tag_s { int x; } name_t;\n\nTEST_IMPL(one) {\n  return 0;\n}\n",
}


@pytest.fixture
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_symbols", ROOT / "scripts" / "bench_symbols.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def needs_ctags() -> None:
    if shutil.which("ctags") is None:
        pytest.skip("universal-ctags is not installed")


@pytest.mark.parametrize("name", SOURCES)
def test_each_definition_of_a_small_file_is_the_symbol_of_its_chunk(bench, tmp_path, name):
    needs_ctags()
    path = tmp_path / name
    path.write_text(SOURCES[name])
    data = path.read_bytes()
    language = bench.detect_language(name, data)
    tags = bench.tags_of([path], language)
    counts: Counter[tuple[str, str]] = Counter()
    missed = bench.measure(tags, chunk_source(data, path=name), data, language, counts)
    assert counts[language, "all"] > 0
    assert missed == []


def test_nearly_all_definitions_of_this_product_are_found_by_name(bench):
    needs_ctags()
    files = list(bench.source_files([ROOT / "codechunk"], "python"))
    tags = bench.tags_of([path for path, _, _ in files], "python")
    counts: Counter[tuple[str, str]] = Counter()
    for path, language, data in files:
        chunks = chunk_source(data, path=path.name, language=language)
        bench.measure([tag for tag in tags if tag.path == path], chunks, data, language, counts)
    assert counts["python", "all"] > 300
    assert counts["python", "all named"] >= 0.99 * counts["python", "all"]


def test_a_definition_under_another_name_counts_as_missed(bench):
    data = b"int one(void) { return 1; }\n"
    tags = [bench.Tag(Path("a.c"), 1, "two", "function")]
    counts: Counter[tuple[str, str]] = Counter()
    assert bench.measure(tags, chunk_source(data, path="a.c"), data, "c", counts)
    assert (counts["c", "all"], counts["c", "all named"]) == (1, 0)
