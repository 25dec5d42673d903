"""What each model is sent, and which of its replies are vectors."""

import json
import math
import random

import numpy as np
import pytest
from counting import calls_made
from hypothesis import given
from hypothesis import strategies as st

from codechunk import providers
from codechunk.providers.gemini.facts import MODELS
from codechunk.providers.gemini.form import Form
from codechunk.providers.vector import BadVector

OLD = Form("gemini-embedding-001", 4)
NEW = Form("gemini-embedding-2", 4)
any_text = st.text(st.characters(codec=None, exclude_categories=()))


def test_001_is_told_the_task_in_a_parameter() -> None:
    assert OLD.request("x = 1") == {
        "content": {"parts": [{"text": "x = 1"}]},
        "taskType": "RETRIEVAL_DOCUMENT",
        "outputDimensionality": 4,
    }
    assert OLD.for_queries().request("where?")["taskType"] == "CODE_RETRIEVAL_QUERY"


def test_2_is_told_the_task_in_the_text_and_never_in_a_parameter() -> None:
    assert NEW.request("x = 1") == {
        "content": {"parts": [{"text": "title: none | text: x = 1"}]},
        "outputDimensionality": 4,
    }
    assert NEW.for_queries().sent("where {is} it?") == "task: code retrieval | query: where {is} it?"


def test_a_later_model_is_treated_like_2() -> None:
    assert "taskType" not in Form("gemini-embedding-3", 768).request("x")


def test_the_limits_are_those_of_the_model_pages() -> None:
    assert {model: providers.get("gemini").input_tokens(model) for model in MODELS} == {
        "gemini-embedding-001": 2048,
        "gemini-embedding-2": 8192,
    }
    assert providers.get("gemini").input_tokens("something-else") is None


@given(any_text, st.sampled_from([OLD, NEW]))
def test_any_text_becomes_one_line_that_holds_exactly_what_is_sent(text: str, form: Form) -> None:
    line = form.line("chunk_ab", text)
    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) == 1, "some reader would find a second line"
    assert json.loads(line) == {"key": "chunk_ab", "request": form.request(text)}
    form.sent(text).encode()  # is UTF-8


@given(any_text)
def test_only_lone_surrogates_are_replaced(text: str) -> None:
    expected = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    assert OLD.sent(text) == expected


@given(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4), st.sampled_from([OLD, NEW]))
def test_a_vector_has_length_one_and_keeps_its_direction(values: list[float], form: Form) -> None:
    length = math.hypot(*values)
    if length < 1e-6:
        return
    vector = form.vector(values)
    assert vector.dtype == np.float32
    assert vector.shape == (4,)
    assert float(np.linalg.norm(vector)) == pytest.approx(1, abs=1e-6)
    assert np.allclose(vector * length, values, atol=length * 1e-6)


def test_a_vector_that_is_normalised_already_is_not_changed() -> None:
    vector = NEW.vector([0.5, -0.5, 0.5, 0.5])
    assert vector.tolist() == [0.5, -0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([1.0, 2.0, 3.0], "3 values instead of 4"),
        ([1.0] * 5, "5 values instead of 4"),
        ([], "0 values instead of 4"),
        ([0.0] * 4, "zero"),
        ([1e-200] * 4, "zero"),
        ([1.0, math.nan, 1.0, 1.0], "finite"),
        ([1.0, math.inf, 1.0, 1.0], "finite"),
        ([1.0, 1e200, 1.0, 1.0], "finite"),
        ([1.0, 10**400, 1.0, 1.0], "not a number"),
        (["NaN", 1.0, 1.0, 1.0], "finite"),
        ([None] * 4, "finite"),
        ([1.0, "?", 1.0, 1.0], "not a number"),
        ([[1.0]] * 4, "nested"),
        ({"values": [1.0] * 4}, "not a number"),
        (None, "nested"),
        ("abcd", "not a number"),
    ],
)
def test_what_is_no_vector_is_refused_with_its_reason(values: object, why: str) -> None:
    with pytest.raises(BadVector, match=why):
        OLD.vector(values)  # type: ignore[arg-type] # whatever JSON can hold


def test_a_vector_is_checked_as_a_whole_and_not_number_by_number() -> None:
    form, values = Form("gemini-embedding-001", 768), [random.gauss(0, 1) for _ in range(768)]
    assert calls_made(lambda: form.vector(values)) < len(values) / 4
