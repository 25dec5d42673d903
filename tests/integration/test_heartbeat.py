"""The heartbeat: claims of a process that lives do not end, and a lapse is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import open_state
from queue_helpers import add_texts, rows
from waiting import wait_until

from codechunk.errors import StateError
from codechunk.sending.heartbeat import BEATS_PER_LEASE, beating
from codechunk.state import State

pytestmark = pytest.mark.both_databases

# A beat is missed by seconds when the machine is busy.
LEASE_S = 6.0


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path) as opened:
        yield opened


def test_a_claim_outlives_its_lease_for_as_long_as_the_heart_beats(state: State) -> None:
    def leases() -> list[tuple[Any, ...]]:
        return rows(state, "SELECT DISTINCT lease_until FROM embeddings")

    index = add_texts(state, ["one", "two"])
    with beating(state, "me", LEASE_S) as heartbeat:
        state.queue.claim(index.space_id, "me", most=9, lease_s=LEASE_S)
        for _ in range(BEATS_PER_LEASE + 1):
            [(before,)] = leases()
            wait_until(lambda seen=before: leases() > [(seen,)], "a beat made the leases longer")
            assert state.queue.free_abandoned(lambda owner: False, lease_s=LEASE_S) == 0
        assert not heartbeat.lapsed
    with state.database.begin() as connection:  # as if nobody had renewed them for the time of a lease
        connection.exec_driver_sql(f"UPDATE embeddings SET lease_until = lease_until - {LEASE_S}")
    assert state.queue.free_abandoned(lambda owner: False, lease_s=LEASE_S) == 2


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
        wait_until(lambda: heartbeat._renewed_at != began_at, "a beat that renewed")
    assert len(failed) == 2


def test_a_lapse_is_remembered_until_everything_was_claimed_anew(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("codechunk.sending.heartbeat._clock", lambda: clock[0])
    with beating(state, "me", 0.3) as heartbeat:
        before = heartbeat.lapsed
        clock[0] = 100.0  # the machine slept
        assert (before, heartbeat.lapsed) == (False, True)
        wait_until(lambda: heartbeat._renewed_at == 100.0, "beats go on")  # and what was lost stays lost
        after_beats = heartbeat.lapsed
        heartbeat.restart()
        assert (after_beats, heartbeat.lapsed) == (True, False)


def test_a_bug_in_the_thread_is_raised_where_the_work_ends(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(state.queue, "renew", fail)
    with pytest.raises(RuntimeError, match="a bug"), beating(state, "me", 0.1) as heartbeat:
        wait_until(lambda: heartbeat._bug is not None, "a beat met the bug")
