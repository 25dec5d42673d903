"""Batch jobs or direct calls: one decision for runs, plans and estimates."""

import pytest

from codechunk.config.settings import BatchConfig
from codechunk.indexing.mode import Chosen, Mode, choose


@pytest.mark.parametrize(
    ("texts", "wished", "enabled", "mode", "reason"),
    [
        (10, "auto", True, "batch", "10 texts to embed, at least batch_processing.threshold_chunks (10)"),
        (9, "auto", True, "sequential", "9 texts to embed, fewer than batch_processing.threshold_chunks (10)"),
        (0, "auto", True, "sequential", "no text is new"),
        (99, "auto", False, "sequential", "batch_processing.enabled is false"),
        (1, "batch", True, "batch", "--mode batch"),
        (99, "sequential", True, "sequential", "--mode sequential"),
    ],
)
def test_the_mode_and_its_reason(texts: int, wished: Mode, enabled: bool, mode: Chosen, reason: str) -> None:
    choice = choose(BatchConfig(threshold_chunks=10, enabled=enabled), texts, wished, why_direct=None)
    assert (choice.mode, choice.reason) == (mode, reason)


def test_a_provider_without_batch_jobs_is_called_directly_whatever_is_wished() -> None:
    choice = choose(BatchConfig(threshold_chunks=10), 99, "batch", why_direct="vectors are made here")
    assert (choice.mode, choice.reason) == ("sequential", "vectors are made here")
