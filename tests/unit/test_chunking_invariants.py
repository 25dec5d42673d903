"""What is promised of the chunks of any file: arbitrary bytes, every grammar, hostile input, real code."""

import random

import pytest
from chunking_helpers import checked_chunks, real_files
from counting import no_hang
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codechunk.chunking import ChunkSettings, available_languages, chunk_source
from codechunk.chunking.languages import MAY_HANG
from codechunk.chunking.syntax import MAX_LINE_BYTES

LANGUAGES = [*available_languages(), "text"]
# The parser of Perl loops forever on some broken code; in production a child process is killed then.
PARSED = [language for language in LANGUAGES if language not in MAY_HANG]
LIMITS = st.sampled_from([16, 17, 40, 128, 512])
CODE_WORDS = [
    "def", "class", "function", "struct", "{", "}", "(", ")", "[", "]", ";", ":", ",", "=", "=>", "->", "\n",
    "\n\n", "\r\n", "\t", "#", "//", "/*", "*/", "--", "''", "\"", "`", "```", "##", "中", "é", "\0", "x",
    "foo_bar", "if", "else", "end", "begin", "return", "1", "<a>", "</a>", "<?php", "@x", "#ifdef", "#endif",
    "namespace", "a::b", "template<T>", "import", "from", " ", "\n    ", "\n",
]  # fmt: skip
WORDS = st.sampled_from(CODE_WORDS)
SAMPLE = b"""\
# first
def alpha(one, two):
    return one + two

class Beta { int gamma(int x) { return x; } };
function delta(a, b) { return a - b; }
<tag key="value">text</tag>
[section]
key = "value"
"""


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=600), language=st.sampled_from(PARSED), limit=LIMITS, parse=st.booleans())
def test_any_bytes_in_any_language_keep_the_promises(data, language, limit, parse):
    checked_chunks(data, language=language, max_tokens=limit, parse=parse)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=st.lists(WORDS, max_size=250), language=st.sampled_from(PARSED), limit=LIMITS)
def test_any_words_of_code_keep_the_promises(words, language, limit):
    checked_chunks(" ".join(words).encode(), language=language, max_tokens=limit)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_grammar_chunks(language):
    checked_chunks(SAMPLE * 8, language=language, max_tokens=64)
    checked_chunks(SAMPLE[::-1], language=language, max_tokens=16)


HOSTILE = {
    "sums on one line": (b"x = " + b"1+" * 500_000 + b"1", "python"),
    "sums on many lines": (b"x = (" + b"1 +\n" * 100_000 + b"1)", "python"),
    "open brackets": (b"([{" * 300_000, "javascript"),
    "open brackets on lines": (b"([{\n" * 30_000, "javascript"),
    "nested functions": (
        b"".join(b" " * i + b"def f%d():\n" % i for i in range(300)) + b" " * 300 + b"pass\n",
        "python",
    ),
    "nested blocks": (b"void f() {\n" + b"if (x) {\n" * 5_000 + b"}\n" * 5_001, "c"),
    "nested classes": (b"class A {\n" * 5_000 + b"int abc() { return 12345; }\n" + b"}\n" * 5_000, "java"),
    "ten megabytes on a line": (b"var x = '" + b"abcdefgh" * 1_250_000 + b"';", "javascript"),
    "random bytes": (random.Random(1).randbytes(300_000), "c"),
    "NUL": (b"\0" * 200_000, "c"),
    "comments": (b"// note\n" * 50_000, "c"),
    "blank lines": (b"\n \t\r\n" * 100_000 + b"x", "python"),
    "headings": (b"# a\n" * 50_000, "markdown"),
    "half a heading": (b"# " + b" " * 500_000 + b"#" * 500_000, "markdown"),
    "fences": (b"```\n" * 50_000, "markdown"),
    "one definition per line": (b"def f(): pass\n" * 30_000, "python"),
    "no line breaks but CR": (b"int x;\r" * 50_000, "c"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_does_not_hang_the_chunker(name):
    data, language = HOSTILE[name]
    with no_hang():
        chunks = chunk_source(data, path="x", language=language)
    assert sum(chunk.end_byte - chunk.start_byte for chunk in chunks) >= len(data.strip()) * 0.1 or not data.strip()


def test_text_made_to_fool_the_estimate_stays_within_the_limit():
    rng = random.Random(3)
    for unit in ("er", "th", "ing ", "tion", "a e ", "in\n", "st re ", "- ", "!?", "=~", "int "):
        checked_chunks((unit * 4000).encode(), language="text", max_tokens=512)
    for letters in ("etaoin", "erst", "!?=~+:,.", "01", "aeiou \n"):
        checked_chunks("".join(rng.choices(letters, k=12_000)).encode(), language="text", max_tokens=512)


@pytest.mark.parametrize("limit", [16, 64, 512])
def test_encodings_and_line_ends(limit):
    code = "# größer\ndef straße(größe):\n\treturn 'ä' * größe\n\n\nclass Übung:\n    pass\n" * 20
    for data in (
        code.encode(),
        b"\xef\xbb\xbf" + code.encode(),
        code.encode("latin-1"),
        code.replace("\n", "\r\n").encode(),
        code.replace("\n", "\r").encode(),
        code.encode("utf-16"),
    ):
        checked_chunks(data, path="x.py", max_tokens=limit)


def test_a_byte_order_mark_is_in_no_chunk():
    chunks = chunk_source(b"\xef\xbb\xbfdef f():\n    return 1\n", path="x.py")
    assert [(chunk.start_byte, chunk.text[:3]) for chunk in chunks] == [(3, "def")]
    assert chunk_source(b"\xef\xbb\xbf\n", path="x.py") == []


def test_empty_and_blank_files_have_no_chunks():
    for data in (b"", b"\n", b" \t\r\n\n\f"):
        for language in ("python", "text", "markdown"):
            assert chunk_source(data, path="x", language=language) == []


def test_a_line_too_long_for_the_parser_is_cut_as_text():
    data = b"def f():\n    return '" + b"x" * MAX_LINE_BYTES + b"'\n"
    assert {chunk.symbol for chunk in chunk_source(data, path="x.py")} == {None}


def test_an_encoding_that_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="utf-16"):
        chunk_source(b"ab", path="x.py", encoding="utf-16")
    with pytest.raises(LookupError, match="klingon"):
        chunk_source(b"ab", path="x.py", language="klingon")
    with pytest.raises(ValueError, match="at least 16"):
        ChunkSettings(max_tokens=15)


def test_cuts_do_not_depend_on_where_in_the_file_code_lies():
    """Or an edit at the top of a file sends what is far below it again."""
    body = "".join(f"    value_{n} = call_{n % 7}(value_{n - 1}, {n * n})\n" for n in range(1, 120))
    code = f"def long_one(value_0):\n{body}    return value_0\n".encode()
    plain = [chunk.embedding_text for chunk in chunk_source(code, path="a.py")]
    assert len(plain) > 3
    for blank in range(1, 9):
        assert [chunk.embedding_text for chunk in chunk_source(b"\n" * blank + code, path="a.py")] == plain


def test_real_code_keeps_the_promises():
    files = real_files(400)
    assert len(files) > 100
    for number, path in enumerate(files):
        checked_chunks(path.read_bytes(), path=path.name, max_tokens=(512, 128, 16)[number % 3])
