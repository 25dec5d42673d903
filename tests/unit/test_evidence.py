"""What speaks for a candidate, in numbers."""

import numpy as np
import pytest
from search_helpers import INDEX

from codechunk.search.definitions import defines
from codechunk.search.evidence import NAMES, Candidate, evidence
from codechunk.search.question import read
from codechunk.search.weights import VALUES, WEIGHTS
from codechunk.state import FoundChunk


def chunk(
    path: str = "src/store.py",
    text: str = "",
    *,
    symbol: str | None = None,
    kind: str = "function",
    language: str = "python",
    source: int = 1,
    ordinal: int = 0,
) -> FoundChunk:
    return FoundChunk(
        source_id=source,
        ordinal=ordinal,
        chunk_id=f"{path}{ordinal}",
        path=path,
        language=language,
        kind=kind,
        symbol=symbol,
        start_line=1,
        end_line=9,
        start_byte=0,
        end_byte=len(text),
        text=text,
        tokens=10,
        file_characters=1_000,
    )


def rows(query: str, *chunks: FoundChunk) -> list[dict[str, float]]:
    """The evidence for each chunk, by name."""
    candidates = [Candidate(INDEX, one, 1.0, 0.5) for one in chunks]
    return [dict(zip(NAMES, row.tolist(), strict=True)) for row in evidence(read(query), candidates).rows]


def test_every_number_is_named_and_weighed() -> None:
    assert list(WEIGHTS) == list(NAMES)
    assert VALUES.shape == (len(NAMES),)
    assert evidence(read("x"), []).rows.shape == (0, len(NAMES))


def test_words_count_in_every_form_and_spelling() -> None:
    [row] = rows("expired key handling", chunk(text="def handle(x):\n    expireKeys(x)  # HANDLES expiring_keys"))
    assert row["words covered"] == pytest.approx(1.0)


@pytest.mark.parametrize("query", ["größe", "Größe", "café", "naïve", "検索"])
def test_words_beyond_ascii_count_too(query: str) -> None:
    [row] = rows(query, chunk(text="def größe(naïve):\n    return café  # 検索 する"))
    assert row["words covered"] == pytest.approx(1.0)


def test_words_in_comments_are_told_from_words_in_code() -> None:
    [row] = rows("evict keys", chunk(text="# evict the oldest\ndef run():\n    keys = 1\n"))
    assert 0 < row["covered by comments"] < row["words covered"]


def test_a_rare_word_says_more_than_a_common_one() -> None:
    common = [chunk(f"src/f{n}.py", "cache", source=n) for n in range(9)]
    found = rows("cache eviction", *common, chunk("src/g.py", "eviction", source=10))
    assert found[-1]["words covered"] > 2 * found[0]["words covered"]


def test_the_names_of_file_and_folder_are_evidence_of_their_own() -> None:
    first, second = rows(
        "rotating file handler",
        chunk("log/handler/RotatingFileHandler.php", source=1),
        chunk("log/formatter/Json.php", "rotating file handler", source=2),
    )
    assert first["whole file name asked for"] == 1.0
    assert first["covered by last folder"] > 0
    assert second["covered by file name"] == second["covered by folders"] == 0.0


@pytest.mark.parametrize(
    ("query", "path", "language", "name", "value"),
    [
        ("retry policy", "tests/test_retry.py", "python", "tests", 1.0),
        ("tests of the retry policy", "tests/test_retry.py", "python", "tests", 0.0),
        ("install guide", "README.md", "markdown", "documentation", 0.0),
        ("retry policy", "README.md", "markdown", "documentation", 1.0),
        ("which config key", "app.yaml", "yaml", "data", 0.0),
        ("retry policy", "app.yaml", "yaml", "data", 1.0),
    ],
)
def test_kinds_of_files_count_against_themselves_unless_they_are_asked_for(
    query: str, path: str, language: str, name: str, value: float
) -> None:
    assert rows(query, chunk(path, language=language))[0][name] == value


def test_two_words_side_by_side_are_a_name() -> None:
    exact, within, no = rows(
        "deep copy of objects",
        chunk(symbol="deepcopy", source=1),
        chunk(symbol="my_deepcopy_helper", source=2),
        chunk(symbol="copy", source=3),
    )
    assert [row["two words are its name"] for row in (exact, within, no)] == [1.0, 0.5, 0.0]


def test_a_file_is_weighed_by_all_its_candidates() -> None:
    one, two, other = rows(
        "alpha beta",
        chunk("a.py", "alpha", source=1),
        chunk("a.py", "beta", source=1, ordinal=1),
        chunk("b.py", "alpha", source=2),
    )
    assert one["file covers"] == two["file covers"] == pytest.approx(1.0)
    assert other["file covers"] < 1.0
    assert one["file's chunks found"] > other["file's chunks found"]


@pytest.mark.parametrize("query", ["", "🚀", "'", "a" * 3_000, "漢字 の 検索", "\0", "x" * 5 + " " + "(" * 50])
def test_strange_queries_are_weighed_too(query: str) -> None:
    found = evidence(read(query), [Candidate(INDEX, chunk(text="漢字 の ((( \0"), 0.0, 0.0)])
    assert np.isfinite(found.rows).all()


def test_definitions_are_told_by_name_case_owner_home_and_kind() -> None:
    question = read("Session.close")
    worth = [
        defines(question, one)
        for one in (
            chunk("src/session.py", symbol="Session.close"),
            chunk("src/db.py", symbol="Session.close"),
            chunk("src/db.py", symbol="Pool.close"),
            chunk("src/db.py", symbol="Pool.Close"),
            chunk("src/db.py", symbol="Session"),
            chunk("README.md", symbol="Use > Session.close", kind="section"),
            chunk("src/db.py", symbol=None),
        )
    ]
    assert worth[0] == worth[1] > worth[2] > worth[3] > 0
    assert worth[4:] == [0.0, 0.0, 0.0]
    home, elsewhere = (defines(read("Session"), chunk(path, symbol="Session")) for path in ("session.py", "db.py"))
    assert home > elsewhere
    assert defines(read("sessions of a user"), chunk(symbol="sessions")) == 0.0
