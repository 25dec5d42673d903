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
from typing import TYPE_CHECKING, Annotated, Any

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
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to stdout.")]


@app.command()
def index(
    context: typer.Context,
    source: Source,
    ref: Annotated[str | None, typer.Option(help="Branch, tag or commit.", show_default="HEAD", metavar="REF")] = None,
    mode: Annotated[
        str, typer.Option(help="How Gemini is called; synthetic vectors need no calls.", metavar="MODE")
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
    wait: Annotated[bool, typer.Option(help="Wait for Gemini batch jobs; synthetic vectors need none.")] = True,
    full: Annotated[bool, typer.Option("--full", help="Cut every file again; nothing is paid again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and why not.")] = False,
    max_cost: Annotated[
        float | None,
        typer.Option(min=0, help="Stop before spending more; synthetic vectors are free.", metavar="USD"),
    ] = None,
    json: Json = False,
) -> None:
    """Index a repository: clone, cut into chunks, embed, store.

    [bold]Example[/bold]

    codechunk index https://github.com/redis/redis --ref unstable --test-embeddings
    """
    del wait, max_cost  # for paid providers, which this version has none of
    flags: dict[str, Any] = {
        "token_counting.mode": token_mode,
        "git.include": include,
        "git.exclude": exclude,
        "batch_processing.use_test_embeddings": True if test_embeddings else None,
    }
    if mode not in {"auto", "batch", "sequential"}:
        raise typer.BadParameter("auto, batch or sequential is needed.", param_hint="--mode")
    with _exit_codes():
        from codechunk.cli.index import run

        code = run(
            context.obj.load(flags),
            source=source,
            ref=ref,
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
        typer.Option("--context", min=0, help="Tokens of neighbouring code around a hit.", metavar="TOKENS"),
    ] = 200,
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
