"""What `search` and `chunk` answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from codechunk.documents.json import IN_MEMORY_ONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A span of code that answers a query, with the symbol and kind of the chunk that earned its place."""

    score: float
    """Between 0 and 1; compares answers of one query only."""
    repository: str
    """Name of the repository."""
    ref: str
    """Branch, tag or commit as it was named."""
    commit: str
    """Id of the commit that searches use."""
    path: str
    """Path inside the repository."""
    language: str
    """Language of the file."""
    kind: str
    """What the chunk is: function, class, section, ..."""
    symbol: str | None
    """Qualified name, or several with ", " between; null when it has none."""
    start_line: int
    """First line, from 1."""
    end_line: int
    """Last line, inclusive."""
    text: str
    """The code."""
    chunk_ids: Sequence[str]
    """Ids of the chunks in it, in order."""
    hit_lines: tuple[int, int] = field(metadata=IN_MEMORY_ONLY)
    """First and last line of the chunk that was found, within the answer's; not part of the JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLine:
    """One chunk of a local file: a line of `chunk --json`."""

    path: str
    """The file as it was named."""
    language: str
    """Language it was read as."""
    kind: str
    """What the chunk is: function, class, section, ..."""
    symbol: str | None
    """Qualified name, or several with ", " between; null when it has none."""
    start_line: int
    """First line, from 1."""
    end_line: int
    """Last line, inclusive."""
    start_byte: int
    """Offset of its first byte in the file."""
    end_byte: int
    """Offset behind its last byte."""
    tokens: int | None
    """Tokens of what is embedded (cl100k)."""
    text: str
    """The file's bytes from start_byte to end_byte, decoded."""
    embedding_text: str
    """What is embedded: context header and text."""
    chunk_id: str
    """Stable id by path, symbol and text."""
