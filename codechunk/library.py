"""codechunk for Python programs: one object with everything that the commands do, and no terminal.

Nothing here prints, ends the process, touches signal handlers or sets up logging; what goes wrong is raised as a
CodechunkError, whose `kind` says what a program can do about it. It works in any thread, and in a notebook.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from codechunk import documents
from codechunk.app import App, IndexRequest
from codechunk.config.load import Loaded, load_config
from codechunk.errors import CodechunkError, Unavailable, UsageError
from codechunk.indexing.local_files import cut_local_files
from codechunk.indexing.mode import Mode
from codechunk.process.closing import Closing
from codechunk.process.log import remember_secrets
from codechunk.process.stop import Stop
from codechunk.progress import Callback, Event, Reporter, Silence
from codechunk.search.answers import CONTEXT_TOKENS
from codechunk.search.content import Content
from codechunk.search.ranking import Query
from codechunk.text.chunks import Chunk

OnProgress = Callable[[Event], None]
Settings = Mapping[str, Any]


def open(
    data_dir: str | os.PathLike[str] | None = None,
    config: str | os.PathLike[str] | Settings | None = None,
    *,
    stop: Stop | None = None,
) -> "Codechunk":
    """Everything that codechunk does, with one data directory and one configuration.

    Args:
        data_dir: where the state, mirrors and vectors are; a relative path starts in the current folder. None: the
            `data_dir` of the configuration, else the user's own data directory, as the commands have it.
        config: the path of a YAML file, or settings as a mapping: `{"embedding": {"provider": "synthetic"}}`, or with
            dots, `{"embedding.provider": "synthetic"}`. None: the defaults. No file of the current folder is read.
        stop: lets another thread end what is under way (`stop.ask()`); the call then raises `errors.Stopped`, and the
            same call with a new object goes on from there. None: nobody stops it.

    Of the environment only secrets are read (CODECHUNK_GEMINI_API_KEY, CODECHUNK_GIT_TOKEN and their other names), no
    settings. Nothing is made on disk before the first call that needs it.

    Raises:
        UsageError: a setting is unknown or wrong, or the file cannot be read.
    """
    flags = {} if data_dir is None else {"data_dir": str(Path(data_dir))}
    named = None if config is None or isinstance(config, Mapping) else Path(config)
    loaded = load_config(
        config_file=named,
        settings=config if isinstance(config, Mapping) else None,
        flags=flags,
        find_file=False,
        secrets_only=True,
    )
    return Codechunk(loaded, stop=stop)


class Codechunk(Closing):
    """An open codechunk: see `open`. A context manager; leaving it gives back the state database.

    One object serves as many calls as wanted. Each call is complete: after an error or an interruption, the same call
    goes on from where it was, and nothing is paid twice.
    """

    def __init__(self, loaded: Loaded, *, stop: Stop | None = None) -> None:
        remember_secrets(loaded.secret_values())
        self._app = App(loaded, stop=stop)
        self.queue = TextQueue(self._app)
        """The texts that wait for the provider, are there, or came back."""

    def close(self) -> None:
        """Give back the state database. The next call opens it again."""
        self._app.close()

    def index(
        self,
        source: str | os.PathLike[str],
        ref: str | None = None,
        *,
        mode: Mode = "auto",
        wait: bool = True,
        full: bool = False,
        max_cost: float | None = None,
        working_tree: bool = False,
        on_progress: OnProgress | None = None,
    ) -> documents.IndexDocument:
        """Index a repository: clone, cut into chunks, embed, store.

        Args:
            source: https://, ssh://, git@host:path or file:// URL, or the path of a local repository.
            ref: branch, tag or commit; None: its HEAD.
            mode: how the provider is called; auto takes batch jobs (half the price, a while) when there is much to do.
            wait: wait for batch jobs; otherwise `queue.sync` takes them in, and the status is `embedding` until then.
            full: cut every file again; nothing is paid again.
            max_cost: in USD; stop before anything is sent when the estimate is higher.
            working_tree: also uncommitted changes, and untracked files that git does not ignore.
            on_progress: called in this thread with every stage, count, sentence and batch job. What it raises ends
                the call.

        Returns:
            What came of it. Its status is `partial` when some chunks or files failed for good.

        Raises:
            UsageError: no key is set, or the source is none.
            CodechunkError: git, the disk, the provider or `max_cost` stopped it.
        """
        request = IndexRequest(
            source=os.fspath(source),
            ref=ref,
            mode=mode,
            wait=wait,
            full=full,
            max_cost=max_cost,
            working_tree=working_tree,
        )
        return self._app.index(request, _reporter(on_progress))

    def estimate(
        self, source: str | os.PathLike[str], ref: str | None = None, *, on_progress: OnProgress | None = None
    ) -> documents.EstimateDocument:
        """What indexing would cost. Needs no key, buys nothing, writes nothing but the git mirror."""
        return self._app.estimate(IndexRequest(source=os.fspath(source), ref=ref), _reporter(on_progress))

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        repository: str | Sequence[str] | None = None,
        languages: str | Sequence[str] = (),
        path: str | Sequence[str] | None = None,
        kinds: str | Sequence[str] = (),
        content: Content | Sequence[Content] = (),
        context: int = CONTEXT_TOKENS,
        anyway: bool = False,
        here: str | os.PathLike[str] | None = None,
        ref_diff: str | None = None,
    ) -> list[documents.Answer]:
        """The code that answers a query, best first.

        Args:
            query: words or a question.
            limit: how many answers, 1 to 100.
            repository: only this one, or these: NAME, NAME@REF, URL, path, or a glob over names. Of several refs of a
                repository one is searched unless it is named: the branch that is out, or the default one.
            languages: only these, or this one.
            path: only files that match this glob (as in .gitignore), or one of these; a `!` in front excludes.
            kinds: only these, or this one: function, method, class, ...
            content: only these kinds of files, or this one: code, tests, examples, docs, data.
            context: tokens that the best answer may hold, with the code around its hit; later ones hold less. 0: hits
                alone.
            anyway: the nearest code even when nothing matches well; else there are no answers then.
            here: a folder: the repository it belongs to is searched when it is indexed; None: all are.
            ref_diff: `OLD..NEW`, two refs of one repository: only what the new one has and the old one has not.

        Raises:
            UsageError: the query is empty, the limit is none, or nothing was indexed yet.
            NotFound: there is no such repository.
        """
        words = Query(
            text=query,
            limit=limit,
            languages=_words(languages),
            kinds=_words(kinds),
            paths=() if path is None else _words(path),
            content=cast("Sequence[Content]", _words(content)),
            context=context,
            anyway=anyway,
        )
        return self._app.search(
            words,
            repository=repository,
            reporter=Silence(),
            here=None if here is None else Path(here),
            ref_diff=ref_diff,
        )

    def jobs(self, limit: int | None = None) -> list[documents.JobDocument]:
        """The runs of `index`, the newest first."""
        return self._app.jobs(limit)

    def repositories(self) -> list[documents.IndexEntry]:
        """Every index, by repository and ref."""
        return self._app.repositories()

    def chunk_file(self, path: str | os.PathLike[str]) -> list[Chunk]:
        """How a local file is cut: no database, no network. A file that `index` would skip has no chunks.

        Raises:
            UsageError: there is no such file.
            CodechunkError: it could not be cut.
        """
        file = Path(path)
        if file.is_dir():
            raise UsageError(f"{file} is a folder; name a file.")
        [cut] = cut_local_files(self._app.workspace.config, [file])
        if cut.failed is not None:
            raise CodechunkError(f"{file} could not be cut: {cut.failed}.")
        return list(cut.chunks)


class TextQueue:
    """The texts that wait for the provider, are there, or came back. Synthetic vectors need no queue: it is empty."""

    def __init__(self, app: App) -> None:
        self._app = app

    def flush(self, min_size: int = 100, force: bool = False, *, on_progress: OnProgress | None = None) -> list[str]:
        """Make batch jobs of the texts that wait, and submit them.

        Args:
            min_size: how many texts must wait for it to be worth while.
            force: also when fewer wait.

        Returns:
            The ids of the batch jobs made; empty when too few texts wait. A job that could not be submitted now is
            submitted by the next flush, sync or worker.

        Raises:
            UsageError: no key is set.
            ProviderError: the key is refused.
        """
        if self._app.workspace.config.provider.in_process:
            return []
        return list(self._app.flush(_reporter(on_progress), force=force, min_size=min_size).batch_ids)

    def sync(self, *, on_progress: OnProgress | None = None) -> int:
        """Look at every batch job that is out, take in what came back, and finish runs of `index`.

        Returns:
            How many texts got their vector. Called again, it takes in only what has come since.

        Raises:
            UsageError: no key is set.
            ProviderError: the key is refused, or the provider cannot be reached.
        """
        if self._app.workspace.config.provider.in_process:
            return 0
        done = self._app.sync(_reporter(on_progress))
        if done.unreachable and not done.texts_ready:
            raise Unavailable(f"{done.unreachable[0]}; nothing is lost, the same call goes on from here.")
        return done.texts_ready

    def stats(self) -> documents.QueueStatus:
        """How many texts are pending, processing, ready and failed, and the batch jobs by state."""
        return self._app.queue_status()


def _words(given: str | Sequence[str]) -> tuple[str, ...]:
    """A single word is one, not its letters."""
    return (given,) if isinstance(given, str) else tuple(given)


def _reporter(on_progress: OnProgress | None) -> Reporter:
    return Silence() if on_progress is None else Callback(on_progress)
