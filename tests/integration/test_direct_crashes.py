"""kill -9 and SIGTERM in the middle of direct calls: the next run goes on, and buys again only what was under way."""

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import open_state
from forked import CHILDREN
from queue_helpers import DIMENSIONS, MODEL, SPACE, add_texts, by_text, rows, stored_vectors
from waiting import wait_until

from codechunk.cli.session import signals_ask
from codechunk.errors import Stopped
from codechunk.process import crash
from codechunk.process.stop import Stop
from codechunk.sending.calibration import Calibrator
from codechunk.sending.direct import Direct
from codechunk.sending.owner import is_gone, new_owner
from codechunk.state import State
from codechunk.state.embeddings import Vectors

pytestmark = pytest.mark.both_databases

TEXTS = [f"text {number}" for number in range(5)]
KILLED = -signal.SIGKILL
INTERRUPTED = 130


@dataclass
class Answer:
    """A reply of the till."""

    vectors: Vectors
    tokens: int | None


class Till:
    """A provider whose ledger is a file: what was bought stays bought when the buyer dies."""

    title = "The till"

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


def send(folder: Path, settings: dict[str, Any], seconds: float = 0.0, stop: Stop | None = None) -> None:
    """What every run does: take back what the dead held, then send."""
    with State(folder / "state.db", stop=stop) as state:
        state.queue.free_abandoned(is_gone, lease_s=60.0)
        index = state.catalog.open_index(url="https://host.invalid/o/n", names=["o/n"], ref="a.py", space=SPACE)
        fit = Calibrator(state=state, space_id=index.space_id, model=MODEL, limit_tokens=2048)
        Direct(
            state=state, provider=Till(folder / "ledger", seconds), space_id=index.space_id, owner=new_owner(),
            calibrator=fit, lease_s=60.0, **settings,
        ).run()  # fmt: skip


def in_a_process(folder: Path, crash_at: int, settings: dict[str, Any], seconds: float = 0.0) -> None:
    """`send`, killed at a crash point (0: at none); exits with 130 when it was interrupted."""
    crash._at, crash._passed = crash_at, 0
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop = Stop()
    try:
        with signals_ask(stop):
            send(folder, settings, seconds, stop)
    except Stopped:
        os._exit(INTERRUPTED)


def assert_all_there(folder: Path) -> None:
    with open_state(folder) as state:
        assert set(by_text(state, "state").values()) == {"ready"}
        assert rows(state, "SELECT count(*) FROM embeddings WHERE owner IS NOT NULL") == [(0,)]
        for text, vector in stored_vectors(state).items():
            assert (vector == float(text.split()[1]) + 1).all(), "a vector of another text"


@pytest.mark.parametrize(("concurrency", "texts_per_call", "under_way"), [(1, 1, 1), (2, 2, 4)])
def test_killed_at_any_point_the_next_run_buys_again_only_what_was_under_way(
    tmp_path: Path, concurrency: int, texts_per_call: int, under_way: int
) -> None:
    settings = {"concurrency": concurrency, "texts_per_call": texts_per_call}
    crash_at, killed = 1, True
    while killed:
        folder = tmp_path / str(crash_at)
        folder.mkdir()
        with open_state(folder) as state:
            add_texts(state, TEXTS)
        process = CHILDREN.Process(target=in_a_process, args=(folder, crash_at, settings))
        process.start()
        process.join(60)
        code = process.exitcode
        assert code in {0, KILLED}
        killed = code == KILLED
        before = Till(folder / "ledger").bought()
        with open_state(folder) as state:
            stored = set(stored_vectors(state))
        send(folder, settings)
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
    process = CHILDREN.Process(target=in_a_process, args=(tmp_path, 0, settings, 0.2))
    process.start()
    wait_until(lambda: len(Till(tmp_path / "ledger").bought()) >= 10, "ten texts were bought")
    process.terminate()
    process.join()
    assert process.exitcode == INTERRUPTED
    assert len(Till(tmp_path / "ledger").bought()) < 60, "it ended, and did not only finish"
    with open_state(tmp_path) as state:
        ready = {text for text, value in by_text(state, "state").items() if value == "ready"}
        assert ready == set(Till(tmp_path / "ledger").bought()), "every call under way brought its vector"
        assert rows(state, "SELECT count(*) FROM embeddings WHERE state = 'processing'") == [(0,)]
    send(tmp_path, settings)
    assert_all_there(tmp_path)
    assert set(Till(tmp_path / "ledger").bought().values()) == {1}
