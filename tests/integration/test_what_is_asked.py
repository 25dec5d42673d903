"""Symbols, paths, quotes and kinds of files: what a query asks for by its name comes first."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from git_helpers import GitRepo
from test_search import Ask, app_in

from codechunk.app import App, IndexRequest
from codechunk.progress import Silence
from codechunk.search.ranking import Query

IMPL = """
class {name}Codec:
    def serialize(self, value):
        return self.writer.write_{name}(value)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder = tmp_path_factory.mktemp("asked")
    repo = GitRepo(folder / "codec")
    padding = "\n".join(
        f"    # A line about wire formats, number {n}, that makes this chunk a long one." for n in range(40)
    )
    repo.commit(
        {
            "src/core/contract.py": f"class Serialize:\n{padding}\n    def begin(self):\n        raise RuntimeError\n",
            "src/impls.py": "".join(IMPL.format(name=f"kind{n}") for n in range(150)),
            "src/retry.py": 'def retry_policy(call):\n    raise TimeoutError("gave up after too many attempts")\n',
            "tests/test_retry.py": "def test_retry_policy():\n    assert retry_policy(retry_policy) is retry_policy\n",
            "README.md": "# Codec\n\n## Installation\n\nInstall it with the retry policy: `pip install codec`.\n",
            "config/app.yaml": "retry:\n  policy: three times\n",
            "src/a/store.py": "def load(path):\n    return open(path)\n",
            "src/b/store.py": "def load(path):\n    return read(path)\n",
        }
    )
    app = app_in(folder / "data")
    app.index(IndexRequest(source=str(repo.path)), Silence())
    return app


@pytest.fixture
def ask(made: App) -> Iterator[Ask]:
    with made.searcher(None, Silence()) as found:
        yield found


def test_a_definition_comes_before_hundreds_of_methods_of_the_same_word(ask: Ask) -> None:
    [best, *_] = ask(Query(text="Serialize"))
    assert best.path == "src/core/contract.py"
    assert best.symbol is not None
    assert best.symbol.split(", ")[0] == "Serialize"
    assert best.matched.symbol


def test_a_symbol_that_is_nowhere_is_answered_with_nothing_unless_anyway(ask: Ask) -> None:
    assert ask(Query(text="SerializeIngress")) == []
    assert ask(Query(text="SerializeIngress", anyway=True))


@pytest.mark.parametrize("text", ["🚀", "kubernetes ingress controller quantum"])
def test_words_that_are_nowhere_are_answered_with_nothing_unless_anyway(ask: Ask, text: str) -> None:
    assert ask(Query(text=text)) == []
    assert ask(Query(text=text, anyway=True, limit=3)) is not None


def test_a_path_is_answered_with_that_file(ask: Ask) -> None:
    assert ask(Query(text="src/b/store.py"))[0].path == "src/b/store.py"
    assert ask(Query(text="b/store.py:1"))[0].path == "src/b/store.py"
    assert {answer.path for answer in ask(Query(text="store.py"))[:2]} == {"src/a/store.py", "src/b/store.py"}


def test_a_text_in_quotes_is_answered_with_the_code_that_has_it(ask: Ask) -> None:
    [best, *_] = ask(Query(text='where is "gave up after too many attempts" raised'))
    assert best.path == "src/retry.py"


def test_code_comes_first_unless_tests_or_documentation_or_data_are_asked_for(ask: Ask) -> None:
    assert ask(Query(text="retry policy"))[0].path == "src/retry.py"
    assert ask(Query(text="tests of the retry policy"))[0].path == "tests/test_retry.py"
    assert ask(Query(text="how to install the codec"))[0].path == "README.md"
    assert ask(Query(text="which config key sets the retry policy"))[0].path == "config/app.yaml"


def test_a_file_is_one_answer_and_its_spans_share_no_line(ask: Ask) -> None:
    answers = ask(Query(text="serialize a value with the writer", limit=5))
    assert len({answer.path for answer in answers}) == len(answers)
    assert [answer.file_rank for answer in answers] == list(range(1, len(answers) + 1))
    impls = next(answer for answer in answers if answer.path == "src/impls.py")
    assert impls.spans, "only one of a hundred good spans"
    lines = [line for span in (impls, *impls.spans) for line in range(span.start_line, span.end_line + 1)]
    assert len(lines) == len(set(lines))
    scores = [span.score for span in (impls, *impls.spans)]
    assert scores == sorted(scores, reverse=True)
    assert all(span.start_line <= span.hit_lines[0] <= span.hit_lines[1] <= span.end_line for span in impls.spans)


def test_an_answer_says_why(ask: Ask) -> None:
    [best, *_] = ask(Query(text="retry policy"))
    assert set(best.matched.words) >= {"retri", "polici"} or set(best.matched.words) >= {"retry", "policy"}
    assert best.content == "code"
    assert best.absolute_path is not None
    assert Path(best.absolute_path).is_file()
    assert best.url is None
