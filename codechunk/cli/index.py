"""`codechunk index`: runs it, shows the ledger, chooses the exit code."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from codechunk.app import App, IndexRequest
from codechunk.cli import EXIT_FAILED_CHUNKS
from codechunk.cli.terminal import Rows, reporter, shown, stderr, stdout, write_json
from codechunk.config import Loaded
from codechunk.plan import DryRun
from codechunk.pricing import LIST_PRICES, price_usd

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
}
SHOWN_PATHS = 20


def run(
    loaded: Loaded,
    *,
    source: str,
    ref: str | None,
    jobs: int | None,
    full: bool,
    dry_run: bool,
    json: bool,
    quiet: bool,
) -> int:
    """Index (or plan) and print. Returns the exit code."""
    app = App(loaded)
    console = stderr()
    request = IndexRequest(source=source, ref=ref, jobs=jobs, full=full)
    if dry_run:
        with reporter(console, quiet=quiet) as progress:
            plan = app.plan(request, progress)
        if json:
            write_json(_plan_document(loaded, plan))
        else:
            _show_plan(stdout(), loaded, plan)
        return 0
    with reporter(console, quiet=quiet) as progress:
        document = app.index(request, progress)
    if json:
        write_json(document)
    if not quiet:
        _summary(console, loaded, document)
    return EXIT_FAILED_CHUNKS if document["status"] == "partial" else 0


def _summary(console: Console, loaded: Loaded, document: Mapping[str, Any]) -> None:
    files, chunks, tokens = document["files"], document["chunks"], document["tokens"]
    colour = {"succeeded": "green", "partial": "yellow"}.get(document["status"], "cyan")
    title = Text()
    title.append(f"{shown(document['repository'])}@{shown(document['ref'])}", style="bold")
    title.append(f"  {document['commit'][:12]}  ")
    title.append(document["status"], style=colour)
    title.append(f" in {document['seconds']:.1f} s")
    table = Rows()
    table.add(
        "files",
        f"{files['discovered']:,} discovered = {files['indexed']:,} indexed + {files['skipped']:,} skipped "
        f"+ {files['failed']:,} failed",
    )
    if files["unchanged"] or files["deleted"]:
        table.add("", f"{files['unchanged']:,} unchanged, {files['deleted']:,} deleted since the last run")
    if files["skipped"]:
        table.add("skipped", _reasons(files["skipped_by_reason"]))
    table.add(
        "chunks",
        f"{chunks['total']:,} = {chunks['ready']:,} ready + {chunks['pending'] + chunks['processing']:,} "
        f"pending + {chunks['failed']:,} failed",
    )
    table.add("", f"{chunks['new']:,} new, {chunks['reused']:,} kept, {chunks['deleted']:,} removed")
    table.add("tokens", _tokens(tokens))
    embedding = document["embedding"]
    table.add(
        "vectors",
        f"{embedding['texts_sent']:,} texts embedded with {embedding['model']} ({embedding['dimensions']} dimensions)",
    )
    table.add("cost", _cost(loaded, embedding["provider"], tokens["total"]))
    console.print(title)
    table.show(console)


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {REASONS.get(reason, reason)}" for reason, count in reasons.items())


def _tokens(tokens: Mapping[str, Any]) -> str:
    if tokens["total"] is None:
        return "not counted"
    if tokens["estimated"]:
        return f"about {tokens['total']:,} (estimated from {tokens['counted']:,} counted chunks)"
    return f"{tokens['total']:,} (cl100k, counted)"


def _cost(loaded: Loaded, provider: str, tokens: int | None) -> str:
    """What was spent, and what the whole repository would cost with the configured model."""
    model = loaded.config.embedding.model
    prices = _prices(loaded, model, tokens)
    spent = "nothing: synthetic vectors" if provider == "synthetic" else ""
    if prices is None:
        return spent
    return f"{spent}; all of it with {model}: {prices}"


def _prices(loaded: Loaded, model: str, tokens: int | None) -> str | None:
    if tokens is None:
        return None
    direct, batch = (
        price_usd(model=model, mode=mode, tokens=tokens, overrides=loaded.config.pricing)
        for mode in ("direct", "batch")
    )
    if direct is None or batch is None:
        return None
    listed = LIST_PRICES.get(model)
    dated = f" (list prices of {listed.as_of})" if listed and model not in loaded.config.pricing else ""
    return f"${direct:,.4f} direct, ${batch:,.4f} batch{dated}"


def _plan_document(loaded: Loaded, plan: DryRun) -> dict[str, Any]:
    model = loaded.config.embedding.model
    overrides = loaded.config.pricing
    tokens = 0 if loaded.config.synthetic else plan.tokens_to_embed
    cost = {mode: price_usd(model=model, mode=mode, tokens=tokens, overrides=overrides) for mode in ("direct", "batch")}
    return {
        "dry_run": True,
        **plan.head,
        "files": {
            "discovered": plan.discovered,
            "indexed": plan.indexed,
            "skipped": len(plan.skipped),
            "failed": len(plan.failed),
            "skipped_by_reason": plan.reasons(),
            "by_language": dict(plan.languages.most_common()),
        },
        "chunks": {"total": plan.chunks, "texts": plan.texts, "texts_to_embed": plan.texts_to_embed},
        "tokens": {"total": plan.tokens, "to_embed": plan.tokens_to_embed},
        "cost": {"currency": "USD", "model": model, **cost},
        "skipped": [{"path": path, "reason": reason} for path, reason in plan.skipped],
        "failed": [{"path": path, "reason": reason} for path, reason in plan.failed],
    }


def _show_plan(console: Console, loaded: Loaded, plan: DryRun) -> None:
    model = loaded.config.embedding.model
    head = plan.head
    console.print(
        Text(f"{shown(head['repository'])}@{shown(head['ref'])}", style="bold")
        + Text(f"  {head['commit'][:12]}  plan, nothing was written")
    )
    table = Rows()
    table.add(
        "files",
        f"{plan.discovered:,} discovered = {plan.indexed:,} to index + {len(plan.skipped):,} to skip "
        f"+ {len(plan.failed):,} that fail",
    )
    languages = plan.languages.most_common(8)
    table.add("languages", ", ".join(f"{count:,} {language}" for language, count in languages))
    table.add("chunks", f"{plan.chunks:,}, {plan.texts:,} distinct texts, {plan.texts_to_embed:,} to embed")
    table.add("tokens", f"{plan.tokens:,}, {plan.tokens_to_embed:,} to embed")
    synthetic = loaded.config.synthetic
    prices = _prices(loaded, model, plan.tokens if synthetic else plan.tokens_to_embed)
    if prices:
        told = (
            f"nothing: synthetic vectors; all of it with {model}: {prices}" if synthetic else f"{prices} with {model}"
        )
        table.add("cost", told)
    table.show(console)
    _show_skipped(console, plan)


def _show_skipped(console: Console, plan: DryRun) -> None:
    by_reason: dict[str, list[str]] = {}
    for path, reason in plan.skipped:
        by_reason.setdefault(reason, []).append(path)
    for reason, count in plan.reasons().items():
        console.print(Text(f"\nskipped, {REASONS.get(reason, reason)}: {count:,}", style="bold"))
        for path in by_reason[reason][:SHOWN_PATHS]:
            console.print(Text(f"  {shown(path)}"))
        if count > SHOWN_PATHS:
            console.print(Text(f"  ... and {count - SHOWN_PATHS:,} more (all of them with --json)", style="dim"))
    for path, reason in plan.failed[:SHOWN_PATHS]:
        console.print(Text(f"fails, {reason}: {shown(path)}", style="yellow"))
