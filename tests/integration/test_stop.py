"""`Stop`: work ends at its check-points, sections and transactions are not broken, and signals only ask."""

import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Transaction

from codechunk.cli.session import signals_ask
from codechunk.errors import Stopped
from codechunk.process import stop as stop_module
from codechunk.process.stop import Stop, side_by_side
from codechunk.state.database import Database

FOREVER_S = 60.0


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def by_signals(stop: Stop) -> Iterator[None]:
    """Signals ask this Stop, as they do while a command runs."""
    with signals_ask(stop):
        yield


def signal_us(number: signal.Signals = signal.SIGINT) -> None:
    """To the main thread, as from another process: one to ourselves would not wake it."""
    signal.pthread_kill(threading.main_thread().ident or 0, number)


# ---------------------------------------------------------------- the value


def test_nobody_has_asked_at_first(stop: Stop) -> None:
    stop.raise_if_asked()
    stop.wait(0.0)
    assert (stop.asked, stop.reason, stop.patience_s) == (False, "", float("inf"))


def test_who_asks_first_gives_the_reason_and_who_asks_again_ends_the_patience(stop: Stop) -> None:
    stop.ask("enough")
    assert 0 < stop.patience_s <= stop_module.PATIENCE_S
    stop.ask("at once")
    assert (stop.asked, stop.reason, stop.patience_s) == (True, "enough", 0.0)
    with pytest.raises(Stopped) as caught:
        stop.raise_if_asked()
    assert caught.value.reason == "enough"


def test_patience_runs_out_by_itself(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stop_module.time, "monotonic", lambda: now[0])
    stop.ask()
    now[0] += stop_module.PATIENCE_S / 2
    assert stop.patience_s == stop_module.PATIENCE_S / 2
    now[0] += stop_module.PATIENCE_S
    assert stop.patience_s == 0.0


