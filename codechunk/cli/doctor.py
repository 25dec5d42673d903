"""`codechunk doctor`: what is stuck, missing or misconfigured, and how to fix it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from codechunk.app import App
from codechunk.cli.terminal import reporter, shown, stderr, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.errors import ProviderError, UsageError
from codechunk.process.log import mask_secrets
from codechunk.views.doctor import Finding

EXIT_SOMETHING_IS_WRONG = 1
STYLES = {"ok": "green", "warning": "yellow", "error": "bold red", "skipped": "dim"}


def run(loaded: Loaded, *, remote: bool, json: bool, quiet: bool) -> int:
    """Check everything and print. Returns the exit code: 1 when something is wrong, warnings are not."""
    with App(loaded) as app:
        found = app.doctor()
        if remote:
            with reporter(stderr(), quiet=quiet):
                found = [*found, _asked(app)]
        if json:
            write_json([_masked(finding) for finding in found])
        else:
            _show(stdout(), found, quiet=quiet)
        return EXIT_SOMETHING_IS_WRONG if any(finding.status == "error" for finding in found) else 0


def _asked(app: App) -> Finding:
    """What the provider says; that it says nothing is a finding too."""
    try:
        return _remote(app.remote())
    except (UsageError, ProviderError) as exc:
        mend = "the sentence says it; the other checks did not need the provider"
        return Finding(check="remote_jobs", status="error", count=1, message=str(exc), mend=mend)


def _remote(jobs: Sequence[Mapping[str, Any]]) -> Finding:
    """Jobs at the provider that bear our name and that no row here knows."""
    lost = [job["name"] for job in jobs if job["relation"] == "lost"]
    foreign = sum(job["relation"] == "foreign" for job in jobs)
    if not lost:
        message = f"no job of ours is lost at the provider ({len(jobs):,} jobs there, {foreign:,} not ours)"
        return Finding(check="remote_jobs", status="ok", count=0, message=message)
    return Finding(
        check="remote_jobs",
        status="warning",
        count=len(lost),
        message=f"{len(lost):,} jobs at the provider are ours and nobody here knows them: {', '.join(lost[:5])}",
        mend="codechunk queue remote shows them; --cancel NAME or --delete NAME removes one",
    )


def _masked(finding: Finding) -> dict[str, Any]:
    document = dataclasses.asdict(finding)
    return {key: mask_secrets(value) if isinstance(value, str) else value for key, value in document.items()}


def _show(console: Console, found: Sequence[Finding], *, quiet: bool) -> None:
    """One line a finding and the fix below it; what is wrong comes last, where the eye is."""
    order = ("skipped", "ok", "warning", "error")
    width = max(len(finding.check) for finding in found) + 2
    for status in order[2:] if quiet else order:
        for finding in found:
            if finding.status != status:
                continue
            line = Text(f"{status:<9}", style=STYLES[status]) + Text(f"{finding.check:<{width}}")
            console.print(line + Text(shown(mask_secrets(finding.message))))
            if finding.mend:
                console.print(Text(f"{'':<9}{'':<{width}}fix: {shown(mask_secrets(finding.mend))}", style="dim"))
    counts = {status: sum(finding.status == status for finding in found) for status in order}
    told = [f"{counts[level]:,} {level}{'' if counts[level] == 1 else 's'}" for level in ("error", "warning")]
    console.print(Text(f"{told[0]}, {told[1]}, {counts['ok']:,} checks are fine"))
