"""Words typed by people -> one call -> words printed.

This file holds the commands and their help, and imports nothing heavy: `codechunk --help` must be instant.
What a command does is imported when it runs.
"""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from codechunk import __version__
from codechunk.errors import CodechunkError
from codechunk.interrupts import stop_like_ctrl_c

if TYPE_CHECKING:
    from codechunk.config import Loaded

EXIT_FAILED_CHUNKS = 3
EXIT_BUG = 70
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="codechunk",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Index a git repository by meaning and search it.\n\n"
    "[bold]Example[/bold]\n\n"
    "codechunk index https://github.com/redis/redis --test-embeddings\n\n"
    'codechunk search "how are keys evicted"',
)
config_app = typer.Typer(
    no_args_is_help=True,
    help="Show and check the configuration.\n\n[bold]Example[/bold]\n\ncodechunk --config configs/dev.yaml config show",
)
app.add_typer(config_app, name="config")
queue_app = typer.Typer(
    no_args_is_help=True,
    help="Texts and batch jobs that wait, are out, or came back.\n\n[bold]Example[/bold]\n\ncodechunk queue status",
)
app.add_typer(queue_app, name="queue")
worker_app = typer.Typer(
    no_args_is_help=True,
    help="Submit batch jobs and take in their results.\n\n[bold]Example[/bold]\n\ncodechunk worker start --once",
)
app.add_typer(worker_app, name="worker")
jobs_app = typer.Typer(
    no_args_is_help=True,
    help="The runs of index, and how they stand.\n\n[bold]Example[/bold]\n\ncodechunk jobs list",
)
app.add_typer(jobs_app, name="jobs")


@dataclass(slots=True)
class Session:
    """The options before the command, and what they open."""

    config_file: Path | None = None
    flags: dict[str, Any] = field(default_factory=dict)
    quiet: bool = False
    loaded: "Loaded | None" = None

    def load(self, flags: dict[str, Any] | None = None, *, log_file: bool = True) -> "Loaded":
        """The configuration with this command's flags, and logging set up by it."""
        from codechunk import log
        from codechunk.config import load_config

        self.loaded = load_config(
            config_file=self.config_file,
            flags={**self.flags, **(flags or {})},
            environ=os.environ,
            cwd=_working_directory(),
        )
        config = self.loaded.config
        level = "warning" if self.quiet else config.log.level
        log.setup(
            level=level,
            format=config.log.format,
            file=config.data_dir / "logs" / "codechunk.log" if log_file else None,
            secrets=self.loaded.secret_values(),
        )
        return self.loaded


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as exc:
        raise CodechunkError("the current directory was deleted; change to one that exists.") from exc


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"codechunk {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Configuration file (YAML).", metavar="FILE")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where state, mirrors, vectors and logs are kept.", metavar="DIR")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    log_format: Annotated[
        str | None, typer.Option(help="Log lines on stderr: text or json.", metavar="text|json")
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    if verbose and quiet:
        raise typer.BadParameter("-v and -q exclude each other.")
    session = context.obj = Session(config_file=config, quiet=quiet)
    if data_dir is not None:
        session.flags["data_dir"] = str(data_dir)
    if verbose:
        session.flags["log.level"] = "debug"
    if log_format is not None:
        session.flags["log.format"] = log_format


Source = Annotated[
    str,
    typer.Argument(
        help="https://, ssh://, git@host:path or file:// URL, or the path of a local git repository.",
        metavar="SOURCE",
    ),
]
Mode = Literal["auto", "batch", "sequential"]
JobId = Annotated[str, typer.Argument(help="Id of a job, or the beginning of it.", metavar="ID")]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]


