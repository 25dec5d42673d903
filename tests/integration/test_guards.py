"""The guards themselves: a test that reaches out or writes to the real home must fail."""

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

# An address reserved for documentation (RFC 5737): nobody is there.
TESTS = Path(__file__).parent.parent
ELSEWHERE = "192.0.2.1"
REAL_HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)

pytestmark = pytest.mark.expects_guard


def test_a_connection_beyond_loopback_is_refused() -> None:
    with socket.socket() as connection, pytest.raises(RuntimeError, match=r"192\.0\.2\.1"):
        connection.connect((ELSEWHERE, 80))


def test_looking_up_a_foreign_host_is_refused() -> None:
    with pytest.raises(RuntimeError, match="look-up"):
        socket.getaddrinfo("example.invalid", 80)


def test_loopback_is_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())


def test_writing_to_the_real_home_is_refused() -> None:
    target = REAL_HOME / "codechunk-was-here"
    with pytest.raises(RuntimeError, match="real home"):
        target.write_text("no")
    assert not target.exists()


def test_processes_started_by_tests_are_guarded_too() -> None:
    script = f"import socket; socket.socket().connect(('{ELSEWHERE}', 80))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode != 0
    assert "Forbidden" in done.stderr


def test_a_swallowed_error_still_fails_the_test(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        (TESTS / "conftest.py")
        .read_text()
        .replace(
            'Path(__file__).parent / "guard"',
            repr(TESTS / "guard").replace("PosixPath", "Path"),
        )
    )
    pytester.makepyfile(
        f"""
        import socket
        def test_reaches_out():
            try:
                socket.socket().connect(("{ELSEWHERE}", 80))
            except RuntimeError:
                pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-o", f"pythonpath={TESTS / 'helpers'}")
    result.assert_outcomes(passed=1, errors=1)
