"""The product's jobs, assembled from one configuration: index, plan, search."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechunk import synthetic
from codechunk.config import Loaded
from codechunk.errors import UsageError
from codechunk.nearest import Nearest
from codechunk.parts import Parts, read_attributes
from codechunk.plan import DryRun, dry_run
from codechunk.progress import Reporter
from codechunk.run import Run, recorded
from codechunk.search import Answer, Query, search
from codechunk.source import Source, parse_source
from codechunk.state import IndexRow, Space, State
from codechunk.state.embeddings import Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRequest:
    """One `codechunk index`, as typed."""

    source: str
    ref: str | None = None
    jobs: int | None = None
    full: bool = False


class App:
    """The product, assembled from one configuration."""

    def __init__(self, loaded: Loaded) -> None:
        self.parts = Parts(loaded)

    # ------------------------------------------------------------------ index

    def index(self, request: IndexRequest, reporter: Reporter) -> dict[str, Any]:
        """Index a repository and return the document of `index --json`.

        Raises:
            UsageError: before anything is cloned, when no provider of vectors is set up.
            CodechunkError: git, the disk or the vector store failed; the next run goes on from there.
        """
        started = time.monotonic()
        self.parts.require_provider()
        source = parse_source(request.source)
        if source.kind == "local" and Path(request.source).resolve() != Path(source.url).resolve():
            reporter.say(f"{request.source} is inside the repository {source.url}: all of it is indexed.")
        with self.parts.state() as state:
            if state.catalog.interrupted_jobs():
                state.database.quick_check()
            with self.parts.store(write=True) as store:
                stamp = self.parts.stamp()
                opened = self.parts.open_repository(source, request.ref, reporter)
                index = state.catalog.open_index(
                    url=source.url, names=_names(source), ref=opened.ref, space=self.parts.space()
                )
                with self.parts.alone(index):
                    job = state.catalog.start_job(index.id, opened.commit, redo=request.full)
                    index = state.catalog.refreshed(index)
                    if job.attempts > 1:
                        reporter.say(f"Taking up the unfinished run of {index.repository} again (job {job.id}).")
                    run = Run(self.parts, state, store, opened, index, job, reporter, started, stamp)
                    with recorded(state, job):
                        document = run.go(jobs=self._jobs(request))
                store.close_index()
                state.catalog.follow_vectors_stamp([index.id], old=stamp, new=self.parts.stamp())
        return document

    def plan(self, request: IndexRequest, reporter: Reporter) -> DryRun:
        """What `index` would do, without writing anything but the git mirror."""
        source = parse_source(request.source)
        opened = self.parts.open_repository(source, request.ref, reporter)
        attributes = read_attributes(opened)
        with self.parts.state() as state:
            return dry_run(
                state=state,
                repository=opened.repository,
                commit=opened.commit,
                settings=self.parts.cut_settings(self._jobs(request), attributes),
                rules=self.parts.rules(opened, attributes),
                space=self.parts.space(),
                reporter=reporter,
                head={
                    "repository": source.name,
                    "url": source.url,
                    "ref": opened.ref,
                    "commit": opened.commit,
                },
            )

    # ------------------------------------------------------------------ search

    def search(self, query: Query, *, repository: str | None, reporter: Reporter) -> list[Answer]:
        """Answer one query from the published indexes; see `searcher`."""
        with self.searcher(repository, reporter) as ask:
            return ask(query)

    @contextmanager
    def searcher(self, repository: str | None, reporter: Reporter) -> Iterator[Callable[[Query], list[Answer]]]:
        """A function that answers queries while the database and the vector store stay open.

        Args:
            repository: NAME or NAME@REF; None searches every repository.

        Raises:
            UsageError: when there is nothing of that name, or nothing was indexed yet.
        """
        with self.parts.state() as state:
            indexes = self._searched(state, repository)
            with Nearest(self.parts, state, reporter) as nearest:

                def ask(query: Query) -> list[Answer]:
                    vectors = self._query_vectors(indexes, query)
                    return search(state, indexes, query, vector_of=vectors, nearest=nearest)

                yield ask

    def languages(self) -> list[str]:
        """Languages that occur in any published index, sorted."""
        with self.parts.state() as state:
            found: set[str] = set()
            for index in state.catalog.indexes():
                found.update(state.lookup.languages(index.id, index.generation))
            return sorted(found)

    def _jobs(self, request: IndexRequest) -> int:
        return request.jobs or len(os.sched_getaffinity(0))

    def _query_vectors(self, indexes: Sequence[IndexRow], query: Query) -> dict[int, Vectors]:
        vectors: dict[int, Vectors] = {}
        for index in indexes:
            if index.space.provider != "synthetic":
                raise UsageError(
                    f"{index.repository}@{index.ref} was indexed with {index.space.model}, which this "
                    f"version of codechunk cannot ask; index it again with --test-embeddings"
                )
            if index.space_id not in vectors:
                vectors[index.space_id] = synthetic.embed([query.text], index.space.dimensions)[0]
        return vectors

    def _searched(self, state: State, repository: str | None) -> list[IndexRow]:
        indexes = state.catalog.indexes()
        if not indexes:
            raise UsageError("Nothing is indexed yet: run `codechunk index <repo-url-or-path>` first.")
        if repository is not None:
            named = [index for index in indexes if repository in {index.repository, f"{index.repository}@{index.ref}"}]
            if not named:
                known = sorted({f"{index.repository}@{index.ref}" for index in indexes})
                raise UsageError(f"No index of {repository!r}; there is {', '.join(known)}.")
            indexes = named
        return _one_space_each(indexes, self.parts.space())


def _names(source: Source) -> list[str]:
    """What a repository may be called, shortest first."""
    if source.kind == "local" or source.scheme == "file":
        parts = Path(source.url.removeprefix("file://").removesuffix(".git")).parts
        return [source.name, *("/".join(parts[-count:]) for count in range(2, len(parts)))]
    return [source.name, f"{source.host}/{source.name}" if source.host else source.name]


def _one_space_each(indexes: Sequence[IndexRow], preferred: Space) -> list[IndexRow]:
    """One index per repository and ref: in the configured space where there is one, else the newest."""
    chosen: dict[tuple[int, str], IndexRow] = {}
    for index in indexes:
        key = (index.repository_id, index.ref)
        if key not in chosen or (index.space == preferred and chosen[key].space != preferred):
            chosen[key] = index
    return list(chosen.values())
