"""`codechunk queue status | flush | sync | retry | remote`: chunks and batch jobs waiting, out and back."""

import time
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from codechunk.app import App
from codechunk.cli.session import EXIT_FAILED_CHUNKS, current_stop
from codechunk.cli.terminal import Rows, duration, reporter, shown, stderr, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import QueueFlush, QueueSync, RemoteBatch, to_json
from codechunk.process.log import mask_secrets
from codechunk.sending.batch_view import plain_state

EXIT_UNREACHABLE = 1
RELATIONS = {"ours": "", "lost": "not of this data directory: lost, or another machine's", "foreign": "not ours"}
RELATION_STYLES = {"ours": "", "lost": "yellow", "foreign": "dim"}


def status(loaded: Loaded, *, json: bool) -> None:
    """Print how many texts and batch jobs are in which state."""
    with App(loaded, stop=current_stop()) as app:
        document = app.queue_status()
    if json:
        write_json(to_json(document))
        return
    table = Rows()
    table.add(
        "texts",
        f"{document.pending:,} pending, {document.processing:,} processing, {document.ready:,} ready, "
        f"{document.failed:,} failed",
    )
    batches = {state: count for state, count in document.batches.items() if count}
    told = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in batches.items())
    table.add("batch jobs", told or "none")
    if document.throttled_until is not None:
        wait = duration(document.throttled_until - time.time())
        table.add("waiting", f"no submission for {wait}: {shown(mask_secrets(document.throttle_reason or ''))}")
    if document.failed:
        table.add("", "codechunk queue retry sends the failed ones again")
    table.show(stdout())


def flush(loaded: Loaded, *, force: bool, json: bool, quiet: bool) -> int:
    """Make batch jobs of what waits, submit them, and say how much, or why nothing. Returns the exit code."""
    with reporter(stderr(), quiet=quiet) as progress, App(loaded, stop=current_stop()) as app:
        document = app.flush(progress, force=force)
    if json:
        write_json(to_json(document))
        return _exit_code(document)
    console = stdout()
    if document.batches:
        console.print(f"{document.texts:,} texts are in {document.batches:,} new batch jobs.")
    if document.submitted:
        console.print(f"Submitted {document.submitted:,} batch jobs.")
    if document.reason:
        console.print(Text(f"Nothing was flushed: {shown(mask_secrets(document.reason))}."))
    elif document.waiting:
        console.print(f"{document.waiting:,} texts wait.")
    elif not (document.batches or document.submitted):
        console.print("Nothing waits.")
    return _exit_code(document)


def sync(loaded: Loaded, *, json: bool, quiet: bool) -> int:
    """Look at the batch jobs that are out and take in what came back. Returns the exit code."""
    with reporter(stderr(), quiet=quiet) as progress, App(loaded, stop=current_stop()) as app:
        document = app.sync(progress)
    if json:
        write_json(to_json(document))
    else:
        table = Rows()
        table.add(
            "batch jobs",
            f"{document.polled:,} looked at, {document.completed:,} completed, {document.ended_badly:,} ended badly",
        )
        table.add("texts", f"{document.texts_ready:,} ready, {document.texts_failed:,} failed")
        table.add("indexes", f"{document.indexes_finished:,} finished")
        table.show(stdout())
    return _exit_code(document)


def _exit_code(document: QueueFlush | QueueSync) -> int:
    """1 when the provider could not be reached, which is said; 3 when texts failed for good."""
    if document.unreachable:
        why = shown(mask_secrets(document.unreachable[0]))
        stderr().print(Text(f"codechunk: {why}; nothing is lost, the same command goes on from here."))
        return EXIT_UNREACHABLE
    return EXIT_FAILED_CHUNKS if isinstance(document, QueueSync) and document.texts_failed else 0


def retry(loaded: Loaded, *, json: bool, quiet: bool) -> None:
    """Let every failed text wait again; how many, and what sends them, is said by the reporter."""
    with reporter(stderr(), quiet=quiet) as progress, App(loaded, stop=current_stop()) as app:
        document = app.retry(progress)
    if json:
        write_json(to_json(document))
    elif not document.requeued:
        stdout().print("No text has failed.")


def remote(loaded: Loaded, *, cancel: str | None, delete: str | None, json: bool) -> None:
    """Cancel or delete jobs at the provider if asked to, then show what is there."""
    with App(loaded, stop=current_stop()) as app:
        console = stderr()
        if cancel is not None:
            possible = app.cancel_remote(cancel)
            told = "was cancelled" if possible else "has ended already, or another process works on it at this moment"
            console.print(Text(f"{shown(cancel)} {told}."))
        if delete is not None:
            app.delete_remote(delete)
            console.print(Text(f"{shown(delete)} was deleted at the provider."))
        jobs = app.remote()
        if json:
            write_json(to_json(jobs))
        elif jobs:
            stdout().print(_remote_table(jobs))
        else:
            console.print("The provider has no batch jobs of this key's project.")


def _remote_table(jobs: Sequence[RemoteBatch]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("name", "display name", "state"):
        table.add_column(title, overflow="fold")  # whole, to be copied
    for title in ("rows", "age"):
        table.add_column(title, no_wrap=True, justify="right")
    for title in ("our batch job", ""):
        table.add_column(title, no_wrap=True)
    for job in jobs:
        table.add_row(
            Text(shown(job.name)),
            Text(shown(job.display_name or "-")),
            Text(shown(plain_state(job.state))),
            "-" if job.rows is None else f"{job.rows:,}",
            "-" if job.age_s is None else duration(job.age_s),
            (job.batch_id or "-")[:12],
            Text(RELATIONS[job.relation], style=RELATION_STYLES[job.relation]),
        )
    return table
