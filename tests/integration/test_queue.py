"""The queue: who may send which text, what becomes of it, and how everybody waits."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import open_state
from forked import CHILDREN
from queue_helpers import DIMENSIONS, SPACE, add_texts, by_text, rows, stored_vectors

from codechunk.state import IndexRow, State
from codechunk.state.queue import LONGEST_WAIT_S, rough_tokens

pytestmark = pytest.mark.both_databases

TEXTS = [f"text {number}" for number in range(10)]
LEASE_S = 60.0


def nobody(owner: str) -> bool:
    """No owner is known to be gone."""
    return False


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path) as opened:
        yield opened


@pytest.fixture
def index(state: State) -> IndexRow:
    return add_texts(state, TEXTS)


@pytest.fixture
def lease_clock(state: State, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The lease clock, standing still until the test moves it."""
    now = [1000.0]
    monkeypatch.setattr(state.database, "lease_now", lambda connection: now[0])
    return now


def claim(state: State, index: IndexRow, owner: str = "me", most: int = 100, **narrower: Any) -> list[str]:
    return [t.text for t in state.queue.claim(index.space_id, owner, most=most, lease_s=LEASE_S, **narrower)]


def ids(state: State) -> dict[str, int]:
    return {text: int(str(number)) for text, number in by_text(state, "id").items()}


def change(state: State, sql: str) -> None:
    with state.database.begin() as connection:
        connection.exec_driver_sql(sql)


def save(state: State, text: str, value: float = 1.0, *, tokens: int | None = 5, requests: int = 1) -> None:
    vector = np.full((1, DIMENSIONS), value, np.float32)
    state.queue.save_direct([ids(state)[text]], vector, tokens=[tokens], requests=requests)


# ---------------------------------------------------------------- claims


def test_texts_are_claimed_in_order_as_many_as_asked_for_and_once(state: State, index: IndexRow) -> None:
    assert claim(state, index, most=4) == TEXTS[:4]
    assert claim(state, index, "other", most=4) == TEXTS[4:8]
    assert claim(state, index, most=4) == TEXTS[8:]
    assert claim(state, index) == []
    assert state.queue.counts().processing == 10


def test_a_claimed_text_comes_with_our_count_or_with_a_careful_estimate(state: State) -> None:
    index = add_texts(state, ["counted"], tokens=42)
    add_texts(state, ["not counted, ünd longer"], tokens=None, name="b.py")
    counted, estimated = state.queue.claim(index.space_id, "me", most=2, lease_s=LEASE_S)
    assert (counted.tokens, counted.counted) == (42, True)
    assert (estimated.tokens, estimated.counted) == (rough_tokens("not counted, ünd longer"), False)
    assert rough_tokens("ünd") == 2  # four bytes


def _claim_all(folder: Path, gate: Any, claimed: Any) -> None:
    with open_state(folder) as state:
        space = state.catalog.open_index(
            url="https://host.invalid/o/n", names=["o/n"], ref="a.py", space=SPACE
        ).space_id  # fmt: skip
        mine: list[str] = []
        gate.wait(60)
        while found := state.queue.claim(space, f"process {threading.get_native_id()}", most=3, lease_s=LEASE_S):
            mine += [text.text for text in found]
            time.sleep(0.005)  # SQLite's lock is not fair: without a break the first would take them all
        claimed.put(mine)


def test_two_processes_never_claim_the_same_text(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(300)]
    with open_state(tmp_path) as state:
        add_texts(state, texts)
    gate, claimed = CHILDREN.Barrier(2), CHILDREN.Queue()
    processes = [CHILDREN.Process(target=_claim_all, args=(tmp_path, gate, claimed)) for _ in range(2)]
    for process in processes:
        process.start()
    shares = [claimed.get(timeout=90) for _ in processes]
    for process in processes:
        process.join(30)
    assert all(shares), "both claimed, otherwise this proves nothing"
    assert sorted(shares[0] + shares[1]) == sorted(texts)


def test_only_texts_that_fell_back_or_of_one_run_can_be_asked_for(state: State, index: IndexRow) -> None:
    other = add_texts(state, ["of the other run"], name="b.py")
    (job,) = rows(state, f"SELECT id FROM jobs WHERE index_id = {other.id}")
    change(state, f"UPDATE embeddings SET route = 'direct' WHERE id = {ids(state)[TEXTS[7]]}")
    assert claim(state, index, fallen_back=True) == [TEXTS[7]]
    assert claim(state, index, fallen_back=True) == []
    assert claim(state, index, job_id=str(job[0])) == ["of the other run"]


def test_texts_that_no_chunk_has_any_more_are_forgotten_and_hide_nothing_behind_them(
    state: State, index: IndexRow
) -> None:
    change(state, f"UPDATE embeddings SET text_sha = 'gone' || id WHERE id <= {ids(state)[TEXTS[4]]}")
    assert claim(state, index, most=3) == TEXTS[5:8], "rubbish at the front is not the end of the queue"
    assert rows(state, "SELECT count(*) FROM embeddings") == [(5,)]


