"""`codechunk repos list | show | remove`: what is indexed, by repository and ref."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from codechunk.app import App
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import Rows, duration, reporter, shown, stderr, stdout, write_json
from codechunk.config.load import Loaded
from codechunk.documents import IndexEntry, RepositoryRemoved, to_json
from codechunk.text.counted import counted

MOST_NAMES = 8


def list_repos(loaded: Loaded, *, json: bool) -> None:
    """Print a line for every index."""
    with App(loaded, stop=current_stop()) as app:
        documents = app.repositories()
    if json:
        write_json(to_json(documents))
        return
    if not documents:
        stderr().print("Nothing is indexed yet: `codechunk index SOURCE` makes the first index.")
        return
    _table(stdout(), documents)


def show(loaded: Loaded, *, name: str, json: bool) -> None:
    """Print one repository: where it came from, and what each of its refs holds."""
    with App(loaded, stop=current_stop()) as app:
        document = app.repository(name)
    if json:
        write_json(to_json(document))
        return
    console = stdout()
    console.print(Text(shown(document.repository), style="bold"))
    head = Rows()
    head.add("source", shown(document.url))
    if document.mirror_bytes is not None:
        head.add("mirror", f"{document.mirror_bytes / 1e6:,.1f} MB")
    head.show(console)
    for ref in document.refs:
        console.print(Text(f"\n{shown(ref.ref)}", style="bold"))
        rows = Rows()
        rows.add("commit", ref.commit or "none: never published")
        if ref.age_s is not None:
            rows.add("published", f"{ref.updated_at}, {duration(ref.age_s)} ago")
        if ref.job is not None:
            rows.add("job", f"{ref.job.id} is {ref.job.status}")
        rows.add("model", f"{ref.model} ({ref.dimensions:,} dimensions)")
        rows.add("chunks", f"{ref.chunks:,} of {counted(ref.files, 'files')}")
        if ref.shared_chunks:
            rows.add("", f"{ref.shared_chunks:,} shared with other refs")
        for label, counts in (
            ("languages", ref.languages),
            ("kinds", ref.kinds),
            ("left out", ref.files_left_out),
        ):
            if counts:
                rows.add(label, _counts(counts))
        rows.show(console)


def remove(loaded: Loaded, *, name: str, json: bool, quiet: bool) -> None:
    """Take a repository or one ref of it out of the index, and say what went and what stays."""
    with reporter(stderr(), quiet=quiet) as progress, App(loaded, stop=current_stop()) as app:
        document = app.remove_repository(name, progress)
    if json:
        write_json(to_json(document))
        return
    console = stdout()
    what = ", ".join(f"{document.repository}@{ref}" for ref in document.refs) or document.repository
    gone = f"{counted(document.files, 'files')}, {counted(document.chunks, 'chunks')} that only it had"
    console.print(Text(f"Removed {shown(what)}: {gone}."))
    if document.jobs_ended:
        console.print(f"Its unfinished run {', '.join(str(job) for job in document.jobs_ended)} ended with it.")
    console.print(_kept(document))
    if document.texts_out:
        console.print(
            f"{document.texts_out:,} texts are being embedded; what comes back is kept too. Those that are not at "
            f"the provider yet are not sent."
        )
    if document.mirror_bytes is not None:
        console.print(f"Its git mirror is gone ({document.mirror_bytes / 1e6:,.1f} MB).")


def _kept(document: RepositoryRemoved) -> str:
    """What indexing it again would buy."""
    missing = document.texts_without_vector + document.texts_out
    again = f"only the {missing:,} texts that have no vector yet" if missing else "nothing"
    return f"{document.vectors_kept:,} vectors stay in the cache: indexing it again buys {again}."


def _table(console: Console, documents: Sequence[IndexEntry]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("repository", "ref", "commit"):
        table.add_column(title, no_wrap=True)
    for title in ("age", "files", "chunks"):
        table.add_column(title, no_wrap=True, justify="right")
    for title in ("model", "job"):
        table.add_column(title, no_wrap=True)
    for index in documents:
        job = index.job
        table.add_row(
            Text(shown(index.repository)),
            Text(shown(index.ref)),
            (index.commit or "-")[:12],
            "-" if index.age_s is None else duration(index.age_s),
            f"{index.files:,}",
            f"{index.chunks:,}",
            f"{index.model} ({index.dimensions})",
            Text("" if job is None else f"{job.id} {job.status}", style="cyan"),
        )
    console.print(table)


def _counts(counts: Mapping[str, int]) -> str:
    """`python 120, markdown 4`; the smallest are counted together."""
    told = [f"{shown(name)} {count:,}" for name, count in list(counts.items())[:MOST_NAMES]]
    others = list(counts.values())[MOST_NAMES:]
    return ", ".join([*told, f"others {sum(others):,}"] if others else told)
