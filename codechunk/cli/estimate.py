"""`codechunk estimate`: what a repository would cost, without buying anything."""

import dataclasses
from typing import Any

from rich.console import Console
from rich.text import Text

from codechunk.app import App, IndexRequest
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import Rows, reporter, shown, stderr, stdout, usd, write_json
from codechunk.config.load import Loaded
from codechunk.indexing.dry_run import DryRun
from codechunk.providers.pricing import LIST_PRICES, PriceMode, price_usd


def run(loaded: Loaded, *, source: str, ref: str | None, json: bool, quiet: bool) -> None:
    """Estimate and print. Writes nothing but the git mirror; needs no key."""
    synthetic = loaded.config.synthetic
    priced = _with_gemini(loaded) if synthetic else loaded
    with reporter(stderr(), quiet=quiet) as progress, App(priced, stop=current_stop()) as app:
        plan = app.plan(IndexRequest(source=source, ref=ref), progress)
    document = _document(priced, plan)
    if json:
        write_json(document)
        return
    _show(stdout(), document, synthetic=synthetic)


def _with_gemini(loaded: Loaded) -> Loaded:
    """The configuration as if its Gemini model were in use: that is what has a price."""
    config = loaded.config
    embedding = config.embedding.model_copy(update={"provider": "gemini"})
    batch = config.batch_processing.model_copy(update={"use_test_embeddings": False})
    changed = config.model_copy(update={"embedding": embedding, "batch_processing": batch})
    return dataclasses.replace(loaded, config=changed)


def _document(loaded: Loaded, plan: DryRun) -> dict[str, Any]:
    config = loaded.config
    model, batch = config.embedding.model, config.batch_processing

    def price(mode: PriceMode) -> float | None:
        return price_usd(model=model, mode=mode, tokens=plan.tokens_to_embed, overrides=config.pricing)

    listed = None if model in config.pricing else LIST_PRICES.get(model)
    return {
        **plan.head,
        "files": {
            "discovered": plan.discovered,
            "indexed": plan.indexed,
            "skipped": len(plan.skipped),
            "failed": len(plan.failed),
            "skipped_by_reason": plan.reasons(),
        },
        "chunks": plan.chunks,
        "tokens": plan.tokens,
        "texts": plan.texts,
        "duplicates": plan.chunks - plan.texts,
        "texts_to_embed": plan.texts_to_embed,
        "tokens_to_embed": plan.tokens_to_embed,
        "model": model,
        "mode": "batch" if batch.takes(plan.texts_to_embed) else "sequential",
        "price": {
            "currency": "USD",
            "direct": price("direct"),
            "batch": price("batch"),
            "as_of": None if listed is None else listed.as_of.isoformat(),
        },
    }


def _show(console: Console, document: dict[str, Any], *, synthetic: bool) -> None:
    files, price = document["files"], document["price"]
    head = Text(f"{shown(document['repository'])}@{shown(document['ref'])}", style="bold")
    console.print(head + Text(f"  {document['commit'][:12]}  estimate, nothing was bought"))
    table = Rows()
    table.add(
        "files",
        f"{files['discovered']:,} discovered = {files['indexed']:,} to index + {files['skipped']:,} to skip "
        f"+ {files['failed']:,} that fail",
    )
    table.add("chunks", f"{document['chunks']:,}, {document['tokens']:,} tokens (cl100k, counted)")
    known = document["texts"] - document["texts_to_embed"]
    table.add("saved", f"{document['duplicates']:,} duplicates, {known:,} texts embedded before")
    table.add("to embed", f"{document['texts_to_embed']:,} texts, {document['tokens_to_embed']:,} tokens")
    dated = f" (list prices of {price['as_of']})" if price["as_of"] else ""
    table.add("model", document["model"])
    if price["direct"] is None or price["batch"] is None:
        table.add("price", "not known: set pricing for this model")
    else:
        table.add("price", f"{usd(price['direct'])} direct, {usd(price['batch'])} batch{dated}")
    table.add("mode", f"{document['mode']} would be chosen")
    if synthetic:
        table.add(
            "", f"this configuration makes synthetic vectors, for nothing; the price is that of {document['model']}"
        )
    table.show(console)
