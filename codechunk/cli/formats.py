"""Answers for other programs' readers: lines as grep writes them for editors, Markdown for chats. Pure."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from codechunk.cli.code_lines import visible
from codechunk.cli.excerpt import lines_of, telling_line
from codechunk.cli.markdown import code_span
from codechunk.cli.terminal import shown
from codechunk.documents import Answer, Span

# Two names of one language; the rest is called the same in Markdown.
_FENCED = {"plain": "text", "c_sharp": "csharp"}


def editor_lines(answers: Sequence[Answer], folder: Path) -> str:
    """`path:line: code`, one for every span; the path as seen from `folder` where the file is on this disk."""
    laid = []
    for answer in answers:
        path = _seen_from(folder, answer)
        told = telling_line(answer, lines_of(answer))
        laid.append(f"{path}:{told.number}: {visible(told.code).strip()}")
        laid += [f"{path}:{span.hit_lines[0]}: {visible(_first(span)).strip()}" for span in answer.spans]
    return "".join(f"{line}\n" for line in laid)


def _seen_from(folder: Path, answer: Answer) -> str:
    """A path that an editor started in `folder` opens."""
    if answer.absolute_path is None:
        return shown(answer.path)
    relative = os.path.relpath(answer.absolute_path, folder)
    return shown(answer.absolute_path if relative.startswith("..") else relative)


def _first(span: Span) -> str:
    """The first line of what was found in a span."""
    lines = span.text.split("\n")
    return lines[min(span.hit_lines[0] - span.start_line, len(lines) - 1)]


def markdown(answers: Sequence[Answer]) -> str:
    """A heading with the place and a block with the code for every span."""
    parts = []
    for answer in answers:
        best = (answer.start_line, answer.end_line, answer.symbol, answer.text, answer.url)
        others = [(span.start_line, span.end_line, span.symbol, span.text, None) for span in answer.spans]
        for first, last, symbol, text, url in [best, *others]:
            title = f"**{code_span(f'{answer.path}:{first}-{last}')}**"
            if symbol:
                title += f" {code_span(symbol)}"
            title += f" in {code_span(f'{answer.repository}@{answer.commit[:12] or answer.ref}')}"
            if url:
                title += f" (<{url}>)"
            parts += [title, _fenced(text, answer.language)]
    return "\n\n".join(parts) + "\n" if parts else ""


def _fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any in the code."""
    code = "\n".join(_readable(line) for line in text.rstrip("\n").split("\n"))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", code)), default=0))
    return f"{fence}{_FENCED.get(language, language)}\n{code}\n{fence}"


def _readable(line: str) -> str:
    """The line as it is, tabs too, with other control characters spelled out."""
    return "\t".join(shown(part) for part in line.rstrip("\r").split("\t"))
