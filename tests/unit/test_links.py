"""Where an answer can be opened."""

from dataclasses import replace
from pathlib import Path

import pytest
from search_helpers import COMMIT, INDEX

from codechunk.search.links import absolute_path, permalink


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://github.com/o/r.git", f"https://github.com/o/r/blob/{COMMIT}/a%20b.py#L3-L9"),
        ("ssh://git@github.com/o/r", f"https://github.com/o/r/blob/{COMMIT}/a%20b.py#L3-L9"),
        ("https://gitlab.com/g/s/r", f"https://gitlab.com/g/s/r/-/blob/{COMMIT}/a%20b.py#L3-9"),
        ("https://codeberg.org/o/r", f"https://codeberg.org/o/r/src/commit/{COMMIT}/a%20b.py#L3-L9"),
        ("https://bitbucket.org/o/r", f"https://bitbucket.org/o/r/src/{COMMIT}/a%20b.py#lines-3:9"),
        ("https://git.example.org/o/r", None),
        ("/home/ada/r", None),
        ("file:///srv/r", None),
    ],
)
def test_known_hosts_have_permalinks(url: str, page: str | None) -> None:
    assert permalink(replace(INDEX, url=url), "a b.py", 3, 9) == page


def test_without_a_commit_there_is_no_permalink() -> None:
    assert permalink(replace(INDEX, commit=None), "a.py", 1, 2) is None


def test_a_file_of_a_local_repository_is_named_while_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    index = replace(INDEX, url=str(tmp_path))
    assert absolute_path(index, "a.py") == str(tmp_path / "a.py")
    assert absolute_path(index, "gone.py") is None
    assert absolute_path(INDEX, "a.py") is None
