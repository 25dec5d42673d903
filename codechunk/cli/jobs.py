"""`codechunk jobs list | show | resume | cancel`: the runs of `index`, as their chunks say they stand."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from codechunk.app import App
from codechunk.cli.index import show_result
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import Rows, duration, reporter, shown, stderr, stdout, usd, write_json
from codechunk.config.load import Loaded
from codechunk.documents import BatchJob, IndexChunks, JobChunks, to_json
from codechunk.process.log import mask_secrets

STYLES = {"succeeded": "green", "partial": "yellow", "failed": "red", "embedding": "cyan", "running": "cyan"}


def list_jobs(loaded: Loaded, *, limit: int, json: bool) -> None:
    """Print the newest runs."""
    with App(loaded, stop=current_stop()) as app:
        documents = app.jobs(limit)
    if json:
        write_json(to_json(documents))
        return
    if not documents:
        stderr().print("No job yet: `codechunk index SOURCE` makes one.")
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("job", "status", "repository", "commit", "started"):
        table.add_column(title, no_wrap=True)
    for title in ("chunks", "ready", "pending", "failed"):
        table.add_column(title, no_wrap=True, justify="right")
    for job in documents:
        table.add_row(
            job.id,
            Text(job.status, style=STYLES.get(job.status, "")),
            Text(shown(f"{job.repository}@{job.ref}")),
            job.commit[:12],
            _clock(job.started_at),
            *_counts(job.chunks),
        )
    stdout().print(table)


def show(loaded: Loaded, *, job_id: str, json: bool) -> None:
    """Print one run with its batch jobs and its failed chunks."""
    with App(loaded, stop=current_stop()) as app:
        document = app.job(job_id)
    if json:
        write_json(to_json(document))
        return
    console = stdout()
    status = Text(document.status, style=STYLES.get(document.status, ""))
    console.print(Text(f"job {document.id}  ", style="bold") + status)
    table = Rows()
    table.add("repository", shown(f"{document.repository}@{document.ref}  {document.commit[:12]}"))
    table.add("source", shown(document.url))
    table.add("model", f"{document.model} ({document.dimensions} dimensions)")
    finished = document.finished_at
    ended = f", ended {_clock(finished)}" if finished else ""
    again = f", taken up {document.attempts - 1} times" if document.attempts > 1 else ""
    table.add("started", f"{_clock(document.started_at)}{ended}{again}")
    chunks = document.chunks
    if chunks is not None:
        table.add(
            "chunks",
            f"{chunks.total:,} = {chunks.ready:,} ready + {chunks.pending:,} pending "
            f"+ {chunks.processing:,} processing + {chunks.failed:,} failed",
        )
    if document.error:
        table.add("error", shown(mask_secrets(document.error)))
    table.show(console)
    _show_batches(console, document.batches)
    failed = [(file.path, file.reason) for file in document.failed_files]
    failed += [(chunk.place, chunk.reason) for chunk in document.failed_chunks]
    for place, reason in failed:
        console.print(Text(f"{shown(place)}: failed ({shown(mask_secrets(reason))})", style="yellow"))


def resume(loaded: Loaded, *, job_id: str, json: bool, quiet: bool) -> int:
    """Take a run up again and print what came of it. Returns the exit code."""
    with App(loaded, stop=current_stop()) as app:
        with reporter(stderr(), quiet=quiet) as progress:
            document = app.resume_job(job_id, progress)
        return show_result(app, document, json=json, quiet=quiet)


def cancel(loaded: Loaded, *, job_id: str, json: bool) -> None:
    """End a run and say what became of its texts and batch jobs."""
    with App(loaded, stop=current_stop()) as app:
        document = app.cancel_job(job_id)
    if json:
        write_json(to_json(document))
        return
    console = stdout()
    console.print(f"Job {document.id} is cancelled; {document.texts_dropped:,} waiting texts were dropped.")
    if document.batches_cancelled:
        console.print(
            f"The provider was asked to cancel {len(document.batches_cancelled):,} batch jobs; what they have "
            f"finished is kept when it comes."
        )
    for kept in document.batches_kept:
        console.print(Text(f"Batch job {kept.id[:12]} goes on: {shown(mask_secrets(kept.reason))}"))


def _show_batches(console: Console, batches: Sequence[BatchJob]) -> None:
    if not batches:
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("batch job", "state", "provider"):
        table.add_column(title, no_wrap=True)
    table.add_column("name there", overflow="fold")  # whole, to be copied
    for title in ("rows", "failed", "age", "cost"):
        table.add_column(title, no_wrap=True, justify="right")
    table.add_column("error")
    for batch in batches:
        table.add_row(
            batch.id[:12],
            batch.state,
            Text(shown(batch.remote_state or "-")),
            Text(shown(batch.remote_name or "-")),
            f"{batch.done:,}/{batch.rows:,}",
            f"{batch.failed:,}",
            duration(batch.age_s),
            usd(batch.cost_usd),
            Text(shown(mask_secrets(batch.error or ""))),
        )
    console.print(table)


def _counts(chunks: JobChunks | IndexChunks | None) -> tuple[str, str, str, str]:
    if chunks is None:
        return ("-", "-", "-", "-")
    waiting = chunks.pending + chunks.processing
    return (f"{chunks.total:,}", f"{chunks.ready:,}", f"{waiting:,}", f"{chunks.failed:,}")


def _clock(utc: str | None) -> str:
    """`2026-11-21 13:05 UTC`"""
    if utc is None:
        return "-"
    return f"{utc[:16].replace('T', ' ')} UTC"
