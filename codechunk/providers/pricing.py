"""What embedding costs, in USD. Pure: a table of list prices with their date, and one multiplication.

Prices per mode: `direct` is one request per text, `batch` the half-price Batch API.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Literal

PriceMode = Literal["direct", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """List price of one model in USD per 1,000,000 input tokens, as read on the day `as_of`."""

    direct: float
    batch: float
    as_of: date


LIST_PRICES: Mapping[str, Price] = MappingProxyType(
    {
        "gemini-embedding-001": Price(direct=0.15, batch=0.075, as_of=date(2026, 11, 20)),
        "gemini-embedding-2": Price(direct=0.20, batch=0.10, as_of=date(2026, 11, 20)),
    }
)


def price_usd(
    *,
    model: str,
    mode: PriceMode,
    tokens: int,
    overrides: Mapping[str, Mapping[PriceMode, float]] | None = None,
    listed: Mapping[str, Price] = LIST_PRICES,
) -> float | None:
    """USD for `tokens` input tokens, or None when nobody knows this model's price (never 0 for "unknown").

    `overrides` is the configuration's `pricing` section: model → mode → USD per 1M tokens. A mode that
    it leaves out keeps the list price. `listed` are the provider's list prices, by model; Gemini's are the default.
    """
    per_million = (overrides or {}).get(model, {}).get(mode)
    if per_million is None:
        price = listed.get(model)
        if price is None:
            return None
        per_million = price.direct if mode == "direct" else price.batch
    return tokens * per_million / 1_000_000
