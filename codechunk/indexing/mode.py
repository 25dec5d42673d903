"""Batch or direct: the only place where it is decided. Pure."""

from dataclasses import dataclass
from typing import Literal

from codechunk.config.settings import BatchConfig

Mode = Literal["auto", "batch", "sequential"]
"""How a person wants the provider to be called."""
Chosen = Literal["batch", "sequential"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How the provider is called, and why."""

    mode: Chosen
    reason: str


def choose(batch: BatchConfig, texts: int, wished: Mode = "auto", *, why_direct: str | None) -> Choice:
    """How so many texts are sent under a configuration: in batch jobs when there are enough of them.

    `why_direct`: why the provider has no batch jobs, whatever is wished; None when it has.
    """
    if why_direct is not None:
        return Choice(mode="sequential", reason=why_direct)
    if wished != "auto":
        return Choice(mode=wished, reason=f"--mode {wished}")
    if not texts:
        return Choice(mode="sequential", reason="no text is new")
    if not batch.enabled:
        return Choice(mode="sequential", reason="batch_processing.enabled is false")
    threshold = f"batch_processing.threshold_chunks ({batch.threshold_chunks:,})"
    if texts >= batch.threshold_chunks:
        return Choice(mode="batch", reason=f"{texts:,} texts to embed, at least {threshold}")
    return Choice(mode="sequential", reason=f"{texts:,} texts to embed, fewer than {threshold}")
