"""What a query asks for: a symbol, a path, something in quotes or a sentence, and which kinds of files."""

import pytest

from codechunk.search.question import read


@pytest.mark.parametrize(
    ("text", "symbol"),
    [
        ("HTTPServer.setTimeout", ("HTTPServer", "setTimeout")),
        ("do_modelines", ("do_modelines",)),
        (":path", ("path",)),
        ("Foo#bar", ("Foo", "bar")),
        ("Rack::Builder", ("Rack", "Builder")),
        ("std::vector::push_back()", ("std", "vector", "push_back")),
        ("App\\Http\\Kernel", ("App", "Http", "Kernel")),
        ("user->name", ("user", "name")),
        ("empty?", ("empty?",)),
        ("@property", ("property",)),
        ("Session", ("Session",)),
        ("  parse()  ", ("parse",)),
        ("os.path", ("os", "path")),
    ],
)
def test_a_name_is_a_question_for_a_symbol(text: str, symbol: tuple[str, ...]) -> None:
    assert read(text).symbol == symbol
    assert read(text).path is None


@pytest.mark.parametrize("text", ["session", "how are keys expired", "Session store", "🚀", "", "1.5", "a b", "42"])
def test_words_and_sentences_are_no_symbol(text: str) -> None:
    assert read(text).symbol == ()


def test_names_within_a_sentence_are_known_by_their_last_part() -> None:
    question = read("how does HandlerStack call create_handler and Utils::jsonDecode when retry fails")
    assert question.names == {"HandlerStack", "create_handler", "jsonDecode"}
    assert question.symbol == ()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("src/flask/app.py", "src/flask/app.py"),
        ("src/flask/app.py:120", "src/flask/app.py"),
        ("lib/axios.js:12-30", "lib/axios.js"),
        ("expire.c", "expire.c"),
        ("requirements.txt", "requirements.txt"),
        ("app.run", None),
        ("and/or", None),
        ("read src/app.py please", None),
        ("1.5", None),
    ],
)
def test_a_path_is_a_question_for_a_file(text: str, path: str | None) -> None:
    question = read(text)
    assert question.path == path
    if path:
        assert question.symbol == ()


def test_what_is_in_quotes_is_looked_for_as_it_is_written() -> None:
    assert read('where is "connection reset by peer" raised').literals == ("connection reset by peer",)
    assert read("`max_retries` or 'too many open files'").literals == ("max_retries", "too many open files")
    assert read("don't and won't").literals == ()


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("how to install redis", {"docs"}),
        ("test for the retry middleware", {"tests"}),
        ("example of a custom renderer", {"examples"}),
        ("which config key sets the timeout", {"data"}),
        ("how are requests retried", set()),
        ("TestCase", set()),  # a symbol
    ],
)
def test_a_query_may_ask_for_tests_examples_documentation_or_data(text: str, about: set[str]) -> None:
    assert read(text).about == about


def test_stems_are_those_of_the_words_each_once() -> None:
    question = read("expired keys and expiring key")
    assert question.words == ("expired", "keys", "expiring", "key")
    assert question.stems == ("expir", "kei") or question.stems == ("expir", "key")
