"""Much in pieces: a database, a server and a model take only so many at once."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in pieces of `size`, the last one shorter."""
    return (items[part] for part in parts(len(items), size))


def parts(count: int, size: int) -> Iterator[slice]:
    """Where the pieces of `count` items are: for several lists, or arrays, that are cut alike."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
