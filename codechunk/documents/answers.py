"""What `search`, `show` and `chunk` answer."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """Why a chunk answers."""

    words: Sequence[str]
    """Words of the query, or of their kind (`expire` for `expired`), that it has, in the query's order."""
    symbol: bool
    """Whether it defines a name that the query asks for."""
    meaning: float | None
    """How alike it is in meaning, from 0 for the least to 1 for the most similar candidate; null when not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Lines of a file that answer a query: the chunk that was found, and what is shown around it."""

    score: float
    """Between 0 and 1; compares spans of one query only."""
    kind: str
    """What the found chunk is: function, class, section, ..."""
    symbol: str | None
    """Its qualified name, or several with ", " between; null when it has none."""
    start_line: int
    """First line, from 1."""
    end_line: int
    """Last line, inclusive."""
    text: str
    """The code."""
    chunk_ids: Sequence[str]
    """Ids of the chunks in it, in order."""
    hit_lines: tuple[int, int]
    """First and last line of the chunk that was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A file that answers a query, with its best span; the other spans of the file are in `spans`."""

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
    """What the best span's found chunk is: function, class, section, ..."""
    symbol: str | None
    """Its qualified name, or several with ", " between; null when it has none."""
    start_line: int
    """First line of the best span, from 1."""
    end_line: int
    """Last line of the best span, inclusive."""
    text: str
    """The code of the best span."""
    chunk_ids: Sequence[str]
    """Ids of the chunks in the best span, in order."""
    hit_lines: tuple[int, int]
    """First and last line of the chunk that was found, within the best span's."""
    file_rank: int
    """The file's place among the answers, from 1."""
    content: str
    """What kind of file it is: code, tests, examples, docs or data."""
    matched: Matched
    """Why the best span answers."""
    url: str | None
    """Permalink to the best span at the commit, for hosts whose pages are known; null for others."""
    absolute_path: str | None
    """The file on this disk, when the repository is a local one and has it; null otherwise."""
    spans: Sequence[Span]
    """Further spans of the same file, best first."""
    also: Sequence[str] = ()
    """Where else the found chunk's very text is among what was searched, as `repository@ref:path`."""
    committed_at: str | None = None
    """When the commit was made, UTC; null when no repository on this disk has it."""
    behind: int | None = None
    """How many commits the branch has gone on since, for a local repository; null when that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFile:
    """A file, or lines of it, at the commit that searches use."""

    repository: str
    """Name of the repository."""
    ref: str
    """Branch, tag or commit as it was named."""
    commit: str
    """Id of the commit that searches use."""
    path: str
    """Path inside the repository."""
    language: str | None
    """Language of the file; null when it has none."""
    start_line: int
    """First line of `text`, from 1."""
    end_line: int
    """Last line of `text`, inclusive."""
    lines: int
    """Lines of the whole file."""
    text: str
    """The lines, each with a line break behind it."""


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
