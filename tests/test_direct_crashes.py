"""kill -9 and SIGTERM in the middle of direct calls: the next run goes on, and buys again only what was under way."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from queue_helpers import DIMENSIONS, MODEL, SPACE, add_texts, by_text, open_state, rows, stored_vectors

from codechunk import crash
from codechunk.direct import Direct
from codechunk.fit import Fit
from codechunk.interrupts import stop_like_ctrl_c
from codechunk.owner import is_gone, new_owner
from codechunk.state import State
from codechunk.state.embeddings import Vectors

TEXTS = [f"text {number}" for number in range(7)]
KILLED = -signal.SIGKILL
INTERRUPTED = 130

# Children of a process that has imported everything: 0.1 s each instead of 2 s.
CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["test_direct_crashes"])


@dataclass
class Answer:
    """A reply of the till."""

    vectors: Vectors
    tokens: int | None


class Till:
    """A provider whose ledger is a file: what was bought stays bought when the buyer dies."""

    def __init__(self, ledger: Path, seconds: float = 0.0) -> None:
        self._ledger = ledger
        self._seconds = seconds

    def embed(self, texts: Sequence[str]) -> Answer:
        descriptor = os.open(self._ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, "".join(f"{text}\n" for text in texts).encode())
        os.close(descriptor)
        time.sleep(self._seconds)
        values = [np.full(DIMENSIONS, float(text.split()[1]) + 1, np.float32) for text in texts]
        return Answer(np.stack(values), tokens=len(texts))

    def bought(self) -> Counter[str]:
        return Counter(self._ledger.read_text().splitlines() if self._ledger.exists() else ())


def send(folder: Path, crash_at: int, settings: dict[str, Any], seconds: float = 0.0) -> None:
    """What a process does: take back what the dead held, then send. Ends with 130 when it was interrupted."""
    crash._at, crash._passed = crash_at, 0
    stop_like_ctrl_c()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with State(folder / "state.db") as state:
        state.queue.free_abandoned(is_gone, lease_s=60.0)
        index = state.catalog.open_index(url="https://host.invalid/o/n", names=["o/n"], ref="a.py", space=SPACE)
        fit = Fit(state=state, space_id=index.space_id, model=MODEL, limit_tokens=2048)
        run = Direct(
            state=state, provider=Till(folder / "ledger", seconds), space_id=index.space_id, owner=new_owner(),
            fit=fit, lease_s=60.0, **settings,
        )  # fmt: skip
        try:
            run.run()
        except KeyboardInterrupt:
            os._exit(INTERRUPTED)


def child(folder: Path, crash_at: int = 0, **settings: Any) -> int | None:
    """Run `send` in a process of its own; how it ended."""
    process = CHILDREN.Process(target=send, args=(folder, crash_at, settings))
    process.start()
    process.join(60)
    return process.exitcode


def assert_all_there(folder: Path) -> None:
    with open_state(folder) as state:
        assert set(by_text(state, "state").values()) == {"ready"}
        assert rows(state, "SELECT count(*) FROM embeddings WHERE owner IS NOT NULL") == [(0,)]
        for text, vector in stored_vectors(state).items():
            assert (vector == float(text.split()[1]) + 1).all(), "a vector of another text"


def test_killed_at_any_point_the_next_run_buys_again_only_what_was_under_way(tmp_path: Path) -> None:
    for settings, under_way in (
        ({"concurrency": 1, "texts_per_call": 1}, 1),
        ({"concurrency": 2, "texts_per_call": 3}, 6),
    ):
        crash_at, killed = 1, True
        while killed:
            folder = tmp_path / f"{settings['texts_per_call']}-{crash_at}"
            folder.mkdir()
            with open_state(folder) as state:
                add_texts(state, TEXTS)
            code = child(folder, crash_at, **settings)
            assert code in {0, KILLED}
            killed = code == KILLED
            before = Till(folder / "ledger").bought()
            with open_state(folder) as state:
                stored = set(stored_vectors(state))
            assert child(folder, **settings) == 0
            assert_all_there(folder)
            bought = Till(folder / "ledger").bought()
            again = {text for text, times in bought.items() if times > 1}
            assert set(bought) == set(TEXTS)
            assert max(bought.values()) <= 2
            assert again <= set(before) - stored, "bought again although its vector was stored"
            assert len(again) <= under_way * 2, "calls under way, and replies that waited to be stored"
            crash_at += 1
        assert crash_at > 5, "there are points to be killed at"


def test_sigterm_ends_a_process_within_seconds_and_nothing_is_bought_twice(tmp_path: Path) -> None:
    with open_state(tmp_path) as state:
        add_texts(state, [f"text {number}" for number in range(60)])
    settings = {"concurrency": 4, "texts_per_call": 1}
    process = CHILDREN.Process(target=send, args=(tmp_path, 0, settings, 0.2))
    process.start()
    deadline = time.monotonic() + 30
    while len(Till(tmp_path / "ledger").bought()) < 10:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    began_at = time.monotonic()
    process.join(30)
    assert process.exitcode == INTERRUPTED
    assert time.monotonic() - began_at < 5
    with open_state(tmp_path) as state:
        ready = {text for text, value in by_text(state, "state").items() if value == "ready"}
        assert ready == set(Till(tmp_path / "ledger").bought()), "every call under way brought its vector"
        assert rows(state, "SELECT count(*) FROM embeddings WHERE state = 'processing'") == [(0,)]
    assert child(tmp_path, **settings) == 0
    assert_all_there(tmp_path)
    assert set(Till(tmp_path / "ledger").bought().values()) == {1}
