"""The heartbeat: claims of a process that lives do not end, and a lapse is told."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import open_state
from queue_helpers import add_texts

from codechunk.errors import StateError
from codechunk.sending.heartbeat import beating
from codechunk.state import State

pytestmark = pytest.mark.both_databases


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path) as opened:
        yield opened


def test_a_claim_outlives_its_lease_for_as_long_as_the_heart_beats(state: State) -> None:
    index = add_texts(state, ["one", "two"])
    with beating(state, "me", 0.3) as heartbeat:
        state.queue.claim(index.space_id, "me", most=9, lease_s=0.3)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            assert state.queue.free_abandoned(lambda owner: False, lease_s=0.3) == 0
            time.sleep(0.05)
        assert not heartbeat.lapsed
    time.sleep(0.4)
    assert state.queue.free_abandoned(lambda owner: False, lease_s=0.3) == 2


def test_a_database_that_is_locked_for_a_while_stops_no_heart(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[int] = []
    real = state.queue.renew

    def locked_twice(*arguments: Any, **named: Any) -> None:
        if len(failed) < 2:
            failed.append(1)
            raise StateError("locked")
        real(*arguments, **named)

    monkeypatch.setattr(state.queue, "renew", locked_twice)
    with beating(state, "me", 1.5) as heartbeat:
        began_at = heartbeat._renewed_at
        deadline = time.monotonic() + 10
        while heartbeat._renewed_at == began_at:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert len(failed) == 2


def test_a_lapse_is_remembered_until_everything_was_claimed_anew(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("codechunk.sending.heartbeat._clock", lambda: clock[0])
    with beating(state, "me", 0.3) as heartbeat:
        before = heartbeat.lapsed
        clock[0] = 100.0  # the machine slept
        assert (before, heartbeat.lapsed) == (False, True)
        time.sleep(0.5)  # beats go on, and what was lost stays lost
        assert heartbeat._renewed_at == 100.0
        after_beats = heartbeat.lapsed
        heartbeat.restart()
        assert (after_beats, heartbeat.lapsed) == (True, False)


def test_a_bug_in_the_thread_is_raised_where_the_work_ends(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(state.queue, "renew", fail)
    with pytest.raises(RuntimeError, match="a bug"), beating(state, "me", 0.1):
        time.sleep(0.3)
