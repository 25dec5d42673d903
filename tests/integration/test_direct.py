"""Direct calls: every text gets its vector, what fails is alone, and nothing is bought twice."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import open_state
from forked import CHILDREN
from gemini_emulator import GeminiEmulator, tokens_of, vector_of
from queue_helpers import DIMENSIONS, MODEL, SPACE, add_texts, by_text, rows, stored_vectors
from waiting import wait_until

from codechunk.cli.session import signals_ask
from codechunk.errors import Denied, Missing, RateLimited, Rejected, StateError, Stopped, Unavailable
from codechunk.process.stop import Stop
from codechunk.providers.gemini.client import Gemini
from codechunk.providers.gemini.form import Form
from codechunk.sending.calibration import Calibrator
from codechunk.sending.calls import Pause
from codechunk.sending.direct import Direct, Sent
from codechunk.sending.owner import is_gone, new_owner
from codechunk.state import State
from codechunk.state.embeddings import Vectors

pytestmark = pytest.mark.both_databases

FORM = Form(model=MODEL, dimensions=DIMENSIONS)
TEXTS = [f"def number_{n}():\n    return {n}" for n in range(40)]


@dataclass
class Answer:
    """A reply of the fake provider."""

    vectors: Vectors
    tokens: int | None


class Provider:
    """A provider in this process: answers as `script` says, and remembers every call."""

    title = "The fake"

    def __init__(self, script: Callable[[Sequence[str]], None] = lambda texts: None) -> None:
        self.script = script
        self.calls: list[list[str]] = []
        self.bought: Counter[str] = Counter()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Answer:
        with self._lock:
            self.calls.append(list(texts))
        self.script(texts)
        with self._lock:
            self.bought.update(texts)
        return Answer(np.ones((len(texts), DIMENSIONS), np.float32), tokens=7 * len(texts))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path) as opened:
        yield opened


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator() as running:
        yield running


def direct(state: State, provider: Any, space_id: int, **settings: Any) -> Direct:
    """With short waits; everything else as the product uses it."""
    limit = settings.pop("limit", 2048)
    count = settings.pop("count", None)
    fit = Calibrator(state=state, space_id=space_id, model=MODEL, limit_tokens=limit, count=count)
    chosen = {"concurrency": 4, "texts_per_call": 1, "lease_s": 60.0, "first_wait_s": 0.01, **settings}
    return Direct(state=state, provider=provider, space_id=space_id, owner=new_owner(), calibrator=fit, **chosen)


def gemini(emulator: GeminiEmulator, **settings: Any) -> Gemini:
    return Gemini(**{"api_key": emulator.key, "form": FORM, "base_url": emulator.url, "timeout_s": 10.0, **settings})


def states(state: State) -> Counter[object]:
    return Counter(by_text(state, "state").values())


def nothing_is_held(state: State) -> bool:
    return rows(state, "SELECT count(*) FROM embeddings WHERE owner IS NOT NULL OR state = 'processing'") == [(0,)]


# ---------------------------------------------------------------- with the real edge, against the emulator


@pytest.mark.parametrize("texts_per_call", [1, 100])
def test_every_text_gets_its_own_vector_and_is_paid_for_once(
    state: State, emulator: GeminiEmulator, texts_per_call: int
) -> None:
    index = add_texts(state, TEXTS)
    saved: list[int] = []
    with gemini(emulator) as provider:
        sent = direct(
            state, provider, index.space_id, texts_per_call=texts_per_call, on_saved=saved.append
        ).run()  # fmt: skip
    assert sent == Sent(
        texts=40, requests=40 if texts_per_call == 1 else 1, failed=0, tokens=sum(map(tokens_of, TEXTS))
    )
    assert sum(saved) == 40
    assert emulator.paid == Counter(TEXTS)
    found = stored_vectors(state)
    for text in TEXTS:
        whole = np.array(vector_of(text, DIMENSIONS, MODEL))
        np.testing.assert_allclose(found[text], whole / np.linalg.norm(whole), atol=1e-3)
    assert set(by_text(state, "paid").values()) == {"direct"}
    told = {text: tokens_of(text) if texts_per_call == 1 else None for text in TEXTS}
    assert by_text(state, "tokens") == told
    assert rows(state, "SELECT requests FROM jobs") == [(sent.requests,)]


@pytest.mark.parametrize("texts_per_call", [1, 100])
def test_one_poisoned_text_among_500_fails_alone_and_with_its_reason(
    state: State, emulator: GeminiEmulator, texts_per_call: int
) -> None:
    texts = [f"value_{n} = {n}" for n in range(500)]
    texts[123] += "  # POISON"
    emulator.faults.poison = {"POISON"}
    index = add_texts(state, texts)
    with gemini(emulator) as provider:
        sent = direct(state, provider, index.space_id, texts_per_call=texts_per_call).run()
    assert (sent.texts, sent.failed) == (499, 1)
    assert states(state) == {"ready": 499, "failed": 1}
    errors = {text: error for text, error in by_text(state, "error").items() if error is not None}
    assert list(errors) == [texts[123]]
    assert "400" in str(errors[texts[123]])
    assert emulator.paid == Counter(text for text in texts if "POISON" not in text)
    if texts_per_call == 100:
        assert emulator.requests["embed"] <= 5 + 2 * 7  # five calls, and two halves for each time 100 can be halved


def test_random_faults_on_half_of_the_requests_lose_nothing(state: State, emulator: GeminiEmulator) -> None:
    emulator.faults.probability = 0.5
    emulator.faults.stall_s = emulator.faults.trickle_s = 0.05
    emulator.faults.retry_delay = "0.02s"
    index = add_texts(state, TEXTS)
    with gemini(emulator) as provider:
        sent = direct(state, provider, index.space_id, attempts=40).run()
    assert (sent.texts, sent.failed) == (40, 0)
    assert states(state) == {"ready": 40}
    for text in TEXTS:
        assert emulator.paid[text] - emulator.lost[text] <= 1, "bought again although the vector had come"


def test_a_429_makes_every_thread_wait_as_long_as_asked(
    state: State, emulator: GeminiEmulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.faults.retry_delay = "1.5s"
    emulator.fail_next("embed", "rate_limited", skip=6)
    index = add_texts(state, TEXTS)
    events: list[str] = []

    def begin(pause: Pause, *arguments: Any, **named: Any) -> None:
        events.append("the wait begins")
        real_begin(pause, *arguments, **named)

    def wait(pause: Pause) -> None:
        until = pause._until
        real_wait(pause)
        assert time.monotonic() >= until
        if until and "the wait is over" not in events:
            events.append("the wait is over")

    real_begin, real_wait = Pause.begin, Pause.wait
    monkeypatch.setattr(Pause, "begin", begin)
    monkeypatch.setattr(Pause, "wait", wait)
    with gemini(emulator) as provider:
        real = provider.embed

        def noted(texts: Sequence[str]) -> Any:
            events.append("call")
            return real(texts)

        provider.embed = noted  # type: ignore[method-assign]
        with caplog.at_level("WARNING", logger="codechunk"):
            direct(state, provider, index.space_id, concurrency=2).run()
    [wait] = [record for record in caplog.records if getattr(record, "action", "") == "rate_limited"]  # one for all
    assert 1.5 <= wait.wait_s <= 1.5 * 1.25 + 0.1
    began, over = events.index("the wait begins"), events.index("the wait is over")
    assert events[began:over].count("call") <= 1, "at most the one that the other thread was about to make"
    assert events[over:].count("call") >= 40 - 8
    assert states(state) == {"ready": 40}
    assert emulator.paid == Counter(TEXTS)


def test_a_quota_that_stays_full_ends_the_run_with_a_sentence_and_the_next_goes_on(
    state: State, emulator: GeminiEmulator
) -> None:
    emulator.faults.quota_exhausted = True
    index = add_texts(state, TEXTS)
    with gemini(emulator) as provider:
        with pytest.raises(RateLimited, match=r"quota.*0 texts are embedded, 40 wait; nothing is lost"):
            direct(state, provider, index.space_id).run()
        assert nothing_is_held(state)
        emulator.faults.quota_exhausted = False
        assert direct(state, provider, index.space_id).run().texts == 40
    assert emulator.paid == Counter(TEXTS)


def test_a_refused_key_stops_the_run_at_once(state: State, emulator: GeminiEmulator) -> None:
    index = add_texts(state, TEXTS)
    with gemini(emulator, api_key="a-wrong-key") as provider, pytest.raises(Denied, match="key"):
        direct(state, provider, index.space_id).run()
    assert emulator.requests["embed"] <= 4, "one call of each thread"
    assert states(state) == {"pending": 40}
    assert nothing_is_held(state)


def test_without_a_network_the_run_ends_within_a_few_attempts(state: State) -> None:
    index = add_texts(state, TEXTS)
    with (
        Gemini(api_key="some-key", form=FORM, base_url="http://127.0.0.1:9", timeout_s=5.0) as provider,
        pytest.raises(Unavailable, match=r"could not be reached.*127\.0\.0\.1:9.*40 wait; nothing is lost") as caught,
    ):
        direct(state, provider, index.space_id).run()
    assert not caught.value.sent
    assert states(state) == {"pending": 40}
    assert nothing_is_held(state)


# ---------------------------------------------------------------- exact schedules, with a provider in this process


def test_a_call_without_an_answer_is_tried_again_after_longer_and_longer_waits(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Pause, "sleep", lambda self, seconds: waits.append(seconds))
    index = add_texts(state, TEXTS[:1])
    provider = Provider()

    def fail_four_times(texts: Sequence[str]) -> None:
        if len(provider.calls) <= 4:
            raise Unavailable("503")

    provider.script = fail_four_times
    sent = direct(state, provider, index.space_id, first_wait_s=4.0).run()
    assert sent == Sent(texts=1, requests=5, failed=0, tokens=7)
    for wait, least in zip(waits, (4.0, 8.0, 16.0, 32.0), strict=True):
        assert least <= wait <= least * 1.25


def test_a_provider_that_never_answers_ends_the_run_after_all_attempts(state: State) -> None:
    index = add_texts(state, TEXTS)

    def fail(texts: Sequence[str]) -> None:
        raise Unavailable("503 for ever.")

    provider = Provider(fail)
    with pytest.raises(Unavailable, match=r"several attempts: 503 for ever\. 0 texts are embedded, 40 wait"):
        direct(state, provider, index.space_id, concurrency=1, attempts=5).run()
    assert provider.calls[:5] == [[TEXTS[0]]] * 5
    assert len(provider.calls) < 10, "the next text may have begun while the run was ending, and no more"
    assert all(call == [TEXTS[1]] for call in provider.calls[5:])
    assert nothing_is_held(state)


def test_a_text_that_alone_gets_no_answer_fails_alone(state: State) -> None:
    index = add_texts(state, TEXTS)

    def fail(texts: Sequence[str]) -> None:
        time.sleep(0.002)
        if TEXTS[3] in texts:
            raise Unavailable("500 INTERNAL")

    provider = Provider(fail)
    sent = direct(state, provider, index.space_id, texts_per_call=4, attempts=3).run()
    assert (sent.texts, sent.failed) == (39, 1)
    assert by_text(state, "error")[TEXTS[3]] == "500 INTERNAL"
    assert provider.bought == Counter(text for text in TEXTS if text != TEXTS[3])


def test_a_wait_of_more_than_five_minutes_ends_the_run_and_names_the_time(state: State) -> None:
    index = add_texts(state, TEXTS)

    def fail(texts: Sequence[str]) -> None:
        raise RateLimited("429.", retry_after_s=7200.0)

    with pytest.raises(RateLimited, match=r"no more requests before \d{4}-\d\d-\d\d \d\d:\d\d.*nothing is lost"):
        direct(state, Provider(fail), index.space_id).run()
    assert nothing_is_held(state)


def test_many_threads_turned_away_at_once_are_one_wait_not_many(state: State) -> None:
    """Otherwise 16 threads would use up the attempts of the whole run within one wait."""
    index = add_texts(state, TEXTS)
    gate = threading.Barrier(16, timeout=10)
    provider = Provider()

    def refuse_the_first(texts: Sequence[str]) -> None:
        if len(provider.calls) <= 16:
            with suppress(threading.BrokenBarrierError):
                gate.wait()
            raise RateLimited("429", retry_after_s=0.2)

    provider.script = refuse_the_first
    sent = direct(state, provider, index.space_id, concurrency=16, attempts=3).run()
    assert (sent.texts, sent.requests) == (40, 56)


def test_when_the_first_25_texts_are_all_rejected_none_is_marked_failed(state: State) -> None:
    index = add_texts(state, TEXTS)

    def reject(texts: Sequence[str]) -> None:
        raise Rejected("400 outputDimensionality is not supported.")

    provider = Provider(reject)
    with pytest.raises(Rejected, match=r"rejects every text.*No text was marked.*outputDimensionality"):
        direct(state, provider, index.space_id).run()
    assert len(provider.calls) <= 25 + 4 * 2
    assert states(state) == {"pending": 40}
    assert nothing_is_held(state)


def test_texts_rejected_before_the_first_success_are_failed_after_it(state: State) -> None:
    index = add_texts(state, TEXTS)

    def reject(texts: Sequence[str]) -> None:
        if TEXTS.index(texts[0]) < 20:
            raise Rejected("400 not this")

    sent = direct(state, Provider(reject), index.space_id, concurrency=1).run()
    assert (sent.texts, sent.failed) == (20, 20)
    assert states(state) == {"ready": 20, "failed": 20}


def test_a_run_of_few_texts_that_are_all_rejected_marks_them(state: State) -> None:
    index = add_texts(state, TEXTS[:3])

    def reject(texts: Sequence[str]) -> None:
        raise Rejected("400 not these")

    assert direct(state, Provider(reject), index.space_id, texts_per_call=10).run().failed == 3
    assert set(by_text(state, "error").values()) == {"400 not these"}


def test_a_text_over_the_limit_is_never_sent(state: State) -> None:
    long = "x = 1\n" * 2000
    index = add_texts(state, [long, *TEXTS[:3]], tokens=2000)
    provider = Provider()
    sent = direct(
        state, provider, index.space_id, texts_per_call=100, count=lambda text: 2310 if text == long else 90
    ).run()  # fmt: skip
    assert (sent.texts, sent.failed) == (3, 1)
    assert long not in provider.bought
    assert by_text(state, "error")[long] == "2,310 tokens, and gemini-embedding-001 takes 2,048"


def test_only_texts_that_fell_back_are_sent_when_asked_for(state: State) -> None:
    index = add_texts(state, TEXTS[:4])
    with state.database.begin() as connection:
        connection.exec_driver_sql("UPDATE embeddings SET route = 'direct' WHERE id % 2 = 0")
    provider = Provider()
    assert direct(state, provider, index.space_id).run(fallen_back=True).texts == 2
    assert states(state) == {"ready": 2, "pending": 2}


def test_only_texts_of_the_run_are_sent_when_asked_for(state: State) -> None:
    add_texts(state, TEXTS[:4], name="a.py")
    index = add_texts(state, TEXTS[4:6], name="b.py")
    (job,) = rows(state, f"SELECT id FROM jobs WHERE index_id = {index.id}")
    provider = Provider()
    assert direct(state, provider, index.space_id).run(job_id=str(job[0])).texts == 2
    assert provider.bought == Counter(TEXTS[4:6])


@pytest.mark.parametrize("error", [Missing("404 no such model"), RuntimeError("a bug")])
def test_any_other_error_stops_the_run_and_what_was_bought_is_kept(state: State, error: Exception) -> None:
    index = add_texts(state, TEXTS)
    provider = Provider()

    def fail_late(texts: Sequence[str]) -> None:
        if len(provider.calls) > 10:
            time.sleep(0.05)
            if texts == [provider.calls[10][0]]:
                raise error

    provider.script = fail_late
    with pytest.raises(type(error), match=str(error)):
        direct(state, provider, index.space_id).run()
    assert {text for text, value in by_text(state, "state").items() if value == "ready"} == set(provider.bought)
    assert nothing_is_held(state)


def test_a_vector_that_could_not_be_stored_at_once_is_stored_before_the_run_ends(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = add_texts(state, TEXTS)
    provider = Provider()
    real = state.queue.save_direct
    failures: list[int] = []

    def full_once(*arguments: Any, **named: Any) -> None:
        if len(provider.bought) > 5 and not failures:
            failures.append(1)
            raise StateError("the disk is full")
        real(*arguments, **named)

    monkeypatch.setattr(state.queue, "save_direct", full_once)
    with pytest.raises(StateError, match="disk is full"):
        direct(state, provider, index.space_id).run()
    assert {text for text, value in by_text(state, "state").items() if value == "ready"} == set(provider.bought)
    left = states(state)["pending"]
    assert direct(state, provider, index.space_id).run().texts == left > 0
    assert provider.bought == Counter(TEXTS)


def test_after_a_sleep_of_the_machine_only_what_nobody_else_took_is_sent(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = add_texts(state, TEXTS)
    clock = [0.0]
    monkeypatch.setattr("codechunk.sending.heartbeat._clock", lambda: clock[0])
    provider = Provider()

    def sleep_once(texts: Sequence[str]) -> None:
        if len(provider.calls) == 10 and not clock[0]:
            clock[0] = 3600.0
            with state.database.begin() as connection:  # meanwhile another process took all that was claimed
                connection.exec_driver_sql(
                    "UPDATE embeddings SET owner = 'elsewhere|1|1|x' WHERE state = 'processing' AND owner IS NOT NULL"
                )

    provider.script = sleep_once
    direct(state, provider, index.space_id).run()
    theirs = {text for text, owner in by_text(state, "owner").items() if owner is not None}
    assert theirs
    assert not theirs & set(provider.bought)
    assert set(provider.bought) == set(TEXTS) - theirs


def send_signal(_stop: Stop) -> None:
    """To the main thread, as from another process: one to ourselves would not wake it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.mark.parametrize("ask", [send_signal, Stop.ask])
