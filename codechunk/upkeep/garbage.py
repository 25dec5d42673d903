"""Workflow: remove what nothing refers to. `collect` is `codechunk gc`.

A repository that a process works on is left out. So is the unfinished work of a run that was begun less than
KEEP_RUNS_S ago: it goes on from there. Vectors stay unless they are asked for: they were paid for.
"""

import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from codechunk.documents import Backup, GarbageDocument, KeptVectors
from codechunk.errors import IndexBusy, StateError, VectorStoreError
from codechunk.process.crash import crash
from codechunk.process.locks import ANOTHER_PROCESS, FileLock, only_one
from codechunk.progress import Reporter, Silence
from codechunk.state import IndexRow, RepositoryRow, State, Survey
from codechunk.upkeep.repositories import (
    drop_contents,
    mirror_of,
    remove_mirror,
    size_of,
)
from codechunk.vectors.chroma_files import remove_files
from codechunk.workspace.workspace import Workspace

# The next generation of a run that was begun longer ago than this, and is not over, is garbage.
KEEP_RUNS_S = 14 * 86_400.0
# Files that nobody is known to need may be in somebody's hands for so long.
YOUNG_S = 3_600.0
_COLLECTION = re.compile(r"codechunk-[0-9a-f]{32}")
_MIRROR = re.compile(r"[A-Za-z0-9.-]+-[0-9a-f]{16}\.git")
_BATCH_FILE = re.compile(r"([0-9a-f]{32})(-\d+\.results)?\.jsonl(\.[0-9-]+\.part)?")


@dataclass(slots=True)
class Tally:
    """What was removed, or would be; and in sentences what was left."""

    counts: Counter[str] = field(default_factory=Counter)
    bytes_freed: int = 0
    skipped: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at one repository found: indexes that go, that lose their next generation, that need a sweep."""

    repository: RepositoryRow
    whole: Sequence[IndexRow]
    abandoned: Sequence[IndexRow]
    unswept: Sequence[IndexRow]
    unfinished: bool
    forgotten: bool
    """No index of it is left, so its mirror and its own row go too."""


def collect(
    workspace: Workspace, reporter: Reporter, *, dry_run: bool = False, drop_cache: bool = False
) -> GarbageDocument:
    """Remove what nothing refers to, or only count it; the document of `gc --json`.

    Args:
        drop_cache: also vectors whose text no chunk has, of every vector space.
    """
    state = workspace.state
    tally = Tally()
    before = state.removal.pages()
    if dry_run:
        _count(workspace, tally, drop_cache=drop_cache)
    else:
        _remove(workspace, reporter, tally, drop_cache=drop_cache)
    kept = state.removal.unused_vectors() if not dry_run else (tally.counts["kept"], tally.counts["kept_tokens"])
    after = state.removal.pages()
    if before is not None and after is not None:
        tally.bytes_freed += max(0, before[0] - after[0])
    backups = sorted(workspace.config.data_dir.glob("state.db.backup-*"))
    counts = tally.counts
    return GarbageDocument(
        dry_run=dry_run,
        indexes=counts["indexes"],
        files=counts["files"],
        contents=counts["contents"],
        chunks=counts["chunks"],
        texts=counts["texts"],
        vectors=counts["vectors"],
        collections=counts["collections"],
        copies=counts["copies"],
        mirrors=counts["mirrors"],
        leftovers=counts["leftovers"],
        tokens=counts["tokens"],
        bytes_freed=tally.bytes_freed,
        kept=KeptVectors(
            vectors=kept[0],
            tokens=kept[1],
            backups=[Backup(file=str(path), bytes=path.stat().st_size) for path in backups],
        ),
        skipped=tally.skipped,
    )


@contextmanager
def _skipping(tally: Tally, where: str = "") -> Iterator[None]:
    """What cannot be looked at or removed now is told, and the rest goes on."""
    try:
        yield
    except (IndexBusy, VectorStoreError) as exc:
        tally.skipped.append(f"{where}{exc}")


# ---------------------------------------------------------------------- looking


def _look(state: State, repository: RepositoryRow, now: float) -> Look:
    """The caller holds the repository's lock, or is only curious."""
    mine = [index for index in state.catalog.every_index() if index.repository_id == repository.id]
    young = state.removal.unfinished(repository.id, since=now - KEEP_RUNS_S)
    old = [index for index in mine if index.id not in young]
    whole = [index for index in old if not index.published.number and index.updated_at < now - KEEP_RUNS_S]
    published = [index for index in old if index not in whole]
    abandoned = [index for index in published if state.contents.has_next(index.published)]
    return Look(
        repository=repository,
        whole=whole,
        abandoned=abandoned,
        unswept=[
            index
            for index in mine
            if index not in abandoned and index not in whole and state.contents.has_rubbish(index.published)
        ],
        unfinished=bool(young),
        forgotten=len(whole) == len(mine),
    )


