"""Money: the only place where tokens become dollars. Every sentence, limit and document asks here."""

from codechunk.config.settings import Config
from codechunk.providers.gemini.client import Gemini
from codechunk.providers.models import input_limit
from codechunk.providers.pricing import PriceMode, price_usd
from codechunk.sending.calibration import Fit
from codechunk.state import BoughtTexts, IndexRow, State


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

    def estimate_usd(self, index: IndexRow, tokens: int, mode: str) -> float | None:
        """What embedding `tokens` by our count will cost in a mode (`batch` or `sequential`)."""
        if index.space.provider == "synthetic":
            return 0.0
        theirs = round(tokens * self.fit(index.space_id, index.space.model).mean)
        return self.usd(index.space.model, "batch" if mode == "batch" else "direct", theirs)

    def spent_usd(self, index: IndexRow, bought: BoughtTexts) -> float | None:
        """What was paid: by the provider's counts where it told them, else by ours."""
        mean = self.fit(index.space_id, index.space.model).mean
        batch = self.usd(index.space.model, "batch", bought.batch + round(bought.batch_estimated * mean))
        direct = self.usd(index.space.model, "direct", bought.direct + round(bought.direct_estimated * mean))
        return None if batch is None or direct is None else batch + direct
