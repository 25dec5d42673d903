"""`codechunk estimate`: what a repository would cost, without buying anything."""

from rich.console import Console
from rich.text import Text

from codechunk.app import App, IndexRequest
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import Rows, reporter, shown, stderr, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import EstimateDocument, to_json
from codechunk.workspace.estimates import Prices


def run(loaded: Loaded, *, source: str, ref: str | None, json: bool, quiet: bool) -> None:
    """Estimate and print. Writes nothing but the git mirror; needs no key."""
    stands_in = loaded.config.provider is not loaded.config.priced_provider
    with reporter(stderr(), quiet=quiet) as progress, App(loaded, stop=current_stop()) as app:
        document = app.estimate(IndexRequest(source=source, ref=ref), progress)
    if json:
        write_json(to_json(document))
    else:
        _show(stdout(), document, stands_in=stands_in)


def _show(console: Console, document: EstimateDocument, *, stands_in: bool) -> None:
    files, price = document.files, document.price
    head = Text(f"{shown(document.repository)}@{shown(document.ref)}", style="bold")
    console.print(head + Text(f"  {document.commit[:12]}  estimate, nothing was bought"))
    table = Rows()
    table.add(
        "files",
        f"{files.discovered:,} discovered = {files.indexed:,} to index + {files.skipped:,} to skip "
        f"+ {files.failed:,} that fail",
    )
    table.add("chunks", f"{document.chunks:,}, {document.tokens:,} tokens (cl100k, counted)")
    known = document.texts - document.texts_to_embed
    table.add("saved", f"{document.duplicates:,} duplicates, {known:,} texts embedded before")
    table.add("to embed", f"{document.texts_to_embed:,} texts, {document.tokens_to_embed:,} tokens")
    table.add("model", document.model)
    prices = Prices(model=document.model, direct=price.direct, batch=price.batch, as_of=price.as_of)
    table.add("price", prices.words or "not known: set pricing for this model")
    table.add("mode", f"{document.mode} would be chosen")
    if stands_in:
        table.add("", f"this configuration makes synthetic vectors, for nothing; the price is that of {document.model}")
    table.show(console)