def _count(workspace: Workspace, tally: Tally, *, drop_cache: bool) -> None:
    """What `_remove` would do, without doing it."""
    state = workspace.state
    looks, left, now = [], [], time.time()
    for row in state.inventory.repositories():
        try:
            with workspace.alone_with(url=row.url, repository=row.name):
                looks.append(_look(state, row, now))
        except IndexBusy as exc:
            left.append(row.id)
            tally.skipped.append(str(exc))
    whole = [index for look in looks for index in look.whole]
    stores = _unused_stores(workspace, tally)
    looked = {look.repository.id for look in looks}
    indexes = [index.id for index in state.catalog.every_index() if index.repository_id in looked]
    garbage = state.removal.garbage(
        Survey(
            whole=[index.id for index in whole],
            abandoned=[index.id for look in looks for index in look.abandoned],
            left=left,
            unfinished=[look.repository.id for look in looks if look.unfinished],
            stores=stores,
        )
    )
    tally.counts.update(
        indexes=len(whole),
        copies=state.stores.count_copies(stores, indexes),
        files=garbage.files,
        contents=garbage.contents,
        chunks=garbage.chunks,
        texts=garbage.texts,
        vectors=garbage.vectors if drop_cache else 0,
        tokens=garbage.tokens if drop_cache else 0,
        kept=0 if drop_cache else garbage.vectors,
        kept_tokens=0 if drop_cache else garbage.tokens,
    )
    tally.bytes_freed += garbage.text_bytes + (garbage.vector_bytes if drop_cache else 0)
    with _skipping(tally):
        tally.counts["collections"] += len(_unnamed(workspace, tally, {index.collection for index in whole}))
    forgotten = {look.repository.url for look in looks if look.forgotten}
    _drop_paths(tally, "mirrors", _forgotten_mirrors(workspace, forgotten), size_of)
    _drop_paths(tally, "mirrors", _unknown_mirrors(workspace, now, tally), size_of)
    _drop_paths(tally, "leftovers", _leftovers(workspace, now), _size)


# ---------------------------------------------------------------------- removing


def _remove(workspace: Workspace, reporter: Reporter, tally: Tally, *, drop_cache: bool) -> None:
    state = workspace.state
    now = time.time()
    reporter.stage("Removing", None, "chunks")
    stores = _unused_stores(workspace, tally)
    for row in state.inventory.repositories():
        with _skipping(tally), workspace.alone_with(url=row.url, repository=row.name):
            _forget_copies(state, stores, row, tally)
            _clear(workspace, _look(state, row, now), reporter, tally)
    _forget_stores(workspace, stores)
    tally.counts["texts"] += state.removal.drop_texts()
    crash("texts removed")
    if drop_cache:
        _drop_vectors(state, reporter, tally)
    directory = workspace.embedded_directory
    chroma_bytes = 0 if directory is None else size_of(directory)
    with _skipping(tally):
        _drop_collections(workspace, tally)
    crash("collections removed")
    tally.bytes_freed += 0 if directory is None else max(0, chroma_bytes - size_of(directory))
    _drop_paths(tally, "mirrors", _unknown_mirrors(workspace, now, tally), remove_mirror)
    _drop_paths(tally, "leftovers", _leftovers(workspace, now), _remove_path)
    _compact(workspace, tally)


def _clear(workspace: Workspace, look: Look, reporter: Reporter, tally: Tally) -> None:
    """One repository, its lock held: files, contents, and itself when no index of it is left."""
    state = workspace.state
    if look.whole:
        tally.counts["files"] += state.removal.drop_indexes([index.id for index in look.whole])
        tally.counts["indexes"] += len(look.whole)
        crash("indexes removed")
    for index in (*look.abandoned, *look.unswept):
        with _skipping(tally, f"{index.repository}@{index.ref}: "):
            tally.counts["files"] += _sweep(workspace, index, abandon=index in look.abandoned)
    if not look.unfinished:
        contents, chunks = drop_contents(state, look.repository.id, reporter)
        tally.counts.update(contents=contents, chunks=chunks)
        crash("contents removed")
    if look.forgotten:
        _drop_paths(tally, "mirrors", _forgotten_mirrors(workspace, {look.repository.url}), remove_mirror)
        state.removal.drop_repository(look.repository.id)


