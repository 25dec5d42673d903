"""Outlines of YAML, TOML and JSON files: a part per key, named by the path of keys, and per record of a list.

All three are read by their lines and indentation. Keys that matter begin lines; a minified file has no line to cut at
anyway, and a template with `{{ ... }}` between the lines, which no grammar takes, is as good as the others.
"""

import re
from collections.abc import Callable, Iterator

from codechunk.chunking.nested import INKED_LINE, Comments, Part, nested_outline
from codechunk.chunking.source import Outline, Source

# Keys with fewer tokens than this many times `min_tokens` are grouped.
_LEAST_SHARE = 1.5
# From this many times `min_tokens` on the keys inside a key are chunks, rather than all of it.
_OPEN_SHARE = 4
# Larger files are data rather than settings: filled to capacity, only large keys stand alone.
_DATA_BYTES = 64_000
_MOST_KEY_BYTES = 120
_MOST_DASHES = 8
_NAME_BYTES = 80
_BLOCK_SCALAR = re.compile(rb"(?:[!&][^\s]*[ \t]+)*[|>][-+0-9]{0,2}[ \t]*(?:#.*)?$")
_YAML_QUOTED = re.compile(rb"(\"[^\"]*\"|'[^']*')[ \t]*:(?=[ \t]|$)")
_SCALAR_SIGNS = b"|>!&"
_NOT_A_KEY = b"{[]}&*!|>%@`,?:"
# What a record is called by, when its first line says it.
_NAMING = frozenset({b"name", b"id", b"key", b"title", b"job_name", b"alert", b"record"})
_JSON_PART = re.compile(
    rb"(?:^|(?<=\A\xef\xbb\xbf))([ \t]*)"
    rb'(?:"([^"\\\n]{0,120})"[ \t]*:[ \t]*(?:"([^"\\\n]{1,80})")?|([{\[]))',
    re.M,
)
_TABLE = re.compile(rb"\[{1,2}[ \t]*([A-Za-z_\"'][^\[\],]{0,200}?)[ \t]*\]{1,2}[ \t]*(?:#.*)?$")
_TOML_KEY = re.compile(rb"([\w.\"'-]{1,120})[ \t]*=")
_TOML_LONG = re.compile(rb'"""|\'\'\'')


def record_outline(source: Source, *, max_tokens: int, min_tokens: int) -> Outline:
    """Keys as scopes, named by their path (`services > web`); small neighbours grouped; lists cut between records."""
    large = len(source.data) > _DATA_BYTES
    least = max_tokens / 3 if large else min_tokens * _LEAST_SHARE
    return nested_outline(
        source,
        _READERS[source.language](source),
        max_tokens=max_tokens,
        least_tokens=least,
        roomy=not large,
        open_from=None if large else min_tokens * _OPEN_SHARE,
    )


# YAML ----------------------------------------------------------------------------------------------------


def _yaml(source: Source) -> Iterator[Part]:
    """Documents, keys and list items. Levels: keys twice their column, items one more, so that
    `key:` holds the items at its own column; documents -1."""
    comments = Comments()
    # Text of a block scalar is indented deeper than this; -1: none is open.
    scalar = -1
    document = Part(source.start, -1, minor=True)
    manifest = _Manifest()
    pending: list[Part] = [document]
    for match in INKED_LINE.finditer(source.data, source.start):
        start, column, body = match.start(), len(match[1]), match[2]
        if scalar >= 0:
            if column > scalar:
                continue
            scalar = -1
        first = body[0]
        if first == 35:  # '#'
            comments.add(start, match.end() + 1)
            continue
        if column == 0 and (body == b"---" or body.startswith((b"--- ", b"---\r"))):
            document.name = manifest.name()
            yield from pending
            document, manifest = Part(comments.above(start), -1, minor=True), _Manifest()
            pending = [document]
            continue
        begin = comments.above(start)
        item = None
        level = 2 * column
        for _ in range(_MOST_DASHES):
            if not body.startswith((b"- ", b"-\t", b"-\r")) and body != b"-":
                break
            level = 2 * column
            if item is None:
                item = Part(begin, level + 1, minor=True)
                pending.append(item)
            inner = body[1:].lstrip(b" \t")
            column += len(body) - len(inner)
            body = inner
        key, value = _yaml_key(body)
        if key is None:
            if item is not None and _BLOCK_SCALAR.match(body):
                scalar = level // 2
            continue
        if value[:1] in _SCALAR_SIGNS and value and _BLOCK_SCALAR.match(value):
            scalar = column
        elif item is not None and key in _NAMING and value:
            item.name = value[:_NAME_BYTES]
        if column == 0 or manifest.in_metadata:
            manifest.see(column, key, value)
        if item is None:
            pending.append(Part(begin, 2 * column, key, minor=True))
    document.name = manifest.name()
    yield from pending


