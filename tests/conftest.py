"""What holds for every test: no network beyond loopback, no real home, no configuration of the user."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import pytest

if TYPE_CHECKING:
    from postgres_helpers import PostgresServer
    from warm_start import WarmStart

pytest_plugins = ["pytester"]

# A worker of pytest-xdist ignores Ctrl-C, and so would everything it starts: tests send that signal.
if "PYTEST_XDIST_WORKER" in os.environ:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Of the tests outside tests/chaos.
SLOW = {"test_resume.py", "test_histories.py", "test_real_process.py", "test_deploy.py"}
GUARD = Path(__file__).parent / "guard"

# Before anything is imported: the tests' own process has the guard, and so has every Python it starts.
_log = tempfile.NamedTemporaryFile(prefix="codechunk-guard-", suffix=".log", delete=False)  # noqa: SIM115
_log.close()
_home = tempfile.mkdtemp(prefix="codechunk-home-")
os.environ["TEST_GUARD_LOG"] = _log.name
os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (str(GUARD), os.environ.get("PYTHONPATH", "")) if part)
os.environ["HOME"] = _home
# In memory, where there is room: SQLite waits a hundred times in a command until a disk has really written.
MEMORY, ROOM_BYTES = Path("/dev/shm"), 4 << 30
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
# A single authority: reading the usual hundred takes longer than most tests, for each client, and few tests use TLS.
_authority = Path(_home, "authority.pem")
_end = "-----END CERTIFICATE-----\n"
_authority.write_text(certifi.contents().partition(_end)[0] + _end)
os.environ["SSL_CERT_FILE"] = str(_authority)
for _name in [name for name in os.environ if name.startswith("CODECHUNK_") or name.startswith("XDG_")]:
    del os.environ[_name]
for _name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GIT_ASKPASS", "SSH_ASKPASS"):
    os.environ.pop(_name, None)
sys.path.insert(0, str(GUARD))
import sitecustomize  # noqa: E402, F401 - ours: its audit hook is the guard
from shared_sql import share_sql  # noqa: E402

share_sql()


@pytest.fixture(autouse=True)
def guarded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test during which anything forbidden was tried, here or in a process it started."""
    before = Path(_log.name).stat().st_size
    yield
    with Path(_log.name).open() as log:
        log.seek(before)
        found = log.read().strip()
    if found and "expects_guard" not in request.keywords:
        pytest.fail(f"forbidden: {found}")


@pytest.fixture(scope="session")
def warm() -> "WarmStart":
    """Commands are forked from a process that has imported everything, in a tenth of the time."""
    from warm_start import shared  # late: most tests start no command

    return shared()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slowest, which wait most: a long one at the end would run alone."""
    items.sort(key=lambda item: (item.path.parent.name != "chaos", item.path.name not in SLOW))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say that not everything ran."""
    if config.getoption("markexpr") == "not long":
        terminalreporter.write_line("left out: tests marked `long`; with --long scripts/test runs all, as .ci/run does")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked `both_databases` on SQLite and on PostgreSQL, unless one is marked `sqlite_only`."""
    marks = metafunc.definition
    if marks.get_closest_marker("both_databases") and not marks.get_closest_marker("sqlite_only"):
        metafunc.fixturenames.insert(0, "engine")
        metafunc.parametrize("engine", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(scope="session")
def postgres() -> "Iterator[PostgresServer]":
    """A PostgreSQL server, started for the first test that asks for it; one for each worker of pytest-xdist."""
    from postgres_helpers import postgres_server  # late: most tests do without

    with postgres_server() as server:
        yield server


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The database of a test that is marked `both_databases`; it does not ask for this itself."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    from engine_helpers import on_postgres

    with on_postgres(request.getfixturevalue("postgres")):
        yield "postgresql"