def _sweep(workspace: Workspace, index: IndexRow, *, abandon: bool) -> int:
    """Forget files that ended, and with `abandon` the whole next generation. Returns how many file rows.

    Chroma first: while the rows are there, it is known which of its ids are theirs.
    """
    state = workspace.state
    until = index.next if abandon else index.published
    with workspace.vector_session() as session:
        collection = None
        session.look()
        if session.holds(index) and workspace.vector_backend.exists():
            collection = session.open().collection(index.collection)
        if abandon:
            state.removal.end_runs(index, "begun long ago; codechunk gc removed what it had made, but no vector")
            crash("old runs ended")
            state.contents.abandon(until)
            crash("old generation abandoned")
        if collection is not None:
            session.take_out_gone(until, collection)
            if abandon:
                # What that run put under the ids of chunks that were kept: the right vectors again.
                everything = state.contents.new_sources(index.published, all_files=True)
                session.put(index, everything, collection, Silence())
            crash("vectors of old files removed")
        swept = state.removal.sweep_files(until)
        session.finish()
        return swept


def _drop_vectors(state: State, reporter: Reporter, tally: Tally) -> None:
    after = 0
    reporter.stage("Dropping the cache", None, "vectors")
    while (page := state.removal.drop_unused_vectors(after=after)) is not None:
        after = page.last
        tally.counts.update(vectors=page.vectors, tokens=page.tokens)
        reporter.advance(page.vectors)
        crash("vectors dropped")


# ---------------------------------------------------------------------- stores that are not used any more


def _unused_stores(workspace: Workspace, tally: Tally) -> list[int]:
    """Rows of stores that this data directory had once: their name is lost, or another store is configured.

    A state database of its own has no other stores. In one that many share, only those count that were in this very
    folder: what another data directory has is its own business, and so is a server, which may serve many.
    """
    with _skipping(tally):
        place = None
        if not workspace.has_own_state and (place := workspace.place) is None:
            return []
        if workspace.state.stores.others(None, place=place):
            return workspace.state.stores.others(workspace.vector_backend.identity(), place=place)
    return []


def _forget_copies(state: State, stores: Sequence[int], repository: RepositoryRow, tally: Tally) -> None:
    """What those stores held of a repository, whose lock is held."""
    if stores:
        mine = [index.id for index in state.catalog.every_index() if index.repository_id == repository.id]
        tally.counts["copies"] += state.stores.forget_copies(stores, mine)
        crash("copies forgotten")


def _forget_stores(workspace: Workspace, stores: Sequence[int]) -> None:
    """A store that is only not configured now keeps its row, since a process may be about to use it again."""
    if stores and not workspace.vector_backend.shared:
        with workspace.vector_session() as session:
            identity = workspace.vector_backend.identity()
            if identity is not None and session.store_id is not None:
                workspace.state.stores.forget_lost(stores, like=identity)


# ---------------------------------------------------------------------- Chroma


def _unnamed(workspace: Workspace, tally: Tally, going: set[str]) -> list[str]:
    """Our collections that no index names; `going` are those of indexes that go. Raises IndexBusy, VectorStoreError.

    A server may serve other data directories, whose collections cannot be told from lost ones: there they are left.
    """
    state = workspace.state
    if not workspace.vector_backend.exists():
        return []
    with workspace.vector_session() as session, session.reading() as store:
        names = [name for name in store.names() if _COLLECTION.fullmatch(name)]
    wanted = {index.collection for index in state.catalog.every_index()} - going
    found = [name for name in names if name not in wanted]
    if found and workspace.vector_backend.shared:
        tally.skipped.append(
            f"{len(found):,} collections on the Chroma server belong to no index here; they may be those of another "
            f"data directory: {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}. Remove them there by hand."
        )
        return []
    return found


