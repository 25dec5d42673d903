"""Every registered provider, opened where nothing is bought: what the conformance suite runs against."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gemini_emulator import Faults, GeminiEmulator

from codechunk import providers
from codechunk.providers import ClientSettings, Provider

OUTSIDE = Path(__file__).parent.parent / "providers" / "outside"
POISON = "POISON-PILL"


@dataclass(kw_only=True)
class Subject:
    """A provider to be judged: how it is opened here, and what it is known to refuse."""

    provider: Provider
    settings: ClientSettings
    client: Any
    refused: str | None
    """A text that it does not take; None: it takes any text."""
    finish: Callable[[], None]
    """Let every batch job end."""


@contextmanager
def _gemini(provider: Provider, settings: ClientSettings) -> Iterator[Subject]:
    with GeminiEmulator(faults=Faults(poison={POISON}, job_seconds=3600.0)) as emulator:
        settings = replace(settings, api_key=emulator.key, base_url=emulator.url, timeout_s=10.0)
        with closing(provider.open(settings)) as client:
            yield Subject(provider=provider, settings=settings, client=client, refused=POISON, finish=emulator.finish)


@contextmanager
def _tiny(provider: Provider, settings: ClientSettings) -> Iterator[Subject]:
    settings = replace(settings, api_key="tiny-key")
    with closing(provider.open(settings)) as client:
        # Its jobs end when they are looked at.
        yield Subject(provider=provider, settings=settings, client=client, refused="REFUSE-ME", finish=lambda: None)


@contextmanager
def _without_key(provider: Provider, settings: ClientSettings) -> Iterator[Subject]:
    with closing(provider.open(settings)) as client:
        yield Subject(provider=provider, settings=settings, client=client, refused=None, finish=lambda: None)


OPENERS = {"gemini": _gemini, "synthetic": _without_key, "tiny": _tiny}


@contextmanager
def opened(name: str) -> Iterator[Subject]:
    """The provider of this name, opened with its first model and few dimensions."""
    provider = providers.get(name)
    model = provider.fixed_model or next(iter(provider.models))
    dimensions = provider.models[model].dimensions or 128
    with OPENERS[name](provider, ClientSettings(model=model, dimensions=dimensions)) as subject:
        yield subject
