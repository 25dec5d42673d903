"""What the chaos and crash tests share: commands that start fast and can be killed, and what must hold in the end."""

import signal
import sqlite3
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from cli_helpers import IDS, Cli, Done
from gemini_emulator import GeminiEmulator, vector_of
from git_helpers import GitRepo
from waiting import PATIENCE_S
from warm_start import Process, WarmStart

from codechunk.state import State
from codechunk.text.chunks import with_header
from codechunk.views.doctor import check_invariants

DIMENSIONS = 128
# Waits of minutes made short. A claim outlives a call, and the grace time outlives the lag of the list.
SETTINGS = {
    "EMBEDDING__DIMENSIONS": str(DIMENSIONS),
    "EMBEDDING__TIMEOUT": "2s",
    "BATCH_PROCESSING__MAX_BATCH_SIZE": "20",
    "BATCH_PROCESSING__FALLBACK_TO_SEQUENTIAL": "false",
    "BATCH_PROCESSING__LEASE": "3s",
    "BATCH_PROCESSING__RECONCILE_GRACE": "1s",
    "BATCH_PROCESSING__POLLER_INTERVAL": "100ms",
    "BATCH_PROCESSING__INITIAL_BACKOFF": "100ms",
    "BATCH_PROCESSING__MAX_BACKOFF": "300ms",
    "BATCH_PROCESSING__MAX_RETRIES": "60",
    "BATCH_PROCESSING__SUBMITTER_POLL_INTERVAL": "50ms",
    "BATCH_PROCESSING__SUBMISSION_INITIAL_BACKOFF": "200ms",
    "BATCH_PROCESSING__SUBMISSION_MAX_BACKOFF": "1s",
    "BATCH_PROCESSING__MAX_SUBMISSION_ATTEMPTS": "60",
    "WORKER__MIN_QUEUE_SIZE": "1",
}


def settings(**changes: str) -> dict[str, str]:
    """The environment of the settings above, some of them changed (`max_batch_size="3"` is of batch_processing)."""
    found = {f"CODECHUNK_{name}": value for name, value in SETTINGS.items()}
    sections = ("EMBEDDING__", "WORKER__", "BATCH_PROCESSING__")
    for name, value in changes.items():
        upper = name.upper()
        section = "" if upper.startswith(sections) else "BATCH_PROCESSING__"
        found[f"CODECHUNK_{section}{upper}"] = value
    return found


class Running:
    """A command under way in a process of its own."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid = process.pid

    def send(self, sig: int = signal.SIGKILL) -> None:
        """Send it a signal; one that has ended does not mind."""
        self._process.send_signal(sig)

    def said(self) -> str:
        """What it has written to stderr so far."""
        return self._process.err.read_text()

    def wait(self, timeout_s: float = PATIENCE_S) -> Done | None:
        """How it ended; None when it has not after `timeout_s`."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return Done(code, *self._process.communicate())


