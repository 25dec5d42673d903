"""Money: the only place where tokens become dollars. Every sentence, limit and document asks here."""

from collections.abc import Sequence
from dataclasses import dataclass

from codechunk.config.settings import Config
from codechunk.providers.gemini.client import Gemini
from codechunk.providers.models import input_limit
from codechunk.providers.pricing import LIST_PRICES, PriceMode, price_usd
from codechunk.sending.calibration import Fit
from codechunk.state import BatchRow, BoughtTexts, IndexRow, Space, State
from codechunk.text.money import usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What the same tokens cost directly and in batch jobs, in USD; None where nobody knows.

    `as_of` is the day of the list prices (ISO 8601), None when the prices are configured.
    """

    model: str
    direct: float | None
    batch: float | None
    as_of: str | None

    @property
    def words(self) -> str | None:
        """`$0.0030 direct, $0.0015 batch (list prices of 2026-11-01)`; None when a price is not known."""
        if self.direct is None or self.batch is None:
            return None
        dated = f" (list prices of {self.as_of})" if self.as_of else ""
        return f"{usd(self.direct)} direct, {usd(self.batch)} batch{dated}"


class Estimates:
    """What texts cost under one configuration, by what was learned of the provider's token counts against ours."""

    def __init__(self, config: Config, state: State) -> None:
        self._config, self._state = config, state

    def fit(self, space_id: int, model: str, gemini: Gemini | None = None) -> Fit:
        """The limit of a model and how its counts compare with ours, as learned so far."""
        return Fit(
            state=self._state,
            space_id=space_id,
            model=model,
            limit_tokens=self._config.token_counting.max_tokens_per_chunk or input_limit(model),
            count=None if gemini is None else gemini.count_tokens,
        )

    def usd(self, model: str, mode: PriceMode, tokens: int) -> float | None:
        """The price of tokens by the provider's count, None when nobody knows it."""
        return price_usd(model=model, mode=mode, tokens=tokens, overrides=self._config.pricing)

    def prices(self, space: Space, tokens: int) -> Prices:
        """What embedding `tokens` by our count in a vector space will cost; the space may be new."""
        known = {found: space_id for space_id, found in self._state.catalog.spaces().items()}
        space_id, model = known.get(space), space.model
        theirs = tokens if space_id is None else round(tokens * self.fit(space_id, model).mean)
        listed = None if model in self._config.pricing else LIST_PRICES.get(model)
        return Prices(
            model=model,
            direct=self.usd(model, "direct", theirs),
            batch=self.usd(model, "batch", theirs),
            as_of=None if listed is None else listed.as_of.isoformat(),
        )

    def estimate_usd(self, index: IndexRow, tokens: int, mode: str) -> float | None:
        """What embedding `tokens` by our count will cost in a mode (`batch` or `sequential`)."""
        if index.space.provider == "synthetic":
            return 0.0
        prices = self.prices(index.space, tokens)
        return prices.batch if mode == "batch" else prices.direct

    def of_batches(self, rows: Sequence[BatchRow]) -> list[float | None]:
        """What each batch job costs: by the provider's count of its results; before there are any, what they will."""
        spaces = self._state.catalog.spaces()
        means = {
            space_id: self.fit(space_id, spaces[space_id].model).mean for space_id in {row.space_id for row in rows}
        }
        costs = []
        for row in rows:
            coming = 0 if row.ended and not row.rows_ok else round(row.tokens * means[row.space_id])
            costs.append(self.usd(spaces[row.space_id].model, "batch", row.billed_tokens or coming))
        return costs

    def spent_usd(self, index: IndexRow, bought: BoughtTexts) -> float | None:
        """What was paid: by the provider's counts where it told them, else by ours."""
        mean = self.fit(index.space_id, index.space.model).mean
        batch = self.usd(index.space.model, "batch", bought.batch + round(bought.batch_estimated * mean))
        direct = self.usd(index.space.model, "direct", bought.direct + round(bought.direct_estimated * mean))
        return None if batch is None or direct is None else batch + direct
