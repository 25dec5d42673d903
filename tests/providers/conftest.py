"""Another package's provider, and every provider opened for a test."""

import sys
from collections.abc import Iterator

import pytest
from provider_subjects import OUTSIDE, Subject, opened

from codechunk import providers


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another package, which registers the provider `tiny`, is installed."""
    monkeypatch.syspath_prepend(str(OUTSIDE))
    providers.get.cache_clear()
    yield
    providers.get.cache_clear()
    sys.modules.pop("tiny_provider", None)


@pytest.fixture
def subject(request: pytest.FixtureRequest, outside: None) -> Iterator[Subject]:
    """The provider that the test's parameter names."""
    with opened(request.param) as found:
        yield found
