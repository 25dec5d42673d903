"""Workflow: a repository at a commit becomes file and chunk rows of the next generation of an index.

Reads git, cuts files in worker processes, writes the state database. Knows neither vectors nor money. It may
be killed at any moment: what was saved is found again by content, the rest is done by the next run.
"""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from types import TracebackType
from typing import Self

from codechunk.chunking.languages import language_by_name
from codechunk.errors import CodechunkError
from codechunk.git.repository import Repository, TreeEntry
from codechunk.pool.cut_settings import CutSettings, fingerprint
from codechunk.pool.pool import ChunkPool, ParseResult, ParseTask
from codechunk.progress import Reporter
from codechunk.selection import secrets
from codechunk.selection.skip import SkipReason, SkipRules, decode
from codechunk.slices import slices
from codechunk.state import CutFile, IndexRow, KnownFile, PlannedFile, State, UnreadFile
from codechunk.text.chunks import chunk_ids
from codechunk.text.counted import counted
from codechunk.text.sampling import SEED, is_sampled
from codechunk.text.tokens import count_tokens

log = logging.getLogger(__name__)

# A run killed with -9 goes on from the last 50 chunks (issue 2); files without chunks count a little too.
SAVE_CHUNKS = 50
SAVE_FILES = 200
# Places of secrets told one by one when they stop a run.
TOLD_SECRETS = 20


@dataclass(slots=True, kw_only=True)
class Comparison:
    """A tree compared with what is published: counts, and the rows that end."""

    discovered: int = 0
    unchanged: int = 0
    replaced: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)

    def changes(
        self, entries: Iterable[TreeEntry], known: dict[str, KnownFile], rules: SkipRules, *, redo: bool
    ) -> Iterator[PlannedFile]:
        """The rows to write, entry by entry; consumes `known`. `redo`: nothing counts as unchanged."""
        for entry in entries:
            self.discovered += 1
            reason = rules.by_entry(entry)
            old = known.pop(entry.path, None)
            if old is not None:
                if not redo and _same(old, entry, reason):
                    self.unchanged += 1
                    continue
                self.replaced.append(old.id)
            yield PlannedFile(
                path=entry.path,
                blob=entry.blob,
                size_bytes=entry.size,
                reason=None if reason is None else str(reason),
            )
        self.gone = [old.id for old in known.values()]


def _same(old: KnownFile, entry: TreeEntry, reason: SkipReason | None) -> bool:
    if old.blob != entry.blob or old.status == "failed":
        return False
    if reason is None:
        return old.read
    return not old.read and old.reason == str(reason)


@dataclass(slots=True)
class _Saver:
    """Collects what was cut and saves it every SAVE_CHUNKS chunks."""

    state: State
    repository_id: int
    fingerprint: str
    parts: list[CutFile] = field(default_factory=list)
    chunks: int = 0
    total: int = 0

    def add(self, part: CutFile) -> None:
        self.parts.append(part)
        self.chunks += len(part.chunks)
        if self.chunks >= SAVE_CHUNKS or len(self.parts) >= SAVE_FILES:
            self.flush()

    def flush(self) -> None:
        if self.parts:
            self.state.contents.save(self.repository_id, self.fingerprint, self.parts)
            self.total += self.chunks
            self.parts, self.chunks = [], 0


