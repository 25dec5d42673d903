"""Much in pieces: a database, a server and a model take only so many at once."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in pieces of `size`, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
