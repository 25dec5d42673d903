"""Words typed by people -> one call -> words printed.

This file and its neighbours (session.py, groups.py, options.py) hold the commands and their help. They import nothing
heavy: `codechunk --help` must be instant. What a command does is imported when it runs.
"""

import io
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from codechunk.cli import options
from codechunk.cli.common_options import Commands
from codechunk.cli.groups import GROUPS
from codechunk.cli.session import Json, Session, Source, exit_codes, is_typed, tell_interrupted
from codechunk.errors import Stopped, UsageError
from codechunk.process.interrupt import hush, leave_on_signals

app = Commands(
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
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def _version(asked: bool) -> None:
    if asked:
        from codechunk.cli.version import show

        show(json=False)
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
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the versions that matter.")
    ] = False,
) -> None:
    session = context.obj = Session()
    given = {"config": config, "data_dir": data_dir, "verbose": verbose, "quiet": quiet, "log_format": log_format}
    for name, value in given.items():
        if value not in (None, False):
            session.choose(name, value)


@app.command()
def index(
    context: typer.Context,
    source: Source,
    ref: options.Ref = None,
    mode: options.Mode = "auto",
    token_mode: options.TokenMode = None,
    test_embeddings: options.TestEmbeddings = False,
    include: options.Include = None,
    exclude: options.Exclude = None,
    jobs: options.Jobs = None,
    wait: options.Wait = True,
    working_tree: options.WorkingTree = False,
    publish_partial: options.PublishPartial = False,
    full: options.Full = False,
    dry_run: options.DryRun = False,
    max_cost: options.MaxCost = None,
    summary: options.Summary = None,
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
    with exit_codes():
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
            working_tree=working_tree,
            publish_partial=publish_partial,
            dry_run=dry_run,
            summary=summary,
            json=json,
            quiet=context.obj.quiet,
        )
    raise typer.Exit(code)


@app.command()
def search(
    context: typer.Context,
    query: options.QueryWords,
    limit: options.Limit = 10,
    repo: options.Repositories = None,
    everywhere: options.Everywhere = False,
    ref_diff: options.RefDiff = None,
    language: options.Languages = None,
    path: options.Paths = None,
    content: options.ContentOption = None,
    no_tests: options.NoTests = False,
    kind: options.Kinds = None,
    context_tokens: options.ContextTokens = 750,
    anyway: options.Anyway = False,
    locations: options.Locations = False,
    full: options.WholeAnswers = False,
    format: options.AnswerFormat = "list",
    open_rank: options.OpenRank = None,
    pager: options.Pager = True,
    json: options.JsonAnswers = False,
) -> None:
    """Find the lines that answer a query, by meaning and by words: a list that fits on the screen.

    [bold]Example[/bold]

    codechunk search how are expired keys deleted --language c -k 5
    """
    with exit_codes():
        from codechunk.cli.search import Look, run

        if json and format not in ("list", "json"):
            raise UsageError(f"--json and --format {format} exclude each other.")
        # Who asks for context wants to read it.
        full = full or (is_typed(context, "context_tokens") and not locations)
        run(
            context.obj.load(),
            query=" ".join(query),
            limit=limit,
            repositories=repo or [],
            everywhere=everywhere,
            ref_diff=ref_diff,
            languages=language or [],
            paths=path or [],
            content=options.contents(content or [], no_tests=no_tests),
            kinds=kind or [],
            context=context_tokens,
            anyway=anyway,
            look=Look(format="json" if json else format, locations=locations, full=full, pager=pager, open=open_rank),
            quiet=context.obj.quiet,
        )


@app.command()
def show(
    context: typer.Context,
    place: Annotated[
        str, typer.Argument(help="Path inside the repository, with lines or not.", metavar="PATH[:LINES]")
    ],
    repo: Annotated[
        str | None, typer.Option(help="Of this repository, or repository@ref.", metavar="NAME[@REF]")
    ] = None,
    ref: Annotated[str | None, typer.Option(help="At this branch, tag or commit.", metavar="REF")] = None,
    pager: options.Pager = True,
    json: Json = False,
) -> None:
    """Show a file, or lines of it, at the commit that searches use. For a file that is not indexed: why.

    [bold]Example[/bold]

    codechunk show src/main.py:10-40
    """
    with exit_codes():
        from codechunk.cli.show import run

        run(context.obj.load(), place=place, repository=repo, ref=ref, pager=pager, json=json)


