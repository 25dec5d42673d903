"""Chaos: faults on a fifth of all requests and `kill -9` at random moments. In the end nothing is lost or paid twice.

`scripts/chaos` runs more seeds of the same.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from chaos_helpers import (
    Running,
    Trial,
    WarmStart,
    assert_sound,
    bought_twice,
    functions,
    settings,
    transcript,
)
from cli_helpers import Done
from emulator.faults import JOB_FAULTS, REQUEST_FAULTS
from gemini_emulator import Exchange, Faults, GeminiEmulator
from waiting import PATIENCE_S, wait_until

SEEDS = range(30)
# Trials at once: most of their time is spent waiting.
SIDE_BY_SIDE = 3
DIRECT_SEEDS = range(6)
FILES, EACH = 8, 8
CHUNKS = FILES * EACH
# Nobody can tell these from the truth (vectors under each other's keys, results that are empty, a job that is gone), or
# they stop a run at once; the last two have their aimed shots below.
UNKNOWABLE = {"keys_swapped", "not_found", "empty_reply", "denied"}
LIST_LAG_S = 0.3
# A trial that takes longer does not get on.
LONGEST_S = 150.0
INDEX = ("index", "--mode", "batch", "--jobs", "1")


@dataclass
class Story:
    """What happened in a trial, for a failure to tell."""

    kills: int = 0
    runs: int = 0
    codes: list[int] = field(default_factory=list)
    complaints: set[str] = field(default_factory=set)

    def note(self, done: Done) -> None:
        self.runs += 1
        self.codes.append(done.code)
        self.kills += done.code == -signal.SIGKILL
        if done.code == 1:
            self.complaints.add(done.err.strip().rpartition("\n")[2][:300])


def faults(chance: random.Random) -> Faults:
    """A fifth of all requests and of all ends of jobs go wrong, in every way that exists."""
    return Faults(
        probability=0.2,
        kinds=(set(REQUEST_FAULTS) | set(JOB_FAULTS)) - UNKNOWABLE,
        retry_delay="0.2s",
        stall_s=chance.choice([0.1, 0.1, 0.3, 2.3]),  # the last is longer than a call may take
        trickle_s=0.1,
        job_seconds=chance.choice([0.0, 0.1, 0.4]),
        list_lag_s=LIST_LAG_S,
        page_size_max=chance.choice([None, 2]),
        enqueued_token_cap=chance.choice([None, None, 16_000]),
    )


def aim(emulator: GeminiEmulator, chance: random.Random) -> None:
    """Faults that chance does not draw: each of them rarely, at the moment where it hurts."""
    for kind, fault in (
        ("create", "quota_full"),
        ("create", "empty_reply"),
        ("create", "lost_after"),
        ("upload_start", "empty_reply"),
        ("get_batch", "denied"),
        ("list_batches", "quota_full"),
        ("list_batches", "empty_reply"),
        ("download", "cut"),
    ):
        if chance.random() < 0.3:
            emulator.fail_next(kind, fault, skip=chance.randrange(3))


def bother(story: Story, chance: random.Random, running: Running, *, kill: bool) -> Done:
    """Let a command run to its end, or only to a random moment."""
    done = running.wait(chance.uniform(0.05, 3.0)) if kill else running.wait()
    if done is None:
        running.send(signal.SIGKILL)
        done = running.wait()
    assert done is not None
    assert done.code != 70, done.err
    story.note(done)
    return done


def until_it_succeeds(
    trial: Trial, story: Story, chance: random.Random, *words: str, kills: int, mode: str = "batch"
) -> None:
    """The same command again and again, the first `kills` times killed."""
    until = time.monotonic() + LONGEST_S
    while True:
        done = bother(
            story, chance, trial.launch("index", "--mode", mode, "--jobs", "1", trial.repo.path, *words), kill=kills > 0
        )
        kills -= 1
        if done.code == 0:
            return
        assert done.code != 3, f"texts were given up: {done.out}"
        assert time.monotonic() < until, "it does not get on"
        time.sleep(0.0 if done.code < 0 else 0.3)  # a person's patience: others get a turn


def waiting(trial: Trial, story: Story, chance: random.Random) -> None:
    """`index` that waits, killed a few times."""
    until_it_succeeds(trial, story, chance, kills=chance.randint(2, 4))


def with_workers(trial: Trial, story: Story, chance: random.Random, count: int) -> None:
    """`index --no-wait`, then workers that are killed and replaced, until the run is published."""
    until_it_succeeds(trial, story, chance, "--no-wait", kills=chance.randint(0, 2))
    kills = chance.randint(2, 4)
    workers: list[Running] = []
    until = time.monotonic() + LONGEST_S
    while trial.statuses() != ["succeeded"]:
        assert time.monotonic() < until, "it does not get on"
        while len(workers) < count:
            workers.append(trial.launch("worker", "start", "--interval", "0.1"))
        victim = chance.choice(workers)
        done = victim.wait(chance.uniform(0.3, 2.5))
        if done is None and kills > 0:
            victim.send(signal.SIGKILL)
            kills -= 1
            done = victim.wait()
        if done is not None:
            assert done.code in {-signal.SIGKILL, 1}, done.err
            story.note(done)
            workers.remove(victim)
    for worker in workers:
        worker.send(signal.SIGTERM)
    for worker in workers:
        done = worker.wait()
        assert done is not None
        assert done.code == 0, done.err
        story.note(done)


def beside_a_worker(trial: Trial, story: Story, chance: random.Random) -> None:
    """`index` that waits, killed a few times, while a worker does the same work."""
    worker = trial.launch("worker", "start", "--interval", "0.1")
    waiting(trial, story, chance)
    worker.send(signal.SIGTERM)
    done = worker.wait()
    assert done is not None
    assert done.code in {0, 1}, done.err
    story.note(done)


WAYS: list[Callable[[Trial, Story, random.Random], None]] = [
    waiting,
    lambda trial, story, chance: with_workers(trial, story, chance, 1),
    waiting,
    lambda trial, story, chance: with_workers(trial, story, chance, 2),
    beside_a_worker,
]


def run_seed(seed: int, folder: Path, warm: WarmStart) -> Story:
    """One trial. Raises AssertionError, with all there is to know, when something was lost or paid twice."""
    chance = random.Random(seed)
    story = Story()
    with GeminiEmulator(seed=seed, faults=faults(chance)) as emulator:
        trial = Trial(folder, warm, emulator, settings())
        trial.repo.commit(functions(FILES, EACH))
        aim(emulator, chance)
        try:
            with trial:
                WAYS[seed % len(WAYS)](trial, story, chance)
                emulator.faults.next.clear()
                until_it_succeeds(trial, story, chance, kills=0)
                assert not bought_twice(trial)
                assert_sound(trial, CHUNKS)
        except BaseException as exc:
            why = "".join(traceback.format_exception(exc)[-3:])
            raise AssertionError(f"seed {seed}, {story}: {why}\n{transcript(trial)}") from exc
    return story


def some_are_long(seeds: Sequence[int]) -> list[Any]:
    """All but the first two are long."""
    return [*seeds[:2], *(pytest.param(seed, marks=pytest.mark.long) for seed in seeds[2:])]


@pytest.mark.parametrize("first", some_are_long(SEEDS[::SIDE_BY_SIDE]))
def test_faults_and_kills_lose_nothing_and_buy_nothing_twice(first: int, tmp_path: Path, warm: WarmStart) -> None:
    seeds = range(first, first + SIDE_BY_SIDE)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        stories = list(pool.map(lambda seed: run_seed(seed, tmp_path / str(seed), warm), seeds))
    assert sum(story.kills for story in stories) > 0


# ---------------------------------------------------------------------- direct calls


def run_direct_seed(seed: int, folder: Path, warm: WarmStart) -> Story:
    """One trial of direct calls. A text may be bought again only after a lost answer, or by a run that was killed."""
    chance = random.Random(seed)
    story = Story()
    concurrency, per_call = 8, chance.choice([1, 1, 4])
    env = settings(embedding__direct_concurrency=str(concurrency), embedding__direct_batch=str(per_call))
    spare = chance.choice([None, {"lost_after", "unavailable_after", "garbage"}])
    kinds = None if spare is None else set(REQUEST_FAULTS) - spare - UNKNOWABLE
    fault = Faults(probability=0.2, kinds=kinds, retry_delay="0.2s", stall_s=0.1, trickle_s=0.1)
    with GeminiEmulator(seed=seed, faults=fault) as emulator:
        trial = Trial(folder, warm, emulator, env)
        trial.repo.commit(functions(FILES // 2, EACH))
        try:
            with trial:
                until_it_succeeds(trial, story, chance, mode="sequential", kills=chance.randint(0, 3))
                paid, lost = emulator.paid, emulator.lost
                assert all(times <= 1 + lost[text] + story.kills for text, times in paid.items())
                # What was under way in a killed run, and what had come and was not stored yet.
                again = sum(paid.values()) - len(paid) - sum(lost.values())
                assert again <= story.kills * concurrency * per_call * 2, (
                    f"{again} bought again after {story.kills} kills"
                )
                assert_sound(trial, CHUNKS // 2)
        except BaseException as exc:
            why = "".join(traceback.format_exception(exc)[-3:])
            raise AssertionError(f"direct seed {seed}, {story}: {why}\n{transcript(trial)}") from exc
    return story


@pytest.mark.parametrize("seed", some_are_long(DIRECT_SEEDS))
def test_direct_calls_buy_again_only_what_was_lost(seed: int, tmp_path: Path, warm: WarmStart) -> None:
    assert run_direct_seed(seed, tmp_path, warm).runs > 0


# ---------------------------------------------------------------------- several processes


def queued(trial: Trial) -> None:
    """A run of index whose batch jobs are made and not submitted: the provider took none."""
    trial.repo.commit(functions(FILES, EACH))
    trial.emulator.faults.active_job_cap = 0
    done = trial.do(*INDEX, trial.repo.path, "--no-wait")
    assert done.code == 0, done.err
    assert trial.statuses() == ["embedding"]
    assert not trial.emulator.jobs
    trial.emulator.faults.active_job_cap = None
    trial.sql("DELETE FROM facts WHERE name = 'throttle'")  # as if the wait after the refusal were over


def until_published(trial: Trial) -> None:
    try:
        wait_until(lambda: trial.statuses() == ["succeeded"], "the run is published")
    except AssertionError as exc:
        raise AssertionError(transcript(trial)) from exc


def is_locked(trial: Trial) -> bool:
    """Whether a process is within a writing transaction, and stays there."""
    with closing(sqlite3.connect(trial.data / "state.db", timeout=0.2, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False


def stop(*workers: Running) -> list[str]:
    """End workers as a person would. Returns what they said."""
    for worker in workers:
        worker.send(signal.SIGTERM)
    told = []
    for worker in workers:
        done = worker.wait()
        assert done is not None
        assert done.code == 0, done.err
        told.append(done.err)
    return told


def test_four_workers_from_the_same_instant_submit_every_text_once(tmp_path: Path, warm: WarmStart) -> None:
    with (
        GeminiEmulator(faults=Faults(job_seconds=0.2)) as emulator,
        Trial(tmp_path, warm, emulator, settings(max_batch_size="5")) as trial,
    ):
        queued(trial)
        workers = [trial.launch("worker", "start", "--interval", "0.1") for _ in range(4)]
        until_published(trial)
        told = stop(*workers)
        assert len(emulator.jobs) == trial.count("batches") == -(-CHUNKS // 5)
        assert sum("Submitted batch" in words for words in told) > 1, "only one of them did anything"
        assert not bought_twice(trial)
        assert_sound(trial, CHUNKS)


def test_of_two_runs_of_index_from_the_same_instant_one_is_refused_or_finds_nothing_to_do(
    tmp_path: Path, warm: WarmStart
) -> None:
    with (
        GeminiEmulator(faults=Faults(job_seconds=0.2)) as emulator,
        Trial(tmp_path, warm, emulator, settings()) as trial,
    ):
        trial.repo.commit(functions(FILES, EACH))
        both = [trial.launch(*INDEX, trial.repo.path) for _ in range(2)]
        ended = [running.wait() for running in both]
        codes = sorted(done.code for done in ended if done is not None)
        assert codes in ([0, 0], [0, 1]), transcript(trial)
        assert not bought_twice(trial)
        assert_sound(trial, CHUNKS)


@pytest.mark.parametrize("moment", ["upload_chunk", "create", "get_batch", "download"])
def test_a_worker_that_slept_past_its_lease_writes_nothing_and_buys_nothing(
    moment: str, tmp_path: Path, warm: WarmStart
) -> None:
    sleepers: list[int] = []
    asleep = threading.Event()

    def put_to_sleep(exchange: Exchange) -> None:
        # Before the reply is sent: the worker stands in the middle of its call, with all the effect there is.
        if exchange.kind != moment or not sleepers or asleep.is_set():
            return
        os.kill(sleepers[0], signal.SIGSTOP)
        # Its heartbeat is writing just now: a sleeper with SQLite's lock makes everybody wait. Or it had given the call
        # up already, on a busy machine, and its claim with it: then it has nothing to lose.
        if is_locked(trial) or not trial.count("batches WHERE owner IS NOT NULL"):
            os.kill(sleepers[0], signal.SIGCONT)
        else:
            asleep.set()

    with (
        GeminiEmulator(faults=Faults(job_seconds=0.2), on_request=put_to_sleep) as emulator,
        Trial(
            tmp_path, warm, emulator, settings(lease="3s", embedding__timeout="2500ms", max_concurrent_polls="1")
        ) as trial,
    ):
        queued(trial)
        first = trial.launch("worker", "start", "--interval", "0.1")
        sleepers.append(first.pid)
        try:
            assert asleep.wait(PATIENCE_S), "it never got so far"
            second = trial.launch("worker", "start", "--interval", "0.1")
            until_published(trial)
            before = trial.final_state()
            jobs = len(emulator.jobs)
        finally:
            os.kill(first.pid, signal.SIGCONT)
        wait_until(lambda: "claim_lost" in first.said(), "the sleeper sees what it has lost")
        told, _ = stop(first, second)
        assert "claim_lost" in told
        assert "cannot be saved" not in told
        assert trial.final_state() == before
        assert len(emulator.jobs) == jobs == trial.count("batches")
        assert not bought_twice(trial)
        assert_sound(trial, CHUNKS)


# ---------------------------------------------------------------------- by hand


def main() -> int:
    """Run seeds and tell which failed; a failed one's folder is kept. Exit code 1 when there is one."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=main.__doc__)
    parser.add_argument("seeds", nargs="?", type=int, default=200, help="how many (200)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first seed (0)")
    parser.add_argument("--direct", action="store_true", help="direct calls instead of batch jobs")
    parser.add_argument("--side-by-side", type=int, default=SIDE_BY_SIDE, metavar="N", help="trials at once")
    options = parser.parse_args()
    trial = run_direct_seed if options.direct else run_seed
    seeds = range(options.first, options.first + options.seeds)
    failed: list[int] = []
    kills = runs = 0
    began = time.monotonic()

    def one(seed: int) -> Story | str:
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
        try:
            story = trial(seed, folder, started)
        except Exception as exc:  # noqa: BLE001 - told, and the next seed goes on
            return f"{exc}\nkept: {folder}"
        shutil.rmtree(folder)
        return story

    with WarmStart() as started, ThreadPoolExecutor(options.side_by_side) as pool:
        for seed, told in zip(seeds, pool.map(one, seeds), strict=True):
            if isinstance(told, str):
                failed.append(seed)
                print(f"seed {seed} FAILED\n{told}", flush=True)
            else:
                kills, runs = kills + told.kills, runs + told.runs
                print(
                    f"seed {seed} ok: {told.runs} commands, {told.kills} killed", *sorted(told.complaints), flush=True
                )
    print(f"{len(seeds)} seeds in {time.monotonic() - began:.0f} s: {runs} commands, {kills} killed")
    print(f"failed: {failed}" if failed else "nothing was lost, and nothing was bought twice that need not be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