def _yaml_key(body: bytes) -> tuple[bytes | None, bytes]:
    """The key that a line begins with and what follows its colon, or None."""
    if body[:1] in b"\"'" and body:
        quoted = _YAML_QUOTED.match(body[: 2 * _MOST_KEY_BYTES])
        return (quoted[1], body[quoted.end() :].strip()) if quoted else (None, b"")
    if not body or body[0] in _NOT_A_KEY:
        return None, b""
    colon = body.find(b": ", 0, _MOST_KEY_BYTES)
    if colon < 0:
        whole = body.rstrip()
        if len(whole) > _MOST_KEY_BYTES or not whole.endswith(b":"):
            return None, b""
        return whole[:-1].rstrip(), b""
    return body[:colon].rstrip(), body[colon + 2 :].strip()


class _Manifest:
    """What a document of Kubernetes calls itself: its kind and the name in its metadata."""

    def __init__(self) -> None:
        self.kind = self.called = b""
        self.api = self.in_metadata = False

    def see(self, column: int, key: bytes, value: bytes) -> None:
        """Look at one key."""
        if column == 0:
            self.in_metadata = key == b"metadata"
            if key == b"kind":
                self.kind = value
            elif key == b"apiVersion":
                self.api = True
        elif key == b"name" and not self.called:
            self.called = value

    def name(self) -> bytes | None:
        """`Deployment web`, or None for other documents."""
        if not (self.api and self.kind):
            return None
        return self.kind + b" " + self.called[:_NAME_BYTES].strip(b"\"'")


# JSON ----------------------------------------------------------------------------------------------------


def _json(source: Source) -> Iterator[Part]:
    """Keys and records at the start of lines; levels are columns, -1 for outermost brackets.

    Strings of JSON hold no line break.
    """
    record: Part | None = None
    for match in _JSON_PART.finditer(source.data, source.start):
        indent, key, value, bracket = match.groups()
        part = Part(match.start(), len(indent) if indent or key is not None else -1, key, minor=True)
        if record is not None:
            if value is not None and key in _NAMING:
                record.name = value
            yield record
            record = None
        if bracket == b"{" and indent:
            record = part
        else:
            yield part
    if record is not None:
        yield record


# TOML ----------------------------------------------------------------------------------------------------


def _toml(source: Source) -> Iterator[Part]:
    """Tables by their full name, and their keys."""
    data = source.data
    comments = Comments()
    position = source.start
    for match in INKED_LINE.finditer(data, source.start):
        start, body = match.start(), match[2]
        if start < position:
            continue
        if body[:1] == b"#":
            comments.add(start, match.end() + 1)
            continue
        table = _TABLE.match(body.rstrip())
        if table:
            yield Part(comments.above(start), 0, table[1], qualified=True, minor=True)
            continue
        key = _TOML_KEY.match(body)
        if key:
            yield Part(comments.above(start), 1, key[1], minor=True)
        quotes = _TOML_LONG.search(body)
        if quotes and body.count(quotes[0]) == 1:
            closing = data.find(quotes[0], match.end())
            # One that is never closed is not looked for again.
            position = closing if closing >= 0 else len(data)


_READERS: dict[str, Callable[[Source], Iterator[Part]]] = {"yaml": _yaml, "json": _json, "toml": _toml}
RECORDS = frozenset(_READERS)
