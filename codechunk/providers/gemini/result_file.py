"""The result file of a batch job, read line by line. Pure but for the reading.

Nobody else validates it: lines come in any order, are missing, doubled, cut off, or belong to other keys
(gemini-wire.md, 1.7 and 5). What a line means is decided here; whose vector it is, in `batch.py`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codechunk.process.log import storable

# A line of 3,072 numbers is 60 kB. A longer one than this is no result, and must not fill the memory.
LONGEST_LINE_BYTES = 4 * 2**20
LONGEST_REASON = 300
# More tokens than any model takes of one text: a count above is none.
MOST_TOKENS = 10**6


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line: the vector's values, or an error in one clause. `key` is None when not even that can be read."""

    key: str | None
    values: Sequence[float] | None
    tokens: int | None
    error: str | None


def read_rows(path: Path) -> Iterator[ResultRow]:
    """Every line of the file that is not blank, in the order it has."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE_BYTES):
            whole = line.endswith(b"\n")
            if not whole and len(line) == LONGEST_LINE_BYTES:
                _skip_line(file)
                yield ResultRow(None, None, None, "the line is too long")
            elif not line.isspace():
                yield _row(line)


def _skip_line(file: Any) -> None:
    while (rest := file.readline(LONGEST_LINE_BYTES)) and not rest.endswith(b"\n"):
        pass


def _row(line: bytes) -> ResultRow:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):  # also what is not UTF-8
        return ResultRow(None, None, None, "the line is not JSON")
    if not isinstance(content, dict) or not isinstance(content.get("key"), str):
        return ResultRow(None, None, None, "the line has no key")
    key: str = content["key"]
    response = content.get("response")
    response = response if isinstance(response, dict) else {}
    error = content.get("error") or response.get("error")
    embedding = response.get("embedding")
    values = embedding.get("values") if isinstance(embedding, dict) else None
    if error:
        return ResultRow(key, None, None, _reason(error))
    if not isinstance(values, list):
        return ResultRow(key, None, None, "the result has no vector")
    return ResultRow(key, values, _count(response.get("tokenCount")), None)


def _count(value: object) -> int | None:
    """A 64-bit number, which is a string in JSON; None when it cannot be the count of one text."""
    try:
        count = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else 0
    except ValueError:
        return None
    return count if 0 < count <= MOST_TOKENS else None


def _reason(error: object) -> str:
    if isinstance(error, dict):
        code = error.get("code")
        message = storable(str(error.get("message") or "no message"))
        return f"{message} (code {code})"[:LONGEST_REASON] if code is not None else message[:LONGEST_REASON]
    return storable(str(error))[:LONGEST_REASON]
