"""The rules of the public search benchmark: what an answer is worth, in both readings."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))

from benchmarks.semble_set import TUNING, Span, file_ranks_of, ndcg, ranks_of, same_path

ANSWERS = [Span("a.py", 1, 9), Span("a.py", 20, 29), Span("lib/b.py", 1, 5), Span("c.py", 1, 5)]


def test_a_file_that_was_seen_takes_a_rank_only_where_each_span_does() -> None:
    wanted = [Span("lib/b.py")]
    assert ranks_of(ANSWERS, wanted) == [3]
    assert file_ranks_of(ANSWERS, wanted) == [2]


def test_a_target_with_lines_is_answered_by_a_span_that_shares_one() -> None:
    assert ranks_of(ANSWERS, [Span("a.py", 29, 40)]) == [2]
    assert file_ranks_of(ANSWERS, [Span("a.py", 29, 40)]) == [1]
    assert ranks_of(ANSWERS, [Span("a.py", 10, 19)]) == file_ranks_of(ANSWERS, [Span("a.py", 10, 19)]) == []


def test_an_answer_without_lines_is_the_whole_file() -> None:
    assert ranks_of([Span("a.py")], [Span("a.py", 10, 19)]) == [1]


def test_either_path_may_be_the_end_of_the_other() -> None:
    assert same_path("b.py", "src/lib/b.py")
    assert same_path("src/lib/b.py", "lib/b.py")
    assert not same_path("b.py", "src/ab.py")


def test_ndcg_is_binary_and_compares_with_the_best_that_could_be() -> None:
    assert ndcg([1, 2], 2) == 1
    assert ndcg([2], 1) == pytest.approx(0.6309, abs=1e-4)
    assert ndcg([1, 1], 2) == ndcg([1], 2) == pytest.approx(0.6131, abs=1e-4)
    assert ndcg([11], 1) == ndcg([], 1) == ndcg([], 0) == 0


def test_ranking_is_tuned_on_the_half_that_the_issue_names() -> None:
    assert len(TUNING) == 31
