"""Prices: the shipped list, what a configuration changes, and what is not known."""

import pytest

from codechunk.providers.pricing import PriceMode, price_usd


@pytest.mark.parametrize(
    ("model", "mode", "usd"),
    [
        ("gemini-embedding-001", "direct", 0.30),
        ("gemini-embedding-001", "batch", 0.15),
        ("gemini-embedding-2", "direct", 0.40),
        ("gemini-embedding-2", "batch", 0.20),
    ],
)
def test_two_million_tokens_cost_twice_the_list_price(model: str, mode: PriceMode, usd: float) -> None:
    assert price_usd(model=model, mode=mode, tokens=2_000_000) == pytest.approx(usd)


def test_an_own_price_replaces_the_listed_one_of_that_mode_only() -> None:
    own: dict[str, dict[PriceMode, float]] = {"gemini-embedding-001": {"batch": 0.0}}
    assert price_usd(model="gemini-embedding-001", mode="batch", tokens=10**6, overrides=own) == 0
    assert price_usd(model="gemini-embedding-001", mode="direct", tokens=10**6, overrides=own) == 0.15


def test_an_unknown_price_is_none_and_never_zero() -> None:
    assert price_usd(model="my-model", mode="direct", tokens=5) is None
