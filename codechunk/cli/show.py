"""`codechunk show`: a file, or lines of it, at the commit that searches use."""

from rich.text import Text

from codechunk.app import App
from codechunk.cli.code_lines import coloured, cut, numbered
from codechunk.cli.excerpt import Line
from codechunk.cli.pager import write_lines
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import shown, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import to_json


def run(loaded: Loaded, *, place: str, repository: str | None, ref: str | None, pager: bool, json: bool) -> None:
    """Print the lines with their numbers. Raises as `App.show` does."""
    with App(loaded, stop=current_stop()) as app:
        document = app.show(place, repository=repository, ref=ref)
    if json:
        write_json(to_json(document))
        return
    console = stdout()
    head = Text().append(f"{shown(document.path)}:{document.start_line}-{document.end_line}", style="bold cyan")
    head.append(f" of {document.lines:,}", style="dim")
    head.append(f"  {shown(f'{document.repository}@{document.ref}')}  {document.commit[:12]}", style="dim")
    codes = document.text.removesuffix("\n").split("\n")
    digits = max(len(str(document.end_line)), 4)
    lines = [
        numbered(Line(number=number, code=code, hit=True), painted, digits=digits)
        for number, (code, painted) in enumerate(
            zip(codes, coloured(console, codes, document.language or "text"), strict=True), start=document.start_line
        )
    ]
    if console.is_terminal:
        lines = [cut(line, console.width) for line in lines]
    write_lines(console, [head, *lines], pager=pager)
