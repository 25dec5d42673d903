"""What `doctor` finds: what is stuck, missing or misconfigured, and the fix. It changes nothing."""

import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from codechunk import providers
from codechunk.config.settings import Config
from codechunk.documents import Finding, RemoteBatch
from codechunk.errors import IndexBusy, ProviderError, StateError, UsageError, VectorStoreError
from codechunk.process.log import mask_secrets
from codechunk.state import IndexRow, State
from codechunk.state.checks import Checks
from codechunk.text.times import utc
from codechunk.views.jobs import generation_of
from codechunk.workspace.vector_session import VectorSession

__all__ = ["Finding", "check_invariants", "doctor", "masked", "remote_jobs"]

Alone = Callable[[IndexRow], AbstractContextManager[object]]

MAX_JOB_AGE_S = 48 * 3_600.0
LOW_DISK_BYTES = 500_000_000
# Files are searched for secrets in blocks that overlap by more than any key is long.
BLOCK_BYTES = 4 * 2**20
OVERLAP_BYTES = 1_024
_GOOGLE_KEY = re.compile(rb"AIza[0-9A-Za-z_\-]{35}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_invariants(
    state: State, *, max_job_age_s: float = MAX_JOB_AGE_S, store_id: int | None = None, copies: bool = True
) -> list[Finding]:
    """What must hold in the state database at any moment (no `error`), and what waits for somebody (`warning`).

    Needs no provider, no configuration and no vector store; `store_id` is the one whose record is looked at, None for
    all of them, and without `copies` for none.
    """
    return Checks(state.database).findings(
        now=time.time(), max_job_age_s=max_job_age_s, store_id=store_id, copies=copies
    )


def doctor(
    *,
    config: Config,
    secrets: Sequence[str],
    has_key: bool,
    open_state: Callable[[], State],
    open_session: Callable[[], VectorSession],
    alone: Alone,
) -> list[Finding]:
    """Everything that can be looked at without the network, in order of importance.

    Args:
        secrets: plain values that must stand in no file.
        open_session: a use of the vector store.
        alone: the lock of a repository, which tells whether a process works on it.
    """
    found = [_key_of_provider(config), _git(), *_folder(config.data_dir)]
    try:
        state = open_state()
        found.append(_api_key(state, config, has_key=has_key))
        with open_session() as session:
            found += _invariants(state, config, session)
            found += [_throttle(state), *_runs(state, alone), _vector_store(state, session)]
    except StateError as exc:
        fix = "the sentence says it; nothing else can be checked before"
        found.append(Finding(check="state_database", status="error", count=1, message=str(exc), mend=fix))
    return [*found, *_leaks(config.data_dir, secrets)]


def _invariants(state: State, config: Config, session: VectorSession) -> list[Finding]:
    """Of the stores, only of the one that is used here: those of other data directories are theirs to look at.

    None when it holds no copy, or does not tell which one it is.
    """
    max_job_age_s = config.batch_processing.max_job_age.total_seconds()
    try:
        store_id = session.store_id
    except VectorStoreError:  # `vector_index` tells it
        store_id = None
    return check_invariants(state, max_job_age_s=max_job_age_s, store_id=store_id, copies=store_id is not None)


def remote_jobs(ask: Callable[[], Sequence[RemoteBatch]]) -> Finding:
    """Jobs at the provider that bear our name and that no row here knows; that it says nothing is a finding too."""
    check = "remote_jobs"
    try:
        jobs = ask()
    except (UsageError, ProviderError) as exc:
        fix = "the sentence says it; the other checks did not need the provider"
        return Finding(check=check, status="error", count=1, message=str(exc), mend=fix)
    lost = [job.name for job in jobs if job.relation == "lost"]
    foreign = sum(job.relation == "foreign" for job in jobs)
    return _finding(
        check,
        f"{len(lost):,} jobs at the provider are ours and nobody here knows them: {', '.join(lost[:5])}"
        if lost
        else None,
        fine=f"no job of ours is lost at the provider ({len(jobs):,} jobs there, {foreign:,} not ours)",
        mend="codechunk queue remote shows them; --cancel NAME or --delete NAME removes one",
        count=len(lost),
    )


