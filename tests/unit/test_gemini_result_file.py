"""Reading a result file: every line means something, and no line stops the reading."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codechunk.providers.gemini.result_file import LONGEST_LINE_BYTES, LONGEST_REASON, ResultRow, read_rows

KEY = "chunk_" + "a" * 32


def read(folder: Path, content: bytes) -> list[ResultRow]:
    path = folder / "results.jsonl"
    path.write_bytes(content)
    return list(read_rows(path))


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def good(key: str = KEY, *values: float) -> bytes:
    return line(key=key, response={"tokenCount": "7", "embedding": {"values": list(values) or [0.5, 0.25]}})


def test_the_official_sample_is_read(tmp_path: Path) -> None:
    sample = (
        b'{"response":{"tokenCount":"1","embedding":{"values":[-0.034119852,0.0025719088,0.017325249]}},'
        b'"key":"request_1"}\n'
    )
    assert read(tmp_path, sample) == [ResultRow("request_1", [-0.034119852, 0.0025719088, 0.017325249], 1, None)]


def test_the_key_may_come_first_or_last_and_the_last_line_needs_no_newline(tmp_path: Path) -> None:
    rows = read(tmp_path, good("a") + b'{"response":{"embedding":{"values":[1]}},"key":"b"}')
    assert [row.key for row in rows] == ["a", "b"]
    assert rows[1].tokens is None, "a count that was not told is unknown, not zero"


def test_an_empty_file_and_blank_lines_hold_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, b"") == []
    assert read(tmp_path, b"\n  \n\r\n\t\n") == []
    assert len(read(tmp_path, b"\n" + good() + b"\n\n" + good() + b"\n")) == 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": {"code": 13, "message": "Internal error."}}, "Internal error. (code 13)"),
        ({"error": {"message": "No code."}}, "No code."),
        ({"error": {"code": 3}}, "no message (code 3)"),
        ({"error": "just words"}, "just words"),
        ({"error": {"code": 3, "message": "x" * 999}}, "x" * LONGEST_REASON),
        ({"response": {"error": {"code": 3, "message": "Nested."}}}, "Nested. (code 3)"),
        ({"response": {"embedding": {"values": [1]}}, "error": {"message": "Both."}}, "Both."),
        ({}, "the result has no vector"),
        ({"response": None}, "the result has no vector"),
        ({"response": []}, "the result has no vector"),
        ({"response": {"embedding": [1, 2]}}, "the result has no vector"),
        ({"response": {"embedding": {}}}, "the result has no vector"),
        ({"response": {"embedding": {"values": "1,2"}}}, "the result has no vector"),
    ],
)
def test_a_row_without_a_vector_has_a_reason(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    assert read(tmp_path, line(key=KEY, **fields)) == [ResultRow(KEY, None, None, reason)]


@pytest.mark.parametrize(
    "content",
    [b"not JSON\n", b'{"key": "x", "response"\n', b"\xff\xfe\x00\n", b"[]\n", b"3\n", b'{"key": 3}\n', b'{"a": 1}\n',
     b"[" * 100_000 + b"\n", b'"\\ud800"\n'],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_a_row_without_a_key_and_the_next_is_read(tmp_path: Path, content: bytes) -> None:
    first, second = read(tmp_path, content + good())
    assert (first.key, first.values) == (None, None)
    assert first.error
    assert second.key == KEY
    assert second.values == [0.5, 0.25]


def test_a_line_too_long_for_a_result_is_skipped_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with path.open("wb") as file:
        for _ in range(20):
            file.write(b"x" * LONGEST_LINE_BYTES)
        file.write(b"\n" + good())
    tracemalloc.start()
    rows = list(read_rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [row.key for row in rows] == [None, KEY]
    assert peak < 6 * LONGEST_LINE_BYTES, "of 80 MB"


def test_a_line_of_exactly_the_longest_length_is_read(tmp_path: Path) -> None:
    padding = LONGEST_LINE_BYTES - len(line(key=KEY, pad=""))
    content = line(key=KEY, pad="x" * padding)
    assert len(content) == LONGEST_LINE_BYTES
    assert [row.key for row in read(tmp_path, content + good())] == [KEY, KEY]


@pytest.mark.parametrize(
    ("count", "tokens"), [("12", 12), (12, 12), ("", None), ("many", None), (None, None), (1.5, None), ([], None)]
)
def test_counts_are_texts_on_the_wire_and_nonsense_is_unknown(tmp_path: Path, count: Any, tokens: int | None) -> None:
    content = line(key=KEY, response={"tokenCount": count, "embedding": {"values": [1]}})
    assert read(tmp_path, content)[0].tokens == tokens


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_and_no_error(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for row in read(Path(folder), content + b"\n" + good()):
            assert (row.values is None) == (row.error is not None)
