"""Where an answer leads: a link on a terminal, an editor at its line."""

import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.style import Style
from rich.text import Span, Text

from codechunk.cli.code_lines import visible
from codechunk.cli.session import terminal_is_lent
from codechunk.documents import Answer
from codechunk.errors import CodechunkError, UsageError

PLACE = Style(color="cyan", bold=True)
# How an editor is told the line, by the name of its program. Others are given the file alone.
_PLUS = {
    "vi",
    "vim",
    "nvim",
    "gvim",
    "view",
    "vim.tiny",
    "emacs",
    "emacsclient",
    "nano",
    "pico",
    "micro",
    "kak",
    "joe",
    "mg",
}
_GOTO = {"code", "code-insiders", "code-oss", "codium", "vscodium", "cursor", "windsurf"}
_COLON = {"hx", "helix", "subl", "sublime_text", "zed", "zeditor"}
_LINE = {"kate", "idea", "pycharm", "goland", "clion", "webstorm", "phpstorm", "rubymine", "rustrover", "rider"}


def link_style(console: Console | None, answer: Answer) -> Style:
    """How a place is written: on a terminal as a link to the file on this disk, or else to its page."""
    if console is None or not console.is_terminal:
        return PLACE
    target = Path(answer.absolute_path).as_uri() if answer.absolute_path else answer.url
    return PLACE if target is None else PLACE.update_link(target)


def without_links(line: Text) -> Text:
    """The line for a pager: older ones show the letters that a link is made of."""
    plain = line.copy()
    plain.spans = [
        span if isinstance(span.style, str) else Span(span.start, span.end, span.style.update_link(None))
        for span in line.spans
    ]
    return plain


def open_in_editor(answer: Answer, line: int, environ: Mapping[str, str]) -> None:
    """Open the file at the line in $VISUAL, $EDITOR or vi, and wait until the editor ends.

    Raises:
        CodechunkError: the file is not on this disk, or the editor failed.
        UsageError: there is no editor.
    """
    if answer.absolute_path is None:
        where = f"{visible(answer.path)} of {answer.repository}@{answer.ref} is not on this disk"
        raise CodechunkError(f"{where}: {f'it is at {answer.url}' if answer.url else 'the answer is all there is'}.")
    named = environ.get("VISUAL") or environ.get("EDITOR") or shutil.which("vi")
    if not named:
        raise UsageError("There is no editor: set $VISUAL or $EDITOR.")
    command = editor_command(named, answer.absolute_path, line)
    try:
        with terminal_is_lent():
            code = subprocess.run(command, check=False).returncode
    except OSError as exc:
        raise CodechunkError(f"the editor {command[0]} cannot be started: {exc.strerror}.") from exc
    if code:
        raise CodechunkError(f"the editor {command[0]} ended with code {code}.")


def editor_command(named: str, path: str, line: int) -> list[str]:
    """The arguments that open the file at the line. `named` may hold arguments, as `code --wait` does."""
    try:
        words = shlex.split(named)
    except ValueError as exc:
        raise UsageError(f"The editor {named!r} cannot be read: {exc}.") from exc
    name = Path(words[0]).name
    if name in _PLUS:
        return [*words, f"+{line}", path]
    if name in _GOTO:
        return [*words, "--goto", f"{path}:{line}"]
    if name in _COLON:
        return [*words, f"{path}:{line}"]
    if name in _LINE:
        return [*words, "--line", str(line), path]
    return [*words, path]
