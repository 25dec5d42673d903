"""What `config show` and `version` answer."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting and where its value comes from."""

    key: str
    """Its name with dots."""
    value: str
    """Its value as in the YAML file; of a secret only whether it is set."""
    origin: str
    """default, a line of a file, an environment variable or a flag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What runs here, for a report of a bug. A part that is not installed is null."""

    codechunk: str
    """Version of codechunk."""
    python: str
    """Version of Python."""
    platform: str
    """System and processor, such as "Linux x86_64"."""
    packages: Mapping[str, str | None]
    """Versions of the packages that decide chunks, vectors and what is stored."""
    sqlite: str
    """Version of the SQLite library that Python was built with."""
    git: str | None
    """Version of git."""
    schema: str
    """The newest revision of the state database that this codechunk knows."""
    chunker: int
    """Raised when the same bytes give other chunks: files are then cut again."""
    header: int
    """Raised when the form of the embedded text changes: texts are then embedded again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigCheck:
    """A configuration without a mistake; one with a mistake is exit code 2 and a sentence."""

    valid: bool
    """Always true."""
    file: str | None
    """The file that was read; null when there are only defaults, environment and flags."""
