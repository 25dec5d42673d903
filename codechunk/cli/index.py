"""`codechunk index`: runs it, shows the ledger, chooses the exit code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from codechunk.app import App, IndexRequest
from codechunk.cli.markdown import plan_summary, run_summary
from codechunk.cli.session import EXIT_FAILED_CHUNKS, current_stop
from codechunk.cli.terminal import Rows, reporter, shown, stderr, stdout, usd, write_json
from codechunk.config.load import Loaded
from codechunk.errors import CodechunkError
from codechunk.indexing.dry_run import DryRun
from codechunk.indexing.report import secrets_document
from codechunk.indexing.run import Mode
from codechunk.providers.pricing import LIST_PRICES, price_usd
from codechunk.selection.secrets import counts

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
                plan = app.plan(request, progress)
            planned = _plan_document(loaded, plan)
            if summary is not None:
                _append(summary, plan_summary(planned))
            if json:
                write_json(planned)
            else:
                _show_plan(stdout(), loaded, plan)
            return 0
        with reporter(console, quiet=quiet) as progress:
            document = app.index(request, progress)
        if summary is not None:
            _append(summary, run_summary(document))
        return show_result(loaded, document, json=json, quiet=quiet)


def _append(summary: Path, text: str) -> None:
    try:
        with summary.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise CodechunkError(f"the summary {summary} cannot be written: {exc.strerror}") from exc


def show_result(loaded: Loaded, document: Mapping[str, Any], *, json: bool, quiet: bool) -> int:
    """Print what came of a run of `index`. Returns its exit code: 3 when something failed for good."""
    if json:
        write_json(document)
    if not quiet:
        _summary(stderr(), loaded, document)
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
    first = files["deleted"] == files["unchanged"] == chunks["reused"] == 0
    if not first:
        table.add("", _changed(document["changes"]["files"], "unchanged"))
    if files["skipped"]:
        table.add("skipped", _reasons(files["skipped_by_reason"]))
    _add_secrets(table, document["secrets"])
    table.add(
        "chunks",
        f"{chunks['total']:,} = {chunks['ready']:,} ready + {chunks['pending'] + chunks['processing']:,} "
        f"pending + {chunks['failed']:,} failed",
    )
    if not first:
        table.add("", _changed(document["changes"]["chunks"], "reused"))
    table.add("tokens", _tokens(tokens))
    embedding = document["embedding"]
    synthetic = embedding["provider"] == "synthetic"
    table.add(
        "vectors",
        f"{embedding['texts_sent']:,} texts {'embedded with' if synthetic else 'sent to'} {embedding['model']} "
        f"({embedding['dimensions']} dimensions)",
    )
    if synthetic:
        table.add("cost", _synthetic_cost(loaded, tokens["total"]))
    else:
        table.add("mode", f"{document['mode']}: {shown(document['mode_reason'])}")
        table.add("sent", _sent(embedding))
        table.add("cost", _cost(document["cost"], out=document["status"] == "embedding"))
    saved = document["changes"]["saved"]
    if saved["tokens"]:
        money = f", {usd(saved['usd'])}" if saved["usd"] else ""
        table.add(
            "saved", f"{saved['tokens']:,} tokens{money}: texts that were embedded before, or occur more than once"
        )
    if document["status"] == "embedding":
        table.add("next", "`codechunk worker start` or `codechunk queue sync` finishes it")
    if document["status"] == "partial" and chunks["failed"]:
        table.add("next", "`codechunk queue retry` lets what failed wait again; `codechunk jobs show` has the reasons")
    console.print(title)
    table.show(console)


def _changed(changes: Mapping[str, int], rest: str) -> str:
    """What is different since the last run, of files or of chunks."""
    told = [f"{changes[word]:,} {word}" for word in ("added", "changed", "moved", "deleted") if changes[word]]
    return f"{', '.join(told) or 'nothing changed'}; {changes[rest]:,} as they were"


def _add_secrets(table: Rows, secrets: Mapping[str, Any]) -> None:
    if secrets["found"]:
        files = f"{secrets['files']:,} file{'' if secrets['files'] == 1 else 's'}"
        table.add("secrets", f"{secrets['found']:,} {SECRETS_DONE[secrets['mode']]} {files}")


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {REASONS.get(reason, reason)}" for reason, count in reasons.items())


def _tokens(tokens: Mapping[str, Any]) -> str:
    if tokens["total"] is None:
        return "not counted"
    if tokens["estimated"]:
        return f"about {tokens['total']:,} (estimated from {tokens['counted']:,} counted chunks)"
    return f"{tokens['total']:,} (cl100k, counted)"


def _sent(embedding: Mapping[str, Any]) -> str:
    """How the texts went out; a batch job that fell back to direct calls cost twice the batch price."""
    fallbacks = embedding["fallbacks"]
    fell_back = f", {fallbacks:,} batch jobs fell back to direct calls (at twice the price)" if fallbacks else ""
    return f"{embedding['requests']:,} direct requests, {embedding['batches']:,} batch jobs{fell_back}"


def _cost(cost: Mapping[str, Any], *, out: bool) -> str:
    """`out`: texts are at the provider, and are billed when they come back."""
    if cost["estimated"] is None and cost["spent"] is None:
        return "not known: set pricing for this model"
    return f"{usd(cost['spent'])} {'billed so far' if out else 'spent'}, {usd(cost['estimated'])} estimated"


def _synthetic_cost(loaded: Loaded, tokens: int | None) -> str:
    """Nothing was spent; what the whole repository would cost with the configured model."""
    model = loaded.config.embedding.model
    prices = _prices(loaded, model, tokens)
    spent = "nothing: synthetic vectors"
    return spent if prices is None else f"{spent}; all of it with {model}: {prices}"


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
        "secrets": {
            **_plan_secrets(loaded, plan),
            "by_kind": counts([place for _, place in plan.secrets]),
            "places": [{"path": path, "line": place.line, "kind": place.kind} for path, place in plan.secrets],
        },
        "chunks": {
            "total": plan.chunks,
            "texts": plan.texts,
            "texts_to_embed": plan.texts_to_embed,
            "texts_out": plan.texts_out,
            "texts_failed": plan.texts_failed,
        },
        "tokens": {"total": plan.tokens, "to_embed": plan.tokens_to_embed},
        "cost": {"currency": "USD", "model": model, **cost},
        "skipped": [{"path": path, "reason": reason} for path, reason in plan.skipped],
        "failed": [{"path": path, "reason": reason} for path, reason in plan.failed],
    }


def _plan_secrets(loaded: Loaded, plan: DryRun) -> dict[str, Any]:
    return secrets_document(loaded.config.secrets, len(plan.secrets), len({path for path, _ in plan.secrets}))


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
    _add_secrets(table, _plan_secrets(loaded, plan))
    out = f", {plan.texts_out:,} on their way" if plan.texts_out else ""
    failed = f", {plan.texts_failed:,} that failed for good" if plan.texts_failed else ""
    table.add(
        "chunks", f"{plan.chunks:,}, {plan.texts:,} distinct texts, {plan.texts_to_embed:,} to embed{out}{failed}"
    )
    table.add("tokens", f"{plan.tokens:,}, {plan.tokens_to_embed:,} to embed")
    synthetic = loaded.config.synthetic
    prices = _prices(loaded, model, plan.tokens if synthetic else plan.tokens_to_embed)
    if prices:
        told = (
            f"nothing: synthetic vectors; all of it with {model}: {prices}" if synthetic else f"{prices} with {model}"
        )
        table.add("cost", told)
    table.show(console)
    _show_secrets(console, plan)
    _show_skipped(console, plan)


def _show_secrets(console: Console, plan: DryRun) -> None:
    if plan.secrets:
        console.print(Text(f"\nsecrets: {len(plan.secrets):,}", style="bold"))
    for path, place in plan.secrets[:SHOWN_PATHS]:
        console.print(Text(f"  {shown(path)}:{place.line} ({place.kind})"))
    if len(plan.secrets) > SHOWN_PATHS:
        console.print(
            Text(f"  ... and {len(plan.secrets) - SHOWN_PATHS:,} more (all of them with --json)", style="dim")
        )


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