def _drop_collections(workspace: Workspace, tally: Tally) -> None:
    state = workspace.state
    found = _unnamed(workspace, tally, set())
    directory = workspace.embedded_directory
    indexes = state.catalog.every_index()
    if directory is None or not (found or (workspace.vector_backend.exists() and not indexes)):
        return
    with workspace.vector_session() as session:
        store = session.open()
        # Again, now that nobody else can make one: whoever made one since has written its index first.
        there = [name for name in store.names() if _COLLECTION.fullmatch(name)]
        wanted = {index.collection for index in state.catalog.every_index()}
        for name in there:
            if name not in wanted:
                store.drop(name)
                tally.counts["collections"] += 1
                crash("collection removed")
        if not store.names():
            store.close_index()
            remove_files(directory)
        session.finish()


# ---------------------------------------------------------------------- files


def _forgotten_mirrors(workspace: Workspace, urls: set[str]) -> Iterator[Path]:
    for url in urls:
        path = mirror_of(workspace, url)
        if path is not None and path.is_dir():
            yield path


def _unknown_mirrors(workspace: Workspace, now: float, tally: Tally) -> Iterator[Path]:
    """Mirrors of repositories that are not known; a young one may be what a run is about to read."""
    state = workspace.state
    known = {mirror_of(workspace, row.url) for row in state.inventory.repositories()}
    for path in sorted((workspace.config.data_dir / "mirrors").glob("*.git")):
        ours = _MIRROR.fullmatch(path.name) and not path.is_symlink() and (path / "HEAD").is_file()
        if not ours or path in known:
            continue
        if max(_changed_at(part) for part in (path, path / "objects" / "pack", path / "refs")) > now - YOUNG_S:
            tally.skipped.append(f"The mirror {path.name} was fetched less than an hour ago; it stays for now.")
        else:
            yield path


def _leftovers(workspace: Workspace, now: float) -> Iterator[Path]:
    """Files of batch jobs that have ended or are not known, and what killed processes left."""
    state = workspace.state
    data = workspace.config.data_dir
    rows = {row.id: row for row in state.batches.rows()}
    for path in sorted((data / "batches").glob("*")):
        ours = _BATCH_FILE.fullmatch(path.name)
        if ours is None or not path.is_file():
            continue
        row = rows.get(ours[1])
        if (row is not None and row.ended and not ours[3]) or (
            (row is None or ours[3]) and _changed_at(path) < now - YOUNG_S
        ):
            yield path
    for path in sorted((data / "mirrors").glob("*.git.tmp-*")):
        final, _, _ = path.name.partition(".tmp-")
        if _MIRROR.fullmatch(final) and path.is_dir() and not path.is_symlink() and _changed_at(path) < now - YOUNG_S:
            yield path


def _changed_at(path: Path) -> float:
    """When it was changed last, seconds since 1970; 0 when it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(path: Path) -> int:
    return size_of(path) if path.is_dir() else path.stat().st_size


def _remove_path(path: Path) -> int:
    """Remove a leftover. Returns its bytes. Raises IndexBusy when it is a mirror that is being fetched."""
    size = _size(path)
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return size
    final = path.with_name(path.name.partition(".tmp-")[0])
    with only_one(FileLock(final.with_suffix(".lock")), f"{final.name} is being fetched by {ANOTHER_PROCESS}."):
        shutil.rmtree(path)
    return size


def _drop_paths(tally: Tally, what: str, paths: Iterator[Path], take: Callable[[Path], int]) -> None:
    for path in paths:
        try:
            tally.bytes_freed += take(path)
        except IndexBusy as exc:
            tally.skipped.append(str(exc))
        except OSError as exc:
            tally.skipped.append(f"{path} cannot be removed: {exc.strerror}.")
        else:
            tally.counts[what] += 1
            crash(f"one of {what} removed")


def _compact(workspace: Workspace, tally: Tally) -> None:
    """Give space inside the database back to the disk, when it is worth it and there is room for the copy."""
    state = workspace.state
    pages = state.removal.pages()
    if pages is None or pages[1] * 4 <= pages[0]:
        return
    needed = 2 * (pages[0] - pages[1])
    places = (workspace.config.data_dir, Path(tempfile.gettempdir()))
    room = min(shutil.disk_usage(place).free for place in places)
    if room < needed:
        tally.skipped.append(
            f"{pages[1]:,} bytes inside the state database are free and stay there: giving them back needs "
            f"{needed:,} bytes of room."
        )
        return
    try:
        state.removal.compact()
    except StateError as exc:
        tally.skipped.append(f"{exc}.")
