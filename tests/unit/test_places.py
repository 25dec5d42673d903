"""Where an answer leads: links, editors, pagers."""

from pathlib import Path

import pytest
from rich.style import Style
from rich.text import Text

from codechunk.cli.pager import pager_command
from codechunk.cli.places import editor_command, without_links
from codechunk.errors import UsageError


@pytest.mark.parametrize(
    ("named", "command"),
    [
        ("vi", ["vi", "+7", "/a b.py"]),
        ("/usr/bin/nvim -p", ["/usr/bin/nvim", "-p", "+7", "/a b.py"]),
        ("emacsclient -nw", ["emacsclient", "-nw", "+7", "/a b.py"]),
        ("nano", ["nano", "+7", "/a b.py"]),
        ("code --wait", ["code", "--wait", "--goto", "/a b.py:7"]),
        ("hx", ["hx", "/a b.py:7"]),
        ("pycharm", ["pycharm", "--line", "7", "/a b.py"]),
        ("unheard-of", ["unheard-of", "/a b.py"]),
    ],
)
def test_each_editor_is_told_the_line_its_own_way(named: str, command: list[str]) -> None:
    assert editor_command(named, "/a b.py", 7) == command


def test_an_editor_that_cannot_be_read_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        editor_command("vi 'x", "/a.py", 1)


@pytest.mark.parametrize(
    ("environ", "command"),
    [
        ({}, ["less"]),
        ({"PAGER": "more -s"}, ["more", "-s"]),
        ({"PAGER": "more", "CODECHUNK_PAGER": "bat --plain"}, ["bat", "--plain"]),
        ({"PAGER": "cat"}, None),
        ({"PAGER": "more", "CODECHUNK_PAGER": ""}, None),
        ({"PAGER": "less 'x"}, None),
    ],
)
def test_the_pager_is_the_users(environ: dict[str, str], command: list[str] | None) -> None:
    assert pager_command(environ) == command


def test_a_pager_gets_no_links_and_all_colours() -> None:
    line = Text().append("a.py:1", style=Style(bold=True, link=Path("/a.py").as_uri())).append("  x", style="dim")
    plain = without_links(line)
    assert plain.plain == line.plain
    assert plain.spans[0].style == Style(bold=True)
    assert plain.spans[1].style == "dim"
