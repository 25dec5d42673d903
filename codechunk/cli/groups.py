"""The commands in groups: `queue`, `worker`, `jobs`, `repos`, `cache`, `config`. As light as the front of the room."""

from pathlib import Path
from typing import Annotated

import typer

from codechunk.cli.common_options import Commands
from codechunk.cli.session import JobId, Json, exit_codes

config_app = Commands(
    no_args_is_help=True,
    help="Show and check the configuration.\n\n[bold]Example[/bold]\n\ncodechunk --config configs/dev.yaml config show",
)
queue_app = Commands(
    no_args_is_help=True,
    help="Show and move what waits, is out, or came back.\n\n[bold]Example[/bold]\n\ncodechunk queue status",
)
worker_app = Commands(
    no_args_is_help=True,
    help="Submit batch jobs and take in their results.\n\n[bold]Example[/bold]\n\ncodechunk worker start --once",
)
jobs_app = Commands(
    no_args_is_help=True,
    help="Show, resume and cancel runs of index.\n\n[bold]Example[/bold]\n\ncodechunk jobs list",
)
repos_app = Commands(
    no_args_is_help=True,
    help="Show and remove what is indexed, by repository and ref.\n\n[bold]Example[/bold]\n\ncodechunk repos list",
)
cache_app = Commands(
    no_args_is_help=True,
    help="Write vectors to one file for another machine, and read them there.\n\n[bold]Example[/bold]\n\n"
    "codechunk cache export vectors.ccv",
)
GROUPS = {
    "queue": queue_app,
    "worker": worker_app,
    "jobs": jobs_app,
    "repos": repos_app,
    "cache": cache_app,
    "config": config_app,
}


@queue_app.command("status")
def queue_status(context: typer.Context, json: Json = False) -> None:
    """Show how many texts and batch jobs wait, are out, are back or have failed.

    [bold]Example[/bold]

    codechunk queue status --json
    """
    with exit_codes():
        from codechunk.cli.queue import status

        status(context.obj.load(), json=json)


@queue_app.command("flush")
def queue_flush(
    context: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Also when fewer texts wait than worker.min_queue_size.")
    ] = False,
    json: Json = False,
) -> None:
    """Make batch jobs of the texts that wait, and submit them. Exit 1 when the provider cannot be reached.

    [bold]Example[/bold]

    codechunk queue flush --force
    """
    with exit_codes():
        from codechunk.cli.queue import flush

        code = flush(context.obj.load(), force=force, json=json, quiet=context.obj.quiet)
    raise typer.Exit(code)


@queue_app.command("sync")
def queue_sync(context: typer.Context, json: Json = False) -> None:
    """Look at the batch jobs that are out, take in what came back, finish indexes. Exit 3 when texts failed for good.

    [bold]Example[/bold]

    codechunk queue sync
    """
    with exit_codes():
        from codechunk.cli.queue import sync

        code = sync(context.obj.load(), json=json, quiet=context.obj.quiet)
    raise typer.Exit(code)


@queue_app.command("retry")
def queue_retry(context: typer.Context, json: Json = False) -> None:
    """Let every failed text wait again.

    [bold]Example[/bold]

    codechunk queue retry
    """
    with exit_codes():
        from codechunk.cli.queue import retry

        retry(context.obj.load(), json=json, quiet=context.obj.quiet)


@queue_app.command("remote")
def queue_remote(
    context: typer.Context,
    cancel: Annotated[str | None, typer.Option(help="First cancel this job at the provider.", metavar="NAME")] = None,
    delete: Annotated[str | None, typer.Option(help="First delete this job at the provider.", metavar="NAME")] = None,
    json: Json = False,
) -> None:
    """Show the batch jobs at the provider beside ours; mark those that are lost, or not ours.

    [bold]Example[/bold]

    codechunk queue remote --cancel batches/abc123
    """
    with exit_codes():
        from codechunk.cli.queue import remote

        remote(context.obj.load(), cancel=cancel, delete=delete, json=json)


@worker_app.command("start")
def worker_start(
    context: typer.Context,
    interval: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds between two looks.", show_default="worker.interval", metavar="SECONDS"),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, then stop.")] = False,
) -> None:
    """Submit batch jobs and take in their results, until Ctrl-C or SIGTERM; both end it with exit code 0.

    [bold]Example[/bold]

    codechunk worker start --interval 60
    """
    with exit_codes():
        from codechunk.cli.worker import start

        start(context.obj.load(), interval_s=interval, once=once, quiet=context.obj.quiet)


