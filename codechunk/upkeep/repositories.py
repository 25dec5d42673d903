"""Workflow: what is indexed, by repository and ref, and taking one of them out again.

What was paid for is not taken out: vectors stay in the state database, where the next run that meets their texts
finds them. `garbage` removes the rest that nothing refers to.
"""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from codechunk.documents import IndexEntry, RefDetails, RepositoryDocument, RepositoryRemoved, UnfinishedJob
from codechunk.errors import IndexBusy, VectorStoreError
from codechunk.git.repository import mirror_path, parse_source
from codechunk.process.crash import crash
from codechunk.process.locks import ANOTHER_PROCESS, FileLock, only_one
from codechunk.progress import Reporter
from codechunk.state import Holding, IndexRow, State
from codechunk.text.times import utc
from codechunk.workspace.references import named
from codechunk.workspace.workspace import Workspace

# ---------------------------------------------------------------------- list and show


def repositories(state: State) -> list[IndexEntry]:
    """Every index as in `repos list --json`, by repository and ref."""
    holdings, now = state.inventory.holdings(), time.time()
    return [_index(index, holdings.get(index.id, Holding()), now) for index in state.catalog.every_index()]


def repository(workspace: Workspace, name: str) -> RepositoryDocument:
    """One repository, or one ref of it, as in `repos show --json`. Raises UsageError as `named` does."""
    state = workspace.state
    found = named(state, name)
    holdings, now = state.inventory.holdings(), time.time()
    mirror = mirror_of(workspace, found.repository.url)
    return RepositoryDocument(
        repository=found.repository.name,
        url=found.repository.url,
        mirror_bytes=None if mirror is None or not mirror.is_dir() else size_of(mirror),
        refs=[_details(state, index, holdings.get(index.id, Holding()), now) for index in found.indexes],
    )


def _details(state: State, index: IndexRow, holding: Holding, now: float) -> RefDetails:
    details, entry = state.inventory.details(index.published), _index(index, holding, now)
    return RefDetails(
        **{item.name: getattr(entry, item.name) for item in fields(entry)},
        languages=_largest_first(details.languages),
        kinds=_largest_first(details.kinds),
        files_left_out=_largest_first(details.left_out),
        shared_chunks=details.shared_chunks,
    )


def _index(index: IndexRow, holding: Holding, now: float) -> IndexEntry:
    published = index.published.number > 0
    return IndexEntry(
        repository=index.repository,
        ref=index.ref,
        url=index.url,
        commit=index.commit,
        updated_at=utc(index.updated_at) if published else None,
        age_s=round(max(0.0, now - index.updated_at), 1) if published else None,
        files=holding.files,
        chunks=holding.chunks,
        provider=index.space.provider,
        model=index.space.model,
        dimensions=index.space.dimensions,
        job=None if holding.job_id is None else UnfinishedJob(id=holding.job_id, status=holding.job_status),
    )


def _largest_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


# ---------------------------------------------------------------------- remove


def remove(workspace: Workspace, name: str, reporter: Reporter) -> RepositoryRemoved:
    """Take a repository, or one ref of it, out of the index; the document of `repos remove --json`.

    Searches lose it in one transaction. Then goes what only it had: contents, texts that wait, its collections, and
    with the last ref the mirror and the repository itself. After a kill, the same command or `gc` does the rest.

    Raises:
        UsageError: there is no such repository, or the name is ambiguous.
        IndexBusy: a process works on it.
    """
    state = workspace.state
    row = named(state, name).repository
    with workspace.alone_with(url=row.url, repository=row.name):
        found = named(state, name)  # as it is now that nobody else works on it
        ids = [index.id for index in found.indexes]
        texts = state.inventory.texts(ids)
        holdings = state.inventory.holdings()
        jobs = [holdings[index_id] for index_id in ids if index_id in holdings and holdings[index_id].job_id]
        reporter.stage("Removing", None, "chunks")
        files = state.removal.drop_indexes(ids)
        crash("indexes removed")
        contents, chunks = drop_contents(state, row.id, reporter)
        crash("contents removed")
        dropped = state.removal.drop_texts()
        crash("texts removed")
        left = _drop_collections(workspace, found.indexes, reporter)
        crash("collections removed")
        last = not any(index.repository_id == row.id for index in state.catalog.every_index())
        mirror = drop_mirror(workspace, row.url, reporter) if last else None
        crash("mirror removed")
        if last:
            state.removal.drop_repository(row.id)
    return RepositoryRemoved(
        repository=row.name,
        url=row.url,
        refs=sorted({index.ref for index in found.indexes}),
        files=files,
        contents=contents,
        chunks=chunks,
        texts=dropped,
        vectors_kept=texts["ready"],
        texts_without_vector=texts["pending"] + texts["failed"],
        texts_out=texts["processing"],
        jobs_ended=[job.job_id for job in jobs],
        collections_left=left,
        mirror_bytes=mirror,
    )


def drop_contents(state: State, repository_id: int, reporter: Reporter) -> tuple[int, int]:
    """Drop the contents of a repository that no file refers to, page by page. Returns (contents, chunks)."""
    contents = chunks = after = 0
    while (page := state.removal.drop_contents(repository_id, after=after)) is not None:
        contents, chunks, after = contents + page.contents, chunks + page.chunks, page.last
        reporter.advance(page.chunks)
    return contents, chunks


def _drop_collections(workspace: Workspace, indexes: Sequence[IndexRow], reporter: Reporter) -> list[str]:
    """Drop the collections of indexes that are gone. Returns the names of those that could not be dropped now."""
    names = [index.collection for index in indexes]
    if not names or not workspace.vector_backend.exists():
        return []
    try:
        with workspace.vector_session() as session:
            store = session.open()
            for name in names:
                store.drop(name)
            session.finish()
    except (IndexBusy, VectorStoreError) as exc:
        later = (
            f"remove {', '.join(names)} on the Chroma server by hand"
            if workspace.vector_backend.shared
            else "`codechunk gc` removes them"
        )
        reporter.say(f"{exc} Its vectors stay in the vector index for now, where nothing finds them; {later}.")
        return names
    return []


# ---------------------------------------------------------------------- mirrors


def mirror_of(workspace: Workspace, url: str) -> Path | None:
    """Where the mirror of a repository is, if it is a remote one; local ones are read in place."""
    return mirror_path(parse_source(url), workspace.config.data_dir / "mirrors") if "://" in url else None


def drop_mirror(workspace: Workspace, url: str, reporter: Reporter) -> int | None:
    """Remove the mirror of a repository. Returns its bytes; None when there is none, or a process is fetching."""
    path = mirror_of(workspace, url)
    if path is None or not path.is_dir():
        return None
    try:
        return remove_mirror(path)
    except IndexBusy as exc:
        reporter.say(f"{exc} It stays for now; `codechunk gc` removes it.")
        return None


def remove_mirror(path: Path) -> int:
    """Remove a mirror under its lock, whole or not at all. Returns its bytes. Raises IndexBusy."""
    with only_one(FileLock(path.with_suffix(".lock")), f"{path.name} is being fetched by {ANOTHER_PROCESS}."):
        size = size_of(path)
        # A name that the next fetch, and `gc`, take for the remains of a dead process: that is what a kill leaves.
        remains = path.with_name(f"{path.name}.tmp-removed-{os.getpid()}")
        path.rename(remains)
        crash("mirror renamed")
        shutil.rmtree(remains)
        return size


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_size
            except FileNotFoundError:  # somebody works here
                continue
    return total
