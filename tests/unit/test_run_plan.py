"""What a run keeps for later survives other versions of codechunk: more keys, fewer keys, other types."""

import json
from dataclasses import replace
from typing import Any

import pytest

from codechunk.workspace.run_plan import Outcome, RunPlan

OUTCOME = Outcome(
    discovered=3,
    files=[("indexed", None, 2), ("skipped", "binary", 1)],
    chunks={"total": 5, "ready": 5},
    counted=5,
    tokens=100,
    estimated=False,
    secrets=(1, 1),
    spent_usd=0.5,
)
OUTLINE = RunPlan(
    generation=2,
    commit="c",
    identity="i",
    token_mode="all",
    discovered=3,
    unchanged=0,
    deleted_files=0,
    mode="batch",
    mode_reason="many",
    estimated_usd=None,
    started_at=1.5,
    changes={"files_added": 3},
    outcome=OUTCOME,
)


def changed(**values: Any) -> str:
    """The JSON of OUTLINE with other values."""
    return json.dumps({**json.loads(OUTLINE.dump()), **values})


def test_what_is_kept_comes_back() -> None:
    assert RunPlan.load(OUTLINE.dump()) == OUTLINE
    assert json.loads(OUTLINE.dump())["version"] == 1


def test_keys_that_nobody_knows_yet_are_left_alone() -> None:
    outcome = {**json.loads(OUTLINE.dump())["outcome"], "later": [1]}
    assert RunPlan.load(changed(version=9, later={"a": 1}, outcome=outcome)) == OUTLINE


def test_a_plan_of_a_version_that_kept_no_outcome_has_none() -> None:
    old = json.loads(OUTLINE.dump())
    del old["outcome"], old["version"], old["changes"]
    assert RunPlan.load(json.dumps(old)) == replace(OUTLINE, outcome=None, changes=None)


@pytest.mark.parametrize(
    "outcome",
    [None, [], "x", {}, {"files": None}, {**json.loads(OUTLINE.dump())["outcome"], "files": [["indexed", 2]]}],
)
def test_an_outcome_that_lacks_something_is_none_and_the_plan_is_still_good(outcome: object) -> None:
    assert RunPlan.load(changed(outcome=outcome)) == replace(OUTLINE, outcome=None)


@pytest.mark.parametrize("text", [None, "", "{}", "[]", "not json", '{"generation": 1}'])
def test_what_is_not_enough_to_finish_a_run_by_is_none(text: str | None) -> None:
    assert RunPlan.load(text) is None
