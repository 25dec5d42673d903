"""What kind of file a path is, in the languages that people have."""

import pytest

from codechunk.search.content import content_of, is_entry


@pytest.mark.parametrize(
    ("path", "language", "content"),
    [
        ("src/flask/app.py", "python", "code"),
        ("tests/test_app.py", "python", "tests"),
        ("pkg/server_test.go", "go", "tests"),
        ("src/test/java/com/a/GsonTest.java", "java", "tests"),
        ("spec/models/user_spec.rb", "ruby", "tests"),
        ("web/button.test.tsx", "tsx", "tests"),
        ("conftest.py", "python", "tests"),
        ("test/run.bats", "bash", "tests"),
        ("tests/README.md", "markdown", "tests"),
        ("README.md", "markdown", "docs"),
        ("docs/guide/index.rst", "rst", "docs"),
        ("config/app.yaml", "yaml", "data"),
        ("CMakeLists.txt", "cmake", "data"),
        ("examples/hello/main.go", "go", "examples"),
        ("src/attest/latest.py", "python", "code"),
        ("src/contest.py", "python", "code"),
        ("lib/testament.rb", "ruby", "code"),
        ("src/inspect/spectrum.py", "python", "code"),
    ],
)
def test_a_path_says_what_kind_of_file_it_is(path: str, language: str, content: str) -> None:
    assert content_of(path, language) == content


def test_files_that_hand_on_what_others_define_are_known() -> None:
    assert is_entry("src/flask/__init__.py")
    assert is_entry("mod.rs")
    assert not is_entry("src/flask/app.py")
