"""Which chunks a token sample counts. Pure."""

from hashlib import blake2b

SEED = "codechunk"


def is_sampled(text: str, seed: str, percent: float) -> bool:
    """Whether a chunk is in the sample: depends on nothing but its text and the seed, so a sample is spread over all
    files, the same on every machine, and the same when a run is taken up again."""
    key = f"{seed}\0{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") % 10_000 < percent * 100