@app.command()
def similar(
    context: typer.Context,
    place: Annotated[str, typer.Argument(help="Path inside the repository, and a line.", metavar="PATH:LINE")],
    limit: Annotated[
        int, typer.Option("--limit", "-k", "-n", min=1, max=100, help="How many answers.", metavar="N")
    ] = 10,
    repo: Annotated[
        str | None, typer.Option(help="Only of and in this repository, or repository@ref.", metavar="NAME[@REF]")
    ] = None,
    pager: options.Pager = True,
    json: Json = False,
) -> None:
    """Find code that is like the code at a place, by the vectors that are there: asks no provider.

    [bold]Example[/bold]

    codechunk similar src/main.py:10
    """
    with exit_codes():
        from codechunk.cli.search import Look
        from codechunk.cli.similar import run

        look = Look(format="json" if json else "list", pager=pager)
        run(context.obj.load(), place=place, repository=repo, limit=limit, look=look)


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
    with exit_codes():
        from codechunk.cli.chunk import run

        code = run(context.obj.load(log_file=False), paths=paths, json=json)
    raise typer.Exit(code)


@app.command()
def estimate(
    context: typer.Context,
    source: Source,
    ref: options.Ref = None,
    json: Json = False,
) -> None:
    """Show what indexing a repository would cost: files, chunks, tokens, price. Needs no key, buys nothing.

    [bold]Example[/bold]

    codechunk estimate https://github.com/redis/redis --ref unstable
    """
    with exit_codes():
        from codechunk.cli.estimate import run

        run(context.obj.load(), source=source, ref=ref, json=json, quiet=context.obj.quiet)


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="The file to write.", metavar="FILE", dir_okay=False)] = Path(
        "codechunk.yaml"
    ),
    test_embeddings: options.TestEmbeddings = False,
) -> None:
    """Write a configuration with every setting, its default and what it means. Overwrites nothing.

    [bold]Example[/bold]

    codechunk init --test-embeddings
    """
    with exit_codes():
        from codechunk.cli.config import init

        init(file, test_embeddings=test_embeddings)


@app.command()
def doctor(
    context: typer.Context,
    remote: Annotated[
        bool, typer.Option("--remote", help="Also ask the provider for batch jobs that got lost (needs the key).")
    ] = False,
    json: Json = False,
) -> None:
    """Show what is stuck, missing or misconfigured, and how to fix it. Exit 1 when something is wrong.

    [bold]Example[/bold]

    codechunk doctor
    """
    with exit_codes():
        from codechunk.cli.doctor import run

        code = run(context.obj.load(), remote=remote, json=json, quiet=context.obj.quiet)
    raise typer.Exit(code)


@app.command()
def gc(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed.")] = False,
    drop_cache: Annotated[
        bool,
        typer.Option("--drop-cache", help="Also vectors that no index uses; they were paid for, and would be again."),
    ] = False,
    json: Json = False,
) -> None:
    """Remove what nothing refers to: contents, collections, mirrors, files of ended batch jobs.

    The work of an unfinished run is kept for 14 days after its beginning. Vectors are kept: they were paid for.

    [bold]Example[/bold]

    codechunk gc --dry-run
    """
    with exit_codes():
        from codechunk.cli.gc import run

        run(context.obj.load(), dry_run=dry_run, drop_cache=drop_cache, json=json, quiet=context.obj.quiet)


@app.command()
def version(json: Json = False) -> None:
    """Show the versions that matter: of codechunk, of what it stands on, and of what it writes.

    [bold]Example[/bold]

    codechunk version --json
    """
    with exit_codes():
        from codechunk.cli.version import show

        show(json=json)


def main() -> None:
    """Run a command and leave with the exit code of the contract (docs/design.md, 2)."""
    leave_on_signals()
    sys.unraisablehook = _tell_unraisable
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        if stream is None:  # closed by the caller (`>&-`)
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, "stdout" if number == 1 else "stderr", os.fdopen(number, "w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale that cannot show a letter must not end a run
    try:
        app(prog_name="codechunk")
    except SystemExit as exc:
        _leave(exc.code)
    except (Stopped, KeyboardInterrupt):  # a second signal, while the first one was about to be told
        _leave(tell_interrupted())


def _tell_unraisable(found: "sys.UnraisableHookArgs") -> None:
    """What Python drops inside of a callback is printed, except a wish to stop: the next check-point finds it."""
    if not isinstance(found.exc_value, Stopped):
        sys.__unraisablehook__(found)


def _leave(code: str | int | None) -> NoReturn:
    """End at once: what must be closed was closed, locks and temporary files end with the process.

    To tear down Chroma and the grammars object by object took Python 0.2 to 0.7 s.
    """
    hush()
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the reader is gone: `exit_codes` has decided what that means
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