class Indexing:
    """One run over one commit, up to saved chunks; a context manager."""

    def __init__(
        self,
        *,
        state: State,
        repository: Repository,
        index: IndexRow,
        settings: CutSettings,
        rules: SkipRules,
        reporter: Reporter,
    ) -> None:
        self._state = state
        self._stop = state.stop
        self._repository = repository
        self._index = index
        self._settings = settings
        self._rules = rules
        self._report = reporter
        self._source_fingerprint = f"{fingerprint(settings)} epoch={index.epoch}"
        self._refused: list[tuple[str, secrets.Place]] = []
        self._pool = ChunkPool(
            jobs=settings.jobs,
            settings=settings.chunking,
            token_mode=settings.token_mode,
            sample_percent=settings.sample_percent,
            seed=SEED,
            secrets=settings.secrets,
            stop=self._stop,
        )
        self.generation = index.next

    def __enter__(self) -> Self:
        """With a process that cuts on its way, while `plan` finds out whether there is anything to cut."""
        self._pool.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes that cut."""
        self._pool.close()

    def plan(self, entries: Iterable[TreeEntry], *, redo: bool) -> Comparison:
        """Write the file rows of the next generation: what came, changed and went since the published one."""
        contents = self._state.contents
        contents.abandon(self.generation)
        known = contents.known_files(self._index.published)
        comparison = Comparison()
        contents.write_plan(self.generation, comparison.changes(entries, known, self._rules, redo=redo))
        contents.retire(self.generation, comparison.replaced + comparison.gone)
        return comparison

    def cut(self) -> int:
        """Cut the files that no earlier run has cut. Returns how many chunks were saved."""
        contents = self._state.contents
        repository_id, cut_by = self._index.repository_id, self._source_fingerprint
        adopted = contents.adopt(self.generation, repository_id=repository_id, fingerprint=cut_by)
        if adopted:
            log.debug("Reused contents cut by an earlier run", extra={"files": adopted})
        saver = _Saver(self._state, repository_id, cut_by)
        planned = contents.file_counts(self.generation).get(("planned", None), 0)
        if planned:
            planned -= self._copy_moved(saver)
        if not planned:
            return saver.total
        self._report.stage("Chunking", planned, "files")
        unread = contents.unread(self.generation, repository_id=repository_id, fingerprint=cut_by)
        flight: dict[int, UnreadFile] = {}
        redo = self._cut_files(self._pool, unread, flight, saver)
        while redo:  # a part saved before does not match: those files again, from their first byte
            redo = self._cut_files(self._pool, iter(redo), flight, saver)
        saver.flush()
        self._refuse_secrets()
        return saver.total

    def _copy_moved(self, saver: _Saver) -> int:
        """Let files that were renamed, or copied, have the chunks of the same content at its other path.

        Returns how many. Only where reading it at the new path would give the same: that depends on the name alone,
        because the content is the same.
        """
        pages = self._state.copies.cut_elsewhere(
            self.generation,
            repository_id=self._index.repository_id,
            fingerprint=self._source_fingerprint,
        )
        copied = 0
        for file in chain.from_iterable(pages):
            alike = (source for source, path in file.places if self._reads_alike(path, file.path))
            if (source := next(alike, None)) is not None:
                cut = self._state.copies.read_back(source, file)
                saver.add(replace(cut, chunk_ids=chunk_ids(self._index.url, cut.chunks)))
                copied += 1
        saver.flush()
        return copied

    def _reads_alike(self, one: str, other: str) -> bool:
        return self._rules.reads_alike(one, other) and language_by_name(one) == language_by_name(other)

    def _refuse_secrets(self) -> None:
        """Stop the run when it was asked to fail on secrets and there are some. What was saved has none."""
        if not self._refused:
            return
        told = [f"  {path}:{place.line} ({place.kind})" for path, place in self._refused[:TOLD_SECRETS]]
        if len(self._refused) > TOLD_SECRETS:
            told.append(f"  and {len(self._refused) - TOLD_SECRETS:,} more")
        secrets_found = counted(len(self._refused), "secrets")
        files = counted(len({path for path, _ in self._refused}), "files")
        raise CodechunkError(
            f"{secrets_found} in {files}, and `secrets` is set to fail: nothing was embedded. Take them out of the "
            "commit, or set `secrets` to redact or skip.\n" + "\n".join(told),
            kind="usage",
        )

    def count_missing(self) -> int:
        """Count the tokens that the mode asks for and an earlier run left uncounted. Returns how many."""
        contents, settings = self._state.contents, self._settings
        if settings.token_mode == "on_demand":
            return 0
        percent = 100.0 if settings.token_mode == "all" else settings.sample_percent
        done = 0
        for rows in contents.uncounted(self.generation, page=50):
            asked = [(row, text) for row, text in rows if is_sampled(text, SEED, percent)]
            for some in slices(asked, SAVE_CHUNKS):
                self._stop.raise_if_asked()
                contents.save_counts([(row, count_tokens(text)) for row, text in some])
            done += len(asked)
        return done

    def _cut_files(
        self, pool: ChunkPool, files: Iterator[UnreadFile], flight: dict[int, UnreadFile], saver: _Saver
    ) -> list[UnreadFile]:
        """Cut files and hand the parts to the saver. Returns those that must be cut from the start."""
        again: list[UnreadFile] = []
        for result in pool.run(self._tasks(files, flight, saver)):
            file = flight.pop(result.key)
            self._report.advance()
            if file.saved_chunks and not self._continues(file, result):
                again.append(UnreadFile(id=file.id, path=file.path, blob=file.blob, saved_chunks=0))
                continue
            if result.secrets and self._settings.secrets == "fail":
                self._refused += [(file.path, place) for place in result.secrets]
                continue
            for part in self._parts(file, result):
                saver.add(part)
        return again

    def _tasks(self, files: Iterator[UnreadFile], flight: dict[int, UnreadFile], saver: _Saver) -> Iterator[ParseTask]:
        """Read blobs in order; what needs no parser goes straight to the saver, the rest becomes a task."""
        waiting: deque[UnreadFile] = deque()

        def ids() -> Iterator[str]:
            for file in files:
                waiting.append(file)
                yield file.blob

        for blob, data in self._repository.blobs(ids()):
            file = waiting.popleft()
            reason = self._rules.by_content(file.path, data)
            decoded = None if reason else decode(data)
            if decoded is None:
                saver.add(_skipped(file, reason or SkipReason.UNDECODABLE))
                self._report.advance()
                continue
            if file.blob != blob:
                raise CodechunkError(f"git answered {blob} where {file.blob} was asked for; run again")
            flight[file.id] = file
            yield ParseTask(
                key=file.id,
                path=file.path,
                data=data,
                language=None,
                encoding=decoded[0],
                counted=file.saved_chunks,
            )

    def _continues(self, file: UnreadFile, result: ParseResult) -> bool:
        """Whether the chunks saved before are the first ones of this result."""
        saved = self._state.contents.saved_spans(
            self._index.repository_id, self._source_fingerprint, file.path, file.blob
        )
        return [(chunk.start_byte, chunk.end_byte) for chunk in result.chunks[: len(saved)]] == saved

    def _parts(self, file: UnreadFile, result: ParseResult) -> Iterator[CutFile]:
        """One result as rows to save, at most SAVE_CHUNKS chunks each, without those saved before."""
        if result.error is not None:
            yield CutFile(file_id=file.id, path=file.path, blob=file.blob, status="failed", reason=result.error)
            return
        found = None if result.secrets is None else len(result.secrets)
        if found and self._settings.secrets == "skip":
            yield replace(_skipped(file, SkipReason.SECRET), secrets=found)
            return
        ids = chunk_ids(self._index.url, result.chunks)
        starts = range(file.saved_chunks, len(ids), SAVE_CHUNKS) or range(len(ids), len(ids) + 1)
        for start in starts:
            end = start + SAVE_CHUNKS
            yield CutFile(
                file_id=file.id,
                path=file.path,
                blob=file.blob,
                status="chunked" if end >= len(ids) else "partial",
                fallback=result.fallback,
                language=result.language,
                first=start,
                chunks=result.chunks[start:end],
                chunk_ids=ids[start:end],
                words=result.words[start:end],
                secrets=found,
            )


def _skipped(file: UnreadFile, reason: SkipReason) -> CutFile:
    return CutFile(file_id=file.id, path=file.path, blob=file.blob, status="skipped", reason=str(reason))
