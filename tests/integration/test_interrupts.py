"""Signals wait for the end of a transaction, and only for that."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codechunk.process.stop import deferred
from codechunk.state.database import Database


def test_a_signal_inside_takes_effect_at_the_end() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt):
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("went on")
        steps.append("never")
    assert steps == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_blocks_may_be_nested_and_other_threads_are_left_alone() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), deferred():
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
            steps.append("inner")
        steps.append("outer")
    assert steps == ["inner", "outer"]

    def in_thread() -> None:
        with deferred():
            steps.append("thread")

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert steps[-1] == "thread"


def test_an_interrupted_transaction_is_committed_and_its_lock_given_back(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db")
    with pytest.raises(KeyboardInterrupt), database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE marks (n)")
        os.kill(os.getpid(), signal.SIGINT)
        connection.exec_driver_sql("INSERT INTO marks VALUES (1)")
    with database.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM marks").scalar_one() == 1
    database.close()


def test_an_error_inside_is_not_swallowed() -> None:
    with pytest.raises(ValueError, match="mine"), deferred():
        raise ValueError("mine")


SWALLOWED = """
import os, signal, weakref
from codechunk.process.stop import raise_if_stopped, stop_like_ctrl_c
stop_like_ctrl_c()
raise_if_stopped()

class Thing:
    pass

thing = Thing()
watch = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM) or sum(range(1000)))
del thing
print("went on")
try:
    raise_if_stopped()
except KeyboardInterrupt:
    print("stopped after all")
raise_if_stopped()
"""


def test_a_signal_that_python_drops_in_a_callback_is_raised_at_the_next_step() -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["went on", "stopped after all"], done.stderr
    assert done.returncode == 0