@app.command()
def index(
    context: typer.Context,
    source: Source,
    ref: Annotated[str | None, typer.Option(help="Branch, tag or commit.", show_default="HEAD", metavar="REF")] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="How Gemini is called: batch (half the price, takes a while), sequential (at once), auto (batch when "
            "there is much to do).",
        ),
    ] = "auto",
    token_mode: Annotated[
        str | None,
        typer.Option(help="Count tokens of all chunks, of a sample, or not: all, sample, on_demand.", metavar="MODE"),
    ] = None,
    test_embeddings: Annotated[
        bool, typer.Option("--test-embeddings", help="Synthetic vectors: offline, free, deterministic.")
    ] = False,
    include: Annotated[
        list[str] | None, typer.Option(help="Index only these files (gitignore glob).", metavar="GLOB")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Leave these files out (gitignore glob).", metavar="GLOB")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that cut files.", show_default="all cores", metavar="N"),
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(help="Wait for batch jobs, or leave them to `worker start` and `queue sync`."),
    ] = True,
    full: Annotated[bool, typer.Option("--full", help="Cut every file again; nothing is paid again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and why not.")] = False,
    max_cost: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Stop before anything is sent when the estimate is higher; the bill may differ by a fifth.",
            metavar="USD",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Index a repository: clone, cut into chunks, embed, store.

    [bold]Example[/bold]

    codechunk index https://github.com/redis/redis --ref unstable --test-embeddings
    """
    flags: dict[str, Any] = {
        "token_counting.mode": token_mode,
        "git.include": include,
        "git.exclude": exclude,
        "batch_processing.use_test_embeddings": True if test_embeddings else None,
    }
    with _exit_codes():
        from codechunk.cli.index import run

        code = run(
            context.obj.load(flags),
            source=source,
            ref=ref,
            mode=mode,
            wait=wait,
            max_cost=max_cost,
            jobs=jobs,
            full=full,
            dry_run=dry_run,
            json=json,
            quiet=context.obj.quiet,
        )
    raise typer.Exit(code)


@app.command()
def search(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="Words or a question.", metavar="QUERY")],
    limit: Annotated[int, typer.Option("-k", min=1, max=100, help="How many answers.", metavar="N")] = 10,
    repo: Annotated[
        str | None, typer.Option(help="Only this repository, or repository@ref.", metavar="NAME[@REF]")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="Only these languages.", metavar="L")] = None,
    path: Annotated[str | None, typer.Option(help="Only these files (gitignore glob).", metavar="GLOB")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only these kinds: function, method, class, ...", metavar="K")
    ] = None,
    context_tokens: Annotated[
        int,
        typer.Option(
            "--context",
            min=0,
            help="Tokens the best answer may hold, with the code around its hit; later ones hold less. 0: hits alone.",
            metavar="TOKENS",
        ),
    ] = 750,
    json: Json = False,
) -> None:
    """Find the lines that answer a query, by meaning and by words.

    [bold]Example[/bold]

    codechunk search "how are expired keys deleted" --language c -k 5
    """
    with _exit_codes():
        from codechunk.cli.search import run

        run(
            context.obj.load(),
            query=query,
            limit=limit,
            repository=repo,
            languages=language or [],
            path=path,
            kinds=kind or [],
            context=context_tokens,
            json=json,
            quiet=context.obj.quiet,
        )


@app.command()
def chunk(
    context: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Files or folders.", metavar="PATH...")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show how local files are cut: no database, no network.

    [bold]Example[/bold]

    codechunk chunk src/main.py
    """
    with _exit_codes():
        from codechunk.cli.chunk import run

        code = run(context.obj.load(log_file=False), paths=paths, json=json)
    raise typer.Exit(code)


@app.command()
def estimate(
    context: typer.Context,
    source: Source,
    ref: Annotated[str | None, typer.Option(help="Branch, tag or commit.", show_default="HEAD", metavar="REF")] = None,
    json: Json = False,
) -> None:
    """What indexing a repository with Gemini would cost: files, chunks, tokens, price. Needs no key, buys nothing.

    [bold]Example[/bold]

    codechunk estimate https://github.com/redis/redis --ref unstable
    """
    with _exit_codes():
        from codechunk.cli.estimate import run

        run(context.obj.load(), source=source, ref=ref, json=json, quiet=context.obj.quiet)


@app.command()
def doctor(
    context: typer.Context,
    remote: Annotated[
        bool, typer.Option("--remote", help="Also ask the provider for batch jobs that got lost (needs the key).")
    ] = False,
    json: Json = False,
) -> None:
    """What is stuck, missing or misconfigured, and the mend. Exit 1 when something is wrong.

    [bold]Example[/bold]

    codechunk doctor
    """
    with _exit_codes():
        from codechunk.cli.doctor import run

        code = run(context.obj.load(), remote=remote, json=json, quiet=context.obj.quiet)
    raise typer.Exit(code)


@queue_app.command("status")
def queue_status(context: typer.Context, json: Json = False) -> None:
    """How many texts and batch jobs wait, are out, are back or have failed.

    [bold]Example[/bold]

    codechunk queue status --json
    """
    with _exit_codes():
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
    with _exit_codes():
        from codechunk.cli.queue import flush

        code = flush(context.obj.load(), force=force, json=json, quiet=context.obj.quiet)
    raise typer.Exit(code)


@queue_app.command("sync")
def queue_sync(context: typer.Context, json: Json = False) -> None:
    """Look at the batch jobs that are out, take in what came back, finish indexes. Exit 3 when texts failed for good.

    [bold]Example[/bold]

    codechunk queue sync
    """
    with _exit_codes():
        from codechunk.cli.queue import sync

        code = sync(context.obj.load(), json=json, quiet=context.obj.quiet)
    raise typer.Exit(code)


@queue_app.command("retry")
def queue_retry(context: typer.Context, json: Json = False) -> None:
    """Let every failed text wait again.

    [bold]Example[/bold]

    codechunk queue retry
    """
    with _exit_codes():
        from codechunk.cli.queue import retry

        retry(context.obj.load(), json=json, quiet=context.obj.quiet)


