"""Whether a text fits the model: the estimate, what it learns, and when the provider is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import open_state

from codechunk.errors import Missing, Unavailable
from codechunk.sending.calibration import Calibrator
from codechunk.state import State

LONG = "word " * 3000


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path) as opened:
        yield opened


def fit(state: State, **settings: Any) -> Calibrator:
    return Calibrator(**{"state": state, "space_id": 1, "model": "m", "limit_tokens": 2048, "count": never, **settings})


def never(text: str) -> int:
    raise AssertionError("the provider was asked")


def test_a_text_well_below_the_limit_fits_without_a_question(state: State) -> None:
    assert fit(state).check(LONG, 1536) is None  # 1536 / 0.75 = 2048


def test_a_text_near_the_limit_is_counted_by_the_provider(state: State) -> None:
    assert fit(state, count=lambda text: 2048).check(LONG, 1537) is None
    assert fit(state, count=lambda text: 2310).check(LONG, 1537) == "2,310 tokens, and m takes 2,048"


def test_a_text_with_fewer_bytes_than_the_limit_has_tokens_fits_whatever_was_estimated(state: State) -> None:
    assert fit(state).check("x" * 1900, 1999) is None


@pytest.mark.parametrize("error", [None, Missing("404")])
def test_where_the_provider_cannot_count_the_estimate_decides(state: State, error: Exception | None) -> None:
    def refuse(text: str) -> int:
        assert error is not None
        raise error

    reason = fit(state, count=refuse if error else None).check(LONG, 1900)
    assert reason == "about 1,900 tokens by estimate, too near to the 2,048 that m takes"


def test_a_provider_that_does_not_answer_is_not_taken_for_a_no(state: State) -> None:
    def fail(text: str) -> int:
        raise Unavailable("503")

    with pytest.raises(Unavailable):
        fit(state, count=fail).check(LONG, 1900)


def test_a_model_without_a_known_limit_takes_everything(state: State) -> None:
    assert fit(state, limit_tokens=None).check(LONG, 10**6) is None


def test_few_counts_change_nothing(state: State) -> None:
    learner = fit(state)
    for _ in range(199):
        learner.learn(100, 300)
    assert [learner.factor, learner.mean] == [pytest.approx(4 / 3), 1.0]


def test_after_200_texts_the_factor_is_the_mean_with_a_margin(state: State) -> None:
    learner = fit(state)
    for _ in range(200):
        learner.learn(100, 110)
    assert learner.mean == pytest.approx(1.1)
    assert learner.factor == pytest.approx(1.1 * 1.05)


def test_one_text_that_is_far_off_raises_the_factor_unless_it_is_tiny(state: State) -> None:
    learner = fit(state)
    for _ in range(200):
        learner.learn(100, 110)
    learner.learn(10, 100)
    assert learner.factor < 1.3
    learner.learn(64, 128)
    assert learner.factor == 2.0


@pytest.mark.parametrize(("theirs", "factor"), [(50, 1.0), (900, 4.0)])
def test_the_factor_has_a_floor_and_a_ceiling(state: State, theirs: int, factor: float) -> None:
    learner = fit(state)
    for _ in range(200):
        learner.learn(100, theirs)
    assert learner.factor == factor


def test_sums_of_many_texts_tell_the_price_but_not_how_far_one_text_is_off(state: State) -> None:
    learner = fit(state)
    for _ in range(10):
        learner.learn(10_000, 9_000, texts=100)
    assert learner.mean == pytest.approx(0.9)
    assert learner.factor == pytest.approx(4 / 3)


def test_counts_of_nothing_teach_nothing(state: State) -> None:
    learner = fit(state)
    learner.learn(0, 5)
    learner.learn(5, 0)
    assert learner.calibration.texts == 0


def test_what_two_processes_learn_is_added_up_and_there_at_the_next_start(state: State) -> None:
    one, two = fit(state), fit(state)
    for learner, theirs in ((one, 120), (two, 130)):
        for _ in range(150):
            learner.learn(100, theirs)
    one.save()
    two.save()
    one.save()  # nothing new: adds nothing
    late = fit(state)
    assert late.calibration.texts == 300
    assert late.mean == pytest.approx(1.25)
    assert fit(state, space_id=2).calibration.texts == 0


@pytest.mark.parametrize("value", ["rubbish", {"texts": 5, "of_a_later_version": 1}, [1]])
def test_a_memory_that_cannot_be_read_counts_as_none(state: State, value: object) -> None:
    state.queue.amend("calibration:1", lambda _: value)
    learner = fit(state)
    assert learner.calibration.texts == 0
    learner.learn(100, 110)
    learner.save()
    assert fit(state).calibration.texts == 1
