"""Acceptance: the plan, the estimate, `--max-cost` and the run name one price for the same texts."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gemini_emulator import GeminiEmulator, tokens_of
from git_helpers import GitRepo
from paid_helpers import FUNCTION, Paid

from codechunk.sending.calibration import ENOUGH_TEXTS
from codechunk.text.money import usd
from codechunk.text.tokens import count_tokens

LESS = 0.000_000_1
"""USD, less than the price of a token."""


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator() as running:
        yield running


def test_after_replies_have_taught_how_the_provider_counts_every_price_is_the_one_that_max_cost_compares(
    tmp_path: Path, emulator: GeminiEmulator
) -> None:
    cli, repo = Paid(tmp_path, emulator), GitRepo(tmp_path / "demo")
    texts = {f"f{number}.py": FUNCTION.format(number) for number in range(ENOUGH_TEXTS)}
    repo.commit(texts, "what teaches")
    assert cli.paid("index", repo.path, "--mode", "sequential", CODECHUNK_EMBEDDING__DIRECT_BATCH="50").code == 0
    learned = cli.sql("SELECT value FROM facts WHERE name LIKE 'calibration:%'")
    assert len(learned) == 1
    text = texts["f0.py"]
    assert tokens_of(text) != count_tokens(text), "the provider counts as we do: nothing is shown by this"

    repo.commit({f"g{number}.py": FUNCTION.format(number + 1000) for number in range(40)}, "what is priced")
    plan = cli.paid("index", repo.path, "--dry-run", "--json").json
    estimate = cli.paid("estimate", repo.path, "--json").json
    assert plan["tokens"]["to_embed"] == estimate["tokens_to_embed"] > 0
    by_our_count = plan["tokens"]["to_embed"] * 0.15 / 1e6
    assert plan["cost"]["direct"] != pytest.approx(by_our_count, rel=0.01), "the learned ratio is not in it"
    prices = {"sequential": "direct", "batch": "batch"}
    for mode, name in prices.items():
        price = plan["cost"][name]
        assert price == estimate["price"][name]
        refused = cli.paid("index", repo.path, "--mode", mode, "--max-cost", f"{price - LESS:.9f}")
        assert refused.code == 1
        assert re.search(r"would cost about (\S+), more", refused.err).group(1) == usd(price)  # type: ignore[union-attr]
    told = cli.paid("index", repo.path, "--dry-run").out
    assert f"{usd(plan['cost']['direct'])} direct, {usd(plan['cost']['batch'])} batch" in told

    price = plan["cost"]["direct"]
    done = cli.paid("index", repo.path, "--mode", "sequential", "--max-cost", f"{price + LESS:.9f}", "--json")
    assert done.code == 0, done.err
    assert done.json["cost"]["estimated"] == round(price, 6)


@pytest.mark.parametrize("token_mode", ["sample", "on_demand"])
def test_where_not_every_chunk_is_counted_the_plan_still_names_the_price_that_max_cost_compares(
    tmp_path: Path, emulator: GeminiEmulator, token_mode: str
) -> None:
    cli, repo = Paid(tmp_path, emulator), GitRepo(tmp_path / "demo")
    repo.commit({f"f{number}.py": FUNCTION.format(number) for number in range(40)})
    how = {"CODECHUNK_TOKEN_COUNTING__MODE": token_mode}
    plan = cli.paid("index", repo.path, "--dry-run", "--json", **how).json
    price = plan["cost"]["direct"]
    assert price != pytest.approx(plan["tokens"]["to_embed"] * 0.15 / 1e6, rel=0.01), "nothing is left uncounted"
    assert cli.paid("estimate", repo.path, "--json", **how).json["price"]["direct"] == price
    index = ("index", repo.path, "--mode", "sequential", "--json")
    assert cli.paid(*index, "--max-cost", f"{price - LESS:.9f}", **how).code == 1
    done = cli.paid(*index, "--max-cost", f"{price + LESS:.9f}", **how)
    assert done.code == 0, done.err
    assert done.json["cost"]["estimated"] == round(price, 6)
