"""What crosses the pipes between `codechunk.pool.pool` and its children: frames of JSON and raw bytes. Pure.

Never pickle: a child reads hostile input, and nothing it could send may run in the parent, or pass as a chunk
without being looked at. Texts travel outside the JSON, in one run: far cheaper than as strings in it.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from typing import IO, Any

from codechunk.selection.secrets import Place
from codechunk.text.chunks import Chunk, Kind

FrameHead = dict[str, Any]

MEBIBYTE = 1 << 20
EXIT_OUT_OF_MEMORY = 86
"""Exit code of a child that ran into its memory limit."""

_PREFIX = struct.Struct(">4sII")
_MAGIC = b"ccp1"


class BrokenWire(Exception):
    """The other end sent bytes that are no message, or a message that makes no sense."""


def frame(head: FrameHead, body: bytes = b"") -> bytes:
    """One message for the pipe: lengths, `head` as JSON, `body` as it is."""
    text = json.dumps(head, separators=(",", ":")).encode("ascii")
    return b"".join((_PREFIX.pack(_MAGIC, len(text), len(body)), text, body))


def read_frame(stream: IO[bytes]) -> tuple[FrameHead, bytes] | None:
    """The next message of a blocking stream; None at its end, even inside a message."""
    prefix = stream.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        return None
    _, head_bytes, body_bytes = _PREFIX.unpack(prefix)
    head, body = stream.read(head_bytes), stream.read(body_bytes)
    if len(head) < head_bytes or len(body) < body_bytes:
        return None
    return json.loads(head), body


def take_frame(inbox: bytearray, limit_bytes: int) -> tuple[FrameHead, bytes] | None:
    """Remove the first message from `inbox`; None when it is not complete yet.

    Raises BrokenWire for anything that is no message, or announces more than `limit_bytes`.
    """
    if len(inbox) < _PREFIX.size:
        return None
    magic, head_bytes, body_bytes = _PREFIX.unpack_from(inbox)
    if magic != _MAGIC or head_bytes + body_bytes > limit_bytes:
        raise BrokenWire("bytes that are no message")
    middle = _PREFIX.size + head_bytes
    end = middle + body_bytes
    if len(inbox) < end:
        return None
    try:
        head = json.loads(bytes(inbox[_PREFIX.size : middle]))
    except (ValueError, RecursionError) as exc:
        raise BrokenWire("a message that is no JSON") from exc
    if not isinstance(head, dict):
        raise BrokenWire("a message that is no JSON object")
    body = bytes(inbox[middle:end])
    del inbox[:end]
    return head, body


def pack_chunks(items: Iterable[tuple[Chunk, int | None, str]]) -> tuple[list[tuple[object, ...]], bytes]:
    """Rows and body of an answer, from chunks with their token counts and words."""
    rows: list[tuple[object, ...]] = []
    texts: list[str] = []
    for chunk, tokens, words in items:
        texts += (chunk.text, words)
        rows.append(
            (
                chunk.language,
                chunk.kind,
                chunk.symbol,
                chunk.start_line,
                chunk.end_line,
                chunk.start_byte,
                chunk.end_byte,
                chunk.header,
                tokens,
                len(chunk.text),
                len(words),
            )
        )
    return rows, "".join(texts).encode("utf-8", "surrogatepass")


def unpack_chunks(rows: object, body: bytes, *, path: str, size_bytes: int) -> tuple[list[Chunk], list[str]]:
    """The chunks and their words in an answer about the file `path` of `size_bytes`. Raises BrokenWire."""
    chunks: list[Chunk] = []
    words: list[str] = []
    at = 0
    try:
        text = body.decode("utf-8", "surrogatepass")
        if not isinstance(rows, list):
            raise TypeError("no rows")
        for row in rows:
            chunk, words_at, end = _unpack_chunk(row, text, at, path, size_bytes)
            chunks.append(chunk)
            words.append(text[words_at:end])
            at = end
    except (ValueError, TypeError) as exc:
        raise BrokenWire("a malformed answer") from exc
    return chunks, words


def unpack_secrets(places: object) -> list[Place] | None:
    """Where the secrets in an answer are; None when they were not looked for. Raises BrokenWire."""
    if places is None:
        return None
    try:
        if not isinstance(places, list):
            raise TypeError("no list")
        found = [Place(line, kind) for line, kind in places]
        if not all(type(place.line) is int and place.line > 0 and type(place.kind) is str for place in found):
            raise TypeError("no place")
    except (ValueError, TypeError) as exc:
        raise BrokenWire("a malformed answer") from exc
    return found


def _unpack_chunk(row: Sequence[Any], text: str, at: int, path: str, size_bytes: int) -> tuple[Chunk, int, int]:
    language, kind, symbol, first, last, start, end, header, tokens, text_length, words_length = row
    # Typed and in range, whatever the child has become: what passes here goes into the database.
    for value in (first, last, start, end, text_length, words_length):
        if type(value) is not int or value < 0:
            raise ValueError("not a length")
    if end > size_bytes or start > end or type(language) is not str or type(header) is not str:
        raise ValueError("not a span of this file")
    if (tokens is not None and type(tokens) is not int) or (symbol is not None and type(symbol) is not str):
        raise ValueError("not a chunk")
    words_at = at + text_length
    if words_at + words_length > len(text):
        raise ValueError("text is missing")
    chunk = Chunk(
        path=path,
        language=language,
        kind=Kind(kind),
        symbol=symbol,
        start_line=first,
        end_line=last,
        start_byte=start,
        end_byte=end,
        text=text[at:words_at],
        header=header,
        tokens=tokens,
    )
    return chunk, words_at, words_at + words_length
