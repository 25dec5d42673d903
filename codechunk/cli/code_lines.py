"""Lines of code on a screen: coloured, without control characters, cut with a mark where they are too long."""

import sys
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.syntax import ANSI_DARK, ANSISyntaxTheme, Syntax
from rich.text import Text

from codechunk.cli.excerpt import Line
from codechunk.cli.terminal import shown

TAB = 4
# Longer texts are not coloured: minified code on one line would take seconds.
MOST_COLOURED = 100_000


def visible(line: str) -> str:
    """A line of code with its control characters spelled out and its tabs as blanks."""
    return "\t".join(shown(part) for part in line.rstrip("\r").split("\t")).expandtabs(TAB)


def ellipsis() -> str:
    """The mark of what was cut, in what stdout can write."""
    return "…" if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else "..."


def cut(text: Text, width: int) -> Text:
    """The text within `width` columns; what is longer ends with a mark. Wide characters take two columns."""
    if cell_len(text.plain) <= width:
        return text
    mark = ellipsis()
    short = text.copy()
    short.truncate(max(0, width - cell_len(mark)), overflow="crop")
    short.rstrip()
    return short.append(mark, style="dim")


def coloured(console: Console | None, codes: Sequence[str], language: str) -> list[Text]:
    """The lines, with syntax colours where there is a console that has any."""
    plain = [visible(code) for code in codes]
    whole = "\n".join(plain)
    if console is None or not console.is_terminal or console.color_system is None or console.no_color:
        return [Text(line) for line in plain]
    if len(whole) > MOST_COLOURED:
        return [Text(line) for line in plain]
    # A piece that begins within a comment is full of what looks like mistakes: they are not marked.
    theme = ANSISyntaxTheme({token: style for token, style in ANSI_DARK.items() if token[-1:] != ("Error",)})
    syntax = Syntax("", language, theme=theme, background_color="default")
    lines = list(syntax.highlight(whole).split("\n", allow_blank=True))
    return [lines[number] if number < len(lines) else Text(line) for number, line in enumerate(plain)]


def indentation(codes: Sequence[str]) -> int:
    """Blanks that all lines begin with."""
    return min((len(code) - len(code.lstrip(" ")) for code in map(visible, codes) if code.strip()), default=0)


def numbered(line: Line, code: Text, *, digits: int) -> Text:
    """A line with its number as grep writes it: `12: found`, `13- around it`."""
    text = Text().append(f"{line.number:>{digits}}", style="bold" if line.hit else "dim")
    text.append(": " if line.hit else "- ", style="dim")
    return text.append_text(code) if line.hit else text.append(code.plain, style="dim")