def test_what_must_wait_is_not_claimed_before_its_time(state: State, index: IndexRow) -> None:
    now = time.time()
    change(state, f"UPDATE embeddings SET next_at = {now + 100} WHERE id > {ids(state)[TEXTS[1]]}")
    assert [*state.queue.waiting(index.space_id)] == [2, pytest.approx(now + 100)]
    assert claim(state, index) == TEXTS[:2]
    assert [*state.queue.waiting(index.space_id)] == [0, pytest.approx(now + 100)]


def test_a_wait_that_only_a_jumped_clock_can_have_written_is_over(state: State, index: IndexRow) -> None:
    change(state, f"UPDATE embeddings SET next_at = {time.time() + LONGEST_WAIT_S + 3600}")
    assert state.queue.waiting(index.space_id) == (10, None)
    assert claim(state, index) == TEXTS


def test_waiting_tells_apart_what_fell_back_and_whose_it_is(state: State, index: IndexRow) -> None:
    other = add_texts(state, ["of the other run"], name="b.py")
    (job,) = rows(state, f"SELECT id FROM jobs WHERE index_id = {other.id}")
    change(state, f"UPDATE embeddings SET route = 'direct' WHERE id = {ids(state)[TEXTS[0]]}")
    assert state.queue.waiting(index.space_id, fallen_back=True)[0] == 1
    assert state.queue.waiting(index.space_id, fallen_back=False)[0] == 10
    assert state.queue.waiting(index.space_id, job_id=str(job[0]))[0] == 1


# ---------------------------------------------------------------- leases


def test_a_claim_holds_until_its_lease_ends_and_then_comes_back(
    state: State, index: IndexRow, lease_clock: list[float]
) -> None:
    claim(state, index)
    lease_clock[0] += LEASE_S - 1
    assert state.queue.free_abandoned(nobody, lease_s=LEASE_S) == 0
    lease_clock[0] += 2
    assert state.queue.free_abandoned(nobody, lease_s=LEASE_S) == 10
    assert claim(state, index, "other") == TEXTS


def test_a_renewed_claim_holds_longer(state: State, index: IndexRow, lease_clock: list[float]) -> None:
    claim(state, index, "me", most=3)
    claim(state, index, "other", most=3)
    lease_clock[0] += LEASE_S - 1
    state.queue.renew("me", lease_s=LEASE_S)
    lease_clock[0] += LEASE_S - 1
    assert state.queue.free_abandoned(nobody, lease_s=LEASE_S) == 3
    assert claim(state, index, "third", most=3) == TEXTS[3:6]


def test_claims_of_a_process_that_is_gone_come_back_at_once(state: State, index: IndexRow) -> None:
    claim(state, index, "dead", most=3)
    claim(state, index, "alive", most=3)
    asked: list[str] = []

    def is_gone(owner: str) -> bool:
        asked.append(owner)
        return owner == "dead"

    assert state.queue.free_abandoned(is_gone, lease_s=LEASE_S) == 3
    assert sorted(asked) == ["alive", "dead"]
    assert claim(state, index, "next", most=3) == TEXTS[:3]


def test_a_lease_given_before_a_reboot_is_over(state: State, index: IndexRow, lease_clock: list[float]) -> None:
    lease_clock[0] = 900_000.0
    claim(state, index)
    lease_clock[0] = 20.0  # the clock counts from the boot
    assert state.queue.free_abandoned(nobody, lease_s=LEASE_S) == 10


def test_release_gives_back_what_is_ones_own_and_not_done(state: State, index: IndexRow) -> None:
    claim(state, index, "me", most=3)
    claim(state, index, "other", most=3)
    save(state, TEXTS[0])
    state.queue.release("me")
    assert claim(state, index, "me") == [*TEXTS[1:3], *TEXTS[6:]]
    assert set(by_text(state, "owner").values()) == {None, "me", "other"}
    assert by_text(state, "owner")[TEXTS[0]] is None


def test_texts_of_a_batch_job_are_nobodys_claim(state: State, index: IndexRow) -> None:
    change(state, "UPDATE embeddings SET state = 'processing', batch_id = 'b'")
    assert state.queue.free_abandoned(lambda owner: True, lease_s=LEASE_S) == 0
    assert state.queue.counts().processing == 10


# ---------------------------------------------------------------- results


def test_a_saved_text_is_ready_with_its_vector_and_its_price(state: State, index: IndexRow) -> None:
    claim(state, index)
    save(state, TEXTS[2], 0.5, tokens=17, requests=3)
    assert by_text(state, "state")[TEXTS[2]] == "ready"
    assert (by_text(state, "paid")[TEXTS[2]], by_text(state, "tokens")[TEXTS[2]]) == ("direct", 17)
    assert (stored_vectors(state)[TEXTS[2]] == 0.5).all()
    assert rows(state, "SELECT requests FROM jobs") == [(3,)]


