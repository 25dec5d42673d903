"""What only a Python that starts from nothing shows: no network, no cache, another hash seed, a disk that is full."""

import subprocess
import sys
from pathlib import Path

import pytest

from codechunk.providers.synthetic import embed

TEXTS = ["", "x", "def add(a, b):\n    return a + b\n", "größe = 3  # naïve ☕\n"]


def test_counting_needs_no_network_and_no_cache(tmp_path: Path) -> None:
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from codechunk.text.tokens import count_tokens\nprint(count_tokens('hello world'))"
    )
    environment = {"TIKTOKEN_CACHE_DIR": str(tmp_path / "none"), "HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_costs_the_file_log_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "l.log").symlink_to("/dev/full")
    program = (
        "import logging, pathlib, codechunk.process.log as l\n"
        f"l.setup(file=pathlib.Path({str(tmp_path)!r}) / 'logs' / 'l.log')\n"
        "logging.getLogger('codechunk').info('one'); logging.getLogger('codechunk').info('two')\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stderr.count("cannot be written any more: No space left on device") == 1
    assert "two" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_fresh_interpreter_with_another_hash_seed_gives_the_same_bytes() -> None:
    code = (
        f"import sys; from codechunk.providers.synthetic import embed; texts = {TEXTS!r};"
        "sys.stdout.buffer.write(embed(texts).tobytes())"
    )
    for seed in ("0", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        assert done.stdout == embed(TEXTS).tobytes()
