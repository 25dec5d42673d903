"""`kill -9` at every crash point, the n-th for n = 1, 2, 3 ... until a run ends clean: always the same final state.

A crash point is a call of `codechunk.process.crash.crash`; a new step with one in it is covered without a new test.
"""

import re
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chaos_helpers import Trial, WarmStart, bought_twice, functions, settings, transcript
from cli_helpers import Done
from gemini_emulator import Exchange, Faults, GeminiEmulator
from git_helpers import GitRepo
from waiting import PATIENCE_S

from codechunk.state import State
from codechunk.views.doctor import check_invariants

FILES, EACH = 2, 3
CHUNKS = FILES * EACH
# More than any way has; a run that has still not ended clean does something for ever.
MOST_POINTS = 90
SIDE_BY_SIDE = 4
# Different points at which a way through batch jobs was killed, at least: the same number is not always the same point.
MANY = 10
# Points that a run has passed when its two batch jobs are out.
SUBMITTED = 14
Final = dict[str, list[tuple[Any, ...]]]
# Goes a way with a crash at the n-th point of each command; returns the points where commands were killed.
Way = Callable[[Trial, int], list[str]]


@dataclass
class Ground:
    """What all trials of this file share: the repository, and a data directory in which it was already cut."""

    repo: GitRepo
    data: Path
    final: Final
    ids: list[str]


def trial_at(folder: Path, warm: WarmStart, emulator: GeminiEmulator, ground: Ground, env: dict[str, str]) -> Trial:
    trial = Trial(folder, warm, emulator, env, repo=ground.repo)
    shutil.copytree(ground.data, trial.data)
    return trial


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, warm: WarmStart) -> Ground:
    """Cut once, because no crash point comes before texts are asked for; and the end of an undisturbed run."""
    root = tmp_path_factory.mktemp("ground")
    repo = GitRepo(root / "repo")
    repo.commit(functions(FILES, EACH))
    with GeminiEmulator() as emulator:
        trial = Trial(root / "cut", warm, emulator, small())
        # A limit that nothing keeps: the chunks are stored and nothing is sent.
        stopped = trial.do("index", repo.path, "--mode", "batch", "--max-cost", "0.000000001")
        assert stopped.code == 1, stopped.err
        assert not emulator.paid
        found = Ground(repo, trial.data, {}, [])
        calm = trial_at(root / "calm", warm, emulator, found, small())
        done = calm.do("index", repo.path, "--mode", "batch")
        assert done.code == 0, done.err
        assert set(emulator.paid.values()) == {1}
        assert len(emulator.paid) == CHUNKS
        found.final, found.ids = calm.final_state(), calm.ids()
        assert len(found.final["vectors"]) == len(found.ids) == CHUNKS
        return found


def small(**changes: str) -> dict[str, str]:
    """Batch jobs of three texts each, one looked at after the other, and short waits."""
    return settings(max_batch_size="3", reconcile_grace="500ms", lease="2500ms", max_concurrent_polls="1", **changes)


def assert_same_end(trial: Trial, ground: Ground) -> None:
    found = trial.final_state()
    for name, rows in ground.final.items():
        assert found[name] == rows, name
    assert trial.ids() == ground.ids
    assert trial.statuses() == ["succeeded"]
    with State(trial.data / "state.db") as state:
        errors = [finding for finding in check_invariants(state) if finding.status == "error"]
    assert not errors
    assert not trial.emulator.live_jobs()
    assert set(trial.emulator.paid) == set(trial.texts())


# ---------------------------------------------------------------------- the ways a run goes


def index(*words: str) -> Way:
    """One command that does it all."""

    def run(trial: Trial, crash_at: int) -> list[str]:
        arguments: tuple[str | Path, ...] = ("index", trial.repo.path, "--jobs", "1", *words)
        points = crash_of(trial.do(*arguments, crash_at=crash_at))
        if points:
            done = trial.do(*arguments)
            assert done.code == 0, done.err
        return points

    return run


def worker(trial: Trial, crash_at: int) -> list[str]:
    """`index --no-wait`, then a worker; the first command has few points, the second many."""
    points = index("--mode", "batch", "--no-wait")(trial, crash_at)
    running = trial.launch("worker", "start", "--interval", "0.1", crash_at=crash_at)
    until = time.monotonic() + PATIENCE_S
    while (done := running.wait(0.1)) is None and trial.statuses() != ["succeeded"]:
        assert time.monotonic() < until, "the worker does not get on"
    if done is None:
        running.send(signal.SIGTERM)
        done = running.wait()
        assert done is not None
    points += crash_of(done)
    while trial.statuses() != ["succeeded"]:
        assert time.monotonic() < until, "the worker does not get on"
        assert not crash_of(trial.do("worker", "start", "--once"))
    return points


def crash_of(done: Done) -> list[str]:
    """The name of the point where a command was killed, none when it ended well by itself."""
    if done.code != -signal.SIGKILL:
        assert done.code == 0, done.err
        return []
    found = re.search(r"crash point \d+: (.*)", done.err)
    assert found is not None, done.err
    return [found[1]]


