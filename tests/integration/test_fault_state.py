"""What happens to the state database while money is spent: a full disk, a lock that stays, kills, other workers."""

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from batch_helpers import TEXTS, Bench, bench
from engine_helpers import open_state
from gemini_emulator import Exchange, Faults
from queue_helpers import stored_vectors
from sqlalchemy import event, make_url

import codechunk.state.migrations
from codechunk.errors import CodechunkError, StateError
from codechunk.indexing.run import recorded
from codechunk.sending.batch import BatchJobs
from codechunk.sending.owner import new_owner
from codechunk.state import LostClaim, State, database
from codechunk.state.database import SCHEMA_REVISION, Database

# ---------------------------------------------------------------- a full disk


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own that can be filled up."""
    folder.mkdir()
    size = f"size={megabytes}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk to be had here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


pytestmark = pytest.mark.both_databases

FULL = "the disk is full|No space left"


def fill(disk: Path) -> None:
    """Leave no byte free."""
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


@pytest.mark.sqlite_only
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("kind", ["upload_start", "create", "get_batch", "download"])
def test_after_the_disk_is_full_nothing_is_sent_and_afterwards_nothing_is_bought_twice(
    tmp_path: Path, kind: str
) -> None:
    at_the_end: list[int] = []

    def fill_up(exchange: Exchange) -> None:
        if exchange.kind == kind and not at_the_end:
            at_the_end.append(1)
            fill(disk)

    with small_disk(tmp_path / "disk", 32) as disk, bench(disk, on_request=fill_up) as made:
        machine = made.planned(max_texts=5)
        # A result that cannot be saved is told in words of its own.
        with pytest.raises(CodechunkError, match=FULL):
            for _ in range(5):
                machine.submit()
                machine.poll()
        creates = made.emulator.requests["create"]
        for _ in range(3):
            with suppress(CodechunkError):
                made.machine().submit()
            with suppress(CodechunkError):
                made.machine().poll()
        assert made.emulator.requests["create"] == creates, "no intent could be written, so that nothing was sent"
        (disk / "filler").unlink()
        made.free_claims()
        made.finish(made.machine(grace_s=0.0))
        assert len(made.jobs) == 2
        made.check()


# ---------------------------------------------------------------- a lock that stays


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that does not let go of the database."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.rollback()
        connection.close()


@pytest.mark.sqlite_only
def test_a_database_that_stays_locked_is_a_sentence_and_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 200)
    with bench(tmp_path) as made:
        machine = made.planned()
        assert made.sql("PRAGMA busy_timeout") == [(200,)]
        with locked(tmp_path / "state.db"):
            with pytest.raises(StateError, match="in use by another process or thread"):
                machine.submit()
            assert not made.emulator.log
        made.finish(machine)
        made.check()


@pytest.mark.sqlite_only
def test_a_worker_outlives_a_database_that_is_locked_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 200)
    told: list[str] = []
    with bench(tmp_path) as made:
        worker = made.worker()
        with locked(tmp_path / "state.db"):
            for _ in range(2):
                pause_s = worker._turn(30.0, False, told.append)
                assert pause_s == 30.0, "it does not try again and again"
        assert len(told) == 2
        assert "in use by another process or thread" in told[0]
        worker._turn(30.0, False, told.append)
        made.check()


# ---------------------------------------------------------------- several workers


def test_machines_that_start_at_the_same_instant_share_the_work_and_buy_nothing_twice(tmp_path: Path) -> None:
    texts = [f"value_{n} = {n}" for n in range(60)]
    with bench(tmp_path, texts) as made:
        machines = [made.machine(max_texts=5) for _ in range(4)]
        gate = threading.Barrier(len(machines))
        errors: list[BaseException] = []

        def work(machine: BatchJobs) -> None:
            try:
                gate.wait()
                for _ in range(4):
                    machine.plan()
                    machine.submit()
                    machine.poll()
            except BaseException as exc:
                errors.append(exc)
                raise

        threads = [threading.Thread(target=work, args=(machine,)) for machine in machines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        made.finish(machines[0])
        assert made.emulator.requests["create"] == len(made.rows) == len(made.jobs)
        assert Counter(text for job in made.jobs for text in job.texts) == Counter(texts)
        made.check(ready=texts)


def lapse(made: Bench) -> None:
    """As if the lease of every claim had ended: its owner was asleep for longer."""
    made.change("UPDATE batches SET lease_until = 1.0 WHERE owner IS NOT NULL")


def test_whoever_slept_past_the_lease_writes_nothing_any_more(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.planned()
        claim = made.state.batches.claim(("pending_submission",), new_owner(), space_id=made.space_id, lease_s=60)
        assert claim is not None
        lapse(made)
        made.finish(made.machine())
        for write in (
            lambda: made.state.batches.record(claim, state="submitting"),
            lambda: made.state.batches.still_mine(claim, lease_s=60),
            lambda: made.state.batches.complete(claim, ignored=0),
            lambda: made.state.batches.give_up(claim, state="failed", error="x", fall_back=False),
            lambda: made.state.batches.schedule_retry(claim, prefix="x", error="x", next_at=0.0),
        ):
            with pytest.raises(LostClaim):
                write()
        made.check()


@pytest.mark.parametrize("kind", ["upload_start", "create", "get_batch", "download"])
def test_a_worker_overtaken_in_the_middle_of_a_request_leaves_the_new_owners_result_alone(
    tmp_path: Path, kind: str
) -> None:
    """The request comes back after the lease has ended and another process has finished the job."""
    overtaken: list[int] = []

    def overtake(exchange: Exchange) -> None:
        if exchange.kind == kind and not overtaken:
            overtaken.append(1)
            lapse(made)
            other = made.machine(grace_s=0.0 if kind == "upload_start" else 60.0)
            for _ in range(4):
                other.submit()
                other.poll()

    with bench(tmp_path, on_request=overtake) as made:
        machine = made.planned()
        machine.submit()
        machine.poll()
        assert overtaken
        made.finish(machine)
        assert made.row.state == "completed"
        assert made.emulator.requests["create"] == 1
        made.check()


def test_the_list_that_lags_longer_than_the_grace_time_costs_one_job_more_and_no_second_one(tmp_path: Path) -> None:
    """The known limit (reliability.md, 2): at most one job bought in vain for each unclear answer, never more."""
    with bench(tmp_path, faults=Faults(list_lag_s=3600.0, job_seconds=60.0)) as made:
        made.emulator.fail_next("create", "lost_after")
        machine = made.planned(grace_s=0.0)
        for _ in range(4):
            machine.submit()
        assert len(made.jobs) == 2
        made.emulator.finish()
        machine.poll()
        assert set(made.emulator.paid.values()) == {2}
        assert made.states == Counter(ready=10)
        made.emulator.faults.list_lag_s = 0.0
        known = made.row.remote_name
        unknown = [job.name for job in made.gemini.batches() if job.name != known]
        assert len(unknown) == 1, "`queue remote` shows it as lost"


def test_a_worker_of_an_older_backup_adopts_what_is_out_and_deletes_nothing(tmp_path: Path) -> None:
    with bench(tmp_path, faults=Faults(job_seconds=60.0)) as made:
        made.planned().submit()
        made.gemini.create_batch(str(made.row.file_name), display_name="of somebody else")
        # The backup was made between the intent and the record of the remote job.
        made.change(
            "UPDATE batches SET state = 'submitting', remote_name = NULL, submitted_at = NULL, next_at = 0,"
            " owner = NULL, lease_until = NULL"
        )
        machine = made.machine()
        assert machine.submit().submitted == 1
        assert made.row.remote_name == made.jobs[0].name
        assert all(job.live for job in made.jobs)
        assert made.emulator.requests["create"] == 2


# ---------------------------------------------------------------- migrations


def _upgrade_and_die(path: Path, at: int) -> None:
    """Open a database, which upgrades it, and die before the `at`-th statement."""
    passed = 0

    def before(*_: Any) -> None:
        nonlocal passed
        passed += 1
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)

    real = database._create_engine

    def watched(*arguments: Any) -> Any:
        engine = real(*arguments)
        event.listen(engine, "before_cursor_execute", before)
        return engine

    setattr(database, "_create_engine", watched)  # noqa: B010 - a process of its own, which ends after this
    Database(path).close()


@pytest.mark.sqlite_only
def test_a_kill_at_any_statement_of_a_migration_leaves_the_old_schema_or_the_new_one(tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    engine = database._create_engine(make_url(f"sqlite:///{old}"))
    with engine.execution_options(codechunk_write=True).begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(codechunk.state.migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    fork = multiprocessing.get_context("fork")
    revisions: list[str] = []
    for at in range(1, 200, 3):
        path = tmp_path / f"{at}.db"
        path.write_bytes(old.read_bytes())
        process = fork.Process(target=_upgrade_and_die, args=(path, at))
        process.start()
        process.join(60)
        with sqlite3.connect(path) as plain:
            revisions.append(plain.execute("SELECT version_num FROM alembic_version").fetchone()[0])
            assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        plain.close()
        with State(path) as state:
            assert state.queue.counts().pending == 0
        with sqlite3.connect(path) as plain:
            assert plain.execute("SELECT version_num FROM alembic_version").fetchone() == (SCHEMA_REVISION,)
        plain.close()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert process.exitcode == 0, "a last one was not killed"
    assert revisions[0] == "0001"
    assert revisions[-1] == SCHEMA_REVISION
    assert len(revisions) > 5


def test_texts_stay_in_the_order_they_were_asked_for_over_restarts(tmp_path: Path) -> None:
    """Batch 3 is batch 3 after a restart too."""
    with bench(tmp_path) as made:
        made.planned(max_texts=3)
        before = [list(made.state.batches.members(row)) for row in made.rows]
    with open_state(tmp_path) as state:
        rows = sorted(state.batches.rows(), key=lambda row: (row.created_at, row.id))
        assert [list(state.batches.members(row)) for row in rows] == before
    assert [member.text for members in before for member in members] == TEXTS


def test_a_vector_for_a_text_that_nobody_wants_any_more_is_no_crash(tmp_path: Path) -> None:
    """After a sleep longer than the lease another process may have forgotten the text: exit 70."""
    with bench(tmp_path, TEXTS[:2]) as made:
        first, second = made.state.queue.claim(made.space_id, "somebody", most=2, lease_s=60)
        made.change(f"DELETE FROM embeddings WHERE id = {first.embedding_id}")
        reply = made.gemini.embed([first.text, second.text])
        made.state.queue.save_direct(
            [first.embedding_id, second.embedding_id], reply.vectors, tokens=[None, None], requests=1
        )
        assert made.states == {"ready": 1}
        assert set(stored_vectors(made.state)) == {TEXTS[1]}


def test_forgetting_a_text_does_not_look_at_every_stored_chunk(tmp_path: Path) -> None:
    """The foreign key had no index: 1,000 texts beside 90,000 stored chunks kept everybody waiting for 12 seconds."""
    with bench(tmp_path) as made:
        plans = made.sql("EXPLAIN QUERY PLAN DELETE FROM embeddings WHERE id = 1")
        claim = "SELECT id FROM embeddings WHERE job_id = 'x' AND state = 'pending' ORDER BY id"
        plans += made.sql(f"EXPLAIN QUERY PLAN {claim}")
        steps = [str(plan[-1]) for plan in plans]
        assert len(steps) >= 3
        assert not [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]


def test_an_interrupted_run_says_it_is_embedding_only_when_somebody_can_finish_it(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        ((job, _),) = made.state.catalog.jobs()
        for plan, status in ((None, "cancelled"), ("{}", "embedding")):
            if plan is not None:
                made.state.catalog.plan_job(job.id, plan)
            with pytest.raises(KeyboardInterrupt), recorded(made.state, job):
                raise KeyboardInterrupt
            assert made.sql("SELECT status FROM jobs") == [(status,)]
