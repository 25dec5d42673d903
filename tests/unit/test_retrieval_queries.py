"""The makers of the retrieval bench's queries: comments out, sentences cleaned, hunks found again."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from benchmarks.corpus import CorpusError, load  # noqa: E402
from benchmarks.documented import remove_comments  # noqa: E402
from benchmarks.history import gold_lines, locate, parse_diff, subject_query  # noqa: E402
from benchmarks.phrases import first_sentence, query_of  # noqa: E402
from benchmarks.queries import DocQuery, drawn  # noqa: E402

# language -> (source, the text without the documentation comment, name and first and last line of the function)
LANGUAGES = {
    "python": (
        'class A:\n    @cached\n    def f(self):\n        """Say it.\n\n        More.\n        """\n        return 1\n',
        "class A:\n    @cached\n    def f(self):\n        return 1\n",
        ("f", 3, 4),
    ),
    "go": (
        "// F says\n// it.\nfunc (a *A) F() int {\n\treturn 1\n}\n",
        "func (a *A) F() int {\n\treturn 1\n}\n",
        ("F", 1, 3),
    ),
    "rust": (
        "/// Says it.\n#[inline]\n/// And more.\npub fn f() -> u8 {\n    1\n}\n// kept\nfn g() {}\n",
        "#[inline]\npub fn f() -> u8 {\n    1\n}\n// kept\nfn g() {}\n",
        ("f", 2, 4),
    ),
    "java": (
        "class A {\n  /** Says it. */\n  @Override\n  int f() {\n    return 1;\n  }\n}\n",
        "class A {\n  @Override\n  int f() {\n    return 1;\n  }\n}\n",
        ("f", 2, 5),
    ),
    "javascript": (
        "/** Says it. */\nexport const f = () => {\n  g();\n};\n",
        "export const f = () => {\n  g();\n};\n",
        ("f", 1, 3),
    ),
    "typescript": (
        "/** Says it. */\nexport function f(a: A): B;\nexport function f(a) {\n  return a;\n}\n",
        "export function f(a: A): B;\nexport function f(a) {\n  return a;\n}\n",
        ("f", 1, 4),
    ),
    "c": (
        "/* A banner */\n\n/* Says it. */\nstatic int *f(void) {\n  return 0;\n}\n",
        "/* A banner */\n\nstatic int *f(void) {\n  return 0;\n}\n",
        ("f", 3, 5),
    ),
    "cpp": (
        "// Says it.\ntemplate <typename T>\nint A::f(T x) {\n  return 1;\n}\n",
        "template <typename T>\nint A::f(T x) {\n  return 1;\n}\n",
        ("f", 1, 4),
    ),
    "ruby": (
        "class A\n  # Says it.\n  private def f\n    1\n  end\nend\n",
        "class A\n  private def f\n    1\n  end\nend\n",
        ("f", 2, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_documented_function_loses_its_comment_and_is_found_in_the_new_text(language: str) -> None:
    source, expected, place = LANGUAGES[language]
    made = remove_comments(source.encode(), language)
    assert made.data.decode() == expected
    assert [(one.name, one.start_line, one.end_line) for one in made.functions] == [place]


def test_a_docstring_that_is_the_whole_body_leaves_a_body() -> None:
    made = remove_comments(b'def f():\n    """Say it."""\n\ndef g(): "more"\n', "python")
    assert made.data == b"def f():\n    ...\n\ndef g(): ...\n"
    assert [(one.name, one.start_line, one.end_line) for one in made.functions] == [("f", 1, 2), ("g", 4, 4)]


def test_a_comment_behind_code_or_apart_from_the_function_stays() -> None:
    source = b"int a; // of a\nint f(void) {\n}\n\n// apart\n\nint g(void) {\n}\n"
    assert remove_comments(source, "c").data == source


@pytest.mark.parametrize(
    ("comment", "sentence"),
    [
        ("/**\n * Reads {@link Foo#bar() a <b>bar</b>}. Then more.\n * @param x y\n */", "Reads a bar"),
        ("/// The [`Foo`], e.g. `a.b`,\n/// of `self`.\n///\n/// # Examples", "The Foo, e.g. a.b, of self"),
        ('"""Sends a :class:`Request <Request>` object.\n\n:param x: it\n"""', "Sends a Request object"),
        ("/**\n * @name f\n * @summary Add days.\n *\n * @description\n * Add days to it.\n */", "Add days to it"),
        ("# Public: Halts the +app+ now.\n#\n# Returns nothing.", "Halts the app now"),
        ('"""\n    Parses it\n\n    Args:\n        x: y\n    """', "Parses it"),
    ],
)  # fmt: skip
def test_the_first_sentence_comes_without_markup(comment: str, sentence: str) -> None:
    assert first_sentence(comment) == sentence


def test_the_name_is_masked_in_the_query() -> None:
    assert query_of("// readAll reads what readAll(x) left in ReadAll.", "readAll") == "reads what it(x) left in it"
    assert query_of("/// Copy the bytes to the copy of it all.", "copy") == "the bytes to the of it all"


@pytest.mark.parametrize(
    "comment",
    [
        "// Too short here",
        "// TODO make this one faster soon",
        "/* Copyright 2020 by those who wrote it */",
        "// see the other one for more",
    ],
)  # fmt: skip
def test_comments_that_say_nothing_make_no_query(comment: str) -> None:
    assert query_of(comment, "name") is None


def test_queries_with_the_same_text_go_all_and_the_draw_is_the_same_every_time() -> None:
    queries = [DocQuery(f"text {number % 9}", "a", number, number, "f") for number in range(14)]
    assert [query.text for query in drawn(queries, 10, "seed")] == ["text 5", "text 6", "text 7", "text 8"]
    assert drawn(queries, 2, "seed") == drawn(queries, 2, "seed")
    assert len(drawn(queries, 2, "seed")) == 2


@pytest.mark.parametrize(
    ("subject", "query"),
    [
        ("fix(http): handle empty header values (#123)", "handle empty header values"),
        ("Strip the port from netrc lookups", "Strip the port from netrc lookups"),
        ("docs: explain how to read headers", None),
        ("Bump the version of the thing to 2.0", None),
        ("Fix crash", None),
        ("Add a test for empty header values", None),
    ],
)
def test_subjects_become_queries_or_go(subject: str, query: str | None) -> None:
    assert subject_query(subject) == query


DIFF = """diff --git a/a.py b/a.py
--- a/a.py
+++ b/a.py
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
@@ -11,2 +11,3 @@ def f
 eleven