def masked(finding: Finding) -> Finding:
    """The finding without keys and passwords, which may stand in what a provider or a file said."""
    return replace(finding, message=mask_secrets(finding.message), mend=mask_secrets(finding.mend))


def _finding(check: str, wrong: str | None, *, fine: str, mend: str, level: str = "warning", count: int = 1) -> Finding:
    if wrong is None:
        return Finding(check=check, status="ok", count=0, message=fine)
    status: Any = level
    return Finding(check=check, status=status, count=count, message=wrong, mend=mend)


def _key_of_provider(config: Config) -> Finding:
    """The configuration was checked when it was loaded; what is left is where the key would be sent."""
    url = config.embedding.base_url
    address = None if url is None else urlsplit(url)
    open_air = address is not None and address.scheme == "http" and address.hostname not in _LOOPBACK
    return _finding(
        "configuration",
        f"embedding.base_url is {url}: the key and the code are sent unencrypted" if open_air else None,
        fine=f"valid; {config.priced_model} takes {config.input_tokens or 'any number of'} tokens per text",
        mend="use an https:// address",
    )


def _git() -> Finding:
    missing = shutil.which("git") is None
    return _finding(
        "git", "git is not installed" if missing else None, fine="installed", mend="install git", level="error"
    )


def _folder(data_dir: Path) -> Iterator[Finding]:
    if not data_dir.is_dir():
        yield Finding(check="data_directory", status="skipped", count=0, message=f"{data_dir} does not exist yet")
        return
    paths = [data_dir, *(path for path in _files_to_search(data_dir))]
    readable = [path for path in paths if path.stat().st_mode & 0o077]
    yield _finding(
        "data_directory",
        f"others on this machine may read {', '.join(str(path) for path in readable[:3])}" if readable else None,
        fine=f"{data_dir} is readable by its owner only",
        mend=f"chmod -R go-rwx {data_dir}",
        count=len(readable),
    )
    free = shutil.disk_usage(data_dir).free
    yield _finding(
        "disk",
        f"only {free / 1e6:,.0f} MB are free" if free < LOW_DISK_BYTES else None,
        fine=f"{free / 1e9:,.1f} GB are free",
        mend="free some space, or set data_dir to a larger disk",
    )


def _api_key(state: State, config: Config, *, has_key: bool) -> Finding:
    """A missing key is only wrong where something waits for the provider."""
    provider, priced = config.provider, config.priced_provider
    fix = f"set {priced.key_variables[0]}, or use --test-embeddings" if priced.key_variables else ""
    if has_key or not provider.key_variables:
        fine = "the key is set" if has_key else f"none is needed for {provider.name} vectors"
        return Finding(check="api_key", status="ok", count=0, message=fine)
    paid = [space_id for space_id, space in state.catalog.spaces().items() if not providers.is_free(space.provider)]
    counts = [state.queue.counts(space_id) for space_id in paid]
    waiting = sum(count.pending + count.processing for count in counts)
    if waiting:
        message = f"no {priced.title} key is set, and {waiting:,} texts wait for {priced.title}"
        return Finding(check="api_key", status="error", count=1, message=message, mend=fix)
    return Finding(check="api_key", status="warning", count=1, message=f"no {priced.title} key is set", mend=fix)


def _throttle(state: State) -> Finding:
    throttle = state.queue.throttle()
    return _finding(
        "throttle",
        None if throttle is None else f"no batch job is submitted before {utc(throttle.until)}: {throttle.reason}",
        fine="the provider takes new batch jobs",
        mend="none is needed: it ends by itself",
    )