@jobs_app.command("list")
def jobs_list(
    context: typer.Context,
    limit: Annotated[int, typer.Option("-n", min=1, help="How many, the newest first.", metavar="N")] = 20,
    json: Json = False,
) -> None:
    """List the runs of index, the newest first.

    [bold]Example[/bold]

    codechunk jobs list -n 5
    """
    with exit_codes():
        from codechunk.cli.jobs import list_jobs

        list_jobs(context.obj.load(), limit=limit, json=json)


@jobs_app.command("show")
def jobs_show(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """Show one run: its chunks, its batch jobs, and what failed with the reason.

    [bold]Example[/bold]

    codechunk jobs show 3f2a
    """
    with exit_codes():
        from codechunk.cli.jobs import show

        show(context.obj.load(), job_id=job_id, json=json)


@jobs_app.command("resume")
def jobs_resume(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """Index the repository and ref of a run again; what was done is not done again.

    [bold]Example[/bold]

    codechunk jobs resume 3f2a
    """
    with exit_codes():
        from codechunk.cli.jobs import resume

        code = resume(context.obj.load(), job_id=job_id, json=json, quiet=context.obj.quiet)
    raise typer.Exit(code)


@jobs_app.command("cancel")
def jobs_cancel(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """End a run: drop the texts that wait for it alone, cancel the batch jobs that carry nothing else.

    [bold]Example[/bold]

    codechunk jobs cancel 3f2a
    """
    with exit_codes():
        from codechunk.cli.jobs import cancel

        cancel(context.obj.load(), job_id=job_id, json=json)


@config_app.command("show")
def config_show(context: typer.Context, json: Json = False) -> None:
    """Show every setting with its value and where the value comes from.

    [bold]Example[/bold]

    codechunk --config configs/dev.yaml config show
    """
    with exit_codes():
        from codechunk.cli.config import show

        show(context.obj.load(log_file=False), json=json)


@config_app.command("check")
def config_check(context: typer.Context, json: Json = False) -> None:
    """Check the configuration: exit 2 and a sentence that says what is wrong.

    [bold]Example[/bold]

    codechunk --config configs/prod.yaml config check
    """
    with exit_codes():
        from codechunk.cli.config import check

        check(context.obj.load(log_file=False), json=json)


RepoName = Annotated[str, typer.Argument(help="Name of a repository, or name@ref.", metavar="NAME[@REF]")]
CacheFile = Annotated[Path, typer.Argument(help="The file.", metavar="FILE", dir_okay=False)]


@repos_app.command("list")
def repos_list(context: typer.Context, json: Json = False) -> None:
    """List every index: repository, ref, commit, age, chunks.

    [bold]Example[/bold]

    codechunk repos list
    """
    with exit_codes():
        from codechunk.cli.repos import list_repos

        list_repos(context.obj.load(), json=json)


@repos_app.command("show")
def repos_show(context: typer.Context, name: RepoName, json: Json = False) -> None:
    """Show one repository: its refs, files, chunks, languages, where it came from.

    [bold]Example[/bold]

    codechunk repos show redis@unstable
    """
    with exit_codes():
        from codechunk.cli.repos import show

        show(context.obj.load(), name=name, json=json)


@repos_app.command("remove")
def repos_remove(context: typer.Context, name: RepoName, json: Json = False) -> None:
    """Take one repository, or one ref of it, out of the index. Its vectors are kept: indexing it again buys nothing.

    [bold]Example[/bold]

    codechunk repos remove redis@unstable
    """
    with exit_codes():
        from codechunk.cli.repos import remove

        remove(context.obj.load(), name=name, json=json, quiet=context.obj.quiet)


@cache_app.command("export")
def cache_export(
    context: typer.Context,
    file: CacheFile,
    repo: Annotated[
        str | None, typer.Option(help="Only what this repository, or repository@ref, uses.", metavar="NAME[@REF]")
    ] = None,
    json: Json = False,
) -> None:
    """Write the vectors to one compressed file with a checksum. `cache import` on another machine saves buying them.

    [bold]Example[/bold]

    codechunk cache export vectors.ccv
    """
    with exit_codes():
        from codechunk.cli.cache import export

        export(context.obj.load(), file=file, repository=repo, json=json, quiet=context.obj.quiet)


@cache_app.command("import")
def cache_import(context: typer.Context, file: CacheFile, json: Json = False) -> None:
    """Take in the vectors of a file that `cache export` wrote. A damaged or foreign file is refused, whole.

    [bold]Example[/bold]

    codechunk cache import vectors.ccv
    """
    with exit_codes():
        from codechunk.cli.cache import import_

        import_(context.obj.load(), file=file, json=json, quiet=context.obj.quiet)
