"""`codechunk doctor`: what is stuck, missing or misconfigured, and how to fix it."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from codechunk.app import App
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import reporter, shown, stderr, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import Finding, to_json
from codechunk.text.counted import counted

EXIT_SOMETHING_IS_WRONG = 1
STYLES = {"ok": "green", "warning": "yellow", "error": "bold red", "skipped": "dim"}


def run(loaded: Loaded, *, remote: bool, json: bool, quiet: bool) -> int:
    """Check everything and print. Returns the exit code: 1 when something is wrong, warnings are not."""
    with App(loaded, stop=current_stop()) as app, reporter(stderr(), quiet=quiet):
        found = app.doctor(remote=remote)
    if json:
        write_json(to_json(found))
    else:
        _show(stdout(), found, quiet=quiet)
    return EXIT_SOMETHING_IS_WRONG if any(finding.status == "error" for finding in found) else 0


def _show(console: Console, found: Sequence[Finding], *, quiet: bool) -> None:
    """One line a finding and the fix below it; what is wrong comes last, where the eye is."""
    order = ("skipped", "ok", "warning", "error")
    width = max(len(finding.check) for finding in found) + 2
    for status in order[2:] if quiet else order:
        for finding in found:
            if finding.status != status:
                continue
            line = Text(f"{status:<9}", style=STYLES[status]) + Text(f"{finding.check:<{width}}")
            console.print(line + Text(shown(finding.message)))
            if finding.mend:
                console.print(Text(f"{'':<9}{'':<{width}}fix: {shown(finding.mend)}", style="dim"))
    counts = {status: sum(finding.status == status for finding in found) for status in order}
    told = [counted(counts[level], f"{level}s") for level in ("error", "warning")]
    console.print(Text(f"{told[0]}, {told[1]}, {counts['ok']:,} checks are fine"))
