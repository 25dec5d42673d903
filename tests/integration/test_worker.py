"""The loop: when it flushes, waits, gives up and stops, and what a jumping clock does to it."""

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from batch_helpers import KEY, TEXTS, Bench, bench
from gemini_emulator import Faults
from waiting import HOURS_S

from codechunk.cli.session import signals_ask
from codechunk.errors import CodechunkError, Denied
from codechunk.providers.gemini.client import Gemini
from codechunk.sending.owner import new_owner
from codechunk.sending.worker import MOST_UNREACHABLE

pytestmark = pytest.mark.both_databases

REAL_TIME = time.time
DAY_S = 86_400.0


def job_of(made: Bench) -> str:
    return str(made.sql("SELECT job_id FROM embeddings")[0][0])


def open_texts(made: Bench) -> int:
    return made.states["pending"] + made.states["processing"]


# ---------------------------------------------------------------- flushing


def test_few_texts_wait_for_more_and_it_is_said_for_how_long(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        flushed = made.worker(settings={"min_queue_size": 100}).flush()
        assert (flushed.batches, flushed.texts, flushed.waiting) == (0, 0, 10)
        assert flushed.reason is not None
        assert "10 texts wait, and 100 make a batch job worth while" in flushed.reason
        assert "in 30 min" in flushed.reason
        assert "--force" in flushed.reason
        assert made.rows == []


def test_force_enough_texts_and_a_long_wait_each_flush(tmp_path: Path) -> None:
    for name, settings, force in (
        ("force", {"min_queue_size": 100}, True),
        ("enough", {"min_queue_size": 10}, False),
        ("full", {"min_queue_size": 100, "max_queue_size": 5}, False),
        ("long", {"min_queue_size": 100, "max_wait_s": 0.0}, False),
    ):
        with bench(tmp_path / name) as made:
            flushed = made.worker(settings=settings).flush(force=force)
            assert (flushed.batches, flushed.texts, flushed.waiting, flushed.reason) == (1, 10, 0, None), name


def test_an_empty_queue_flushes_nothing_without_a_reason(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        worker = made.worker()
        worker.flush()
        flushed = worker.flush()
        assert (flushed.batches, flushed.waiting, flushed.reason) == (0, 0, None)


def test_a_queue_of_any_length_is_cut_into_batch_jobs_and_never_sent_directly(tmp_path: Path) -> None:
    texts = [f"value_{n} = {n}" for n in range(1300)]
    with bench(tmp_path, texts) as made:
        flushed = made.worker(settings={"max_queue_size": 1000, "min_queue_size": 100}).flush()
        assert (flushed.batches, flushed.texts, flushed.waiting) == (3, 1300, 0)
        assert made.emulator.requests["embed"] == 0


# ---------------------------------------------------------------- steps


def test_one_step_plans_submits_polls_and_settles(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        worker = made.worker()
        done = worker.step()
        assert (done.submitted, done.completed, done.texts_ready) == (1, 1, 10)
        assert len(made.settled) == 1
        worker.step()
        assert len(made.settled) == 1, "nothing came, so that nothing can be settled"
        made.check()


def test_texts_that_fell_back_are_sent_directly_after_the_price_was_told(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", "failed")
        worker = made.worker(max_retries=0)
        told: list[Counter[object]] = []
        worker.step(price=lambda: told.append(made.states))
        assert told == [Counter(pending=10)]
        assert made.emulator.requests["embed"] == 1
        assert set(made.of_texts("paid").values()) == {"direct"}
        made.check()


def test_a_price_that_is_too_high_stops_before_anything_is_sent(tmp_path: Path) -> None:
    def refuse() -> None:
        raise CodechunkError("too dear")

    with bench(tmp_path) as made:
        made.emulator.fail_next("job", "failed")
        with pytest.raises(CodechunkError, match="too dear"):
            made.worker(max_retries=0).step(price=refuse)
        assert made.emulator.requests["embed"] == 0
        assert made.states == Counter(pending=10)
        made.sound()


def test_without_batches_everything_is_sent_directly(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.worker(settings={"batches": False}).step(batches=False)
        assert made.rows == []
        made.check()


def test_sync_looks_at_jobs_that_are_not_due_yet(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        worker = made.worker(poller_interval_s=600.0)
        worker.flush()
        worker.submit()
        assert made.machine().poll().polled == 0
        assert worker.sync().completed == 1
        made.check()


# ---------------------------------------------------------------- waiting


def test_waiting_ends_when_everything_has_come(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(job_seconds=0.2)) as made:
        worker = made.worker()
        done = worker.wait_for(job_of(made), still_open=lambda: open_texts(made), batches=True)
        assert done.texts_ready == 10
        made.check()


def test_waiting_for_a_provider_that_is_gone_ends_with_a_sentence_and_nothing_lost(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        with (
            Gemini(api_key=KEY, form=made.form, base_url="http://127.0.0.1:9", timeout_s=2) as away,
            pytest.raises(CodechunkError, match="nothing is lost"),
        ):
            made.worker(provider=away).wait_for(job_of(made), still_open=lambda: open_texts(made), batches=True)
        assert made.states == Counter(processing=10)
        made.sound()
        made.worker().wait_for(job_of(made), still_open=lambda: open_texts(made), batches=True)
        made.check()


def test_a_provider_that_answers_between_failures_is_waited_for(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        for _ in range(3):
            made.emulator.fail_next("get_batch", "unavailable", times=MOST_UNREACHABLE - 1)
            made.emulator.faults.stuck = True
            for _ in range(MOST_UNREACHABLE - 1):
                made.worker().step()
        made.emulator.faults.stuck = False
        made.worker().wait_for(job_of(made), still_open=lambda: open_texts(made), batches=True)
        made.check()


def test_the_pause_is_until_something_is_due_and_never_nothing(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        worker = made.worker(settings={"poller_interval_s": 0.1}, poller_interval_s=600.0)
        assert worker._pause_s(60.0) == 60.0, "nothing is out"
        worker.flush()
        assert worker._pause_s(60.0) == 0.1, "a job is due: at once, but not in a spin"
        worker.submit()
        assert 10 < worker._pause_s(60.0) <= 12.1, "10 texts of at most 500: a fiftieth of the longest wait"
        assert worker._pause_s(5.0) == 5.0
        made.state.queue.raise_throttle(wait_s=lambda _: 3.0, reason="quota", quota=True)
        assert 2 < worker._pause_s(60.0) <= 3


# ---------------------------------------------------------------- the loop


def test_once_does_everything_due_once(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        worker = made.worker(max_texts=4)
        worker.loop(interval_s=HOURS_S, once=True, told=lambda _: None)
        made.check()
        asked = Counter(made.emulator.requests)
        kinds = ("upload_start", "create", "get_batch", "download", "embed")
        assert [asked[kind] for kind in kinds] == [3, 3, 3, 3, 0]
        assert len(made.settled) == 2, "at the beginning, and when vectors have come"
        worker.loop(interval_s=HOURS_S, once=True, told=lambda _: None)
        assert made.emulator.requests == asked, "nothing is due any more"
        assert len(made.settled) == 3


def test_what_goes_wrong_is_told_and_the_loop_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    with bench(tmp_path) as made:
        made.emulator.fail_next("create", "denied")
        made.emulator.fail_next("create", "unavailable")

        def tell(sentence: str) -> None:
            told.append(sentence)

        stop = made.state.stop
        worker = made.worker(grace_s=0.0, watch=lambda: stop.ask() if made.states["ready"] == 10 else None)
        worker.loop(interval_s=0.05, once=False, told=tell)
        assert "CODECHUNK_GEMINI_API_KEY" in told[0]
        assert told[1].endswith("trying again")
        made.check()


def test_a_loop_that_sleeps_ends_at_once_when_another_thread_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(tmp_path, faults=Faults(stuck=True)) as made:
        stop = made.state.stop
        asleep = stop.wait

        def wait(seconds: float) -> None:
            assert seconds > 1
            threading.Timer(0.05, stop.ask).start()
            asleep(3600.0)

        monkeypatch.setattr(stop, "wait", wait)
        made.worker(poller_interval_s=3600.0, settings={"poller_interval_s": 3600.0}).loop(
            interval_s=3600.0, once=False, told=lambda _: None
        )
        made.sound()


def test_once_ends_with_the_error(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("create", "denied")
        with pytest.raises(Denied):
            made.worker().loop(interval_s=0.05, once=True, told=lambda _: None)
        made.sound()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["upload_start", "upload_chunk", "create", "get_batch", "download"])
def test_a_signal_in_any_request_lets_the_step_end_and_gives_everything_back(
    tmp_path: Path, kind: str, number: int
) -> None:
    sent: list[int] = []

    def stop(exchange: Any) -> None:
        if exchange.kind == kind and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
            time.sleep(0.05)

    with bench(tmp_path, on_request=stop) as made:
        with signals_ask(made.state.stop):
            made.worker().loop(interval_s=60.0, once=False, told=lambda _: None)
        assert made.state.stop.patience_s > 0
        made.sound()
        made.stop_is_over()
        made.worker().loop(interval_s=60.0, once=True, told=lambda _: None)
        made.check()


# ---------------------------------------------------------------- clocks that jump


def jump(monkeypatch: pytest.MonkeyPatch, made: Bench, seconds: float) -> None:
    """Our clock goes wrong; the provider's does not."""
    monkeypatch.setattr(time, "time", lambda: REAL_TIME() + seconds)
    made.emulator.faults.clock_offset_s = -seconds


JUMPS = [3600.0, -3600.0, DAY_S, -DAY_S, 400 * DAY_S]


@pytest.mark.parametrize("seconds", JUMPS)
def test_a_jump_of_the_clock_steals_no_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    with bench(tmp_path) as made:
        made.planned()
        batch = made.state.batches.claim(("pending_submission",), new_owner(), space_id=made.space_id, lease_s=60)
        assert batch is not None
        jump(monkeypatch, made, seconds)
        assert made.machine().submit().submitted == 0
        assert made.state.batches.claim_one(batch.id, new_owner(), lease_s=60) is None
        made.state.queue.free_abandoned(lambda _: False, lease_s=60)
        made.state.batches.record(batch, error="still mine")


@pytest.mark.parametrize("seconds", JUMPS)
def test_a_jump_of_our_clock_makes_no_job_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    with bench(tmp_path, faults=Faults(stuck=True)) as made:
        worker = made.worker(max_age_s=1800.0)
        worker.step()
        jump(monkeypatch, made, seconds)
        worker.sync()
        assert made.emulator.requests["get_batch"] == 2, "it was looked at"
        assert made.emulator.requests["cancel"] == 0
        assert (made.row.state, made.row.failures) == ("processing", 0)
        made.emulator.faults.stuck = False
        worker.sync()
        made.check()


@pytest.mark.parametrize("seconds", JUMPS)
def test_after_a_jump_no_pause_is_negative_or_endless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    with bench(tmp_path, faults=Faults(stuck=True)) as made:
        worker = made.worker(poller_interval_s=30.0)
        worker.step()
        made.state.queue.raise_throttle(wait_s=lambda _: 60.0, reason="quota", quota=True)
        jump(monkeypatch, made, seconds)
        assert 0 < worker._pause_s(60.0) <= 60.0


@pytest.mark.parametrize("seconds", JUMPS)
def test_a_jump_before_an_unclear_creation_is_looked_into_buys_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("create", "lost_after")
        machine = made.planned()
        machine.submit()
        jump(monkeypatch, made, seconds)
        made.change(f"UPDATE batches SET next_at = {time.time()}")
        machine.submit()
        made.worker().sync()
        assert made.emulator.requests["create"] == 1
        made.check(ready=TEXTS)


def test_one_job_that_cannot_be_looked_at_does_not_end_the_wait_for_others(tmp_path: Path) -> None:
    """Six turns in a row with any failed look counted as a provider that is gone, however many looks went well."""
    with bench(tmp_path, faults=Faults(job_seconds=600.0)) as made:
        worker = made.worker(max_texts=1)
        made.state.batches.plan(made.space_id, prefix="codechunk", priority=0, most_texts=1, most_tokens=None)
        looks = 2 * MOST_UNREACHABLE
        job_id = str(made.sql("SELECT job_id FROM embeddings")[0][0])

        def still_open() -> int:
            nonlocal looks
            looks -= 1
            if looks > 0:
                made.emulator.fail_next("get_batch", "unavailable")
            else:
                made.emulator.finish()
            return made.states["pending"] + made.states["processing"]

        worker.wait_for(job_id, still_open=still_open, batches=True)
        made.check()
