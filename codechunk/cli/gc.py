"""`codechunk gc`: remove what nothing refers to."""

from codechunk.app import App
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import Rows, reporter, shown, stderr, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import to_json

# What is told, in this order, where there is any.
TOLD = {
    "indexes": "indexes that were never finished",
    "files": "file rows of generations that are over",
    "contents": "contents that no file refers to",
    "chunks": "chunks of theirs",
    "texts": "texts that no chunk has any more and that have no vector",
    "vectors": "vectors that no chunk uses",
    "collections": "collections that no index names",
    "copies": "records of what vector stores held that are not used any more",
    "mirrors": "git mirrors of repositories that are not there",
    "leftovers": "files of batch jobs that are over, and of killed processes",
}


def run(loaded: Loaded, *, dry_run: bool, drop_cache: bool, json: bool, quiet: bool) -> None:
    """Remove it, or with `dry_run` only count it, and print what went and what was left."""
    with reporter(stderr(), quiet=quiet) as progress, App(loaded, stop=current_stop()) as app:
        document = app.collect_garbage(progress, dry_run=dry_run, drop_cache=drop_cache)
    if json:
        write_json(to_json(document))
        return
    console = stdout()
    found = [(count, words) for name, words in TOLD.items() if (count := getattr(document, name))]
    if found:
        console.print("Would be removed:" if dry_run else "Removed:")
        rows = Rows()
        for count, words in found:
            rows.add(f"{count:>10,}", words)
        rows.show(console)
    else:
        console.print("Nothing to remove.")
    if drop_cache and document.tokens:
        lost = "would have to be" if dry_run else "have to be"
        console.print(f"{document.tokens:,} tokens were paid for these vectors and {lost} paid again.")
    if document.bytes_freed:
        about = "About " if dry_run else ""
        console.print(f"{about}{document.bytes_freed / 1e6:,.1f} MB {'would be' if dry_run else 'are'} free again.")
    kept = document.kept
    if kept.vectors:
        console.print(
            f"{kept.vectors:,} vectors that no chunk uses now are kept ({kept.tokens:,} tokens were paid for "
            f"them): they are the cache. --drop-cache removes them."
        )
    for backup in kept.backups:
        console.print(
            f"{shown(backup.file)} ({backup.bytes / 1e6:,.1f} MB) is a backup from before an update of the state "
            f"database: remove it by hand when all is well."
        )
    for sentence in document.skipped:
        console.print(f"Left out: {shown(sentence)}", markup=False)
