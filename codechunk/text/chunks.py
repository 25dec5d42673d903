"""The domain's values: what a chunk is, what a file of a tree is, and how a chunk gets its id.

Nothing here does I/O. A chunk is made once by `codechunk.chunking` and never edited.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from codechunk.text.notebook_text import NOTEBOOK, source_of_cell


class Kind(StrEnum):
    """What a chunk mostly is. Fixed vocabulary: `search --kind` filters on it."""

    FUNCTION = "function"
    METHOD = "method"
    CLASS = "class"
    STRUCT = "struct"
    INTERFACE = "interface"
    ENUM = "enum"
    TYPE = "type"
    MODULE = "module"
    MACRO = "macro"
    VARIABLE = "variable"
    SECTION = "section"
    BLOCK = "block"
    TEXT = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One contiguous piece of a file, ready to be embedded.

    `text` is exactly the file's bytes `[start_byte, end_byte)` decoded; lines are 1-based and inclusive.
    `symbol` is the qualified name of the definition (`Adapter.send`), the names of several tiny ones with ", "
    between, or None. `tokens` is the exact cl100k count of `embedding_text`, or None when it was not counted (never 0
    for "unknown").
    """

    path: str
    language: str
    kind: Kind
    symbol: str | None
    start_line: int
    end_line: int
    start_byte: int
    end_byte: int
    text: str
    header: str = ""
    tokens: int | None = None

    @property
    def embedding_text(self) -> str:
        """What is embedded: the context header, when there is one, on lines of its own before the text."""
        return with_header(self.header, self.text, self.language)


def with_header(header: str, text: str, language: str | None) -> str:
    """The form of what is embedded; another form is another HEADER_VERSION (versions.py).

    It depends on nothing else, so that stored chunks give the same text as new ones. The lines of a notebook's cells
    are embedded as what was typed there, not as the strings of JSON that they are in the file.
    """
    if language == NOTEBOOK:
        text = source_of_cell(text)
    return f"{header}\n{text}" if header else text


class _Draft:
    """A chunk in the making: the same slots, open to assignment."""

    __slots__ = (
        "end_byte",
        "end_line",
        "header",
        "kind",
        "language",
        "path",
        "start_byte",
        "start_line",
        "symbol",
        "text",
        "tokens",
    )


def new_chunk(
    path: str,
    language: str,
    kind: Kind,
    symbol: str | None,
    start_line: int,
    end_line: int,
    start_byte: int,
    end_byte: int,
    text: str,
    header: str,
) -> Chunk:
    """`Chunk(...)` in an eighth of the time, for the one place that makes chunks by the ten thousand.

    A frozen dataclass assigns each field by a call of `object.__setattr__` (1.6 us a chunk); here they are assigned
    to an object of the same layout, which becomes a chunk at the end.
    """
    draft: Any = _Draft()
    draft.path = path
    draft.language = language
    draft.kind = kind
    draft.symbol = symbol
    draft.start_line = start_line
    draft.end_line = end_line
    draft.start_byte = start_byte
    draft.end_byte = end_byte
    draft.text = text
    draft.header = header
    draft.tokens = None
    draft.__class__ = Chunk
    chunk: Chunk = draft
    return chunk


def chunk_ids(repository: str, chunks: Iterable[Chunk]) -> list[str]:
    """Stable ids (32 hex digits) for the chunks of one file, in order.

    Hash of (repository, path, symbol, text, occurrence): code that moves inside its file keeps its id,
    and equal texts in one file are told apart by their order. Line numbers never take part.
    """
    seen: Counter[tuple[str | None, str]] = Counter()
    ids = []
    for chunk in chunks:
        key = (chunk.symbol, chunk.text)
        occurrence = seen[key]
        seen[key] += 1
        parts = (repository, chunk.path, chunk.symbol or "", chunk.text, str(occurrence))
        digest = hashlib.sha256()
        for part in parts:
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
        ids.append(digest.hexdigest()[:32])
    return ids
