"""A plan or a result of `codechunk index` as Markdown for the summary of a CI job. Pure.

Whoever may push a branch or a file may name it. Such names stand in code spans outside of tables, where Markdown, HTML,
links, mentions and cells have no meaning; tables hold numbers and our own words only.
"""

import re
from collections.abc import Iterable, Sequence

from codechunk import providers
from codechunk.cli.terminal import shown, usd
from codechunk.documents import (
    ChunkChanges,
    DryRunDocument,
    FileChanges,
    IndexChanges,
    IndexDocument,
    IndexFiles,
    PlannedFiles,
    Saved,
    SecretFigures,
    TokenFigures,
)
from codechunk.text.counted import counted

LONGEST_NAME = 200
LISTED = 20


def plan_summary(document: DryRunDocument) -> str:
    """The document of `index --dry-run --json`: what a run would send, what it would cost, what it leaves out."""
    files, chunks, tokens, cost = document.files, document.chunks, document.tokens, document.cost
    rows = [
        (
            "files",
            f"{files.discovered:,} = {files.indexed:,} to index + {files.skipped:,} to skip "
            f"+ {files.failed:,} that fail",
        ),
        *_skipped(files),
        ("chunks", f"{chunks.total:,}, {chunks.texts:,} distinct texts"),
        ("to embed", f"{chunks.texts_to_embed:,} texts, {tokens.to_embed:,} tokens"),
        ("cost", f"**{usd(cost.direct)}** direct, **{usd(cost.batch)}** batch"),
        *_secrets(document.secrets),
    ]
    failed = [(entry.path, entry.reason) for entry in document.failed]
    parts = [_heading(document), "Plan, nothing was sent.", _table(rows), *_failures(failed)]
    return "\n\n".join(parts) + "\n\n"


def run_summary(document: IndexDocument) -> str:
    """The document of `index --json`: what changed, what was sent and paid, what was saved, what failed."""
    files, chunks, changes = document.files, document.chunks, document.changes
    texts, embedding = changes.texts, document.embedding
    rows = [
        ("texts", f"{texts.sent:,} sent, {texts.out:,} on their way, {texts.reused:,} reused"),
        ("tokens", _tokens(document.tokens)),
        ("cost", _cost(document)),
        ("saved by reuse", _saved(changes.saved)),
        (
            "files",
            f"{files.discovered:,} = {files.indexed:,} indexed + {files.skipped:,} skipped + {files.failed:,} failed",
        ),
        *_skipped(files),
        (
            "chunks",
            f"{chunks.total:,} = {chunks.ready:,} ready + {chunks.pending + chunks.processing:,} pending "
            f"+ {chunks.failed:,} failed",
        ),
        *_secrets(document.secrets),
    ]
    if embedding.fallbacks:
        rows.append(("fallbacks", f"{embedding.fallbacks:,} batch jobs were sent directly, at twice the price"))
    parts = [
        _heading(document),
        f"**{document.status}** in {document.seconds:,.1f} s, {code_span(embedding.model)}, "
        f"mode {document.mode}: {code_span(document.mode_reason)}",
        _changes(changes),
        _table(rows),
        *_what_next(document),
    ]
    return "\n\n".join(parts) + "\n\n"


def _heading(document: IndexDocument | DryRunDocument) -> str:
    return f"### codechunk: {code_span(document.repository + '@' + document.ref)} at {code_span(document.commit[:12])}"


def code_span(text: str) -> str:
    """A code span that holds any text: its fence is longer than any run of backticks inside. Not for tables."""
    name = shown(text)
    name = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", name)), default=0))
    # A blank on both sides is taken away again by the reader, and keeps backticks at the ends apart from the fence.
    return f"{fence} {name} {fence}" if name.strip() else "(no name)"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(("| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in rows)))


def _changes(changes: IndexChanges) -> str:
    def row(name: str, counts: FileChanges | ChunkChanges, rest: int) -> str:
        numbers = (counts.added, counts.changed, counts.moved, counts.deleted, rest)
        return f"| {name} | " + " | ".join(f"{number:,}" for number in numbers) + " |"

    head = "| | added | changed | moved | deleted | as before |\n|---|--:|--:|--:|--:|--:|"
    files, chunks = changes.files, changes.chunks
    return "\n".join((head, row("files", files, files.unchanged), row("chunks", chunks, chunks.reused)))


def _skipped(files: IndexFiles | PlannedFiles) -> list[tuple[str, str]]:
    reasons = files.skipped_by_reason
    words = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in reasons.items())
    return [("skipped", words)] if reasons else []


def _secrets(secrets: SecretFigures) -> list[tuple[str, str]]:
    words = f"{secrets.found:,} in {counted(secrets.files, 'files')} (`secrets: {secrets.mode}`)"
    return [("secrets in the code", words)] if secrets.found else []


def _tokens(tokens: TokenFigures) -> str:
    if tokens.total is None:
        return "not counted"
    return f"{tokens.total:,} in all" + (", estimated" if tokens.estimated else "")


def _cost(document: IndexDocument) -> str:
    if providers.is_free(document.embedding.provider):
        return f"nothing: {document.embedding.provider} vectors"
    cost = document.cost
    so_far = "billed so far" if document.status == "embedding" else "spent"
    return f"**{usd(cost.spent)}** {so_far}, {usd(cost.estimated)} estimated"


def _saved(saved: Saved) -> str:
    if saved.tokens is None:
        return "not known: tokens were not counted"
    money = "" if saved.usd == 0 else f", {usd(saved.usd)}"
    return f"{saved.tokens:,} tokens{money}"


def _failures(failed: Sequence[tuple[str, str]]) -> list[str]:
    """A list of files with reasons, cut where it gets long."""
    if not failed:
        return []
    lines = [f"- {code_span(path)}: {code_span(reason)}" for path, reason in failed[:LISTED]]
    if len(failed) > LISTED:
        lines.append(f"- and {len(failed) - LISTED:,} more")
    return [f"Files that fail: {len(failed):,}", "\n".join(lines)]


def _what_next(document: IndexDocument) -> list[str]:
    if document.status == "embedding":
        until = (
            "searches find what is new by its words only"
            if document.published
            else "searches answer from the commit before"
        )
        return [f"Batch jobs are out; {until} until `codechunk worker start` takes them in."]
    if document.status == "partial":
        files, chunks = document.files.failed, document.chunks.failed
        again = ", `codechunk queue retry` lets the chunks wait again" if chunks else ""
        failed = f"{counted(files, 'files')}, {counted(chunks, 'chunks')}"
        return [f"Failed for good: {failed}. `codechunk jobs show` has the reasons{again}."]
    return []
