"""Stems are those of the lexical index, whatever the words and from as many threads as there are."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

from codechunk.text.stems import stems

WORDS = ["expired", "expires", "expiring", "query", "queries", "hoping", "hope", "caching", "cache", "cached"]
WORDS += ["relational", "http2", "été", "漢字", "a", "ab"]


def test_stems_are_those_of_sqlite() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE t USING fts5(x, tokenize='porter unicode61')")
    for word, stem in stems(WORDS).items():
        database.execute("DELETE FROM t")
        database.execute("INSERT INTO t VALUES (?)", (word,))
        assert database.execute("SELECT count(*) FROM t WHERE t MATCH ?", (f'"{stem}"',)).fetchone() == (1,), word
    assert len({stems(WORDS)[word] for word in ("expired", "expires", "expiring")}) == 1


def test_what_has_no_stem_is_its_own() -> None:
    assert stems(["---", "\0", "🚀", "a-b"]) == {"---": "---", "\0": "\0", "🚀": "🚀", "a-b": "a-b"}
    assert stems([]) == {}


def test_many_threads_get_the_same() -> None:
    words = [f"running{number}" for number in range(500)] + WORDS
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda part: stems(words[part:] + words[:part]), range(40)))
    assert all(each == found[0] for each in found)
