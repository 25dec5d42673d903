"""Whether a text fits the model, judged by our count as far as it goes and by the provider's where it must be.

cl100k only estimates what a provider counts, and how far it is off depends on the code. Every count that comes back in
a reply makes the estimate better; what was learned is kept in the state database for the next run.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass

from codechunk.config.settings import ESTIMATE_SAFETY
from codechunk.errors import Missing, Rejected
from codechunk.state import State

log = logging.getLogger(__name__)

# Before this many texts the shipped factor is used: a few files of one language prove nothing.
ENOUGH_TEXTS = 200
# In a short text one token more or less is a large ratio and no danger.
SHORTEST_TELLING_TOKENS = 64
MARGIN = 1.05
# What the model's form adds to a text, such as "title: none | text: ", at most.
WRAPPING_BYTES = 64
LEAST_FACTOR, MOST_FACTOR = 1.0, 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What is known of our count against the provider's.

    `texts` were counted one by one, `summed` ones only together with others; `ours` and `theirs` are the tokens of
    all of them, `worst` is the largest ratio of one text.
    """

    texts: int = 0
    summed: int = 0
    ours: int = 0
    theirs: int = 0
    worst: float = 0.0

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(
            texts=self.texts + other.texts,
            summed=self.summed + other.summed,
            ours=self.ours + other.ours,
            theirs=self.theirs + other.theirs,
            worst=max(self.worst, other.worst),
        )

    @classmethod
    def parse(cls, value: object) -> "Calibration":
        """From a remembered JSON value; anything that is not one counts as nothing known."""
        try:
            return cls(**value) if isinstance(value, dict) else cls()
        except TypeError:  # fields of another version
            return cls()


class Calibrator:
    """The limit of one model, and the factor between our count and the provider's. For use by several threads."""

    def __init__(
        self,
        *,
        state: State,
        space_id: int,
        model: str,
        limit_tokens: int | None,
        count: Callable[[str], int] | None = None,
    ) -> None:
        """Take up what was learned before.

        Args:
            limit_tokens: what the model takes per text, by the provider's count; None: nothing is known of a limit.
            count: the provider's own count of a text, a call over the network; None: the estimate decides.
        """
        self._state = state
        self._fact = f"calibration:{space_id}"
        self._model = model
        self._limit = limit_tokens
        self._count = count
        self._lock = threading.Lock()
        self._known = Calibration.parse(state.queue.fact(self._fact))
        self._new = Calibration()

    @property
    def calibration(self) -> Calibration:
        """Everything known, with what was not saved yet."""
        with self._lock:
            return self._known + self._new

    @property
    def factor(self) -> float:
        """The provider's count is at most our count times this, as far as is known."""
        known = self.calibration
        if known.texts < ENOUGH_TEXTS:  # a sum tells nothing of how far a single text is off
            return 1 / ESTIMATE_SAFETY
        return min(MOST_FACTOR, max(LEAST_FACTOR, MARGIN * known.theirs / known.ours, known.worst))

    @property
    def mean(self) -> float:
        """The provider's count per token of ours, for prices; 1 while too little is known."""
        known = self.calibration
        return known.theirs / known.ours if known.texts + known.summed >= ENOUGH_TEXTS else 1.0

    def surely_fits(self, tokens: int) -> bool:
        """Whether a text of `tokens` by our count or estimate fits without a look at it."""
        return self._limit is None or tokens * self.factor <= self._limit

    def check(self, text: str, tokens: int) -> str | None:
        """Whether a text of `tokens` by our count or estimate fits: None, or the reason why not.

        Asks the provider only when our count leaves it open.

        Raises:
            ProviderError: the provider was asked and gave no answer.
        """
        limit = self._limit
        if limit is None or self.surely_fits(tokens):
            return None
        if len(text.encode("utf-8", "surrogatepass")) + WRAPPING_BYTES <= limit:  # a token is a byte at least
            return None
        exact = self._exact(text)
        if exact is None:
            about = round(tokens * self.mean)
            return f"about {about:,} tokens by estimate, too near to the {limit:,} that {self._model} takes"
        return f"{exact:,} tokens, and {self._model} takes {limit:,}" if exact > limit else None

    def _exact(self, text: str) -> int | None:
        """The provider's count; None when its client counts no tokens, or not for this model."""
        if self._count is None:
            return None
        try:
            return self._count(text)
        except (Rejected, Missing) as exc:
            log.warning(
                "The provider does not count tokens; the estimate decides whether a text fits",
                extra={"action": "count_refused", "error": str(exc)},
            )
            return None

    def learn(self, ours: int, theirs: int, *, texts: int = 1) -> None:
        """Take in the provider's count of one text, or of several in one sum. `ours` must be counted, not estimated."""
        if ours <= 0 or theirs <= 0 or texts <= 0:
            return
        alone = texts == 1
        worst = theirs / ours if alone and ours >= SHORTEST_TELLING_TOKENS else 0.0
        told = Calibration(
            texts=texts if alone else 0, summed=0 if alone else texts, ours=ours, theirs=theirs, worst=worst
        )
        with self._lock:
            self._new += told

    def save(self) -> None:
        """Keep what was learned since the last time, beside what other processes have learned meanwhile."""
        with self._lock:
            new, self._new = self._new, Calibration()
            self._known += new
        if new == Calibration():
            return
        merged = self._state.queue.amend(self._fact, lambda value: asdict(Calibration.parse(value) + new))
        with self._lock:
            self._known = Calibration.parse(merged)
