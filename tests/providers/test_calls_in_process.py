"""Calls that are computations of this process: no thread, whole pages in one transaction, nothing left after Ctrl-C."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import open_state
from queue_helpers import DIMENSIONS, MODEL, add_texts, by_text, rows

from codechunk.providers import Embedded
from codechunk.sending import calls
from codechunk.sending.calibration import Calibrator
from codechunk.sending.direct import Direct
from codechunk.sending.owner import new_owner
from codechunk.state import State

TEXTS = [f"def number_{n}():\n    return {n}" for n in range(25)]


class Local:
    """A client that computes, and remembers which thread did and how many texts it got."""

    title = "Local"

    def __init__(self, interrupted_at: int = -1) -> None:
        self.sizes: list[int] = []
        self.threads: set[str] = set()
        self._interrupted_at = interrupted_at

    def embed(self, texts: Sequence[str]) -> Embedded:
        if len(self.sizes) == self._interrupted_at:
            raise KeyboardInterrupt
        self.sizes.append(len(texts))
        self.threads.add(threading.current_thread().name)
        return Embedded(vectors=np.full((len(texts), DIMENSIONS), 0.1, np.float32))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path) as opened:
        yield opened


def direct(state: State, client: Local, *, limit: int | None = None) -> Direct:
    index = add_texts(state, TEXTS)
    calibrator = Calibrator(state=state, space_id=index.space_id, model=MODEL, limit_tokens=limit)
    return Direct(
        state=state, provider=client, space_id=index.space_id, owner=new_owner(), calibrator=calibrator,
        concurrency=0, texts_per_call=10, lease_s=60.0, free=True,
    )  # fmt: skip


def test_all_calls_are_made_in_this_thread_with_as_many_texts_as_one_takes(state: State) -> None:
    client = Local()
    sent = direct(state, client).run()
    assert (sent.texts, sent.failed) == (25, 0)
    assert client.sizes == [10, 10, 5]
    assert client.threads == {threading.current_thread().name}


def test_nothing_is_counted_as_bought(state: State) -> None:
    direct(state, Local()).run()
    assert set(by_text(state, "paid").values()) == {None}
    assert rows(state, "SELECT requests FROM jobs") == [(0,)]


def test_an_interrupted_call_gives_its_texts_back_at_once_and_keeps_what_came(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float | None] = []
    real = calls.Callers.wait

    def wait(self: calls.Callers, timeout_s: float | None = None) -> object:
        looks.append(timeout_s)
        return real(self, timeout_s)

    monkeypatch.setattr(calls.Callers, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        direct(state, Local(interrupted_at=1)).run()
    states = list(by_text(state, "state").values())
    assert (states.count("ready"), states.count("pending")) == (10, 15)
    assert rows(state, "SELECT count(*) FROM embeddings WHERE owner IS NOT NULL") == [(0,)]
    assert len(looks) <= 4, "it waits for nothing that cannot come"


def test_a_text_that_surely_fits_costs_no_attempt_of_its_own(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    real = calls.Callers._retried

    def retried(self: calls.Callers, *arguments: object) -> object:
        tried.append(arguments)
        return real(self, *arguments)

    monkeypatch.setattr(calls.Callers, "_retried", retried)
    direct(state, Local(), limit=2048).run()
    assert len(tried) == 3, "one for each call, none for a text"