def test_everybody_who_sleeps_wakes_up_when_one_thread_asks(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_module, "LOOK_UP_S", FOREVER_S)  # woken by the bell, not by looking up
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    asleep = threading.Barrier(9)

    def sleep() -> None:
        asleep.wait()
        try:
            stop.wait(FOREVER_S)
        except Stopped as exc:
            ended.put(exc.reason)

    threads = [threading.Thread(target=sleep, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    asleep.wait()
    stop.ask("all")
    assert [ended.get(timeout=20) for _ in threads] == ["all"] * 8


def test_a_sleeper_whose_ring_was_swallowed_looks_up_by_itself(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_module, "LOOK_UP_S", 0.01)

    class Deaf(queue.SimpleQueue):  # type: ignore[type-arg]
        def put(self, item: None, block: bool = True, timeout: float | None = None) -> None:
            """Nobody hears it."""

    monkeypatch.setattr(stop, "_bell", Deaf())
    threading.Timer(0.05, stop.ask).start()
    with pytest.raises(Stopped):
        stop.wait(FOREVER_S)


def test_a_listener_is_called_at_every_ask_also_when_it_comes_late_and_not_after_its_end(stop: Stop) -> None:
    heard: list[str] = []
    end_early = stop.when_asked(lambda: heard.append("early"))
    ended = stop.when_asked(lambda: heard.append("ended"))
    ended()
    stop.ask()
    end_late = stop.when_asked(lambda: heard.append("late"))
    assert heard == ["early", "late"]
    stop.ask()
    assert heard == ["early", "late", "early", "late"]
    end_early()
    end_late()
    stop.ask()
    assert len(heard) == 4


def test_no_handler_of_exceptions_takes_it_for_a_failure_or_for_ctrl_c() -> None:
    assert not issubclass(Stopped, (Exception, KeyboardInterrupt))


# ---------------------------------------------------------------- sections


def test_inside_a_section_nothing_is_raised_and_sleep_only_ends(stop: Stop) -> None:
    stop.ask()
    with stop.held():
        stop.raise_if_asked()
        stop.wait(FOREVER_S)
    with pytest.raises(Stopped):
        stop.raise_if_asked()


def test_an_interrupt_inside_takes_effect_at_the_end_of_the_outermost_section(stop: Stop) -> None:
    steps = []
    with pytest.raises(Stopped):
        with stop.held():
            with stop.held():
                stop.ask()
                stop.interrupt()
                steps.append("inner")
            steps.append("outer")
        steps.append("never")
    assert steps == ["inner", "outer"]


def test_a_section_of_one_thread_holds_no_other_back(stop: Stop) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with stop.held():
            entered.set()
            leave.wait(FOREVER_S)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(FOREVER_S)
    stop.ask()
    with pytest.raises(Stopped):
        stop.interrupt()
    leave.set()
    thread.join()


def test_an_error_inside_is_not_swallowed(stop: Stop) -> None:
    with pytest.raises(ValueError, match="mine"), stop.held():
        raise ValueError("mine")


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_and_interrupts_the_main_thread_at_once(
    stop: Stop, by_signals: None, number: signal.Signals
) -> None:
    with pytest.raises(Stopped):
        signal_us(number)
        time.sleep(FOREVER_S)
    assert (stop.asked, stop.reason) == (True, number.name)


def test_a_signal_inside_a_section_takes_effect_at_its_end(stop: Stop, by_signals: None) -> None:
    steps = []
    with pytest.raises(Stopped):
        with stop.held():
            signal_us()
            signal_us()
            steps.append("went on")
        steps.append("never")
    assert steps == ["went on"]


def test_a_signal_wakes_who_sleeps_in_the_main_thread(stop: Stop, by_signals: None) -> None:
    threading.Timer(0.05, signal_us).start()
    with pytest.raises(Stopped):
        stop.wait(FOREVER_S)


def test_a_signal_handler_may_ask_at_any_moment_of_a_sleep(stop: Stop) -> None:
    """An Event in its place blocks here for good: `set` in the handler wants the lock that `wait` holds."""

    def heard(_number: int, _frame: object) -> None:
        stop.ask()
        stop._times = 0  # sleep on

    before = signal.signal(signal.SIGALRM, heard)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0002)
    try:
        for _ in range(1000):
            stop.wait(0.0005)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_handlers_are_as_before_afterwards_and_ignored_signals_stay_ignored(stop: Stop) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with signals_ask(stop):
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            signal_us(signal.SIGTERM)
            stop.raise_if_asked()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


SWALLOWED = """
import os, signal, weakref
from codechunk.cli.session import signals_ask
from codechunk.errors import Stopped
from codechunk.process.stop import Stop

class Thing:
    pass

stop = Stop()
with signals_ask(stop):
    thing = Thing()
    watch = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM) or sum(range(1000)))
    del thing
    print("went on")
    try:
        stop.raise_if_asked()
    except Stopped:
        print("stopped after all")
"""


def test_a_signal_that_python_drops_in_a_callback_is_raised_at_the_next_step() -> None:
    done = subprocess.run([sys.executable, "-c", SWALLOWED], capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["went on", "stopped after all"], done.stderr
    assert "Exception ignored" in done.stderr, "Python dropped it, or this proves nothing"
    assert done.returncode == 0


# ---------------------------------------------------------------- transactions


def test_an_interrupted_transaction_is_committed_and_its_lock_given_back(
    tmp_path: Path, stop: Stop, by_signals: None
) -> None:
    database = Database(tmp_path / "state.db", stop=stop)
    with pytest.raises(Stopped), database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE marks (n)")
        signal_us()
        connection.exec_driver_sql("INSERT INTO marks VALUES (1)")
    with database.begin() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM marks").scalar_one() == 1
    database.close()


def test_a_write_touches_no_signal_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(tmp_path / "state.db")
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a handler was changed"))
    with database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE marks (n)")
    database.close()


def test_ctrl_c_of_a_notebook_in_the_middle_of_a_rollback_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Database(tmp_path / "state.db"), Database(tmp_path / "state.db")
    roll_back = Transaction.rollback

    def interrupted(self: Any) -> None:
        monkeypatch.setattr(Transaction, "rollback", roll_back)
        raise KeyboardInterrupt

    monkeypatch.setattr(Transaction, "rollback", interrupted)
    with pytest.raises(KeyboardInterrupt) as kept, one.begin() as connection:  # `kept`: as a notebook keeps it
        connection.exec_driver_sql("CREATE TABLE marks (n)")
        raise ValueError
    with other.begin() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        connection.exec_driver_sql("CREATE TABLE marks (n)")
    assert kept.type is KeyboardInterrupt
    one.close()
    other.close()


# ---------------------------------------------------------------- calls in threads of their own


def test_results_come_in_order_and_every_call_ends_although_one_fails(stop: Stop) -> None:
    failed, ended = threading.Event(), threading.Event()

    def fail() -> int:
        failed.set()
        raise ValueError("first")

    def slow() -> int:
        failed.wait(FOREVER_S)
        ended.set()
        return 2

    assert side_by_side(stop, [lambda: 1, lambda: 2], name="test") == [1, 2]
    with pytest.raises(ValueError, match="first"):
        side_by_side(stop, [fail, slow], name="test")
    assert ended.is_set()


def test_calls_under_way_may_end_after_the_first_ask_and_not_after_the_second(stop: Stop) -> None:
    go_on = threading.Event()

    def call() -> str:
        stop.ask()
        go_on.wait(FOREVER_S)
        return "brought home"

    threading.Timer(0.05, go_on.set).start()
    assert side_by_side(stop, [call], name="test") == ["brought home"]
    go_on.clear()
    with pytest.raises(Stopped):
        side_by_side(stop, [call], name="test")
    go_on.set()


def test_signals_do_not_break_the_wait_for_calls_but_the_second_ends_it(stop: Stop, by_signals: None) -> None:
    hang, seen = threading.Event(), []

    def call() -> None:
        signal_us()
        seen.append(hang.wait(0.05))
        signal_us()
        hang.wait(FOREVER_S)

    with pytest.raises(Stopped):
        side_by_side(stop, [call], name="test")
    assert seen == [False]
    hang.set()
