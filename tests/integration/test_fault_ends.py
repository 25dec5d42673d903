"""Every end a remote job may have, a person's cancel among them, and what becomes of its texts."""

from collections import Counter
from pathlib import Path

import pytest
from batch_helpers import TEXTS, Bench, KilledError, bench, kill_at, spoil
from gemini_emulator import Faults

from codechunk.sending.batch import BatchJobs

pytestmark = pytest.mark.both_databases

ENDS = {
    "failed": "could not be processed",
    "expired": "expired",
    "cancelled": "cancelled",
    "vanished": "the remote job is gone",
    "no_result_file": "its results are gone",
    "all_rows_failed": "every row failed",
}


# ---------------------------------------------------------------- ends


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_ends_badly_is_sent_again_in_a_new_one(tmp_path: Path, end: str) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", end)
        machine = made.out(initial_backoff_s=40.0, max_backoff_s=300.0, grace_s=0.0)
        done = machine.poll()
        if end == "no_result_file":
            assert done.ended_badly == 0, "to believe it costs the price of the job: a second look decides"
            made.grow_older(60)
            done = machine.poll()
        assert done.ended_badly == 1
        row = made.row
        assert row.state == "retry_scheduled"
        assert ENDS[end] in str(row.error).lower()
        assert row.failures == 1
        assert (row.remote_name, row.create_began_at, row.result_file) == (None, None, None)
        assert made.states == Counter(processing=10)
        machine.submit()
        assert len(made.jobs) == 1, "not before its time"
        made.grow_older(52)
        made.finish(machine)
        assert [job.display_name for job in made.jobs] == [f"codechunk-{row.id}-0", f"codechunk-{row.id}-1"]
        made.check()


