"""From a remote job to vectors: every way in which results come late, wrong, in part, or not at all."""

import errno
import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from batch_helpers import TEXTS, Bench, KilledError, bench, kill_at, spoil
from gemini_emulator import Faults
from queue_helpers import add_texts
from waiting import HOURS_S

from codechunk.errors import CodechunkError
from codechunk.sending.retry import poll_wait_s

pytestmark = pytest.mark.both_databases

BAD_VECTORS = ["nan", "infinite", "zero", "wrong_dimension", "empty_vector"]


# ---------------------------------------------------------------- polling


def test_a_running_job_is_left_alone_longer_the_larger_and_older_it_is(tmp_path: Path) -> None:
    assert poll_wait_s(10, 0.0, interval_s=30) == 1.0
    assert poll_wait_s(500, 0.0, interval_s=30) == 30
    assert poll_wait_s(10, 0.0, interval_s=30) < poll_wait_s(250, 0.0, interval_s=30) < 30
    assert poll_wait_s(10, 0.0, interval_s=30) < poll_wait_s(10, 900.0, interval_s=30)
    assert poll_wait_s(10, 1e9, interval_s=30) == 30
    with bench(tmp_path, faults=Faults(stuck=True)) as made:
        machine = made.out(poller_interval_s=600.0)
        assert machine.poll().polled == 0, "it is not due yet"
        made.grow_older(12)
        assert machine.poll().polled == 1
        assert machine.poll().polled == 0
        made.emulator.make_older(made.jobs[0].name, 3600)
        made.grow_older(700)
        machine.poll()
        assert made.row.next_at - (made.row.submitted_at or 0) > 100, "an old job is looked at less often"


def test_no_more_jobs_are_looked_at_side_by_side_than_allowed(tmp_path: Path) -> None:
    at_once, most, lock = 0, 0, threading.Lock()
    with bench(tmp_path) as made:

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(made.gemini, name)

            def batch(self, name: str) -> Any:
                nonlocal at_once, most
                with lock:
                    at_once += 1
                    most = max(most, at_once)
                try:
                    threading.Event().wait(0.05)
                    return made.gemini.batch(name)
                finally:
                    with lock:
                        at_once -= 1

        machine = made.out(max_texts=1, concurrent_polls=3, provider=Counting())
        assert machine.poll().completed == 10
        assert most == 3
        made.check()


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("get_batch", fault) for fault in ("unavailable", "lost_after", "garbage", "empty_reply", "request_timeout")]
    + [("download", fault) for fault in ("unavailable", "lost_after", "bad_gateway")],
)
def test_a_look_that_fails_is_repeated_and_costs_nothing(tmp_path: Path, kind: str, fault: str) -> None:
    with bench(tmp_path) as made:
        machine = made.out()
        made.emulator.fail_next(kind, fault)
        done = machine.poll()
        assert len(done.unreachable) == 1
        assert made.row.state == "processing"
        assert machine.poll().completed == 1
        made.check()


def test_a_rate_limited_look_waits_as_long_as_asked(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(retry_delay="50s")) as made:
        machine = made.out()
        made.emulator.fail_next("get_batch", "rate_limited")
        assert machine.poll().unreachable == []
        assert made.row.next_at - (made.row.submitted_at or 0) > 49
        made.grow_older(70)
        machine.poll()
        made.check()


@pytest.mark.parametrize("fault", ["cut", "hang_up"])
def test_a_cut_download_is_repeated_and_nothing_of_it_is_taken(tmp_path: Path, fault: str) -> None:
    with bench(tmp_path) as made:
        machine = made.out()
        made.emulator.fail_next("download", fault, times=2)
        machine.poll()
        machine.poll()
        assert made.states == Counter(processing=len(TEXTS))
        assert list(made.batches_folder.iterdir()) == []
        machine.poll()
        assert made.emulator.requests["download"] == 3
        made.check()


