"""Money: the only place where tokens become dollars. Every sentence, limit and document asks here."""

from collections.abc import Sequence
from dataclasses import dataclass

from codechunk import providers
from codechunk.config.settings import Config
from codechunk.providers import Client, TokenCounter
from codechunk.providers.pricing import PriceMode, price_usd
from codechunk.sending.calibration import Calibrator
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
    """What texts cost under one configuration, by what was learned of the provider's token counts against ours.

    What was learned is read when it is first needed, once: all prices of one object are by the same counts. Take a new
    object for a later estimate.
    """

    def __init__(self, config: Config, state: State) -> None:
        self._config, self._state = config, state
        self._means: dict[int, float] = {}
        self._spaces: dict[int, Space] | None = None

    def mean(self, space_id: int, space: Space) -> float:
        """The provider's tokens for each of ours, in a vector space."""
        if space_id not in self._means:
            self._means[space_id] = self.calibrator(space_id, space).mean
        return self._means[space_id]

    def _known_spaces(self) -> dict[int, Space]:
        if self._spaces is None:
            self._spaces = self._state.catalog.spaces()
        return self._spaces

    def calibrator(self, space_id: int, space: Space, client: Client | None = None) -> Calibrator:
        """The limit of a space's model and how its counts compare with ours, as learned so far.

        Args:
            client: asked for its own count of a text where ours leaves it open; None: the estimate decides.
        """
        provider = providers.get(space.provider)
        own = self._config.token_counting.max_tokens_per_chunk
        return Calibrator(
            state=self._state,
            space_id=space_id,
            model=space.model,
            limit_tokens=None if provider.in_process else own or provider.input_tokens(space.model),
            count=client.count_tokens if isinstance(client, TokenCounter) else None,
        )

    def usd(self, space: Space, mode: PriceMode, tokens: int) -> float | None:
        """The price of tokens by the provider's count, None when nobody knows it."""
        provider = providers.get(space.provider)
        if provider.free:
            return 0.0
        listed, overrides = provider.prices, self._config.pricing
        return price_usd(model=space.model, mode=mode, tokens=tokens, overrides=overrides, listed=listed)

    def prices(self, space: Space, tokens: int) -> Prices:
        """What embedding `tokens` by our count in a vector space will cost; the space may be new."""
        known = {found: space_id for space_id, found in self._known_spaces().items()}
        space_id, model = known.get(space), space.model
        theirs = tokens if space_id is None else round(tokens * self.mean(space_id, space))
        listed = None if model in self._config.pricing else providers.get(space.provider).prices.get(model)
        return Prices(
            model=model,
            direct=self.usd(space, "direct", theirs),
            batch=self.usd(space, "batch", theirs),
            as_of=None if listed is None else listed.as_of.isoformat(),
        )

    def estimate_usd(self, index: IndexRow, tokens: int, mode: str) -> float | None:
        """What embedding `tokens` by our count will cost in a mode (`batch` or `sequential`)."""
        if providers.is_free(index.space.provider):
            return 0.0
        prices = self.prices(index.space, tokens)
        return prices.batch if mode == "batch" else prices.direct

    def of_batches(self, rows: Sequence[BatchRow]) -> list[float | None]:
        """What each batch job costs: by the provider's count of its results; before there are any, what they will.

        None also where nobody here knows the provider any more.
        """
        spaces = self._known_spaces()
        known = {row.space_id for row in rows if providers.is_known(spaces[row.space_id].provider)}
        means = {space_id: self.mean(space_id, spaces[space_id]) for space_id in known}
        costs: list[float | None] = []
        for row in rows:
            if row.space_id not in known:
                costs.append(None)
                continue
            coming = 0 if row.ended and not row.rows_ok else round(row.tokens * means[row.space_id])
            costs.append(self.usd(spaces[row.space_id], "batch", row.billed_tokens or coming))
        return costs

    def spent_usd(self, index: IndexRow, bought: BoughtTexts) -> float | None:
        """What was paid: by the provider's counts where it told them, else by ours."""
        mean = self.mean(index.space_id, index.space)
        batch = self.usd(index.space, "batch", bought.batch + round(bought.batch_estimated * mean))
        direct = self.usd(index.space, "direct", bought.direct + round(bought.direct_estimated * mean))
        return None if batch is None or direct is None else batch + direct