@queue_app.command("remote")
def queue_remote(
    context: typer.Context,
    cancel: Annotated[str | None, typer.Option(help="First cancel this job at the provider.", metavar="NAME")] = None,
    delete: Annotated[str | None, typer.Option(help="First delete this job at the provider.", metavar="NAME")] = None,
    json: Json = False,
) -> None:
    """The batch jobs at the provider beside ours; marks those that are lost, or not ours.

    [bold]Example[/bold]

    codechunk queue remote --cancel batches/abc123
    """
    with _exit_codes():
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
    with _exit_codes():
        from codechunk.cli.worker import start

        start(context.obj.load(), interval_s=interval, once=once, quiet=context.obj.quiet)


@jobs_app.command("list")
def jobs_list(
    context: typer.Context,
    limit: Annotated[int, typer.Option("-n", min=1, help="How many, the newest first.", metavar="N")] = 20,
    json: Json = False,
) -> None:
    """The runs of index, the newest first.

    [bold]Example[/bold]

    codechunk jobs list -n 5
    """
    with _exit_codes():
        from codechunk.cli.jobs import list_jobs

        list_jobs(context.obj.load(), limit=limit, json=json)


@jobs_app.command("show")
def jobs_show(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """One run: its chunks, its batch jobs, and what failed with the reason.

    [bold]Example[/bold]

    codechunk jobs show 3f2a
    """
    with _exit_codes():
        from codechunk.cli.jobs import show

        show(context.obj.load(), job_id=job_id, json=json)


@jobs_app.command("resume")
def jobs_resume(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """Index the repository and ref of a run again; what was done is not done again.

    [bold]Example[/bold]

    codechunk jobs resume 3f2a
    """
    with _exit_codes():
        from codechunk.cli.jobs import resume

        code = resume(context.obj.load(), job_id=job_id, json=json, quiet=context.obj.quiet)
    raise typer.Exit(code)


@jobs_app.command("cancel")
def jobs_cancel(context: typer.Context, job_id: JobId, json: Json = False) -> None:
    """End a run: drop the texts that wait for it alone, cancel the batch jobs that carry nothing else.

    [bold]Example[/bold]

    codechunk jobs cancel 3f2a
    """
    with _exit_codes():
        from codechunk.cli.jobs import cancel

        cancel(context.obj.load(), job_id=job_id, json=json)


@config_app.command("show")
def config_show(context: typer.Context, json: Json = False) -> None:
    """Every setting with its value and where the value comes from.

    [bold]Example[/bold]

    codechunk --config configs/dev.yaml config show
    """
    with _exit_codes():
        from codechunk.cli.config import show

        show(context.obj.load(log_file=False), json=json)


@config_app.command("check")
def config_check(context: typer.Context) -> None:
    """Check the configuration: exit 2 and a sentence that says what is wrong.

    [bold]Example[/bold]

    codechunk --config configs/prod.yaml config check
    """
    with _exit_codes():
        from codechunk.cli.config import check

        check(context.obj.load(log_file=False))


def main() -> None:
    """Run a command and leave with the exit code of the contract (docs/design.md, 2)."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        if stream is None:  # closed by the caller (`>&-`)
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, "stdout" if number == 1 else "stderr", os.fdopen(number, "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale that cannot show a letter must not end a run
    app(prog_name="codechunk")


@contextmanager
def _exit_codes() -> Iterator[None]:
    """Turn what a command raises into one sentence and an exit code; wrong usage is Typer's own business."""
    stop_like_ctrl_c()
    try:
        yield
        sys.stdout.flush()  # here, where an error can still be told
    except KeyboardInterrupt:
        code = _complain("interrupted; the same command goes on from here.", EXIT_INTERRUPTED)
    except CodechunkError as exc:
        code = _complain(str(exc), exc.exit_code)
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`): no error, and nothing more to write to.
        _drop_output()
        code = 0
    except typer.Exit:
        raise
    except OSError as exc:  # no space for the output, no permission, a folder that is gone: the user's world
        _drop_output()
        where = f" ({exc.filename})" if exc.filename else ""
        code = _complain(f"{exc.strerror or exc}{where}.", 1)
    except Exception as exc:  # noqa: BLE001 - the top: a bug, told in one sentence with its log
        code = _bug(exc)
    else:
        return
    raise typer.Exit(code)


def _drop_output() -> None:
    """Let what is still buffered for stdout go nowhere, or Python would fail once more at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(sentence: str, code: int) -> int:
    from codechunk.log import mask_secrets

    typer.echo(f"codechunk: {mask_secrets(sentence)}", err=True)
    return code


def _bug(exc: Exception) -> int:
    logging.getLogger("codechunk").debug("Bug", exc_info=exc)
    files = [
        handler.baseFilename for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)
    ]
    if not files:
        import traceback

        traceback.print_exception(exc)
    where = f"; the traceback is in {files[0]}" if files else ""
    return _complain(f"this is a bug in codechunk ({type(exc).__name__}: {exc}){where}.", EXIT_BUG)