+new
 twelve
"""


def test_hunks_are_found_where_the_base_has_their_old_side() -> None:
    base = "zero\none\ntwo\nthree\n\neleven\ntwelve\n"
    replaced, inserted = parse_diff(DIFF)
    assert locate(replaced, base) == (3, 3)
    assert locate(inserted, base) == (6, 7)
    assert gold_lines([replaced, inserted], {"a.py": base}, lambda _: True) == [("a.py", 3, 3), ("a.py", 6, 7)]


def test_a_hunk_that_is_gone_or_there_twice_is_not_found() -> None:
    replaced, inserted = parse_diff(DIFF)
    assert locate(replaced, "one\ntwo and more\nthree\n\n") is None
    assert locate(inserted, "eleven\ntwelve\neleven\ntwelve\n") is None


def test_a_commit_most_of_which_is_gone_makes_no_query() -> None:
    hunks = parse_diff(DIFF) + parse_diff(DIFF.replace("eleven", "ten").replace("one", "1"))
    assert gold_lines(hunks[1:], {"a.py": "eleven\ntwelve\n"}, lambda _: True) == []
    assert gold_lines(hunks[:2], {"a.py": "eleven\ntwelve\n"}, lambda _: True) == [("a.py", 1, 2)]


def test_a_corpus_without_a_full_commit_id_is_refused(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.yaml"
    corpus.write_text("repositories:\n  - {name: some/one, set: test, commit: main}\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="a full id"):
        load(corpus, tmp_path, tmp_path, "all")