@pytest.mark.parametrize("kind", ["get_batch", "download"])
def test_an_answer_that_drips_is_given_up_after_a_total_time_and_asked_for_again(tmp_path: Path, kind: str) -> None:
    with bench(tmp_path, faults=Faults(trickle_s=HOURS_S), timeout_s=0.5) as made:
        machine = made.out()
        made.emulator.fail_next(kind, "trickle")
        done = machine.poll()
        assert len(done.unreachable) == 1
        machine.poll()
        made.check()


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("fault", ["rows_shuffled", "rows_duplicated", "unknown_keys", "blank_lines", "garbage_lines"])
def test_rows_are_joined_by_key_and_what_does_not_belong_is_counted(tmp_path: Path, fault: str) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", fault)
        made.finish(made.machine())
        assert made.row.state == "completed"
        assert (made.row.rows_ok, made.row.rows_failed) == (10, 0)
        assert (made.row.rows_ignored > 0) == (fault not in {"rows_shuffled", "blank_lines"})
        made.check()


@pytest.mark.parametrize(
    "fault", ["rows_dropped", "keys_missing", "truncated_line", "row_errors", "row_errors_nested", *BAD_VECTORS]
)
def test_rows_that_bring_no_vector_are_sent_again_alone(tmp_path: Path, fault: str) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", fault)
        made.finish(made.machine())
        _first, second = made.jobs
        lost = set(second.texts)
        assert 0 < len(lost) < len(TEXTS)
        assert made.rows[0].state == "completed"
        assert made.rows[0].rows_failed == len(lost)
        attempts = made.of_texts("attempts")
        assert {text for text in TEXTS if attempts[text] == 2} == lost
        made.check()


def test_a_row_that_fails_again_and_again_has_failed_with_the_providers_reason(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(poison={"number_3()"})) as made:
        machine = made.machine(max_retries=2)
        for number in range(5):  # each time beside new texts, so that the job itself succeeds
            add_texts(made.state, [f"beside_{number} = {number}"], name=f"{number}.py")
            machine.plan()
            machine.submit()
            machine.poll()
        assert made.of_texts("state")[TEXTS[3]] == "failed"
        assert made.of_texts("error")[TEXTS[3]] == "Request contains an invalid argument. (code 3)"
        assert made.of_texts("attempts")[TEXTS[3]] == 3
        assert sum(TEXTS[3] in job.texts for job in made.jobs) == 3
        assert made.states == Counter(ready=14, failed=1)
        assert {row.state for row in made.rows} == {"completed"}


def test_a_row_that_fails_alone_in_its_job_is_isolated_by_a_direct_call(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(poison={"number_3()"})) as made:
        made.finish(made.machine(max_retries=1))
        assert made.states == Counter(ready=9, pending=1)
        worker = made.worker()
        worker.step()
        assert made.states == Counter(ready=9, failed=1)
        assert "invalid argument" in str(made.of_texts("error")[TEXTS[3]])
        made.check(ready=[text for text in TEXTS if text != TEXTS[3]])