def _runs(state: State, alone: Alone) -> Iterator[Finding]:
    """Runs of index that were interrupted, and those that only have to be finished."""
    dead, done = [], []
    found = state.catalog.jobs()
    waiting = {job.id: generation_of(job, index) for job, index in found if job.status == "embedding"}
    ledgers = state.embeddings.ledgers([one for one in waiting.values() if one is not None])
    for job, index in found:
        if job.status == "running" and not _is_worked_on(index, alone):
            dead.append(job.id)
        elif job.status == "embedding":
            generation = waiting[job.id]
            ledger = {} if generation is None else ledgers[generation]
            if not (ledger.get("pending") or ledger.get("processing")) and not _is_worked_on(index, alone):
                done.append(job.id)
    yield _finding(
        "interrupted_runs",
        f"{len(dead):,} runs of index were interrupted: {_some(dead)}" if dead else None,
        fine="no run of index was interrupted",
        mend="codechunk jobs resume ID goes on from there",
        count=len(dead),
    )
    yield _finding(
        "runs_to_finish",
        f"{len(done):,} runs have all their vectors and are not published yet: {_some(done)}" if done else None,
        fine="no run waits to be published",
        mend="codechunk queue sync",
        count=len(done),
    )


def _is_worked_on(index: IndexRow, alone: Alone) -> bool:
    try:
        with alone(index):
            return False
    except IndexBusy:
        return True


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _vector_store(state: State, session: VectorSession) -> Finding:
    """Open it for reading and hold each collection against the record of what it should hold."""
    check = "vector_index"
    indexes = state.catalog.indexes()
    if not indexes:
        return Finding(check=check, status="skipped", count=0, message="nothing was indexed yet")
    unsound: list[str] = []
    try:
        with session.reading() as store:
            for index in indexes:
                trouble = session.check(index, store.collection(index.collection))
                if trouble is not None:
                    unsound.append(f"{index.repository}@{index.ref}: {trouble}")
        session.close()
    except IndexBusy as exc:
        return Finding(check=check, status="skipped", count=0, message=str(exc))
    except VectorStoreError as exc:
        fix = "if it is a server, start it; the embedded one is rebuilt by the next run, nothing is bought again"
        return Finding(check=check, status="error", count=1, message=str(exc), mend=fix)
    return _finding(
        check,
        f"{len(unsound):,} of {len(indexes):,} indexes are not sound ({_some(unsound)})" if unsound else None,
        fine=f"all {len(indexes):,} indexes hold what they should",
        mend="none is needed: the next search or index rebuilds them, nothing is bought again",
        count=len(unsound),
    )


def _files_to_search(data_dir: Path) -> list[Path]:
    """The files that codechunk writes texts into: the database with its journal and backups, and the logs."""
    found = [*data_dir.glob("state.db*"), *(data_dir / "logs").glob("*")]
    return sorted(path for path in found if path.is_file())


def _leaks(data_dir: Path, secrets: Sequence[str]) -> Iterator[Finding]:
    """Whether a key stands in the database or a log. A Google key in the database may be part of indexed code."""
    paths = _files_to_search(data_dir) if data_dir.is_dir() else []
    known = [secret.encode() for secret in secrets if len(secret) >= 8]
    leaking = [path for path in paths if any(_own_in(block, known) for block in _blocks(path))]
    yield _finding(
        "own_secrets",
        f"a key or token of yours stands in {_some([str(path) for path in leaking])}" if leaking else None,
        fine="none of your keys stands in the database or a log",
        mend="replace that key at its provider, then remove the file (logs) or move it away (state.db)",
        level="error",
        count=len(leaking),
    )
    strange = [path for path in paths if path not in leaking and any(map(_GOOGLE_KEY.search, _blocks(path)))]
    logs = [path for path in strange if path.parent.name == "logs"]
    yield _finding(
        "google_keys",
        f"something like a Google key stands in {_some([str(path) for path in strange])}" if strange else None,
        fine="nothing like a Google key stands in the database or a log",
        mend="remove the log, and replace the key; in the database it is indexed code: set secrets to redact, and "
        "index with --full",
        level="error" if logs else "warning",
        count=len(strange),
    )


def _own_in(block: bytes, secrets: Iterable[bytes]) -> bool:
    return any(secret in block for secret in secrets)


def _blocks(path: Path) -> Iterator[bytes]:
    """A file in pieces that overlap, so that nothing short is cut in two without being whole in one of them."""
    kept = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield kept + block
            kept = block[-OVERLAP_BYTES:]
