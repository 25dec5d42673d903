"""What the emulator sells: a vector and a token count that depend on the text alone.

A vector is made of groups of eight components. Each byte of a digest of the text picks one of 256 ready groups, so
that a row of 768 numbers costs a hundred look-ups and its norm is exact: every group has the same length.
"""

import hashlib
import math
from functools import lru_cache

MODELS = ("gemini-embedding-001", "gemini-embedding-2")
INPUT_TOKENS = {"gemini-embedding-001": 2048, "gemini-embedding-2": 8192}
FULL_DIMENSIONS = 3072
# Norms of vectors that the model does not normalise (001 at other dimensions than its full ones).
NORMS = (0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 0.75)
_GROUP = 8


def tokens_of(text: str) -> int:
    """Its token count as the emulator counts: one per 3.6 bytes, at least one."""
    return max(1, math.ceil(len(text.encode(errors="surrogatepass")) / 3.6))


def is_normalised(dimensions: int, model: str) -> bool:
    """Whether the model returns vectors of length one at these dimensions."""
    return model != "gemini-embedding-001" or dimensions == FULL_DIMENSIONS


@lru_cache(maxsize=64)
def _groups(size: int, dimensions: int, norm: float) -> tuple[str, ...]:
    """256 texts of `size` numbers each; the squares of any of them add up to size / dimensions * norm ** 2."""
    raw = [1.0 + 0.25 * position for position in range(size)]
    scale = norm * math.sqrt(size / dimensions / sum(value * value for value in raw))
    groups = []
    for byte in range(256):
        turned = raw[byte % size :] + raw[: byte % size]
        signed = (-value if byte >> position & 1 else value for position, value in enumerate(turned))
        groups.append(",".join(f"{value * scale:.9g}" for value in signed))
    return tuple(groups)


def rendered(text: str, dimensions: int, model: str) -> str:
    """The numbers of the vector as they stand between the brackets of the JSON list."""
    whole, rest = divmod(dimensions, _GROUP)
    seed = f"{model}\0{dimensions}\0{text}".encode(errors="surrogatepass")
    digest = hashlib.shake_256(seed).digest(whole + 2)
    norm = 1.0 if is_normalised(dimensions, model) else NORMS[digest[-1] % len(NORMS)]
    groups = _groups(_GROUP, dimensions, norm)
    parts = [groups[byte] for byte in digest[:whole]]
    if rest:
        parts.append(_groups(rest, dimensions, norm)[digest[whole]])
    return ",".join(parts)


def vector_of(text: str, dimensions: int, model: str = "gemini-embedding-001") -> list[float]:
    """The vector sold for a text as it was sent; `model` with or without `models/`."""
    return [float(number) for number in rendered(text, dimensions, model.removeprefix("models/")).split(",")]
