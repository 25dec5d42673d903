"""Loaded by every Python that a test starts (PYTHONPATH), and by conftest for the tests' own process.

Forbids connections beyond loopback and writing to the real home directory. Both raise, and both are noted in
the file TEST_GUARD_LOG, because a raised error may be swallowed by the code under test.
"""

import ipaddress
import os
import pwd
import sys

REAL_HOME = pwd.getpwuid(os.getuid()).pw_dir
# The project itself and the interpreter (its caches of compiled code) may live below the home directory.
ALLOWED = tuple(
    os.path.realpath(path) + os.sep
    for path in (os.path.dirname(os.path.dirname(os.path.dirname(__file__))), sys.prefix, sys.base_prefix)
)


class Forbidden(RuntimeError):
    """A test did what no test may do."""


def _forbid(sentence):
    if log := os.environ.get("TEST_GUARD_LOG"):
        with open(log, "a") as file:
            file.write(sentence + "\n")
    raise Forbidden(sentence)


def _is_local(host):
    if host in {"", "localhost", None} or (isinstance(host, (bytes, bytearray)) and host in {b"", b"localhost"}):
        return True
    text = host.decode("ascii", "replace") if isinstance(host, (bytes, bytearray)) else str(host)
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_write(mode, flags):
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def _in_real_home(path):
    if isinstance(path, int) or path is None:
        return False
    text = os.path.realpath(os.fsdecode(path))
    return text.startswith(REAL_HOME + os.sep) and not text.startswith(ALLOWED)


def _hook(event, arguments):
    if event in {"socket.connect", "socket.sendto"}:
        address = arguments[1]
        if isinstance(address, tuple) and not _is_local(address[0]):
            _forbid(f"{event} to {address[0]!r}")
    elif event == "socket.getaddrinfo":
        if not _is_local(arguments[0]):
            _forbid(f"look-up of host {arguments[0]!r}")
    elif event == "open":
        path, mode, flags = arguments
        if _is_write(mode, flags) and _in_real_home(path):
            _forbid(f"writing {os.fsdecode(path)} in the real home directory")
    elif event == "os.mkdir" and _in_real_home(arguments[0]):
        _forbid(f"making {os.fsdecode(arguments[0])} in the real home directory")


sys.addaudithook(_hook)
