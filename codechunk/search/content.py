"""What kind of file answers: code, tests, examples, documentation or data. By its path and language alone. Pure."""

import re
from functools import lru_cache
from typing import Literal, get_args

Content = Literal["code", "tests", "examples", "docs", "data"]
CONTENTS: tuple[Content, ...] = get_args(Content)

_TEST_NAME = re.compile(
    r"(?:^|/)(?:tests?_[^/]*|[^/]*_tests?\.\w+|[^/]*_specs?\.\w+|[^/]*[._-](?:test|tests|spec)\.[\w.]+"
    r"|[^/]*(?:Test|Tests|Spec|Suite|TestCase|TestBase)\.\w+|conftest\.py|test[^/]{0,12}\.(?:c|cc|cpp|h|sh)|[^/]*\.bats)$"
)
_TEST_FOLDER = re.compile(
    r"(?:^|/)(?:(?i:tests?|__tests__|specs?|testing|testdata|test-[\w-]+|fixtures?|mocks?|__mocks__|benchmarks?|bench)"
    r"|[a-z]+Test)/"
)
_EXAMPLE_FOLDER = re.compile(r"(?:^|/)(?:_?examples?|docs?_src|samples?|demos?|playgrounds?|tutorials?)/", re.I)
_PROSE = frozenset({"markdown", "rst", "text", "html", "asciidoc", "org", "latex"})
_DATA = frozenset(
    {
        "cmake",
        "csv",
        "dockerfile",
        "gitattributes",
        "gitignore",
        "gomod",
        "ini",
        "json",
        "make",
        "properties",
        "requirements",
        "toml",
        "xml",
        "yaml",
    }
)
# Files that hand on what others define.
_ENTRIES = frozenset({"__init__.py", "index.js", "index.ts", "lib.rs", "main.go", "mod.rs", "package-info.java"})


@lru_cache(maxsize=20_000)
def content_of(path: str, language: str) -> Content:
    """What kind of file this is."""
    if _TEST_NAME.search(path) or _TEST_FOLDER.search(path):
        return "tests"
    if language in _PROSE:
        return "docs"
    if language in _DATA:
        return "data"
    return "examples" if _EXAMPLE_FOLDER.search(path) else "code"


def is_entry(path: str) -> bool:
    """Whether a file mostly hands on what others define: `__init__.py`, `index.ts`, `lib.rs` ..."""
    return path.rpartition("/")[2] in _ENTRIES