def test_a_vector_that_comes_after_its_claim_was_lost_is_kept(
    state: State, index: IndexRow, lease_clock: list[float]
) -> None:
    claim(state, index, "slow", most=1)
    lease_clock[0] += LEASE_S + 1
    state.queue.free_abandoned(nobody, lease_s=LEASE_S)
    assert claim(state, index, "other", most=1) == [TEXTS[0]]
    save(state, TEXTS[0], 0.25)
    save(state, TEXTS[0], 0.5)  # the other's, bought too: the first stands
    assert (stored_vectors(state)[TEXTS[0]] == 0.25).all()
    state.queue.fail(ids(state)[TEXTS[0]], "400")
    assert by_text(state, "state")[TEXTS[0]] == "ready"
    assert state.queue.counts().failed == 0


def test_a_failed_text_is_not_claimed_until_it_is_retried(state: State, index: IndexRow) -> None:
    claim(state, index, most=2)
    change(state, "UPDATE embeddings SET route = 'direct', batch_id = 'b', attempts = 3")
    state.queue.fail(ids(state)[TEXTS[0]], "400 too odd")
    assert by_text(state, "error")[TEXTS[0]] == "400 too odd"
    assert by_text(state, "attempts")[TEXTS[0]] == 4
    state.queue.release("me")
    assert TEXTS[0] not in claim(state, index)
    assert state.queue.retry_failed(index.space_id + 1) == 0
    assert state.queue.retry_failed(index.space_id) == 1
    found = rows(
        state, f"SELECT state, attempts, error, route, batch_id FROM embeddings WHERE id = {ids(state)[TEXTS[0]]}"
    )
    assert found == [("pending", 0, None, "any", None)]
    assert claim(state, index) == [TEXTS[0]]


def test_counts_tell_every_state_and_how_long_the_oldest_has_waited(state: State, index: IndexRow) -> None:
    claim(state, index, most=4)
    save(state, TEXTS[0])
    state.queue.fail(ids(state)[TEXTS[1]], "400")
    counts = state.queue.counts(index.space_id)
    assert (counts.pending, counts.processing, counts.ready, counts.failed) == (6, 2, 1, 1)
    assert counts.oldest_pending_at == pytest.approx(time.time(), abs=60)
    elsewhere = state.queue.counts(index.space_id + 1)
    assert (elsewhere.pending, elsewhere.oldest_pending_at) == (0, None)


# ---------------------------------------------------------------- facts and the wait of all submissions


def test_a_fact_is_remembered_replaced_and_forgotten(state: State) -> None:
    assert state.queue.fact("x") is None
    state.queue.amend("x", lambda _: {"a": [1, None]})
    state.queue.amend("x", lambda _: {"b": 2.5})
    assert state.queue.fact("x") == {"b": 2.5}
    state.queue.amend("x", lambda _: None)
    assert state.queue.fact("x") is None


def test_amending_a_fact_loses_nothing_between_threads(state: State) -> None:
    def add(value: object) -> object:
        time.sleep(0.001)
        return (value if isinstance(value, int) else 0) + 1

    threads = [
        threading.Thread(target=lambda: [state.queue.amend("n", add) for _ in range(25)]) for _ in range(4)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.queue.fact("n") == 100


def test_a_first_time_is_only_once(state: State) -> None:
    assert [state.queue.first_time("x") for _ in range(3)] == [True, False, False]
    assert state.queue.first_time("y")


def test_every_wait_in_a_row_is_a_step_further_until_a_success(state: State) -> None:
    assert state.queue.throttle() is None
    steps = []

    def wait_s(step: int) -> float:
        steps.append(step)
        return 100.0 * step

    before = time.time()
    for _ in range(3):
        state.queue.raise_throttle(wait_s=wait_s, reason="429", quota=False)
    assert steps == [1, 2, 3]
    throttle = state.queue.throttle()
    assert throttle is not None
    assert before + 300 <= throttle.until <= time.time() + 300
    state.queue.end_throttle()
    assert state.queue.throttle() is None
    assert state.queue.raise_throttle(wait_s=wait_s, reason="429", quota=False).step == 1


def test_a_wait_that_is_over_keeps_its_step(state: State) -> None:
    state.queue.raise_throttle(wait_s=lambda step: -1.0, reason="429", quota=False)
    assert state.queue.throttle() is None
    assert state.queue.raise_throttle(wait_s=lambda step: 60.0, reason="429", quota=False).step == 2


def test_the_end_of_a_job_ends_a_wait_for_room_and_no_other(state: State) -> None:
    state.queue.raise_throttle(wait_s=lambda step: 600.0, reason="slow down", quota=False)
    state.queue.end_throttle(only_quota=True)
    assert state.queue.throttle() is not None
    state.queue.raise_throttle(wait_s=lambda step: 600.0, reason="queue full", quota=True)
    state.queue.end_throttle(only_quota=True)
    assert state.queue.throttle() is None
    assert state.queue.raise_throttle(wait_s=lambda step: 1.0, reason="full again", quota=True).step == 3


def test_a_wait_until_next_year_was_written_by_a_jumped_clock_and_is_over(state: State) -> None:
    state.queue.raise_throttle(wait_s=lambda step: LONGEST_WAIT_S + 3600, reason="429", quota=False)
    assert state.queue.throttle() is None
