"""`kill -9` at every crash point, the n-th for n = 1, 2, 3 ... until a run ends clean: always the same final state.

A crash point is a call of `codechunk.crash.crash`; a new step with one in it is covered without a new test.
"""

import re
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from chaos_helpers import Trial, WarmStart, bought_twice, functions, settings, transcript
from cli_helpers import Done
from gemini_emulator import Exchange, Faults, GeminiEmulator
from git_helpers import GitRepo

from codechunk.overview import check_invariants
from codechunk.state import State

FILES, EACH = 2, 3
CHUNKS = FILES * EACH
# More than any way has; a run that has still not ended clean does something for ever.
MOST_POINTS = 90
SIDE_BY_SIDE = 4
Final = dict[str, list[tuple[Any, ...]]]


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
def warm() -> Iterator[WarmStart]:
    with WarmStart() as started:
        yield started


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
    """Batch jobs of three texts each, and short waits."""
    return settings(max_batch_size="3", reconcile_grace="500ms", lease="2500ms", **changes)


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


def index(*words: str) -> Callable[[Trial, int], str | None]:
    """One command that does it all."""

    def run(trial: Trial, crash_at: int) -> str | None:
        arguments: tuple[str | Path, ...] = ("index", trial.repo.path, "--jobs", "1", *words)
        point = crash_of(trial.do(*arguments, crash_at=crash_at))
        if point is not None:
            done = trial.do(*arguments)
            assert done.code == 0, done.err
        return point

    return run


def worker(trial: Trial, crash_at: int) -> str | None:
    """`index --no-wait`, then a worker; each of the two crashes at its n-th point, when it has so many."""
    arguments = ("index", trial.repo.path, "--jobs", "1", "--mode", "batch", "--no-wait")
    if crash_of(trial.do(*arguments, crash_at=crash_at)) is not None:
        done = trial.do(*arguments)
        assert done.code == 0, done.err
    running = trial.launch("worker", "start", "--interval", "0.1", crash_at=crash_at)
    until = time.monotonic() + 60
    while (done_early := running.wait(0.1)) is None and trial.statuses() != ["succeeded"]:
        assert time.monotonic() < until, "the worker does not get on"
    if done_early is None:
        running.send(signal.SIGTERM)
        done_early = running.wait()
        assert done_early is not None
    point = crash_of(done_early)
    while trial.statuses() != ["succeeded"]:
        assert time.monotonic() < until, "the worker does not get on"
        done = trial.do("worker", "start", "--once")
        assert done.code == 0, done.err
        time.sleep(0.1)
    return point


def crash_of(done: Done) -> str | None:
    """The name of the point where a command was killed; None when it ended by itself."""
    if done.code == -signal.SIGKILL:
        found = re.search(r"crash point \d+: (.*)", done.err)
        assert found is not None, done.err
        return found[1]
    assert done.code == 0, done.err
    return None


# ---------------------------------------------------------------------- all points of one way


def crash_everywhere(
    way: Callable[[Trial, int], str | None],
    folder: Path,
    warm: WarmStart,
    ground: Ground,
    *,
    env: dict[str, str] | None = None,
    spoil: Callable[[GeminiEmulator], None] = lambda _: None,
    most_bought_twice: int = 0,
) -> Counter[str]:
    """Go a way with a crash at its first point, its second ... until one has none. Returns the points by name."""
    points: Counter[str] = Counter()

    def one(number: int) -> str | None:
        # Jobs end when they are asked for, as soon as can be; stuck ones when one of them was cancelled.
        def end_of_stuck(exchange: Exchange) -> None:
            if exchange.kind == "cancel":
                emulator.faults.stuck = False

        with GeminiEmulator(seed=number, faults=Faults(), on_request=end_of_stuck) as emulator:
            trial = trial_at(folder / str(number), warm, emulator, ground, env or small())
            spoil(emulator)
            point: str | None = "?"
            try:
                point = way(trial, number)
                assert_same_end(trial, ground)
                twice = bought_twice(trial)
                assert all(len(sellers) == 2 for sellers in twice.values()), twice
                assert len(twice) <= (0 if point is None else most_bought_twice), twice
            except BaseException as exc:
                why = "".join(traceback.format_exception(exc)[-3:])
                raise AssertionError(f"crash point {number} ({point}): {why}\n{transcript(trial)}") from exc
            finally:
                trial.end()
            shutil.rmtree(trial.root)
            return point

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        for first in range(1, MOST_POINTS, SIDE_BY_SIDE):
            found = list(pool.map(one, range(first, first + SIDE_BY_SIDE)))
            points.update(point for point in found if point is not None)
            if None in found:
                return points
    raise AssertionError(f"no run ended clean: {points}")


def test_a_kill_at_any_point_of_a_waiting_index_changes_nothing_in_the_end(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    points = crash_everywhere(index("--mode", "batch"), tmp_path, warm, ground)
    # How many of each there are depends on how often a job was looked at.
    assert {"created", "downloaded", "vectors saved", "batch completed", "published"} <= set(points)


def test_a_kill_at_any_point_of_a_worker_changes_nothing_in_the_end(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    points = crash_everywhere(worker, tmp_path, warm, ground)
    assert {"created", "remote name recorded", "batch completed", "published"} <= set(points)


def test_a_kill_at_any_point_of_direct_calls_buys_at_most_what_was_under_way_again(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    env = small(embedding__direct_concurrency="1")
    points = crash_everywhere(index("--mode", "sequential"), tmp_path, warm, ground, env=env, most_bought_twice=2)
    assert {"texts claimed", "reply came", "reply stored", "published"} <= set(points)


def test_a_kill_at_any_point_changes_nothing_when_rows_of_the_results_fail_once(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    points = crash_everywhere(
        index("--mode", "batch"), tmp_path, warm, ground, spoil=lambda emulator: emulator.fail_next("job", "row_errors")
    )
    assert {"errors recorded", "batch completed"} <= set(points)


def test_a_kill_at_any_point_changes_nothing_when_a_job_fails_and_an_answer_is_lost(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    def spoil(emulator: GeminiEmulator) -> None:
        emulator.fail_next("job", "failed")
        emulator.fail_next("create", "lost_after")
        emulator.fail_next("upload_chunk", "lost_after", skip=1)

    points = crash_everywhere(index("--mode", "batch"), tmp_path, warm, ground, spoil=spoil)
    assert {"retry scheduled", "listed"} <= set(points)


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
        most_bought_twice=2,
    )
    assert {"given up", "reply stored"} <= set(points)


def test_a_kill_at_any_point_changes_nothing_when_a_job_becomes_too_old(
    tmp_path: Path, warm: WarmStart, ground: Ground
) -> None:
    def spoil(emulator: GeminiEmulator) -> None:
        emulator.faults.stuck = True

    points = crash_everywhere(
        index("--mode", "batch"), tmp_path, warm, ground, env=small(max_job_age="600ms"), spoil=spoil
    )
    assert {"cancel intent recorded", "retry scheduled"} <= set(points)
