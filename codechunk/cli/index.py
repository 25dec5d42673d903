"""`codechunk index`: runs it, shows the ledger, chooses the exit code."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from codechunk import providers
from codechunk.app import App, IndexRequest
from codechunk.cli.markdown import plan_summary, run_summary
from codechunk.cli.session import EXIT_FAILED_CHUNKS, current_stop
from codechunk.cli.terminal import Rows, reporter, shown, stderr, stdout, usd, write_json
from codechunk.config.load import Loaded
from codechunk.documents import (
    ChunkChanges,
    Cost,
    DryRunDocument,
    EmbeddingFigures,
    FileChanges,
    IndexDocument,
    PlannedSecrets,
    SecretFigures,
    TokenFigures,
    to_json,
)
from codechunk.errors import CodechunkError
from codechunk.indexing.mode import Mode
from codechunk.text.counted import counted

REASONS = {
    "symlink": "symbolic links",
    "submodule": "submodules",
    "lfs_pointer": "Git LFS pointers",
    "binary": "binary",
    "too_large": "too large",
    "generated": "generated",
    "vendored": "vendored",
    "excluded": "excluded",
    "undecodable": "not readable as text",
    "empty": "empty",
    "secret_file": "files for secrets",
    "filtered": "untracked behind a git filter",
    "secret": "with secrets in them",
}
# What became of the secrets that were found, by the setting.
SECRETS_DONE = {
    "redact": "replaced in",
    "skip": "found, which kept out",
    "fail": "found, which would stop the run, in",
    "off": "found in",
}
SHOWN_PATHS = 20
SHOWN_LANGUAGES = 8


def run(
    loaded: Loaded,
    *,
    source: str,
    ref: str | None,
    mode: Mode,
    wait: bool,
    max_cost: float | None,
    jobs: int | None,
    full: bool,
    working_tree: bool,
    publish_partial: bool,
    dry_run: bool,
    summary: Path | None,
    json: bool,
    quiet: bool,
) -> int:
    """Index (or plan) and print. Returns the exit code."""
    with App(loaded, stop=current_stop()) as app:
        console = stderr()
        request = IndexRequest(
            source=source,
            ref=ref,
            jobs=jobs,
            full=full,
            mode=mode,
            wait=wait,
            max_cost=max_cost,
            working_tree=working_tree,
            publish_partial=publish_partial,
        )
        if summary is not None:
            _append(summary, "")  # what cannot be written is told before anything is bought
        if dry_run:
            with reporter(console, quiet=quiet) as progress:
                planned = app.dry_run(request, progress)
            if summary is not None:
                _append(summary, plan_summary(planned))
            if json:
                write_json(to_json(planned))
            else:
                _show_plan(stdout(), app, planned)
            return 0
        with reporter(console, quiet=quiet) as progress:
            document = app.index(request, progress)
        if summary is not None:
            _append(summary, run_summary(document))
        return show_result(app, document, json=json, quiet=quiet)


def _append(summary: Path, text: str) -> None:
    try:
        with summary.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise CodechunkError(f"the summary {summary} cannot be written: {exc.strerror}") from exc


def show_result(app: App, document: IndexDocument, *, json: bool, quiet: bool) -> int:
    """Print what came of a run of `index`. Returns its exit code: 3 when something failed for good."""
    if json:
        write_json(to_json(document))
    if not quiet:
        _summary(stderr(), app, document)
    return EXIT_FAILED_CHUNKS if document.status == "partial" else 0


def _summary(console: Console, app: App, document: IndexDocument) -> None:
    colour = {"succeeded": "green", "partial": "yellow"}.get(document.status, "cyan")
    title = Text()
    title.append(f"{shown(document.repository)}@{shown(document.ref)}", style="bold")
    title.append(f"  {document.commit[:12]}  ")
    title.append(document.status, style=colour)
    title.append(f" in {document.seconds:.1f} s")
    table = Rows()
    _add_contents(table, document)
    _add_embedding(table, app, document)
    if document.status == "embedding":
        table.add("next", "`codechunk worker start` or `codechunk queue sync` finishes it")
    if document.status == "partial" and document.chunks.failed:
        table.add("next", "`codechunk queue retry` lets what failed wait again; `codechunk jobs show` has the reasons")
    console.print(title)
    table.show(console)


def _add_contents(table: Rows, document: IndexDocument) -> None:
    """Files, chunks and tokens, and what is different since the last run."""
    files, chunks, changes = document.files, document.chunks, document.changes
    table.add(
        "files",
        f"{files.discovered:,} discovered = {files.indexed:,} indexed + {files.skipped:,} skipped "
        f"+ {files.failed:,} failed",
    )
    first = files.deleted == files.unchanged == chunks.reused == 0
    if not first:
        table.add("", _changed(changes.files, changes.files.unchanged))
    if files.skipped:
        table.add("skipped", _reasons(files.skipped_by_reason))
    _add_secrets(table, document.secrets)
    table.add(
        "chunks",
        f"{chunks.total:,} = {chunks.ready:,} ready + {chunks.pending + chunks.processing:,} "
        f"pending + {chunks.failed:,} failed",
    )
    if not first:
        table.add("", _changed(changes.chunks, changes.chunks.reused))
    table.add("tokens", _tokens(document.tokens))


def _add_embedding(table: Rows, app: App, document: IndexDocument) -> None:
    """Vectors, how they were made, and money."""
    embedding, saved = document.embedding, document.changes.saved
    free = providers.is_free(embedding.provider)
    table.add(
        "vectors",
        f"{counted(embedding.texts_sent, 'texts')} {'embedded with' if free else 'sent to'} {embedding.model} "
        f"({embedding.dimensions} dimensions)",
    )
    if free:
        table.add("cost", _free_cost(app, document.tokens.total))
    else:
        table.add("mode", f"{document.mode}: {shown(document.mode_reason)}")
        table.add("sent", _sent(embedding))
        table.add("cost", _cost(document.cost, out=document.status == "embedding"))
    if saved.tokens:
        money = f", {usd(saved.usd)}" if saved.usd else ""
        table.add("saved", f"{saved.tokens:,} tokens{money}: texts that were embedded before, or occur more than once")


def _changed(changes: FileChanges | ChunkChanges, rest: int) -> str:
    """What is different since the last run, of files or of chunks."""
    counts = {
        "added": changes.added,
        "changed": changes.changed,
        "moved": changes.moved,
        "deleted": changes.deleted,
    }
    told = [f"{count:,} {word}" for word, count in counts.items() if count]
    return f"{', '.join(told) or 'nothing changed'}; {rest:,} as they were"


def _add_secrets(table: Rows, secrets: SecretFigures) -> None:
    if secrets.found:
        table.add("secrets", f"{secrets.found:,} {SECRETS_DONE[secrets.mode]} {counted(secrets.files, 'files')}")


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {REASONS.get(reason, reason)}" for reason, count in reasons.items())


def _tokens(tokens: TokenFigures) -> str:
    if tokens.total is None:
        return "not counted"
    if tokens.estimated:
        return f"about {tokens.total:,} (estimated from {tokens.counted:,} counted chunks)"
    return f"{tokens.total:,} (cl100k, counted)"


def _sent(embedding: EmbeddingFigures) -> str:
    """How the texts went out; a batch job that fell back to direct calls cost twice the batch price."""
    fallbacks = embedding.fallbacks
    fell_back = (
        f", {counted(fallbacks, 'batch jobs')} fell back to direct calls (at twice the price)" if fallbacks else ""
    )
    return f"{counted(embedding.requests, 'direct requests')}, {counted(embedding.batches, 'batch jobs')}{fell_back}"


def _cost(cost: Cost, *, out: bool) -> str:
    """`out`: texts are at the provider, and are billed when they come back."""
    if cost.estimated is None and cost.spent is None:
        return "not known: set pricing for this model"
    return f"{usd(cost.spent)} {'billed so far' if out else 'spent'}, {usd(cost.estimated)} estimated"


def _free_cost(app: App, tokens: int | None) -> str:
    """The line about money when nothing was spent: what the whole repository would cost with the configured model."""
    config = app.workspace.config
    spent = f"nothing: {config.provider.name} vectors"
    stands_in = config.provider is not config.priced_provider
    prices = app.prices(tokens) if stands_in and tokens is not None else None
    return (
        spent if prices is None or prices.words is None else f"{spent}; all of it with {prices.model}: {prices.words}"
    )


def _show_plan(console: Console, app: App, plan: DryRunDocument) -> None:
    console.print(
        Text(f"{shown(plan.repository)}@{shown(plan.ref)}", style="bold")
        + Text(f"  {plan.commit[:12]}  plan, nothing was written")
    )
    files, chunks, tokens = plan.files, plan.chunks, plan.tokens
    table = Rows()
    table.add(
        "files",
        f"{files.discovered:,} discovered = {files.indexed:,} to index + {files.skipped:,} to skip "
        f"+ {files.failed:,} that fail",
    )
    languages = list(files.by_language.items())[:SHOWN_LANGUAGES]
    table.add("languages", ", ".join(f"{count:,} {language}" for language, count in languages))
    _add_secrets(table, plan.secrets)
    out = f", {chunks.texts_out:,} on their way" if chunks.texts_out else ""
    failed = f", {chunks.texts_failed:,} that failed for good" if chunks.texts_failed else ""
    table.add(
        "chunks",
        f"{chunks.total:,}, {chunks.texts:,} distinct texts, {chunks.texts_to_embed:,} to embed{out}{failed}",
    )
    table.add("tokens", f"{tokens.total:,}, {tokens.to_embed:,} to embed")
    if app.workspace.config.provider.free:
        table.add("cost", _free_cost(app, tokens.total))
    elif words := app.prices(tokens.to_embed).words:
        table.add("cost", f"{words} with {plan.cost.model}")
    table.show(console)
    _show_secrets(console, plan.secrets)
    _show_skipped(console, plan)


def _show_secrets(console: Console, secrets: PlannedSecrets) -> None:
    if secrets.places:
        console.print(Text(f"\nsecrets: {secrets.found:,}", style="bold"))
    for place in secrets.places[:SHOWN_PATHS]:
        console.print(Text(f"  {shown(place.path)}:{place.line} ({place.kind})"))
    if secrets.found > SHOWN_PATHS:
        console.print(Text(f"  ... and {secrets.found - SHOWN_PATHS:,} more (all of them with --json)", style="dim"))


def _show_skipped(console: Console, plan: DryRunDocument) -> None:
    by_reason: dict[str, list[str]] = {}
    for file in plan.skipped:
        by_reason.setdefault(file.reason, []).append(file.path)
    for reason, count in plan.files.skipped_by_reason.items():
        console.print(Text(f"\nskipped, {REASONS.get(reason, reason)}: {count:,}", style="bold"))
        for path in by_reason[reason][:SHOWN_PATHS]:
            console.print(Text(f"  {shown(path)}"))
        if count > SHOWN_PATHS:
            console.print(Text(f"  ... and {count - SHOWN_PATHS:,} more (all of them with --json)", style="dim"))
    for file in plan.failed[:SHOWN_PATHS]:
        console.print(Text(f"fails, {file.reason}: {shown(file.path)}", style="yellow"))
