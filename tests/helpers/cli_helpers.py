"""Running the real command in a process of its own, and looking at what it left behind.

The process is a fork of one that has imported everything (warm_start.py), unless the environment asks for a Python
that starts in another way.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waiting import wait_until
from warm_start import Process, shared

COMMAND = [sys.executable, "-m", "codechunk"]
# Prints the ids of all vectors in a directory of Chroma.
IDS = (
    "import sys, json, chromadb\n"
    "from chromadb.config import Settings\n"
    "c = chromadb.PersistentClient(sys.argv[1], settings=Settings(anonymized_telemetry=False))\n"
    "print(json.dumps(sorted(i for k in c.list_collections() for i in k.get(include=[])['ids'])))\n"
)


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it wrote to stdout, as JSON."""
        return json.loads(self.out)


class Cli:
    """codechunk with a data directory, an empty home and a working directory of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.home = root / "home"
        self.home.mkdir(parents=True, exist_ok=True)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a command: no keys, no configuration."""
        return {**os.environ, "HOME": str(self.home), **(extra or {})}

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Process | subprocess.Popen[str]:
        """Start a command and return at once."""
        command = ["--data-dir", str(self.data), *map(str, arguments)]
        environment = self.environment(env)
        if shared().needs_python(environment):
            return start_python(*COMMAND[1:], *command, cwd=self.root, env=environment)
        return shared().start(command, cwd=self.root, env=environment)

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """Run a command to its end."""
        process = self.start(*arguments, env=env)
        out, err = process.communicate(timeout=180)
        return Done(process.returncode, out, err)

    def index(self, source: str | Path, *arguments: str | Path) -> Any:
        """Index with synthetic vectors; must succeed. Returns the JSON document."""
        done = self.run("index", source, "--test-embeddings", "--json", *arguments)
        assert done.code == 0, done.err
        return done.json

    def search(self, query: str, *arguments: str) -> list[dict[str, Any]]:
        """Search; must succeed. Returns the JSON list."""
        done = self.run("search", query, "--json", *arguments)
        assert done.code == 0, done.err
        found: list[dict[str, Any]] = done.json
        return found

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read (or, in a test's own hand, change) the state database behind the product's back."""
        connection = sqlite3.connect(self.data / "state.db", timeout=30)
        try:
            rows = connection.execute(query, values).fetchall()
            connection.commit()
        finally:
            connection.close()
        return rows

    def count(self, table: str) -> int:
        """Rows of a table, 0 while the database or the table does not exist."""
        if not (self.data / "state.db").exists():
            return 0
        try:
            return int(self.sql(f"SELECT count(*) FROM {table}")[0][0])
        except sqlite3.OperationalError:
            return 0

    def kill_when(self, ready: Callable[[], bool], *arguments: str | Path, sig: int = signal.SIGKILL) -> int:
        """Start a command and send it a signal as soon as `ready()`. Returns its exit code."""
        process = self.start(*arguments)

        def is_time() -> bool:
            assert process.poll() is None, f"it ended before it could be killed: {process.communicate()}"
            return ready()

        wait_until(is_time, "it gets so far")
        process.send_signal(sig)
        process.communicate(timeout=60)
        return process.returncode

    def final_state(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that must be equal however an index came about, without row numbers and times."""
        return {
            "files": self.sql("SELECT path, blob, status, reason FROM files WHERE to_generation IS NULL ORDER BY path"),
            "chunks": self.sql(
                "SELECT s.path, c.ordinal, c.chunk_id, c.kind, c.symbol, c.start_line, c.end_line, c.header,"
                " c.text, c.tokens, c.text_sha FROM chunks c JOIN sources s ON s.id = c.source_id"
                " ORDER BY s.path, c.ordinal"
            ),
            "vectors": self.sql(
                "SELECT e.text_sha, e.state, v.vector FROM embeddings e"
                " JOIN vectors v ON v.embedding_id = e.id ORDER BY e.text_sha"
            ),
            "stored": self.sql(
                "SELECT ic.chunk_id, e.text_sha FROM index_chunks ic"
                " JOIN embeddings e ON e.id = ic.embedding_id ORDER BY ic.chunk_id"
            ),
            "words": self.sql(
                "SELECT s.path, c.ordinal, w.path, w.symbol, w.body FROM chunk_words w"
                " JOIN chunks c ON c.id = w.rowid JOIN sources s ON s.id = c.source_id"
                " ORDER BY s.path, c.ordinal"
            ),
        }


def start_python(*arguments: str, cwd: Path, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start Python itself, as a person's shell would, and return at once."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd,
        env=dict(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def collection_ids(data: Path) -> Sequence[str]:
    """Ids of all vectors in the Chroma below a data directory, sorted; asked in its own process."""
    process = shared().start([str(data / "chroma")], script=IDS, cwd=data, env=os.environ)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    ids: list[str] = json.loads(out)
    return ids
