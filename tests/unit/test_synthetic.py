"""Synthetic vectors: the same bytes everywhere, length 1, and good enough to find a function by its words."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechunk.providers.synthetic import MODEL, embed

GOLDEN_TEXTS = [
    "def schedule_retry(attempt: int) -> float:\n    return min(2 ** attempt, 300)\n",
    "class HTTPServer { void handleRequest(Request r) { this.queue.push(r); } }",
    "größeÄndern 検索 sha256 sha256 sha256 0x1F",
    "",
    "{}();\n",
]
GOLDEN_DIGESTS = [
    "37ead31f44ab0aa4",
    "dc681c362db2820b",
    "1e79db3bdc7a48d8",
    "893258ec71ab1234",
    "b60b62b7a5b1dfdb",
]
GOLDEN_FIRST = {
    3: 0.6099533438682556,
    29: 0.4313482344150543,
    73: -0.10783705860376358,
    83: -0.4313482344150543,
    291: -0.4313482344150543,
    367: -0.10783705860376358,
    412: -0.10783705860376358,
    536: 0.10783705860376358,
    643: -0.10783705860376358,
    658: 0.10783705860376358,
}


def test_the_vectors_of_known_texts_never_change() -> None:
    vectors = embed(GOLDEN_TEXTS)
    assert MODEL == "synthetic-hash-v1"
    digests = [hashlib.sha256(row.astype("<f4").tobytes()).hexdigest()[:16] for row in vectors]
    assert digests == GOLDEN_DIGESTS
    assert {int(at): float(vectors[0, at]) for at in np.flatnonzero(vectors[0])} == GOLDEN_FIRST


@pytest.mark.parametrize("dimensions", [1, 8, 768, 3072])
def test_vectors_have_the_asked_shape_and_length_one(dimensions: int) -> None:
    vectors = embed(GOLDEN_TEXTS, dimensions)
    assert vectors.shape == (len(GOLDEN_TEXTS), dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)


def test_no_texts_give_no_vectors() -> None:
    assert embed([]).shape == (0, 768)


def test_a_text_has_the_same_vector_alone_and_among_others() -> None:
    texts = [f"value_{number} is computed {number % 7} times" for number in range(600)]
    together = embed(texts)
    assert all(np.array_equal(together[at], embed([texts[at]])[0]) for at in (0, 255, 256, 599))


@given(st.text())
def test_any_text_gets_a_vector_of_length_one(text: str) -> None:
    assert np.linalg.norm(embed([text, text + "."], 64).astype(np.float64), axis=1) == pytest.approx(1)


def test_texts_without_words_differ_when_their_bytes_differ() -> None:
    vectors = embed(["", " ", "()", "[]", "\ud800"])
    likeness = vectors @ vectors.T
    assert (likeness[~np.eye(len(vectors), dtype=bool)] < 0.9).all()


def test_a_search_for_words_of_a_function_finds_it() -> None:
    functions = [
        "def schedule_retry(job):\n    job.next_attempt_at = now() + backoff(job.attempts)\n    return job",
        "def parse_header(line):\n    name, _, value = line.partition(':')\n    return name.strip(), value",
        "int dictExpand(dict *d, unsigned long size) {\n    if (dictIsRehashing(d)) return DICT_ERR;\n}",
        "function renderTable(rows) {\n  return rows.map((row) => renderRow(row)).join('');\n}",
        "class UserRepository:\n    def find_by_email(self, email):\n        return self.session.get(email)",
    ]
    queries = [
        "how are retries scheduled",
        "parsing of headers",
        "expand a dict",
        "table rows rendered",
        "user email",
    ]
    likeness = embed(queries) @ embed(functions).T
    assert likeness.argmax(axis=1).tolist() == [0, 1, 2, 3, 4]


def test_function_words_and_keywords_hardly_count() -> None:
    query, right, wrong = embed(["the retry of the job", "retry job", "the of the the"])
    assert query @ right > 0.8
    assert query @ wrong < 0.5
