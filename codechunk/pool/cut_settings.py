"""How files are cut and counted, as one value, and its identity: equal fingerprints mean equal chunks. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version

from codechunk.chunking import CHUNKER_VERSION, ChunkSettings
from codechunk.pool.pool import TokenMode
from codechunk.selection import secrets

# Raised when the rows an index consists of change form (words of the lexical index, ids): part of every
# fingerprint, so that indexes of an older form are cut again.
ROW_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSettings:
    """Everything that decides how files are cut and counted."""

    chunking: ChunkSettings
    token_mode: TokenMode
    sample_percent: float
    skip_generated: bool
    secrets: secrets.SecretsMode
    attributes: str  # hash of what .gitattributes say about generated and vendored files
    jobs: int


def fingerprint(settings: CutSettings) -> str:
    """The settings and versions that change chunks, as readable text: equal text, equal chunks."""
    parts = {
        "chunker": CHUNKER_VERSION,
        "rows": ROW_FORMAT,
        "grammars": version("tree-sitter-language-pack"),
        "parser": version("tree-sitter"),
        "max_tokens": settings.chunking.max_tokens,
        "min_tokens": settings.chunking.min_tokens,
        "context_header": settings.chunking.context_header,
        "skip_generated": settings.skip_generated,
        "secrets": secrets.fingerprint(settings.secrets),
        "attributes": settings.attributes,
    }
    return " ".join(f"{name}={value}" for name, value in parts.items())


def changed_settings(old: str, new: str, *, ignore: Collection[str] = ()) -> str:
    """What differs between two fingerprints, in words: `max_tokens 512 -> 400`; names in `ignore` may differ."""
    before = dict(part.split("=", 1) for part in old.split())
    after = dict(part.split("=", 1) for part in new.split())
    names = sorted(name for name in (before.keys() | after.keys()) - set(ignore) if before.get(name) != after.get(name))
    return ", ".join(f"{name} {before.get(name, '-')} -> {after.get(name, '-')}" for name in names)