def test_rows_that_failed_wait_before_they_are_sent_again(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", "row_errors")
        machine = made.out(initial_backoff_s=60.0)
        machine.poll()
        waiting, at = made.state.queue.waiting(made.space_id)
        assert waiting == 0
        assert at is not None
        assert 59 < at - (made.row.finished_at or 0) < 76
        assert machine.plan() == 0


def test_failed_texts_are_brought_back_by_a_retry(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(poison={"number_3()"})) as made:
        machine = made.machine(max_retries=0, fall_back=False)
        made.finish(machine)
        assert made.states == Counter(ready=9, failed=1)
        made.emulator.faults.poison = set()
        assert made.state.queue.retry_failed(made.space_id) == 1
        made.finish(machine)
        made.check()


def test_an_enormous_line_costs_only_itself(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.out()
        huge = b'{"key":"' + b"x" * (9 * 2**20) + b'"}\n'
        spoil(made, made.jobs[0], lambda lines: huge + b"".join(lines))
        machine.poll()
        assert made.row.rows_ignored == 1
        made.check()


def test_numbers_no_float_can_hold_and_lists_in_lists_are_no_vectors(tmp_path: Path) -> None:
    bad = ["1e400", "[0.1]", "null", "true", '"x"', "{}"]

    def change(lines: list[bytes]) -> bytes:
        for number, value in enumerate(bad):
            row = json.loads(lines[number])
            row["response"]["embedding"]["values"][0] = "@"
            lines[number] = json.dumps(row).replace('"@"', value).encode() + b"\n"
        return b"".join(lines)

    with bench(tmp_path) as made:
        machine = made.out()
        spoil(made, made.jobs[0], change)
        machine.poll()
        assert made.row.rows_failed >= 5
        assert made.states["ready"] + made.states["pending"] == 10
        made.finish(machine)
        assert made.states == Counter(ready=10)


def test_an_error_row_and_a_good_row_of_one_text_are_a_good_row(tmp_path: Path) -> None:
    def change(lines: list[bytes]) -> bytes:
        key = json.loads(lines[0])["key"]
        error = json.dumps({"key": key, "error": {"code": 13, "message": "Internal error."}}).encode() + b"\n"
        return error + b"".join(lines) + error

    with bench(tmp_path) as made:
        machine = made.out()
        spoil(made, made.jobs[0], change)
        machine.poll()
        assert (made.row.rows_ok, made.row.rows_failed, made.row.rows_ignored) == (10, 0, 1)
        made.check()


def test_the_providers_counts_are_kept_and_teach_the_estimate(tmp_path: Path) -> None:
    texts = [f"def value_{n}():\n    return {n}" for n in range(250)]
    with bench(tmp_path, texts, tokens=5) as made:
        assert made.fit().mean == 1.0
        made.finish(made.machine())
        counts = made.of_texts("tokens").values()
        assert all(isinstance(count, int) and count > 5 for count in counts)
        assert made.row.billed_tokens == sum(int(str(count)) for count in counts)
        assert made.fit().mean > 1.2
        assert made.fit().calibration.texts == 250


def test_a_count_that_was_not_told_stays_unknown_and_is_not_zero(tmp_path: Path) -> None:
    def change(lines: list[bytes]) -> bytes:
        rows = [json.loads(line) for line in lines]
        for row in rows:
            del row["response"]["tokenCount"]
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)

    with bench(tmp_path) as made:
        machine = made.out()
        spoil(made, made.jobs[0], change)
        machine.poll()
        assert set(made.of_texts("tokens").values()) == {None}
        assert set(made.of_texts("paid").values()) == {"batch"}


# ---------------------------------------------------------------- kills, and results that cannot be saved


def test_a_kill_between_the_vectors_and_the_end_does_not_make_a_good_job_a_failed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", "row_errors")
        machine = made.out()
        kill_at(monkeypatch, "vectors saved")
        with pytest.raises(KilledError):
            machine.poll()
        monkeypatch.undo()
        made.free_claims()
        taken = made.states["ready"]
        assert 0 < taken < 10
        after = made.machine()
        after.poll()
        assert made.rows[0].state == "completed", "its good rows came before the kill"
        assert made.rows[0].failures == 0
        made.finish(after)
        made.check()


def test_a_result_that_was_downloaded_before_a_kill_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(tmp_path) as made:
        machine = made.out()
        kill_at(monkeypatch, "downloaded")
        with pytest.raises(KilledError):
            machine.poll()
        monkeypatch.undo()
        made.free_claims()
        made.emulator.expire_files(results=True)
        made.machine().poll()
        assert made.emulator.requests["download"] == 1
        made.check()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_job_whose_results_cannot_be_saved_has_not_failed_and_is_taken_in_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(_: Any) -> None:
        raise OSError(code, os.strerror(code))

    with bench(tmp_path) as made:
        worker = made.worker()
        worker.flush()
        worker.submit()
        monkeypatch.setattr("codechunk.providers.gemini.client.os.fsync", refuse)
        with pytest.raises(CodechunkError, match=os.strerror(code)):
            worker.step()
        assert (made.row.state, made.row.failures, made.row.owner) == ("processing", 0, None)
        assert made.states == Counter(processing=10)
        assert list(made.batches_folder.iterdir()) == []
        made.sound()
        monkeypatch.undo()
        worker.step()
        assert len(made.jobs) == 1
        made.check()


def test_a_folder_for_results_that_cannot_be_made_is_a_sentence_and_nothing_is_lost(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.out()
        made.batches_folder.rmdir()
        made.batches_folder.write_text("in the way")
        with pytest.raises(CodechunkError, match="make space"):
            machine.poll()
        assert (made.row.state, made.row.owner) == ("processing", None)
        made.batches_folder.unlink()
        machine.poll()
        made.check()


def test_one_result_that_cannot_be_saved_does_not_keep_others_from_being_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(tmp_path) as made:
        machine = made.out(max_texts=5)
        real, calls = os.fsync, iter([True, False, False])

        def refuse_once(number: int) -> None:
            if next(calls):
                raise OSError(errno.ENOSPC, "No space left on device")
            real(number)

        monkeypatch.setattr("codechunk.providers.gemini.client.os.fsync", refuse_once)
        with pytest.raises(CodechunkError, match="No space"):
            machine.poll()
        assert made.states == Counter(ready=5, processing=5)


@pytest.mark.parametrize("fault", ["not_found", "denied"])
def test_a_download_answered_with_404_or_403(tmp_path: Path, fault: str) -> None:
    """404 twice: the results are really gone and the texts go out again. 403 without a word of the file: the key."""
    with bench(tmp_path) as made:
        machine = made.out()
        made.emulator.fail_next("download", fault, times=1 if fault == "denied" else 2)
        if fault == "denied":
            with pytest.raises(CodechunkError):
                machine.poll()
            assert made.row.state == "processing"
            machine.poll()
            made.check()
        else:
            made.finish(machine)
            assert len(made.jobs) == 2
            made.check(paid=lambda _: 2)


def changed(made: Bench, change: Any) -> None:
    """The result of the only job with `change` applied to its first line."""

    def lines(found: list[bytes]) -> bytes:
        first = json.loads(found[0])
        change(first)
        return b"".join([json.dumps(first).encode() + b"\n", *found[1:]])

    spoil(made, made.jobs[0], lines)


@pytest.mark.parametrize("count", [10**30, "9" * 40, -5, True])
def test_a_count_of_tokens_that_is_none_costs_nothing_but_the_count(tmp_path: Path, count: object) -> None:
    """A number larger than the database holds was an exception of the driver, at every look again."""
    with bench(tmp_path) as made:
        machine = made.out()
        changed(made, lambda line: line["response"].update(tokenCount=count))
        machine.poll()
        assert made.row.state == "completed"
        assert made.sql("SELECT count(*) FROM embeddings WHERE tokens IS NULL") == [(1,)]
        made.check()


@pytest.mark.parametrize("words", ["half of a pair: \ud800", "a zero: \0 in it"])
def test_an_error_with_characters_no_database_takes_is_recorded_without_them(tmp_path: Path, words: str) -> None:
    """A lone surrogate ended the worker at every look again."""
    with bench(tmp_path) as made:
        machine = made.out(max_retries=0)

        def fail(line: Any) -> None:
            del line["response"]
            line["error"] = {"code": 3, "message": words}

        changed(made, fail)
        machine.poll()
        assert made.row.state == "completed"
        assert made.states == {"ready": 9, "failed": 1}
        (error,) = made.sql("SELECT error FROM embeddings WHERE state = 'failed'")
        assert str(error[0]).startswith(words[:7])
        assert "\0" not in str(error[0])


def test_an_empty_result_file_of_a_job_with_results_is_downloaded_once_more(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.out()
        made.emulator.fail_next("download", "empty_reply")
        assert machine.poll().completed == 0
        made.grow_older(60)
        made.finish(machine)
        assert made.emulator.requests["create"] == 1
        made.check()
