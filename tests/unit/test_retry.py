"""Waits: how they grow, where they end, and how they are spread."""

import pytest

from codechunk.sending.retry import backoff_s, jittered_s, poll_wait_s


def test_waits_double_up_to_the_longest() -> None:
    waits = [backoff_s(failures, initial_s=60, most_s=1800) for failures in range(1, 8)]
    assert waits == [60, 120, 240, 480, 960, 1800, 1800]


@pytest.mark.parametrize("failures", [1000, 10**9])
def test_after_countless_failures_the_wait_is_still_a_number(failures: int) -> None:
    assert backoff_s(failures, initial_s=0.5, most_s=60.0) == 60.0


def test_no_failure_yet_waits_as_after_the_first() -> None:
    assert backoff_s(0, initial_s=2, most_s=60) == 2


def test_jitter_makes_waits_longer_by_at_most_a_quarter_and_different() -> None:
    waits = [jittered_s(100.0) for _ in range(500)]
    assert all(100 <= wait <= 125 for wait in waits)
    assert len(set(waits)) > 400
    assert max(waits) - min(waits) > 15


def test_a_young_job_of_few_texts_is_asked_for_after_a_second_or_two() -> None:
    assert poll_wait_s(10, 0, interval_s=30) == 1
    assert 1 <= poll_wait_s(30, 10, interval_s=30) < 3


def test_a_job_of_hundreds_of_texts_is_left_alone_for_the_whole_interval() -> None:
    assert poll_wait_s(500, 0, interval_s=30) == 30
    assert poll_wait_s(50_000, 0, interval_s=30) == 30


def test_the_older_a_small_job_is_the_less_often_it_is_asked_for() -> None:
    waits = [poll_wait_s(25, age_s, interval_s=30) for age_s in (0, 60, 300, 3600, 86_400)]
    assert waits == sorted(waits)
    assert waits[0] < 2
    assert waits[-1] == 30


def test_a_creation_time_in_the_future_does_not_shorten_the_wait_below_a_second() -> None:
    assert poll_wait_s(1, -1e9, interval_s=30) == 1


def test_an_interval_below_a_second_is_kept() -> None:
    assert poll_wait_s(500, 1e9, interval_s=0.05) == 0.05
