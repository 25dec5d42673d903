"""Sub-words, index words and query words, and that SQLite's full-text index agrees with them."""

import sqlite3

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codechunk.text.words import STOP_WORDS, index_words, query_words, subwords


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("getUserName", "get user name"),
        ("HTTPServer", "http server"),
        ("parseHTTPResponse2", "parse http response2 response"),
        ("snake_case_name", "snake case name"),
        ("kebab-case-name", "kebab case name"),
        ("MAX_RETRY_COUNT", "max retry count"),
        ("__init__", "init"),
        ("utf8", "utf8 utf"),
        ("sha256_init", "sha256 sha init"),
        ("base64Encode", "base64 base encode"),
        ("MD5", "md5 md"),
        ("URLs", "urls"),
        ("getIDs", "get ids"),
        ("IPv6Address", "ipv6 ipv address"),
        ("x86_64", "x86 64"),
        ("0x1F4A9", "0x1f4a9"),
        ("a.b->c::d", "a b c d"),
        ("größeÄndern", "grösse ändern"),
        ("ÜBERTRAGUNG", "übertragung"),
        ("naïve", "naïve"),
        ("nai\u0308ve", "naïve"),
        ("函数名", "函数 数名"),
        ("foo検索bar", "foo 検索 bar"),
        ("", ""),
        ("+-*/ … — 😀", ""),
    ],
)
def test_identifiers_are_cut_into_lowercase_parts(name: str, words: str) -> None:
    assert subwords(name) == words.split()


def test_words_keep_their_order_and_repeats() -> None:
    assert subwords("retry(retryCount)") == ["retry", "retry", "count"]


def test_compound_names_are_indexed_whole_and_in_parts() -> None:
    assert index_words("context_header") == "contextheader context header"
    assert index_words("x = contextHeader;") == "x contextheader context header"
    assert index_words("plain") == "plain"


def test_a_very_long_run_of_characters_is_not_indexed_whole() -> None:
    blob = "abcDEF123_" * 30
    assert max(map(len, index_words(blob).split())) < 100


@pytest.mark.parametrize("stored", ["contextHeader", "context_header", "ContextHeader", "CONTEXT_HEADER"])
@pytest.mark.parametrize("asked", ["contextHeader", "context_header", "context header", "context-headers"])
def test_every_spelling_of_a_name_finds_every_other_in_sqlite(stored: str, asked: str) -> None:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE t USING fts5(body, tokenize = 'porter unicode61')")
    db.execute("INSERT INTO t VALUES (?)", (index_words(f"def f(): return {stored}(1)"),))
    query = " OR ".join(f'"{word}"' for word in query_words(asked))
    assert db.execute("SELECT count(*) FROM t WHERE t MATCH ?", (query,)).fetchone() == (1,)
    db.close()


def test_function_words_are_left_out_of_a_query() -> None:
    assert query_words("How are the retries scheduled?") == ["retries", "scheduled"]
    assert query_words("what's the function's name") == ["function", "name"]


def test_a_query_of_nothing_but_function_words_keeps_them() -> None:
    assert query_words("what is it") == ["what", "is", "it"]


def test_a_query_word_is_given_once() -> None:
    assert query_words("retry Retry RETRY") == ["retry"]


@pytest.mark.parametrize("text", ["", "   ", "?!", "\x00\ufeff"])
def test_a_query_without_words_is_empty(text: str) -> None:
    assert query_words(text) == []


@example("\u1680")  # the one space among the scripts of the table
@given(st.text())
def test_any_text_gives_words_that_are_whole_when_split_again(text: str) -> None:
    words = subwords(text)
    assert index_words(text).split() == index_words(text).split(" ") or not words
    assert all(word and not word.isspace() for word in words)
    assert bool(query_words(text)) == bool(words)
    assert not STOP_WORDS.intersection(query_words(text)) or STOP_WORDS.issuperset(query_words(text))


@given(st.text(alphabet=st.characters(codec="ascii")))
def test_ascii_words_are_lowercase_letters_and_digits(text: str) -> None:
    assert all(word.isalnum() and word == word.lower() for word in index_words(text).split())
