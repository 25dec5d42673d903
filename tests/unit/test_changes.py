"""What a run says has changed: counted from two lists, without a database."""

from collections.abc import Sequence

from codechunk.state.compare import Piece, compare_chunks, compare_files


def piece(path: str, symbol: str | None, text: str, line: int = 1, kind: str = "function") -> Piece:
    return Piece(path, f"{path} {symbol} {text}", symbol, kind, text, line)


def counts(before: Sequence[Piece], after: Sequence[Piece]) -> tuple[int, int, int, int, int, int]:
    """(added, changed, moved, deleted, new ids, gone ids)"""
    found = compare_chunks(before, after)
    names = ("chunks_added", "chunks_changed", "chunks_moved", "chunks_deleted", "ids_new", "ids_gone")
    return tuple(found[name] for name in names)  # type: ignore[return-value]


def test_files_are_told_apart_by_path_and_content() -> None:
    before = {"a.py": "1", "b.py": "2", "c.py": "3", "d.py": "4"}
    after = {"a.py": "1", "b.py": "9", "moved/c.py": "3", "e.py": "5"}
    assert compare_files(before, after) == {
        "files_added": 1, "files_changed": 1, "files_moved": 1, "files_deleted": 1,
    }  # fmt: skip


def test_a_copy_is_an_addition_and_one_of_two_equal_files_moves() -> None:
    assert compare_files({}, {"copy.py": "1"})["files_added"] == 1
    moved = compare_files({"a.py": "1", "b.py": "1"}, {"c.py": "1"})
    assert (moved["files_moved"], moved["files_deleted"], moved["files_added"]) == (1, 1, 0)


def test_a_chunk_on_other_lines_has_moved_and_keeps_its_id() -> None:
    assert counts([piece("a", "f", "x", 1)], [piece("a", "f", "x", 5)]) == (0, 0, 1, 0, 0, 0)
    assert counts([piece("a", "f", "x", 1)], [piece("a", "f", "x", 1)]) == (0, 0, 0, 0, 0, 0)


def test_another_text_under_the_same_symbol_is_a_change() -> None:
    assert counts([piece("a", "f", "x")], [piece("a", "f", "y")]) == (0, 1, 0, 0, 1, 1)


def test_tiny_definitions_that_got_a_neighbour_have_changed() -> None:
    assert counts([piece("a", "f, g", "x")], [piece("a", "f, h", "y")]) == (0, 1, 0, 0, 1, 1)


def test_a_renamed_function_with_the_same_embedded_text_has_moved() -> None:
    assert counts([piece("a", "f", "x")], [piece("a", "g", "x")]) == (0, 0, 1, 0, 1, 1)


def test_a_text_that_went_to_another_file_has_moved() -> None:
    before = [piece("a", "f", "x"), piece("a", "g", "y")]
    after = [piece("a", "g", "y"), piece("b", "f", "x")]
    assert counts(before, after) == (0, 0, 1, 0, 1, 1)


def test_what_has_no_partner_is_added_or_deleted() -> None:
    assert counts([piece("a", "f", "x")], [piece("b", "g", "y")]) == (1, 0, 0, 1, 1, 1)
    assert counts([], [piece("b", "g", "y")]) == (1, 0, 0, 0, 1, 0)
    assert counts([piece("b", "g", "y")], []) == (0, 0, 0, 1, 0, 1)


def test_several_equal_texts_are_counted_one_by_one() -> None:
    before = [Piece("a", str(number), None, "text", "x", number) for number in range(3)]
    after = [Piece("a", "0", None, "text", "x", 0), Piece("b", "9", None, "text", "x", 1)]
    assert counts(before, after) == (0, 0, 1, 1, 1, 2)