class Trial(Cli):
    """A data directory, a small repository and an emulated provider, to be maltreated and then held to account."""

    def __init__(
        self,
        root: Path,
        warm: WarmStart,
        emulator: GeminiEmulator,
        env: Mapping[str, str],
        *,
        repo: GitRepo | None = None,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        super().__init__(root)
        self._warm = warm
        self._commands = 0
        self._launched: list[Running] = []
        self.emulator = emulator
        self.env = {
            **env,
            "CODECHUNK_GEMINI_API_KEY": emulator.key,
            "CODECHUNK_EMBEDDING__BASE_URL": emulator.url,
        }
        self.repo = GitRepo(root / "repo") if repo is None else repo

    def launch(self, *arguments: str | Path, crash_at: int = 0, script: str = "") -> Running:
        """Start a command at once."""
        self._commands += 1
        extra = {**self.env, **({"CODECHUNK_CRASH": str(crash_at)} if crash_at else {})}
        given = [str(argument) for argument in arguments]
        running = Running(
            self._warm.start(
                given if script else ["--data-dir", str(self.data), *given],
                env=self.environment(extra),
                cwd=self.root,
                out=self.root / f"{self._commands:03}.out",
                err=self.root / f"{self._commands:03}.err",
                script=script,
            )
        )
        self._launched.append(running)
        return running

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what a failed test left running."""
        for running in self._launched:
            if running.wait(0.0) is None:
                running.send(signal.SIGKILL)
                running.wait()

    def do(self, *arguments: str | Path, crash_at: int = 0) -> Done:
        """Run a command to its end."""
        done = self.launch(*arguments, crash_at=crash_at).wait()
        assert done is not None, f"{arguments} did not end"
        assert done.code != 70, done.err  # a bug that was caught
        return done

    def ids(self) -> list[str]:
        """What Chroma holds."""
        done = self.launch(self.data / "chroma", script=IDS).wait()
        assert done is not None
        assert done.code == 0, done.err
        found: list[str] = done.json
        return found

    def statuses(self) -> list[str]:
        """How the runs of index stand, the oldest first; empty before there is a database."""
        try:
            return [row[0] for row in self.sql("SELECT status FROM jobs ORDER BY started_at")]
        except sqlite3.OperationalError:
            return []

    def texts(self) -> dict[str, bytes]:
        """Each text as it is sent -> its stored vector; texts without one are missing."""
        rows = self.sql(
            "SELECT c.header, c.text, v.vector FROM chunks c JOIN embeddings e ON e.text_sha = c.text_sha"
            " JOIN vectors v ON v.embedding_id = e.id"
        )
        return {with_header(header, text, None): vector for header, text, vector in rows}


def functions(files: int, each: int) -> dict[str, bytes | str]:
    """Python files of `each` functions, one chunk a function."""
    return {
        f"m{number:03}.py": "".join(_function(f"work_{number}_{part}", 20) for part in range(each))
        for number in range(files)
    }


def _function(name: str, lines: int) -> str:
    steps = "".join(f"    total += {name}_step(value, {number})\n" for number in range(lines))
    return f"def {name}(value):\n    '''Compute {name}.'''\n    total = 0\n{steps}    return total\n\n\n"


# ---------------------------------------------------------------------- what must hold in the end


def assert_sound(trial: Trial, chunks: int) -> None:
    """Every chunk is ready with its own text's vector, is in Chroma, and every invariant holds."""
    assert trial.sql("SELECT state, count(*) FROM embeddings GROUP BY state") == [("ready", chunks)]
    stored = trial.texts()
    assert len(stored) == chunks
    wrong = [text for text, vector in stored.items() if not np.array_equal(_numbers(vector), expected(text))]
    near = [text for text in wrong if not np.allclose(_numbers(stored[text]), expected(text), atol=2e-3)]
    assert not near, f"{len(near)} texts have another text's vector: {near[0][:80]}"
    with State(trial.data / "state.db") as state:
        errors = [finding for finding in check_invariants(state) if finding.status == "error"]
    assert not errors
    ids = [row[0] for row in trial.sql("SELECT chunk_id FROM chunks ORDER BY chunk_id")]
    assert trial.ids() == ids
    done = trial.do("doctor")
    assert done.code == 0, done.out
    live = [job.display_name for job in trial.emulator.live_jobs()]
    assert not live, f"remote jobs that nobody waits for: {live}"


def expected(text: str) -> Any:
    """The vector of a text as it should be stored."""
    vector = np.array(vector_of(text, DIMENSIONS), dtype=np.float32)
    return (vector / np.linalg.norm(vector)).astype("<f2")


def _numbers(vector: bytes) -> Any:
    return np.frombuffer(vector, "<f2")


def bought_twice(trial: Trial) -> dict[str, list[str]]:
    """Texts that were sold more than once, and by whom."""
    return {text: sellers for text, sellers in trial.emulator.paid_by.items() if len(sellers) > 1}


def transcript(trial: Trial, last: int = 6) -> str:
    """The ends of the last commands' messages, the batch jobs, and the provider's jobs: for a failure."""
    parts = []
    for path in sorted(trial.root.glob("*.err"))[-last:]:
        parts.append(f"--- {path.name}\n{path.read_text()[-1500:]}")
    if trial.count("batches"):
        rows = trial.sql(
            "SELECT state, display_name, remote_name, texts, failures, submissions, rows_ok, rows_failed, error"
            " FROM batches ORDER BY created_at"
        )
        parts += [str(row) for row in rows]
    for job in trial.emulator.jobs.values():
        parts.append(
            f"{job.name} {job.display_name} {job.state} rows {len(job.rows)} deleted {job.deleted}"
            f" vanished {job.vanished} ok {job.succeeded} bad {job.failed}"
        )
    return "\n".join(parts)