def test_a_stop_keeps_what_calls_under_way_bring_and_gives_the_rest_back(
    state: State, ask: Callable[[Stop], None]
) -> None:
    index = add_texts(state, TEXTS)
    provider = Provider()

    stop = state.stop

    def interrupt(texts: Sequence[str]) -> None:
        if len(provider.calls) == 10:
            ask(stop)
        time.sleep(0.1)

    provider.script = interrupt
    with signals_ask(stop), pytest.raises(Stopped):
        direct(state, provider, index.space_id).run()
    assert 10 <= len(provider.calls) <= 14
    assert {text for text, value in by_text(state, "state").items() if value == "ready"} == set(provider.bought)
    assert sum(provider.bought.values()) == len(provider.calls)
    assert nothing_is_held(state)


@pytest.mark.parametrize("ask", [send_signal, Stop.ask])
@pytest.mark.parametrize("times", [1, 2])
def test_a_call_that_hangs_holds_up_a_stop_for_its_patience_only_and_a_second_one_not_at_all(
    state: State, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Stop], None], times: int
) -> None:
    monkeypatch.setattr("codechunk.process.stop.PATIENCE_S", 0.5 if times == 1 else 3600.0)
    index = add_texts(state, TEXTS)
    hang, stop = threading.Event(), state.stop

    def interrupt(texts: Sequence[str]) -> None:
        ask(stop)
        while not stop.asked:  # a signal that comes in the moment before a thread sleeps is heard a second later
            time.sleep(0.01)
        if times == 2:
            ask(stop)
        hang.wait(3600)

    with signals_ask(stop), pytest.raises(Stopped):
        direct(state, Provider(interrupt), index.space_id, concurrency=1).run()
    assert not hang.is_set()
    hang.set()
    assert nothing_is_held(state)


