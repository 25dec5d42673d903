"""A folder is known again when it was moved, restored or mounted elsewhere, and told from its copies."""

from dataclasses import replace
from pathlib import Path

import pytest

from codechunk.process.whereabouts import Whereabouts

HERE = Whereabouts(host="laptop 1f", path="/data", inode=7, device=1)


@pytest.mark.parametrize(
    ("other", "may_be"),
    [
        (HERE, True),
        (replace(HERE, path="/moved"), True),
        (replace(HERE, inode=8), True),
        (replace(HERE, host="another container"), True),
        (replace(HERE, device=2), True),
        (replace(HERE, path="/copy", inode=8), False),
        (replace(HERE, host="another machine", inode=8), False),
        (replace(HERE, host="another machine", path="/copy"), False),
    ],
)
def test_two_of_machine_path_and_number_make_a_folder_the_same(other: Whereabouts, may_be: bool) -> None:
    assert (HERE.may_be(other), other.may_be(HERE)) == (may_be, may_be)


def test_whereabouts_are_read_back_from_their_line(tmp_path: Path) -> None:
    folder = tmp_path / 'a "name"\nof two lines'
    folder.mkdir()
    there = Whereabouts.of(folder)
    assert "\n" not in there.text
    assert Whereabouts.read(there.text) == there


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "1", '["a", "b", "c", "d"]', '["a", "b", 1, null]', "[1, 2"])
def test_what_is_no_whereabouts_is_none(text: str) -> None:
    assert Whereabouts.read(text) is None
