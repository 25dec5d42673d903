"""`codechunk search`: answers as a list within one screen, whole, as places, or as JSON."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

from codechunk.app import App
from codechunk.cli.code_lines import coloured, cut, numbered
from codechunk.cli.excerpt import Line, lines_of, telling_line
from codechunk.cli.formats import editor_lines, markdown
from codechunk.cli.listing import listing, screen_of
from codechunk.cli.pager import write_lines
from codechunk.cli.places import link_style, open_in_editor
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import reporter, shown, stderr, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import Answer, to_json
from codechunk.errors import NotFound, UsageError
from codechunk.search.content import CONTENTS
from codechunk.search.ranking import Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How answers are shown: as a list unless something else is set."""

    format: Literal["list", "json", "lines", "md"] = "list"
    locations: bool = False
    full: bool = False
    pager: bool = True
    open: int | None = None


def run(
    loaded: Loaded,
    *,
    query: str,
    limit: int,
    repositories: Sequence[str],
    everywhere: bool,
    ref_diff: str | None,
    languages: Sequence[str],
    paths: Sequence[str],
    content: Sequence[str],
    kinds: Sequence[str],
    context: int,
    anyway: bool,
    look: Look,
    quiet: bool,
) -> None:
    """Search and print. Raises UsageError as `App.search` does, and for looks that exclude each other."""
    if look.full and look.locations:
        raise UsageError("--full and --locations exclude each other.")
    if look.locations and look.format != "list":
        raise UsageError(f"--locations and --format {look.format} exclude each other.")
    here = None if everywhere else Path.cwd()
    with App(loaded, stop=current_stop()) as app:
        with reporter(stderr(), quiet=quiet) as progress:
            answers = app.search(
                Query(
                    text=query,
                    limit=max(limit, look.open or 0),
                    languages=languages,
                    kinds=kinds,
                    paths=paths,
                    content=[one for one in CONTENTS if one in content],
                    context=context,
                    anyway=anyway,
                ),
                repository=repositories or None,
                reporter=progress,
                here=here,
                ref_diff=ref_diff,
            )
        several = partial(app.means_several, repositories or None, here=here, ref_diff=ref_diff)
        show(answers, look, several=several)


def show(answers: Sequence[Answer], look: Look, *, several: Callable[[], bool]) -> None:
    """Print answers, or open one. `several`: whether more than one repository was searched; only a list asks."""
    if look.open is not None:
        _open(answers, look.open)
    elif look.format == "json":
        write_json(to_json(answers))
    elif not answers:
        stderr().print("Nothing matches well; --anyway shows the nearest.")
    elif look.format == "lines":
        sys.stdout.write(editor_lines(answers, Path.cwd()))
    elif look.format == "md":
        sys.stdout.write(markdown(answers))
    else:
        console = stdout()
        write_lines(console, _lines(console, answers, look, several=several), pager=look.pager)


def _open(answers: Sequence[Answer], rank: int) -> None:
    if rank > len(answers):
        found = {0: "nothing was found", 1: "one answer was found"}.get(len(answers), f"{len(answers)} were found")
        raise NotFound(f"There is no answer {rank} to open: {found}.")
    answer = answers[rank - 1]
    open_in_editor(answer, telling_line(answer, lines_of(answer)).number, os.environ)


def _lines(console: Console, answers: Sequence[Answer], look: Look, *, several: Callable[[], bool]) -> list[Text]:
    if look.locations:
        return [_location(console, answer) for answer in answers]
    if look.full:
        return [line for answer in answers for line in _whole(console, answer)]
    return listing(console, answers, screen_of(console), several=several())


def _location(console: Console, answer: Answer) -> Text:
    first, last = answer.hit_lines
    line = Text().append(f"{shown(answer.path)}:{first}-{last}", style=link_style(console, answer))
    return line.append(f"  {shown(answer.symbol)}", style="bold") if answer.symbol else line


def _whole(console: Console, answer: Answer) -> list[Text]:
    """An answer with all lines of all its spans, those that were found marked apart from those around them."""
    head = Text().append(
        f"{shown(answer.path)}:{answer.start_line}-{answer.end_line}", style=link_style(console, answer)
    )
    if answer.symbol:
        head.append(f"  {shown(answer.symbol)}", style="bold")
    head.append(f"  {answer.score:.3f}", style="green")
    head.append(f"  {shown(f'{answer.repository}@{answer.ref}')}", style="dim")
    laid = [head, *_code(console, lines_of(answer), answer.language)]
    for span in answer.spans:
        first, last = span.hit_lines
        lines = [
            Line(number=number, code=code, hit=first <= number <= last)
            for number, code in enumerate(span.text.rstrip("\n").split("\n"), start=span.start_line)
        ]
        laid += [
            Text(f"    --  {shown(span.symbol or '')}".rstrip(), style="dim"),
            *_code(console, lines, answer.language),
        ]
    return [*laid, Text()]


def _code(console: Console, lines: Sequence[Line], language: str) -> list[Text]:
    codes = coloured(console, [line.code for line in lines], language)
    laid = [numbered(line, code, digits=6) for line, code in zip(lines, codes, strict=True)]
    return [cut(line, console.width) for line in laid] if console.is_terminal else laid
