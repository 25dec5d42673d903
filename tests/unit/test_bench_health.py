"""The bench of chunkers: what counts as wrong with a file's chunks, and where a package's chunks are in the file."""

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from benchmarks.health import Health, coverage, disorder, wrong_lines  # noqa: E402
from benchmarks.peers import PEERS, Chunker, Piece, Span  # noqa: E402

DATA = b"one\n\n  two\nthree\n"


def spans(*ranges: tuple[int, int]) -> list[Span]:
    return [Span(start, end, DATA[start:end].decode()) for start, end in ranges]


def chunker(*pieces: Piece, unit: Any) -> Chunker:
    return Chunker("a peer", lambda *_: list(pieces), unit, len, lambda tokens: tokens)


def test_a_file_wholly_in_chunks_has_nothing_to_complain_about() -> None:
    whole = spans((0, 4), (5, 10), (11, 16))
    sums = Health()
    sums.add("a", DATA, whole, limit=10, over_own=0)
    assert sums.violations == []
    assert (sums.chunks, sums.crumbs, sums.file_crumbs) == (3, 3, 0)
    assert sums.bytes_in == len(DATA)


def test_lines_and_bytes_in_no_chunk_are_counted_apart_from_blank_ones() -> None:
    assert coverage(DATA, spans((0, 4))) == (2, 8, 0)
    assert coverage(DATA, spans((0, 9), (11, 16))) == (0, 1, 0)
    assert coverage(DATA, spans((0, 11), (0, 4))) == (1, 5, 3)
    assert coverage(b"\xef\xbb\xbfone", [Span(3, 6, "one")]) == (0, 0, 0)


def test_lines_may_count_the_white_space_at_the_ends_or_not() -> None:
    def said(start: int, end: int, *lines: int) -> int:
        return int(wrong_lines(DATA, [Span(start, end, "", lines=(lines[0], lines[1]))]))

    assert said(4, 11, 2, 3) == said(4, 11, 3, 3) == 0
    assert said(4, 11, 1, 3) == said(4, 11, 3, 4) == said(4, 11, 4, 4) == 1


def test_chunks_that_overlap_are_blank_or_are_no_slice_are_named() -> None:
    assert disorder(DATA, spans((0, 4), (5, 10))) == []
    assert "begins before" in disorder(DATA, spans((0, 6), (5, 10)))[0]
    assert "blank" in disorder(DATA, spans((3, 5)))[0]
    assert "not the slice" in disorder(DATA, [Span(0, 3, "ONE")])[0]


def test_tokens_over_the_limit_are_counted_with_the_header() -> None:
    sums = Health()
    sums.add("a", b"one two", [Span(0, 7, "one two", header="three four")], limit=4, over_own=0)
    assert sums.over == 1
    assert sums.header_bytes == len("three four\n")


def test_sums_of_two_slices_of_the_files_add_up() -> None:
    one, two = Health(), Health()
    one.add("a", DATA, spans((0, 4)), limit=10, over_own=0)
    two.failed("b", b"x\n\ny\n", "ValueError", "no")
    one.merge(two)
    assert (one.files, one.lines_lost, one.lines_failed, dict(one.exceptions)) == (1, 2, 2, {"ValueError": 1})
    assert [path for path, _ in one.violations] == ["a", "a", "b"]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("unit", ["characters", "bytes", "none"])
def test_positions_in_every_unit_become_bytes_of_the_file(unit: str, encoding: str) -> None:
    text = "naïve\nfaçade\n"
    data = text.encode(encoding)
    start = {"characters": 6, "bytes": 7, "none": None}[unit]
    end = {"characters": 12, "bytes": 14, "none": None}[unit]
    (span,) = chunker(Piece("façade", start, end), unit=unit)(data, "a", "text", 10)
    assert data[span.start : span.end].decode(encoding) == "façade"
    assert (span.exact, span.misplaced) == (True, False)


def test_a_wrong_position_is_mended_and_told() -> None:
    (span,) = chunker(Piece("two", 0, 3), unit="characters")(DATA, "a", "text", 10)
    assert (span.start, span.end, span.misplaced) == (7, 10, True)


def test_equal_texts_are_found_one_after_the_other() -> None:
    found = chunker(Piece("x"), Piece("x"), unit="none")(b"x\nx\n", "a", "text", 10)
    assert [span.start for span in found] == [0, 2]


def test_a_text_that_is_not_in_the_file_stands_at_the_lines_it_names_or_nowhere() -> None:
    named, lost = chunker(Piece("TWO", lines=(3, 3)), Piece("four"), unit="none")(DATA, "a", "text", 10)
    assert (DATA[named.start : named.end], named.exact) == (b"  two\n", False)
    assert (lost.start == lost.end, lost.exact) == (True, False)


def test_codechunk_itself_is_among_the_chunkers_and_is_healthy() -> None:
    data = Path(__file__).read_bytes()
    made = PEERS["codechunk"]()(data, "tests/a.py", "python", 512)
    sums = Health()
    sums.add("a", data, made, limit=512, over_own=0)
    assert sums.chunks > 1
    assert sums.violations == []
