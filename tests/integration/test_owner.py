"""Whether the process behind a claim is gone: only when that is certain."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_until

from codechunk.sending import owner
from codechunk.sending.owner import is_gone, new_owner

NAME_ITSELF = "from codechunk.sending.owner import new_owner; print(new_owner(), flush=True); input()"

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the lease alone decides")


def start() -> tuple[subprocess.Popen[str], str]:
    """A process that holds claims, and its name."""
    process = subprocess.Popen(
        [sys.executable, "-c", NAME_ITSELF], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_no_two_names_are_alike() -> None:
    assert len({new_owner() for _ in range(100)}) == 100


def test_this_process_is_not_gone() -> None:
    assert not is_gone(new_owner())


@linux
def test_a_killed_process_is_gone_and_a_living_one_is_not() -> None:
    process, name = start()
    assert not is_gone(name)
    end(process)
    assert is_gone(name)


@linux
def test_a_dead_process_whose_parent_has_not_looked_yet_is_gone() -> None:
    process, name = start()
    os.kill(process.pid, 9)
    wait_until(lambda: is_gone(name), "a zombie is gone")
    end(process)


@linux
def test_a_later_process_with_the_same_number_is_another() -> None:
    place, pid, born, own = new_owner().rsplit("|", 3)
    assert is_gone("|".join((place, pid, str(int(born) - 1), own)))


@pytest.mark.parametrize("what", ["machine", "boot", "container"])
def test_of_a_process_elsewhere_nothing_is_certain(what: str) -> None:
    place, pid, _, own = new_owner().rsplit("|", 3)
    host, boot, namespace = place.split(":", 2)
    elsewhere = {
        "machine": f"other{host}:{boot}:{namespace}",
        "boot": f"{host}:0{boot[1:]}x:{namespace}",
        "container": f"{host}:{boot}:{namespace}1",
    }
    assert not is_gone("|".join((elsewhere[what], pid, "1", own)))


def test_without_proc_nobody_is_certainly_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(owner, "_PROC", tmp_path)
    owner._place.cache_clear()
    try:
        name = new_owner()
        place, _, born, own = name.rsplit("|", 3)
        assert not is_gone(name)
        assert not is_gone("|".join((place, "999999999", born, own)))
    finally:
        monkeypatch.undo()
        owner._place.cache_clear()


@linux
def test_a_process_of_another_user_that_proc_hides_is_not_certainly_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    process, name = start()
    end(process)

    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert not is_gone(name)
