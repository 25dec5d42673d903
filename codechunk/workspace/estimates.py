"""Money: the only place where tokens become dollars. Every sentence, limit and document asks here."""

from codechunk import providers
from codechunk.config.settings import Config
from codechunk.providers import Client, TokenCounter
from codechunk.providers.pricing import PriceMode, price_usd
from codechunk.sending.calibration import Calibrator
from codechunk.state import BoughtTexts, IndexRow, Space, State


class Estimates:
    """What texts cost under one configuration, by what was learned of the provider's token counts against ours."""

    def __init__(self, config: Config, state: State) -> None:
        self._config, self._state = config, state

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

    def estimate_usd(self, index: IndexRow, tokens: int, mode: str) -> float | None:
        """What embedding `tokens` by our count will cost in a mode (`batch` or `sequential`)."""
        if providers.is_free(index.space.provider):
            return 0.0
        theirs = round(tokens * self.calibrator(index.space_id, index.space).mean)
        return self.usd(index.space, "batch" if mode == "batch" else "direct", theirs)

    def spent_usd(self, index: IndexRow, bought: BoughtTexts) -> float | None:
        """What was paid: by the provider's counts where it told them, else by ours."""
        mean = self.calibrator(index.space_id, index.space).mean
        batch = self.usd(index.space, "batch", bought.batch + round(bought.batch_estimated * mean))
        direct = self.usd(index.space, "direct", bought.direct + round(bought.direct_estimated * mean))
        return None if batch is None or direct is None else batch + direct
