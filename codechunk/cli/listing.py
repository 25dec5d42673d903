"""Answers within one screen: a line for each, and under the first ones their best lines.

    1  recovery.go:52  CustomRecoveryWithWriter
         52: func CustomRecoveryWithWriter(out io.Writer, handle RecoveryFunc) HandlerFunc {
         60:         if rec := recover(); rec != nil {  … 41 more lines
    2  context.go:190  Context.Next  func (c *Context) Next() {

A screen is the terminal's height, or SCREEN_LINES elsewhere, and never more than MOST_TOKENS, whoever reads them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from codechunk.cli.code_lines import coloured, cut, ellipsis, indentation, numbered
from codechunk.cli.excerpt import Line, best_lines, lines_of, telling_line
from codechunk.cli.places import link_style
from codechunk.cli.terminal import shown
from codechunk.documents import Answer
from codechunk.text.counted import counted
from codechunk.text.tokens import TokenEstimate

# Lines of a screen that is no terminal, and its columns.
SCREEN_LINES, SCREEN_COLUMNS = 24, 120
# Lines that the prompt needs when the list is out.
PROMPT_LINES = 2
MOST_TOKENS = 900
# The estimate is right within some percent on code, and short lines of names and numbers are not what it learned.
SAFELY = 0.85
# How many answers show their lines, and how they share what the list leaves of the screen.
SHARES = (5, 4, 3)
# Not longer, even where the screen is high: the first answers are to be compared, not read.
MOST_ROWS = 14
LEAST_ROWS = 3
# A symbol longer than this is cut; a line of code shorter than this is left out.
LONGEST_SYMBOL, SHORTEST_CODE = 48, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """The room for a list."""

    lines: int
    columns: int


def screen_of(console: Console) -> Screen:
    """The terminal's size, or what a file gets."""
    if not console.is_terminal:
        return Screen(lines=SCREEN_LINES, columns=SCREEN_COLUMNS)
    return Screen(lines=max(console.size.height - PROMPT_LINES, LEAST_ROWS), columns=console.width)


def listing(console: Console, answers: Sequence[Answer], screen: Screen, *, several: bool) -> list[Text]:
    """The lines of the list.

    Args:
        several: more than one repository was searched, so each answer names its own.
    """
    rows = max(screen.lines - len(answers), min(LEAST_ROWS, screen.lines))
    code = True
    while rows or code:
        plain = _laid_out(None, answers, screen, _shared(rows, len(answers)), several=several, code=code)
        if _tokens(plain) <= MOST_TOKENS * SAFELY:
            break
        # First the code under the answers gives way, then that behind them: places are what a list is for.
        code, rows = (code, rows - max(1, rows // 10)) if rows else (False, 0)
    return _laid_out(console, answers, screen, _shared(rows, len(answers)), several=several, code=code)


def _tokens(lines: Sequence[Text]) -> float:
    data = "\n".join(line.plain for line in lines).encode("utf-8", "replace")
    return TokenEstimate(data).span(0, len(data))


def _shared(rows: int, answers: int) -> list[int]:
    """How many lines each of the first answers may show."""
    shares = SHARES[:answers]
    given = [min(rows * share // sum(shares), MOST_ROWS) for share in shares]
    for number in range(min(rows - sum(given), len(given))):
        given[number] = min(given[number] + 1, MOST_ROWS)
    return given


def _laid_out(
    console: Console | None,
    answers: Sequence[Answer],
    screen: Screen,
    rows: Sequence[int],
    *,
    several: bool,
    code: bool,
) -> list[Text]:
    """The list with so many lines under the first answers; without colours when there is no console."""
    of_refs = {answer.repository for answer in answers if _refs(answers, answer.repository) > 1}
    laid: list[Text] = []
    left = 0
    for number, answer in enumerate(answers):
        lines = lines_of(answer)
        told = telling_line(answer, lines)
        room = rows[number] + left if number < len(rows) else 0
        under = best_lines(answer, min(room, MOST_ROWS)) if room > 1 else []
        left = room - len(under)  # what a short answer does not use, the next one may
        name = ""
        if several or of_refs:
            name = f"{answer.repository}@{answer.ref}" if answer.repository in of_refs else answer.repository
        head = _head(console, answer, told, name, screen.columns, code=code and not under)
        laid += [head, *_under(console, answer, lines, under, screen.columns)]
    return laid


def _refs(answers: Sequence[Answer], repository: str) -> int:
    return len({answer.ref for answer in answers if answer.repository == repository})


def _head(console: Console | None, answer: Answer, told: Line, repository: str, columns: int, *, code: bool) -> Text:
    """Rank, place and symbol; the place is never cut, the rest gives way to it."""
    head = Text().append(f"{answer.file_rank:>2}  ", style="dim")
    if repository:
        head.append(f"{shown(repository)}  ", style="magenta")
    head.append(f"{shown(answer.path)}:{told.number}", style=link_style(console, answer))
    symbol = shown(answer.symbol or "")
    if symbol:
        left = min(columns - cell_len(head.plain) - 2, LONGEST_SYMBOL)
        if left >= min(SHORTEST_CODE, cell_len(symbol)):
            head.append_text(Text("  ") + cut(Text(symbol, style="bold"), left))
    left = columns - cell_len(head.plain) - 2
    if code and left >= SHORTEST_CODE:
        [line] = coloured(console, [re.sub(r"\s+", " ", told.code).strip()], answer.language)
        head.append_text(Text("  ") + cut(line, left))
    return head


def _under(
    console: Console | None, answer: Answer, lines: Sequence[Line], chosen: Sequence[Line], columns: int
) -> list[Text]:
    """The chosen lines with their numbers; the last one says how many of the hit are not shown."""
    if not chosen:
        return []
    colours = dict(zip(lines, coloured(console, [line.code for line in lines], answer.language), strict=True))
    strip = indentation([line.code for line in chosen])
    digits = max(len(str(chosen[-1].number)) + 4, 7)
    missing = sum(line.hit for line in lines) - sum(line.hit for line in chosen)
    rest = f"  {ellipsis()} {counted(missing, 'more lines')}" if missing else ""
    laid = []
    for line in chosen:
        code = colours[line][strip:] if colours[line].plain.strip() else Text()
        note = Text(rest if line is chosen[-1] else "", style="dim")
        laid.append(cut(numbered(line, code, digits=digits), columns - cell_len(note.plain)) + note)
    return laid