# ---------------------------------------------------------------------- all points of one way


def crash_everywhere(
    way: Way,
    folder: Path,
    warm: WarmStart,
    ground: Ground,
    *,
    env: dict[str, str] | None = None,
    spoil: Callable[[GeminiEmulator], None] = lambda _: None,
    happened: Callable[[GeminiEmulator], bool] = lambda _: True,
    most_bought_twice: int = 0,
    first: int = 1,
) -> set[str]:
    """Go a way with a crash at its first point, its second ... until one has none. Returns the names of the points.

    Args:
        happened: whether the provider was spoilt as it should be, whatever the crash.
        most_bought_twice: texts that a kill may have bought again.
        first: where to begin, when the way is the same as another one up to there.
    """
    points: set[str] = set()

    def one(number: int) -> list[str]:
        # Jobs end when they are asked for, as soon as can be; stuck ones when one of them was cancelled.
        def end_of_stuck(exchange: Exchange) -> None:
            if exchange.kind == "cancel":
                emulator.faults.stuck = False

        with GeminiEmulator(seed=number, faults=Faults(), on_request=end_of_stuck) as emulator:
            trial = trial_at(folder / str(number), warm, emulator, ground, env or small())
            spoil(emulator)
            killed_at: list[str] = []
            try:
                with trial:
                    killed_at = way(trial, number)
                    assert_same_end(trial, ground)
                assert happened(emulator)
                twice = bought_twice(trial)
                assert all(len(sellers) == 2 for sellers in twice.values()), twice
                assert len(twice) <= most_bought_twice * len(killed_at), twice
            except BaseException as exc:
                why = "".join(traceback.format_exception(exc)[-3:])
                raise AssertionError(f"crash point {number} {killed_at}: {why}\n{transcript(trial)}") from exc
            shutil.rmtree(trial.root)
            return killed_at

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for number in range(first, MOST_POINTS, SIDE_BY_SIDE):
            found = list(pool.map(one, range(number, number + SIDE_BY_SIDE)))
            points.update(point for some in found for point in some)
            # How many points a run has depends a little on its speed: the end is where no run has so many.
            if [] in found:
                return points
    raise AssertionError(f"no run ended clean: {points}")


def test_a_kill_at_any_point_of_a_waiting_index_changes_nothing_in_the_end(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    points = crash_everywhere(index("--mode", "batch"), tmp_path, warm, ground)
    assert len(points) >= MANY


def test_a_kill_at_any_point_of_a_worker_changes_nothing_in_the_end(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    points = crash_everywhere(worker, tmp_path, warm, ground)
    assert len(points) >= MANY


@pytest.mark.long
def test_a_kill_at_any_point_of_direct_calls_buys_at_most_what_was_under_way_again(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    env = small(embedding__direct_concurrency="1")
    points = crash_everywhere(index("--mode", "sequential"), tmp_path, warm, ground, env=env, most_bought_twice=2)
    assert len(points) >= 4


@pytest.mark.long
def test_a_kill_at_any_point_changes_nothing_when_rows_fail_and_a_job_fails_and_answers_are_lost(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    def spoil(emulator: GeminiEmulator) -> None:
        emulator.fail_next("job", "row_errors")
        emulator.fail_next("job", "failed")
        emulator.fail_next("create", "lost_after")
        emulator.fail_next("upload_chunk", "lost_after", skip=1)

    def happened(emulator: GeminiEmulator) -> bool:
        failed = [job for job in emulator.jobs.values() if job.state == "BATCH_STATE_FAILED"]
        return len(failed) == 1 and len(emulator.jobs) >= 4 and not emulator.faults.next

    points = crash_everywhere(index("--mode", "batch"), tmp_path, warm, ground, spoil=spoil, happened=happened)
    assert len(points) >= MANY


@pytest.mark.long
def test_a_kill_at_any_point_changes_nothing_when_texts_fall_back_to_direct_calls(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    env = small(max_retries="0", fallback_to_sequential="true", embedding__direct_concurrency="1")
    points = crash_everywhere(
        index("--mode", "batch"),
        tmp_path,
        warm,
        ground,
        env=env,
        spoil=lambda emulator: emulator.fail_next("job", "expired"),
        happened=lambda emulator: emulator.requests["embed"] >= CHUNKS // 2,
        most_bought_twice=2,
        first=SUBMITTED,
    )
    assert len(points) >= 4


@pytest.mark.long
def test_a_kill_at_any_point_changes_nothing_when_a_job_becomes_too_old(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    def spoil(emulator: GeminiEmulator) -> None:
        emulator.faults.stuck = True

    def happened(emulator: GeminiEmulator) -> bool:
        return "BATCH_STATE_CANCELLED" in {job.state for job in emulator.jobs.values()}

    points = crash_everywhere(
        index("--mode", "batch"),
        tmp_path,
        warm,
        ground,
        env=small(max_job_age="600ms"),
        spoil=spoil,
        happened=happened,
        first=SUBMITTED,
    )
    assert len(points) >= 4
