"""Cuts a file into chunks along its syntax tree. Pure: bytes in, chunks out; no files, no settings, no clock.

`chunk_source` is the front. `languages` names the grammar, `rules` says what its nodes mean, `syntax` finds where a
file may be cut and what each part is, `split` fills chunks to capacity. Formats beside program code are outlined by
their lines: `records` (YAML, TOML, JSON), `markdown`, `rest`, `sql`, `build` (Makefile, Dockerfile), `markup` (HTML,
components, templates), through `nested`; `notebook` cuts the cells of notebooks, `plain` everything else.
"""

import codecs
from collections.abc import Callable, Iterable
from dataclasses import replace

from codechunk.chunking.build import docker_outline, make_outline, prefer_blank_lines
from codechunk.chunking.languages import NEVER_PARSED, available_languages, detect_language, is_available
from codechunk.chunking.markdown import markdown_outline
from codechunk.chunking.markup import MARKUP, markup_outline
from codechunk.chunking.notebook import notebook_chunks
from codechunk.chunking.plain import plain_outline
from codechunk.chunking.records import RECORDS, record_outline
from codechunk.chunking.rest import rest_outline
from codechunk.chunking.settings import ChunkSettings
from codechunk.chunking.source import Outline, Source
from codechunk.chunking.split import make_chunks
from codechunk.chunking.sql import sql_outline
from codechunk.chunking.syntax import syntax_outline, too_hostile_to_parse
from codechunk.text.chunks import Chunk
from codechunk.text.notebook_text import NOTEBOOK
from codechunk.text.tokens import count_tokens
from codechunk.versions import CHUNKER_VERSION

__all__ = [
    "CHUNKER_VERSION",
    "ChunkSettings",
    "available_languages",
    "chunk_source",
    "count_chunks",
    "detect_language",
    "with_tokens",
]

_DEFAULTS = ChunkSettings()
# Formats that are read by their lines and need no grammar: file, max_tokens and min_tokens to outline.
_BY_LINES: dict[str, Callable[[Source, int, int], Outline]] = {
    "markdown": lambda source, _, __: markdown_outline(source),
    "rst": lambda source, most, _: rest_outline(source, max_tokens=most),
    "sql": lambda source, most, least: sql_outline(source, max_tokens=most, min_tokens=least),
    "make": lambda source, most, _: make_outline(source, max_tokens=most),
    "dockerfile": lambda source, most, _: docker_outline(source, max_tokens=most),
} | {
    language: lambda source, most, least: record_outline(source, max_tokens=most, min_tokens=least)
    for language in RECORDS
}


def chunk_source(
    data: bytes,
    *,
    path: str,
    language: str | None = None,
    encoding: str | None = None,
    settings: ChunkSettings = _DEFAULTS,
    parse: bool = True,
    trust_estimate: bool = True,
) -> list[Chunk]:
    """The chunks of one file, in file order; survives any bytes.

    Chunks are disjoint byte ranges; every byte that is not white space is in exactly one (a UTF-8 byte order
    mark at the very beginning is in none, nor is anything but the sources of its cells in a notebook). `text` is the
    exact slice, decoded; `tokens` is left None.

    language: name of a grammar, "text", or None to detect it from path and content.
    encoding: "utf-8" or "latin-1"; None, or a "utf-8" that does not decode: UTF-8 if the bytes allow, else Latin-1.
    parse: False cuts by lines only, for files on which the parser hung or died. The parsers are C code that can hang
    or crash on rare broken input (see `languages.MAY_HANG`): run files of strangers in a process that can be killed.
    trust_estimate: False counts every piece that is not proven to fit by its bytes: slower, for the rare text whose
    chunk turned out to be over the limit when it was counted.
    Raises LookupError for a language, ValueError for an encoding that is not known.
    """
    name = detect_language(path, data) if language is None else language
    if name != "text" and not is_available(name):
        raise LookupError(f"no grammar is called {name!r}")
    source = Source(data, encoding=_encoding(data, encoding), language=name)

    def make(piece: Source, outline: Outline) -> list[Chunk]:
        return make_chunks(piece, outline, path=path, settings=settings, trust_estimate=trust_estimate)

    if name == NOTEBOOK:
        cells = notebook_chunks(source, make) if parse else None
        if cells is not None:
            return cells
        source.language = "json"
    return make(source, _outline(source, settings, parse=parse))


def with_tokens(chunk: Chunk) -> Chunk:
    """The same chunk with the exact cl100k count of its `embedding_text`."""
    return replace(chunk, tokens=count_tokens(chunk.embedding_text))


def count_chunks(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The same chunks, each with its exact count."""
    return [with_tokens(chunk) for chunk in chunks]


def _encoding(data: bytes, wanted: str | None) -> str:
    name = "utf-8" if wanted is None else codecs.lookup(wanted).name
    if name == "iso8859-1":
        return "latin-1"
    if name not in {"utf-8", "utf-8-sig", "ascii"}:
        raise ValueError(f"chunks are cut from UTF-8 or Latin-1 bytes, not from {wanted}")
    if data.isascii():  # ten times faster than to decode it
        return "utf-8"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _outline(source: Source, settings: ChunkSettings, *, parse: bool) -> Outline:
    language, most, least = source.language, settings.max_tokens, settings.min_tokens
    if not parse:
        return plain_outline(source)
    if language in _BY_LINES:
        return _BY_LINES[language](source, most, least)
    if language == "text" or language in NEVER_PARSED or too_hostile_to_parse(source.data):
        return plain_outline(source)
    if language in MARKUP:
        return markup_outline(source, max_tokens=most, min_tokens=least)
    outline = syntax_outline(source, max_tokens=most)
    return prefer_blank_lines(source, outline) if language == "bash" else outline