# ---------------------------------------------------------------- several processes


def _run_beside(folder: Path, url: str, gate: Any, done: Any) -> None:
    with (
        open_state(folder) as state,
        Gemini(api_key="test-key", form=FORM, base_url=url, timeout_s=10.0) as provider,
    ):
        index = state.catalog.open_index(url="https://host.invalid/o/n", names=["o/n"], ref="a.py", space=SPACE)
        gate.wait(60)
        done.put(direct(state, provider, index.space_id).run().texts)


def test_two_processes_at_once_never_send_the_same_text(tmp_path: Path, emulator: GeminiEmulator) -> None:
    texts = [f"value_{n} = {n}" for n in range(200)]
    with open_state(tmp_path) as state:
        add_texts(state, texts)
    gate, done = CHILDREN.Barrier(2), CHILDREN.Queue()
    processes = [CHILDREN.Process(target=_run_beside, args=(tmp_path, emulator.url, gate, done)) for _ in range(2)]
    for process in processes:
        process.start()
    shares = [done.get(timeout=90) for _ in processes]
    for process in processes:
        process.join(30)
    assert sum(shares) == 200
    assert min(shares) > 0, "both took part, otherwise this proves nothing"
    assert emulator.paid == Counter(texts)


def test_what_a_killed_process_had_claimed_is_sent_by_the_next(tmp_path: Path, emulator: GeminiEmulator) -> None:
    with open_state(tmp_path) as state:
        add_texts(state, TEXTS)
    emulator.faults.stall_s = 30.0
    emulator.fail_next("embed", "stall", times=4, skip=10)
    gate, done = CHILDREN.Barrier(1), CHILDREN.Queue()
    process = CHILDREN.Process(target=_run_beside, args=(tmp_path, emulator.url, gate, done))
    process.start()
    with open_state(tmp_path) as state:
        wait_until(lambda: states(state)["ready"] >= 10, "ten texts are ready")
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        assert state.queue.free_abandoned(is_gone, lease_s=60.0) > 0
        with gemini(emulator) as provider:
            index = state.catalog.open_index(url="https://host.invalid/o/n", names=["o/n"], ref="a.py", space=SPACE)
            direct(state, provider, index.space_id).run()
        assert states(state) == {"ready": 40}
        ready_twice = [text for text, times in emulator.paid.items() if times > 1]
        assert len(ready_twice) <= 4, "only calls whose reply the dead process never had are made again"
