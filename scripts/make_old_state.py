"""Make the state databases of older versions that tests/integration/test_upgrade.py opens with today's code.

.venv/bin/python scripts/make_old_state.py [VERSION ...]

Each version's own command, from its commit in this repository, indexes a small repository: two commits of `main` with
synthetic vectors, then the branch `dev` with Gemini (the emulator of the tests), whose batch job is left out. What
stands in its data directory then, the state database and the vector index, is packed into
tests/integration/data/state-SCHEMA.tar.gz. Random ids and times differ from one making to the next; nothing else does.
"""

import gzip
import io
import os
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from gemini_emulator import Faults, GeminiEmulator  # noqa: E402
from old_state import VERSIONS, old_repository, second_commit  # noqa: E402

FOLDER = ROOT / "tests" / "integration" / "data"


def codechunk(source: Path, data: Path, environ: dict[str, str], *arguments: str | Path) -> None:
    """One command of the version in `source`; it must succeed."""
    command = [sys.executable, "-m", "codechunk", "--data-dir", data, *arguments]
    done = subprocess.run(command, cwd=source, env={**os.environ, **environ}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")


def make(source: Path, work: Path) -> Path:
    """The data directory that the version in `source` leaves."""
    data = work / "data"
    repository = old_repository(work / "repository")
    with GeminiEmulator(faults=Faults(job_seconds=3600.0)) as emulator:
        environ = {
            "CODECHUNK_GEMINI_API_KEY": emulator.key,
            "CODECHUNK_EMBEDDING__BASE_URL": emulator.url,
            "CODECHUNK_EMBEDDING__DIMENSIONS": "128",
        }
        codechunk(source, data, environ, "index", repository.path, "--ref", "main", "--test-embeddings")
        second_commit(repository)
        codechunk(source, data, environ, "index", repository.path, "--ref", "main", "--test-embeddings")
        codechunk(source, data, environ, "index", repository.path, "--ref", "dev", "--mode", "batch", "--no-wait")
    with sqlite3.connect(data / "state.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    return data


def pack(data: Path, target: Path) -> None:
    """The state database and the vector index as one compressed archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in [data / "state.db", *sorted((data / "chroma").rglob("*"))]:
            if path.is_file():
                entry = tarfile.TarInfo(str(path.relative_to(data)))
                entry.size, entry.mode = path.stat().st_size, 0o600
                with path.open("rb") as file:
                    archive.addfile(entry, file)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(gzip.compress(packed.getvalue(), 9, mtime=0))


def main() -> None:
    """Make the archives of the versions named, or of all."""
    for schema in sys.argv[1:] or VERSIONS:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source"
            subprocess.run(["git", "worktree", "add", "-q", "--detach", source, VERSIONS[schema]], cwd=ROOT, check=True)
            try:
                target = FOLDER / f"state-{schema}.tar.gz"
                pack(make(source, Path(folder)), target)
                print(f"{target.relative_to(ROOT)}: {target.stat().st_size:,} bytes")
            finally:
                subprocess.run(["git", "worktree", "remove", "--force", source], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
