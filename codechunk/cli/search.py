"""`codechunk search`: answers as `path:start-end  symbol  score` with code, or as JSON."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from codechunk.app import App
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import reporter, shown, stderr, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import Answer, to_json
from codechunk.search.content import CONTENTS
from codechunk.search.ranking import Query

# Lines of an answer that a terminal shows; the rest is said to be there.
SHOWN_LINES = 24
LINES_ABOVE = 3


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
    json: bool,
    quiet: bool,
) -> None:
    """Search and print. Raises UsageError as `App.search` does."""
    with App(loaded, stop=current_stop()) as app:
        with reporter(stderr(), quiet=quiet) as progress:
            answers = app.search(
                Query(
                    text=query,
                    limit=limit,
                    languages=languages,
                    kinds=kinds,
                    paths=paths,
                    content=[one for one in CONTENTS if one in content],
                    context=context,
                ),
                repository=repositories or None,
                reporter=progress,
                here=None if everywhere else Path.cwd(),
                ref_diff=ref_diff,
            )
        if json:
            write_json(to_json(answers))
            return
        console = stdout()
        if not answers:
            stderr().print("Nothing found.")
        for answer in answers:
            _show(console, answer)


def _show(console: Console, answer: Answer) -> None:
    line = Text()
    line.append(f"{shown(answer.path)}:{answer.start_line}-{answer.end_line}", style="bold cyan")
    if answer.symbol:
        line.append(f"  {shown(answer.symbol)}", style="bold")
    line.append(f"  {answer.score:.3f}", style="green")
    line.append(f"  {shown(f'{answer.repository}@{answer.ref}')}", style="dim")
    console.print(line)
    lines = answer.text.rstrip("\n").split("\n")
    first = _first_shown(answer, len(lines))
    shown_text = "\n".join(_visible(text) for text in lines[first : first + SHOWN_LINES])
    if first:
        console.print(Text(f"        ... {first} lines above", style="dim"))
    if console.is_terminal:
        console.print(
            Syntax(
                shown_text,
                answer.language,
                theme="ansi_dark",
                line_numbers=True,
                start_line=answer.start_line + first,
                background_color="default",
                word_wrap=False,
            ),
            soft_wrap=False,
        )
    else:
        for number, text in enumerate(shown_text.split("\n"), start=answer.start_line + first):
            console.print(Text(f"{number:>6}  {text}"))
    if len(lines) > first + SHOWN_LINES:
        console.print(Text(f"        ... {len(lines) - first - SHOWN_LINES} more lines", style="dim"))
    console.print()


def _first_shown(answer: Answer, lines: int) -> int:
    """How many lines to leave out above, so that what was found is on the screen with some lines before it."""
    start, end = (line - answer.start_line for line in answer.hit_lines)
    if end < SHOWN_LINES:
        return 0
    return max(0, min(start - LINES_ABOVE, lines - SHOWN_LINES))


def _visible(line: str) -> str:
    """A line of code with its control characters spelled out, tabs kept."""
    return "\t".join(shown(part) for part in line.rstrip("\r").split("\t"))
