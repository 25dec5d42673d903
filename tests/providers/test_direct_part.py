"""What every provider promises of direct calls and queries, the same for all of them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import open_state
from provider_subjects import OPENERS, Subject
from queue_helpers import add_texts, by_text, rows, stored_vectors

from codechunk import providers
from codechunk.errors import Denied
from codechunk.providers import BatchClient
from codechunk.sending.calibration import Calibrator
from codechunk.sending.direct import Direct
from codechunk.sending.owner import new_owner

pytestmark = pytest.mark.parametrize("subject", sorted(OPENERS), indirect=True)

TEXTS = [f"def number_{n}(value):\n    return value * {n}" for n in range(7)]
ODD = [
    "\ud800 alone",
    "nul \x00 bell \x07 escape \x1b[31m",
    "line\u2028separator\u2029and\u0085next",
    "emoji 👩‍👩‍👧‍👦 and עברית",
    "x",
    "{braces} %s $HOME `tick` \\u0000",
    "word " * 1_500,
]


def test_its_facts_agree_with_each_other(subject: Subject) -> None:
    provider = subject.provider
    assert providers.get(provider.name) is provider
    assert provider.title
    assert subject.client.title == provider.title
    assert all(name.isupper() and name.isidentifier() for name in provider.key_variables)
    assert provider.texts_per_call >= 1
    assert provider.fixed_model is None or provider.fixed_model in provider.models
    assert all(model.input_tokens is None or model.input_tokens > 0 for model in provider.models.values())
    assert all(model.dimensions is None or model.dimensions > 0 for model in provider.models.values())
    assert all(price.direct >= 0 and price.batch >= 0 for price in provider.prices.values())
    assert not (provider.free and provider.prices), "what is free has no price"
    assert not (provider.in_process and (provider.operator or provider.key_variables or provider.batch))
    assert (provider.batch is not None) == isinstance(subject.client, BatchClient), "it says what it can do"
    assert provider.why_direct is None or provider.batch is None
    assert provider.stands_for is None or providers.is_known(provider.stands_for)


def test_each_text_gets_a_vector_of_its_own_in_the_order_of_the_texts(subject: Subject) -> None:
    together = subject.client.embed(TEXTS)
    assert together.vectors.dtype == np.float32
    assert together.vectors.shape == (len(TEXTS), subject.settings.dimensions)
    np.testing.assert_allclose(np.linalg.norm(together.vectors, axis=1), 1.0, atol=1e-5)
    assert together.tokens is None or together.tokens > 0
    assert len({vector.tobytes() for vector in together.vectors}) == len(TEXTS)
    for text, vector in zip(reversed(TEXTS), reversed(together.vectors), strict=True):
        np.testing.assert_allclose(subject.client.embed([text]).vectors, [vector], atol=1e-6)


def test_as_many_texts_as_it_says_go_into_one_call_and_none_and_more_do_not(subject: Subject) -> None:
    most = subject.provider.texts_per_call
    texts = [f"text {number}" for number in range(most + 1)]
    assert len(subject.client.embed(texts[:most]).vectors) == most
    for wrong in ([], texts):
        with pytest.raises(ValueError, match=str(len(wrong))):
            subject.client.embed(wrong)


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_any_text_gets_a_finite_vector_of_length_one(subject: Subject, text: str) -> None:
    (vector,) = subject.client.embed([text]).vectors
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_vectors_that_cost_nothing_are_the_same_bytes_every_time(subject: Subject) -> None:
    if subject.provider.free:
        again = subject.provider.open(subject.settings)
        assert subject.client.embed(TEXTS).vectors.tobytes() == again.embed(TEXTS).vectors.tobytes()
    else:  # a service may answer a little differently; what was bought once is kept
        np.testing.assert_allclose(subject.client.embed(TEXTS).vectors, subject.client.embed(TEXTS).vectors, atol=1e-2)


def test_a_query_gets_one_vector_in_the_space_of_the_texts(subject: Subject) -> None:
    vector = subject.client.embed_query("where is the number multiplied?")
    assert vector.dtype == np.float32
    assert vector.shape == (subject.settings.dimensions,)
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_calls_from_several_threads_at_once_bring_each_its_own_vectors(subject: Subject) -> None:
    alone = {text: subject.client.embed([text]).vectors[0] for text in TEXTS}
    with ThreadPoolExecutor(8) as pool:
        for text, reply in zip(TEXTS * 4, pool.map(lambda text: subject.client.embed([text]), TEXTS * 4), strict=True):
            np.testing.assert_allclose(reply.vectors[0], alone[text], atol=1e-6)


def test_a_key_that_is_wrong_is_denied(subject: Subject) -> None:
    if not subject.provider.key_variables:
        assert subject.settings.api_key is None
        return
    wrong = subject.provider.open(replace(subject.settings, api_key="not-the-key"))
    with pytest.raises(Denied, match=subject.provider.title):
        wrong.embed(TEXTS[:1])
    wrong.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_through_direct_calls_every_text_is_ready_and_only_the_refused_one_failed(
    subject: Subject, tmp_path: Path, threads: int
) -> None:
    bad = [] if subject.refused is None else [f"# {subject.refused}\n"]
    texts = [*TEXTS[:3], *bad, *TEXTS[3:]]
    with open_state(tmp_path) as state:
        index = add_texts(state, texts)
        limit = subject.provider.input_tokens(subject.settings.model)
        model, space_id = subject.settings.model, index.space_id
        sent = Direct(
            state=state,
            provider=subject.client,
            space_id=space_id,
            owner=new_owner(),
            calibrator=Calibrator(state=state, space_id=space_id, model=model, limit_tokens=limit),
            concurrency=threads,
            texts_per_call=min(len(texts), subject.provider.texts_per_call),
            lease_s=60.0,
            free=subject.provider.free,
            first_wait_s=0.01,
        ).run()
        assert (sent.texts, sent.failed) == (len(TEXTS), len(bad))
        states = by_text(state, "state")
        assert states == {**dict.fromkeys(TEXTS, "ready"), **dict.fromkeys(bad, "failed")}
        for text, vector in stored_vectors(state).items():
            np.testing.assert_allclose(vector, subject.client.embed([text]).vectors[0], atol=1e-3)
        paid = None if subject.provider.free else "direct"
        assert {by_text(state, "paid")[text] for text in TEXTS} == {paid}
        assert rows(state, "SELECT count(*) FROM embeddings WHERE owner IS NOT NULL") == [(0,)]