def test_the_wait_after_a_bad_end_doubles_up_to_the_maximum(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", "failed", times=4)
        machine = made.planned(initial_backoff_s=40.0, max_backoff_s=100.0, max_retries=9)
        for wait_s in (40, 80, 100, 100):
            machine.submit()
            before = made.row.submitted_at or 0
            machine.poll()
            assert wait_s - 1 < made.row.next_at - before < wait_s * 1.25 + 5
            made.grow_older(200)
        machine.submit()
        machine.poll()
        made.check()


@pytest.mark.parametrize("end", [*ENDS, "partially_succeeded"])
@pytest.mark.parametrize("fall_back", [True, False])
def test_a_job_that_always_ends_badly_falls_back_or_fails_with_the_reason(
    tmp_path: Path, end: str, fall_back: bool
) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", end, times=50)
        made.finish(made.machine(max_retries=1, fall_back=fall_back, grace_s=0.0))
        if end == "partially_succeeded":
            # Some rows come each time; the others are counted as attempts of their own.
            assert made.states["ready"] + made.states["failed"] == 10
            assert made.states["ready"] >= 1
            assert "no row" in str(next(error for error in made.of_texts("error").values() if error))
            return
        assert made.row.state == "failed"
        assert len(made.jobs) == 2
        assert made.states == Counter({"pending" if fall_back else "failed": 10})
        assert all(ENDS[end] in str(error).lower() for error in made.of_texts("error").values())
        assert set(made.of_texts("route").values()) == {"direct" if fall_back else "any"}
        made.sound()
        made.emulator.faults.next.clear()
        if fall_back:
            worker = made.worker(fall_back=True)
            priced: list[int] = []
            worker.step(price=lambda: priced.append(1))
            assert priced == [1]
            assert set(made.of_texts("paid").values()) == {"direct"}
            job_id = str(made.sql("SELECT job_id FROM embeddings")[0][0])
            bought = made.state.queue.bought(job_id)
            assert (bought.fallbacks, bought.batches) == (1, 1)
            assert bought.direct + bought.direct_estimated > 0
            assert bought.batch == 0
        else:
            made.state.queue.retry_failed(made.space_id)
            made.finish(made.machine())
        assert made.states == Counter(ready=10)


def test_the_part_that_came_is_kept_and_only_the_rest_is_sent_again(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", "partially_succeeded")
        made.finish(made.machine())
        first, second = made.jobs
        assert 0 < len(second.texts) < len(first.texts)
        made.check()


def test_a_failed_job_that_left_results_has_its_good_rows_taken(tmp_path: Path) -> None:
    """Seen of no provider, but the file is paid for: what is good in it is taken before anything is sent again."""
    with bench(tmp_path) as made:
        machine = made.out()
        spoil(made, made.jobs[0], lambda lines: b"".join(lines[:6]))
        made.jobs[0].state = "BATCH_STATE_FAILED"
        machine.poll()
        assert made.row.state == "retry_scheduled"
        assert made.states == Counter(ready=6, processing=4)
        assert made.row.texts == 4
        made.finish(machine)
        assert sorted(made.jobs[1].texts) == sorted(TEXTS[6:])
        assert made.states == Counter(ready=10)


def test_a_state_nobody_has_heard_of_is_waited_for(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(unknown_state="BATCH_STATE_PONDERING")) as made:
        machine = made.out()
        machine.poll()
        assert (made.row.state, made.row.remote_state) == ("processing", "BATCH_STATE_PONDERING")
        made.emulator.faults.unknown_state = None
        machine.poll()
        made.check()


@pytest.mark.parametrize("state", [None, "BATCH_STATE_PONDERING"])
def test_a_job_that_is_too_old_is_cancelled_first_and_then_sent_again(tmp_path: Path, state: str | None) -> None:
    with bench(tmp_path, faults=Faults(stuck=True, unknown_state=state)) as made:
        machine = made.out(max_age_s=3600.0)
        made.emulator.make_older(made.jobs[0].name, 3500)
        machine.poll()
        assert made.emulator.requests["cancel"] == 0
        made.emulator.make_older(made.jobs[0].name, 200)
        machine.poll()
        assert made.emulator.requests["cancel"] == 1
        assert len(made.jobs) == 1
        made.emulator.faults.stuck, made.emulator.faults.unknown_state = False, None
        made.finish(machine)
        assert [job.state for job in made.jobs] == ["BATCH_STATE_CANCELLED", "BATCH_STATE_SUCCEEDED"]
        made.check()


def test_results_that_come_in_spite_of_the_cancellation_are_taken(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(stuck=True, cancel_ignored=True)) as made:
        machine = made.out(max_age_s=3600.0)
        made.emulator.make_older(made.jobs[0].name, 4000)
        machine.poll()
        made.emulator.finish()
        machine.poll()
        assert len(made.jobs) == 1
        made.check()


def test_a_job_that_cannot_be_cancelled_is_left_behind_after_the_grace_time(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(stuck=True, cancel_ignored=True)) as made:
        machine = made.out(max_age_s=3600.0, grace_s=60.0)
        made.emulator.make_older(made.jobs[0].name, 4000)
        machine.poll()
        machine.poll()
        assert (made.row.state, made.row.failures) == ("processing", 0)
        made.grow_older(70)
        machine.poll()
        assert made.row.failures == 1
        assert "not to be cancelled" in str(made.row.error)
        assert made.emulator.requests["cancel"] >= 2, "asked for once more at the end"


def test_a_cancellation_that_was_only_meant_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench(tmp_path, faults=Faults(stuck=True)) as made:
        machine = made.out(max_age_s=3600.0)
        made.emulator.make_older(made.jobs[0].name, 4000)
        kill_at(monkeypatch, "cancel intent recorded")
        with pytest.raises(KilledError):
            machine.poll()
        monkeypatch.undo()
        made.free_claims()
        assert made.emulator.requests["cancel"] == 0
        made.machine(max_age_s=3600.0).poll()
        assert made.emulator.requests["cancel"] == 1
        made.emulator.faults.stuck = False
        made.finish(made.machine())
        made.check()


def test_a_fresh_job_that_is_not_known_yet_is_asked_for_again(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.out(grace_s=60.0)
        made.emulator.fail_next("get_batch", "not_found")
        machine.poll()
        assert made.row.state == "processing"
        machine.poll()
        made.check()


# ---------------------------------------------------------------- a person's cancel


def cancelled(made: Bench) -> None:
    assert made.row.state == "cancelled"
    assert made.states == Counter(failed=10)
    assert all("cancelled" in str(error) for error in made.of_texts("error").values())
    assert made.emulator.live_jobs() == []
    made.sound()


def test_a_job_cancelled_before_it_was_submitted_is_never_sent(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.planned()
        assert machine.cancel(made.row.id)
        cancelled(made)
        assert not made.emulator.log
        assert not machine.cancel(made.row.id), "it has ended"


def test_a_job_cancelled_by_a_person_is_not_sent_again(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(stuck=True)) as made:
        machine = made.out()
        assert machine.cancel(made.row.id)
        machine.poll()
        cancelled(made)
        assert len(made.jobs) == 1
        made.emulator.faults.stuck = False
        assert made.state.queue.retry_failed(made.space_id) == 10
        made.finish(machine)
        made.check()


def test_what_a_cancelled_job_had_done_already_is_kept(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(job_seconds=60)) as made:
        machine = made.out()
        made.emulator.finish()
        assert machine.cancel(made.row.id)
        machine.poll()
        made.check()


def test_a_job_cancelled_while_its_creation_was_unclear_is_cancelled_at_the_provider(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(job_seconds=60)) as made:
        made.emulator.fail_next("create", "lost_after")
        machine: BatchJobs = made.planned(grace_s=5.0)
        machine.submit()
        assert machine.cancel(made.row.id)
        machine.submit()
        machine.poll()
        machine.poll()
        cancelled(made)
        assert [job.state for job in made.jobs] == ["BATCH_STATE_CANCELLED"]


def test_a_job_cancelled_while_its_creation_was_unclear_and_that_never_was_is_given_up(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("create", "lost_before")
        machine = made.planned(grace_s=60.0)
        machine.submit()
        assert machine.cancel(made.row.id)
        made.grow_older(61)
        machine.submit()
        cancelled(made)
        assert not made.jobs


def test_a_job_that_succeeded_without_a_result_file_is_not_bought_again_for_ever(tmp_path: Path) -> None:
    """Its texts waited at once and without a count: every turn bought them again."""
    with bench(tmp_path) as made:
        machine = made.machine(max_retries=2)
        for _ in range(10):
            machine.plan()
            machine.submit()
            for job in made.jobs:
                made.emulator.finish(job.name)
                job.result_file = None
            machine.poll()
        assert made.emulator.requests["create"] == 3
        assert made.states["processing"] == 0
        assert made.row.state == "failed"


def test_a_cancelled_job_whose_results_are_gone_is_not_sent_again(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.out()
        assert machine.cancel(made.row.id)
        job = made.jobs[0]
        job.state, job.result_file = "BATCH_STATE_SUCCEEDED", "files/gone"
        made.emulator.fail_next("download", "not_found", times=100)
        machine.poll()
        made.grow_older(60)  # the second look believes it
        machine.poll()
        machine.plan()
        machine.submit()
        assert made.row.state == "cancelled"
        assert made.emulator.requests["create"] == 1
        made.sound()


def test_a_404_for_a_job_that_the_list_still_has_is_not_believed(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.out(grace_s=0.0)
        made.emulator.fail_next("get_batch", "not_found", times=3)
        for _ in range(3):
            assert machine.poll().ended_badly == 0
            made.grow_older(60)
        made.finish(machine)
        assert made.emulator.requests["create"] == 1
        made.check()
