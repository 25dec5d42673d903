"""What a provider sent as numbers becomes a vector, or is refused. Pure."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Below this length (L2 norm) a vector has no direction worth keeping; real ones are between 0.5 and 1.
_SHORTEST = 1e-9


class BadVector(ValueError):
    """What the provider sent is not the vector that was asked for; the message says why, in one clause."""


def unit_vector(values: Sequence[float], dimensions: int) -> NDArray[np.float32]:
    """The vector of a reply, checked, with L2 norm 1: float32, shape `(dimensions,)`.

    Scaling what is of unit length already changes nothing, so no model is asked whether it normalises.

    Raises:
        BadVector: the count of values is wrong, or they are not finite numbers, or all zero.
    """
    try:
        vector = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as exc:
        raise BadVector("it holds something that is not a number") from exc
    if vector.shape != (dimensions,):
        count = len(values) if vector.ndim == 1 else "nested"
        raise BadVector(f"it has {count} values instead of {dimensions}")
    # One product tells all: NaN and infinity spoil it, and only zeros make it zero.
    with np.errstate(over="ignore"):
        norm = math.sqrt(np.dot(vector, vector))
    if not math.isfinite(norm):
        raise BadVector("it holds values that are not finite numbers")
    if norm < _SHORTEST:
        raise BadVector("all its values are zero")
    return (vector / norm).astype(np.float32)
