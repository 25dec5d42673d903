"""Batch jobs from intent to remote job: how they are cut, named, sent, found again, and turned away."""

import json
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from batch_helpers import KEY, TEXTS, Bench, bench
from gemini_emulator import Exchange, Faults

from codechunk.errors import CodechunkError, Denied
from codechunk.providers.gemini.client import Gemini
from codechunk.providers.gemini.form import Form
from codechunk.state.batch_words import request_key

pytestmark = pytest.mark.both_databases


def over(throttle: object) -> object:
    """The wait of all submissions, as if its time had come."""
    assert isinstance(throttle, dict)
    return {**throttle, "until": 0.0}


def names(found: Bench) -> list[str | None]:
    return [job.display_name for job in found.jobs]


def bodies(found: Bench, kind: str) -> list[Any]:
    return [json.loads(exchange.body or b"{}") for exchange in found.emulator.seen if exchange.kind == kind]


# ---------------------------------------------------------------- how jobs are cut and what is in them


def test_texts_go_out_in_the_order_they_came_and_never_more_than_the_limit_in_a_job(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.planned(max_texts=4)
        assert [row.texts for row in made.rows] == [4, 4, 2]
        machine.submit()
        assert [job.texts for job in made.jobs] == [TEXTS[:4], TEXTS[4:8], TEXTS[8:]]
        machine.poll()
        made.check()


def test_a_job_holds_no_more_tokens_than_allowed_but_always_one_text(tmp_path: Path) -> None:
    with bench(tmp_path, tokens=20) as made:
        made.planned(max_tokens=50)
        assert [row.texts for row in made.rows] == [2, 2, 2, 2, 2]
        assert {row.tokens for row in made.rows} == {40}
    with bench(tmp_path / "large", TEXTS[:3], tokens=20) as made:
        made.planned(max_tokens=19)
        assert [row.texts for row in made.rows] == [1, 1, 1]


def test_the_key_of_a_row_is_the_hash_of_its_text(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.out()
        shas = made.of_texts("text_sha")
        wanted = [request_key(str(shas[text])) for text in TEXTS]
        assert made.jobs[0].keys == wanted
        assert all(len(key) == len("chunk_") + 32 for key in wanted)


def test_priority_and_name_of_a_job_are_those_of_the_settings(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.out(priority=7, prefix="team-a")
        (job,) = made.jobs
        assert job.priority == 7
        assert job.display_name == made.row.display_name == f"team-a-{made.row.id}-0"
        (body,) = bodies(made, "create")
        assert body["batch"]["priority"] == "7"


def test_without_a_priority_none_is_on_the_wire(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.out()
        assert "priority" not in bodies(made, "create")[0]["batch"]


def test_model_2_is_told_its_task_in_the_text_and_its_vectors_are_taken_as_they_are(tmp_path: Path) -> None:
    with bench(tmp_path, model="gemini-embedding-2") as made:
        made.finish(made.machine())
        assert made.jobs[0].texts == [f"title: none | text: {text}" for text in TEXTS]
        made.check()


def test_a_text_over_the_limit_is_never_sent_and_the_others_are(tmp_path: Path) -> None:
    long = "word " * 40_000
    with bench(tmp_path, [*TEXTS[:4], long], tokens=None) as made:
        made.finish(made.machine())
        assert made.of_texts("state")[long] == "failed"
        assert "2,048" in str(made.of_texts("error")[long])
        assert long not in made.jobs[0].texts
        made.check(ready=TEXTS[:4])


def test_a_job_of_texts_that_are_all_too_long_is_never_uploaded(tmp_path: Path) -> None:
    with bench(tmp_path, ["word " * 40_000], tokens=None) as made:
        made.planned().submit()
        assert made.row.state == "cancelled"
        assert made.states == Counter(failed=1)
        assert not made.emulator.files
        assert not made.jobs
        made.sound()


def test_nothing_waiting_is_no_job(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.planned()
        assert machine.plan() == 0
        assert len(made.rows) == 1


# ---------------------------------------------------------------- intents come first


def test_every_intent_is_in_the_database_before_the_provider_hears_of_it(tmp_path: Path) -> None:
    seen: list[tuple[str, Any]] = []

    def look(exchange: Exchange) -> None:
        with sqlite3.connect(tmp_path / "state.db") as connection:
            found = connection.execute(
                "SELECT upload_began_at, file_sha, file_name, create_began_at, remote_name, display_name FROM batches"
            ).fetchone()
        seen.append((exchange.kind, found))

    with bench(tmp_path, on_request=look) as made:
        made.out()
        (job,) = made.jobs
        at = dict(seen)
        upload_began_at, file_sha, file_name, create_began_at, _, _ = at["upload_start"]
        assert upload_began_at is not None
        assert file_sha is not None
        assert (file_name, create_began_at) == (None, None)
        _, _, file_name, create_began_at, remote_name, display_name = at["create"]
        assert file_name in made.emulator.files
        assert create_began_at is not None
        assert remote_name is None
        assert display_name == job.display_name
        assert made.row.remote_name == job.name


def test_an_ended_job_leaves_neither_files_here_nor_its_input_there(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.finish(made.machine())
        assert list(made.batches_folder.iterdir()) == []
        assert [name for name in made.emulator.files if not name.startswith("files/batch-")] == []


# ---------------------------------------------------------------- answers that never came


@pytest.mark.parametrize("fault", ["lost_after", "unavailable_after", "garbage", "empty_reply"])
def test_a_job_whose_creation_was_never_confirmed_is_found_by_its_name(tmp_path: Path, fault: str) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("create", fault)
        machine = made.planned()
        done = machine.submit()
        assert done.submitted == 0
        assert len(done.unreachable) == 1
        assert made.row.create_began_at is not None
        assert machine.submit().submitted == 1
        assert made.emulator.requests["create"] == 1
        machine.poll()
        made.check()


def test_a_creation_that_never_arrived_is_repeated_only_after_the_grace_time(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("create", "lost_before")
        machine = made.planned(grace_s=60)
        machine.submit()
        began = made.row.create_began_at
        machine.submit()
        assert made.emulator.requests["create"] == 1, "the list does not show it, and it is too early to be sure"
        assert made.row.state == "submitting"
        assert made.row.next_at == pytest.approx((began or 0) + 60, abs=1)
        made.grow_older(61)
        assert machine.submit().submitted == 1
        assert made.emulator.requests["create"] == 2
        assert made.emulator.requests["upload_start"] == 1, "the upload is used again"
        machine.poll()
        made.check()


def test_a_refused_connection_made_no_job_and_needs_no_grace_time(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.planned()
        away = Gemini(api_key=KEY, form=made.form, base_url="http://127.0.0.1:9", timeout_s=2)
        with away:
            done = made.machine(provider=away).submit()
        assert len(done.unreachable) == 1
        assert made.row.create_began_at is None
        assert machine.submit().submitted == 1


def test_of_several_jobs_with_one_name_the_oldest_is_kept_and_the_others_cancelled(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(job_seconds=60)) as made:
        made.emulator.fail_next("create", "lost_after")
        machine = made.planned()
        machine.submit()
        for _ in range(2):
            made.gemini.create_batch(str(made.row.file_name), display_name=made.row.display_name)
        assert machine.submit().submitted == 1
        oldest, *extras = made.jobs
        assert made.row.remote_name == oldest.name
        assert [job.state for job in extras] == ["BATCH_STATE_CANCELLED"] * 2
        assert made.emulator.live_jobs() == [oldest]
        made.emulator.finish()
        machine.poll()
        made.check()


def test_a_job_on_a_later_page_of_the_list_is_found(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(page_size_max=2)) as made:
        made.emulator.fail_next("create", "lost_after")
        machine = made.planned()
        machine.submit()
        for number in range(5):
            made.gemini.create_batch(str(made.row.file_name), display_name=f"somebody-{number}")
        assert machine.submit().submitted == 1
        assert made.row.remote_name == made.jobs[0].name
        assert made.emulator.requests["list_batches"] == 3


def test_a_list_that_fails_proves_nothing_and_nothing_is_created(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("create", "lost_after")
        machine = made.planned(grace_s=0.0)
        machine.submit()
        for fault in ("unavailable", "rate_limited", "not_found", "garbage"):
            made.emulator.fail_next("list_batches", fault)
            machine.submit()
            assert made.row.create_began_at is not None, fault
            assert made.row.remote_name is None, fault
        assert made.emulator.requests["create"] == 1
        assert machine.submit().submitted == 1
        machine.poll()
        made.check()


def test_a_job_of_another_owner_of_the_account_is_never_adopted(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(job_seconds=60)) as made:
        made.emulator.fail_next("create", "lost_after")
        machine = made.planned()
        machine.submit()
        made.gemini.create_batch(str(made.row.file_name), display_name=f"{made.row.display_name}0")
        assert machine.submit().submitted == 1
        assert made.row.remote_name == made.jobs[0].name
        assert all(job.live for job in made.jobs)


# ---------------------------------------------------------------- uploads


@pytest.mark.parametrize("fault", ["lost_after", "no_file"])
def test_an_upload_whose_reply_was_lost_is_found_by_name_and_content(tmp_path: Path, fault: str) -> None:
    with bench(tmp_path) as made:
        # A hang-up makes the SDK send the piece again; the name of the file never comes back.
        made.emulator.fail_next("upload_chunk", fault)
        machine = made.planned()
        machine.submit()
        machine.submit()
        assert made.row.state == "processing"
        inputs = [name for name in made.emulator.files if not name.startswith("files/batch-")]
        assert len(inputs) == made.emulator.requests["upload_start"] == 1
        assert made.row.file_name == inputs[0]
        machine.poll()
        made.check()


def test_a_file_of_the_same_name_with_other_content_is_not_used(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        machine = made.planned()
        other = tmp_path / "other.jsonl"
        shas = made.of_texts("text_sha")
        lines = b"".join(made.form.line(request_key(str(shas[text])), text) for text in TEXTS)
        other.write_bytes(lines.replace(b"return 3", b"return 8"))  # of the same size
        file = made.gemini.upload(other, display_name=made.row.file_display_name)
        made.change("UPDATE batches SET upload_began_at = 1.0")
        machine.submit()
        assert made.row.file_name != file.name
        machine.poll()
        made.check()


def test_an_upload_that_is_still_valid_is_used_by_the_next_attempt(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", "failed")
        made.finish(made.machine())
        assert made.emulator.requests["upload_start"] == 1
        assert made.emulator.requests["create"] == 2
        made.check()


def test_an_upload_that_has_expired_is_made_anew(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("job", "expired")
        machine = made.out()
        machine.poll()
        made.change(f"UPDATE batches SET file_expires_at = {time.time() + 60}")
        made.emulator.expire_files()
        made.finish(machine)
        assert made.emulator.requests["upload_start"] == 2
        made.check()


@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_upload_that_vanished_before_the_job_was_made_is_made_anew(tmp_path: Path, status: int) -> None:
    with bench(tmp_path, faults=Faults(missing_input_status=status)) as made:
        made.emulator.fail_next("create", "unavailable")
        machine = made.planned(grace_s=0.0)
        machine.submit()
        made.emulator.expire_files()
        made.finish(machine)
        if status == 400:
            # A 400 cannot be told from a file that is wrong: its texts go out directly instead.
            assert made.row.state == "failed"
            assert set(made.of_texts("route").values()) == {"direct"}
        else:
            assert made.emulator.requests["upload_start"] == 2
            made.check()


def test_a_model_that_the_provider_does_not_have_ends_the_attempts(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        form = Form("gemini-embedding-9", made.form.dimensions)
        with Gemini(api_key=KEY, form=form, base_url=made.emulator.url) as gemini:
            machine = made.planned(provider=gemini, max_submissions=3, fall_back=False)
            for _ in range(10):
                machine.submit()
        assert made.row.state == "failed"
        assert "gemini-embedding-9 is not found" in str(made.row.error)
        assert made.emulator.requests["create"] == 3
        assert made.states == Counter(failed=len(TEXTS))


# ---------------------------------------------------------------- turned away


def test_a_429_that_names_a_time_makes_every_submission_wait_that_long(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(retry_delay="7s")) as made:
        made.emulator.fail_next("create", "rate_limited")
        machine = made.planned(max_texts=5)
        before = time.time()
        machine.submit()
        throttle = made.state.queue.throttle()
        assert throttle is not None
        assert not throttle.quota
        assert before + 7 <= throttle.until <= time.time() + 7 * 1.25
        assert made.emulator.requests["create"] == 1, "the second job was not even tried"
        assert made.rows[0].create_began_at is None, "a 429 made no job: nothing is to be reconciled"
        other = made.machine()
        assert other.submit().submitted == 0, "nor by another process"
        made.state.queue.amend("throttle", lambda _: None)
        assert machine.submit().submitted == 2
        assert made.state.queue.throttle() is None


def test_a_429_without_a_time_doubles_the_wait_up_to_the_maximum(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(quota_exhausted=True)) as made:
        machine = made.planned(submission_initial_s=60, submission_max_s=300, max_submissions=99)
        for wait in (60, 120, 240, 300, 300):
            before = time.time()
            machine.submit()
            throttle = made.state.queue.throttle()
            assert throttle is not None
            assert throttle.quota
            assert before + wait <= throttle.until <= time.time() + wait
            made.state.queue.amend("throttle", over)
        assert made.row.submissions == 5


def test_a_full_quota_waits_for_our_own_jobs_and_that_is_no_failed_attempt(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(active_job_cap=1, job_seconds=60)) as made:
        machine = made.planned(max_texts=5, max_submissions=2)
        for _ in range(4):
            machine.submit()
            made.state.queue.amend("throttle", over)
        assert [(row.state, row.submissions) for row in made.rows] == [("processing", 0), ("pending_submission", 0)]
        machine.submit()
        assert made.state.queue.throttle() is not None
        made.emulator.finish()
        machine.poll()
        assert made.state.queue.throttle() is None, "a job of ours ended, so that there is room"
        assert machine.submit().submitted == 1
        made.emulator.finish()
        machine.poll()
        made.check()


@pytest.mark.parametrize("fall_back", [True, False])
def test_a_job_turned_away_too_often_falls_back_or_fails(tmp_path: Path, fall_back: bool) -> None:
    with bench(tmp_path, faults=Faults(quota_exhausted=True)) as made:
        machine = made.planned(max_submissions=3, fall_back=fall_back, submission_initial_s=0.0, submission_max_s=0.0)
        for _ in range(6):
            machine.submit()
        assert made.emulator.requests["create"] == 3
        assert made.row.state == "failed"
        assert "turned away 3 times" in str(made.row.error)
        assert made.states == Counter({"pending" if fall_back else "failed": len(TEXTS)})
        assert set(made.of_texts("route").values()) == {"direct" if fall_back else "any"}
        made.sound()


def test_a_job_that_was_accepted_forgets_that_it_was_turned_away(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next("create", "quota_full", times=2)
        machine = made.planned(submission_initial_s=0.0, submission_max_s=0.0)
        for _ in range(3):
            machine.submit()
        assert (made.row.state, made.row.submissions) == ("processing", 0)
        assert made.state.queue.fact("throttle") is None


# ---------------------------------------------------------------- refusals and failures of the provider


@pytest.mark.parametrize("kind", ["upload_start", "create", "get_batch"])
@pytest.mark.parametrize("how", ["wrong key", "no access"])
def test_a_refused_key_stops_and_the_batch_job_stays_as_it_is(tmp_path: Path, kind: str, how: str) -> None:
    with bench(tmp_path) as made:
        machine = made.out() if kind == "get_batch" else made.planned()
        with Gemini(api_key="wrong-key", form=made.form, base_url=made.emulator.url) as wrong:
            if how == "no access":
                made.emulator.fail_next(kind, "denied")
            else:
                if kind == "create":  # the upload has succeeded before the key was withdrawn
                    made.emulator.fail_next("create", "unavailable")
                    machine.submit()
                machine = made.machine(provider=wrong, grace_s=0.0)
            with pytest.raises(Denied, match="CODECHUNK_GEMINI_API_KEY"):
                machine.poll() if kind == "get_batch" else machine.submit()
        assert made.row.owner is None
        assert not made.row.ended
        assert made.row.failures == made.row.submissions == 0
        assert made.states == Counter(processing=len(TEXTS))
        made.sound()
        made.finish(made.machine(grace_s=0.0))
        made.check()


@pytest.mark.parametrize("kind", ["upload_start", "create"])
@pytest.mark.parametrize("fault", ["unavailable", "internal_empty", "bad_gateway", "request_timeout", "hang_up"])
def test_no_5xx_and_no_hang_up_is_ever_final_at_submission(tmp_path: Path, kind: str, fault: str) -> None:
    with bench(tmp_path) as made:
        made.emulator.fail_next(kind, fault, times=4)
        machine = made.planned(grace_s=0.0, max_submissions=2, max_retries=0)
        for _ in range(12):
            machine.submit()
        assert made.row.state == "processing"
        machine.poll()
        made.check()


def test_a_file_that_the_provider_rejects_sends_its_texts_directly_at_once(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        broken = Form("gemini-embedding-001", 128, task="NO_SUCH_TASK")
        with Gemini(api_key=KEY, form=broken, base_url=made.emulator.url) as gemini:
            machine = made.planned(provider=gemini)
            machine.submit()
        assert made.row.state == "failed"
        assert "task_type" in str(made.row.error) or "NO_SUCH_TASK" in str(made.row.error)
        assert set(made.of_texts("route").values()) == {"direct"}
        assert made.emulator.requests["create"] == 1


def test_no_room_for_the_file_of_a_batch_job_is_a_sentence_and_nothing_is_lost(tmp_path: Path) -> None:
    """It was a traceback: only the polling half expected a full disk."""
    with bench(tmp_path) as made:
        machine = made.planned()
        made.batches_folder.mkdir()
        (made.batches_folder / f"{made.row.id}.jsonl").mkdir()
        with pytest.raises(CodechunkError, match="nothing was sent"):
            machine.submit()
        assert made.emulator.requests["create"] == 0
        made.sound()
        (made.batches_folder / f"{made.row.id}.jsonl").rmdir()
        made.finish(machine)
        made.check()


def test_every_batch_job_is_known_however_many_there_were(tmp_path: Path) -> None:
    """From the 1,001st on, the oldest passed for somebody else's: it could be deleted with its results in it."""
    with bench(tmp_path) as made:
        made.out()
        made.change(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) "
            "INSERT INTO batches (id, space_id, state, display_name, texts, tokens, priority, cancelled_by_user,"
            " submissions, failures, rows_ok, rows_failed, rows_ignored, billed_tokens, fence, created_at, next_at)"
            f" SELECT 'x' || i, {made.space_id}, 'processing', 'y' || i, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9e9, 9e9"
            " FROM n"
        )
        worker = made.worker()
        assert worker.cancel_remote(made.jobs[0].name)
        assert made.sql("SELECT count(*) FROM batches WHERE cancelled_by_user") == [(1,)]
