"""What several files of integration tests share."""

from collections.abc import Iterator

import pytest
from scripted_server import Server, serving

from codechunk.providers.gemini.client import Gemini


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Server, Gemini]]:
    with serving() as made:
        yield made


@pytest.fixture
def server(pair: tuple[Server, Gemini]) -> Server:
    pair[0].forget()
    return pair[0]


@pytest.fixture
def gemini(pair: tuple[Server, Gemini]) -> Gemini:
    return pair[1]
