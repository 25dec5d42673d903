"""Search inside one process, on a real index of the standard library's sources."""

import dataclasses
import fnmatch
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from gemini_emulator import GeminiEmulator, vector_of
from git_helpers import GitRepo

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.documents import Answer
from codechunk.errors import UsageError
from codechunk.progress import Silence
from codechunk.providers import synthetic
from codechunk.search.query_vectors import QueryVectors
from codechunk.search.ranking import Query, scan, search
from codechunk.state import Filter, IndexRow
from codechunk.state.embeddings import Vectors

Ask = Callable[[Query], list[Answer]]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> GitRepo:
    made = GitRepo(tmp_path_factory.mktemp("search") / "stdlib")
    source = Path(json.__file__).parent.parent
    files: dict[str, bytes | str] = {path.name: path.read_bytes() for path in sorted(source.glob("*.py"))[:80]}
    made.commit({**files, "web/app.js": "function renderPage(request) {\n  return template(request.url, theme);\n}\n"})
    return made


def app_in(data: Path, key: str | None = None, **flags: str) -> App:
    """The product with synthetic vectors and its data in that folder; `flags` with `__` for the dot of a key."""
    given = {name.replace("__", "."): value for name, value in flags.items()}
    environ = {**os.environ, **({} if key is None else {"CODECHUNK_GEMINI_API_KEY": key})}
    flags = {"data_dir": str(data), "embedding.provider": "synthetic", **given}
    return App(load_config(config_file=None, flags=flags, environ=environ, cwd=data.parent))


@pytest.fixture(scope="module")
def app(repo: GitRepo, tmp_path_factory: pytest.TempPathFactory) -> App:
    made = app_in(tmp_path_factory.mktemp("search-data"))
    made.index(IndexRequest(source=str(repo.path)), Silence())
    return made


@pytest.fixture(scope="module")
def ask(app: App) -> Iterator[Ask]:
    with app.searcher(None, Silence()) as found:
        yield found


def test_words_of_a_function_find_it(ask: Ask) -> None:
    for words, path, symbol in [
        ("insert item into sorted list keeping order", "bisect.py", "insort_left"),
        ("parse command line options getopt", "getopt.py", "getopt"),
        ("copy with backslash escapes for csv dialect sniffing", "csv.py", "Sniffer.sniff, Sniffer.sniff.dialect"),
        ("deep copy of an object with a memo", "copy.py", "deepcopy"),
    ]:
        answers = ask(Query(text=words, limit=5, context=0))
        found = {(answer.path, span.symbol) for answer in answers for span in (answer, *answer.spans)}
        assert (path, symbol) in found, words


def test_an_identifier_is_found_however_it_is_written(ask: Ask) -> None:
    for words in ("ConfigParser", "config parser", "config_parser", "configparser"):
        assert any(answer.path == "configparser.py" for answer in ask(Query(text=words, limit=10, context=0))), words


def test_answers_are_exact_lines_of_the_file_with_or_without_context(ask: Ask, repo: GitRepo) -> None:
    for context in (0, 200, 2_000):
        for text in ("read a line", "context manager", "format a date", "open file"):
            for answer in ask(Query(text=text, limit=10, context=context)):
                lines = (repo.path / answer.path).read_bytes().decode().split("\n")
                expected = lines[answer.start_line - 1 : answer.end_line]
                assert [line.rstrip() for line in answer.text.rstrip("\n").split("\n")] == [
                    line.rstrip() for line in expected
                ], (answer.path, answer.start_line)


def test_context_widens_answers_and_no_chunk_is_in_two_of_them(ask: Ask) -> None:
    narrow = ask(Query(text="compress data stream", limit=20, context=0))
    wide = ask(Query(text="compress data stream", limit=20, context=500))
    assert all(len(answer.chunk_ids) == 1 for answer in narrow)
    assert max(len(answer.chunk_ids) for answer in wide) > 1
    ids = [chunk for answer in wide for chunk in answer.chunk_ids]
    assert len(ids) == len(set(ids))
    assert wide[0].start_line <= narrow[0].start_line <= narrow[0].end_line <= wide[0].end_line


def test_scores_fall_and_the_limit_holds(ask: Ask) -> None:
    answers = ask(Query(text="encode text", limit=7))
    scores = [answer.score for answer in answers]
    assert len(answers) == 7
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1


def test_every_filter_lets_pass_only_what_it_says(ask: Ask) -> None:
    assert {answer.language for answer in ask(Query(text="render page", languages=["javascript"]))} == {"javascript"}
    assert {answer.kind for answer in ask(Query(text="close the file", kinds=["method"], context=0))} == {"method"}
    paths = {answer.path for answer in ask(Query(text="close the file", paths=["c*.py"], limit=50))}
    assert paths
    assert all(fnmatch.fnmatch(path, "c*.py") for path in paths)
    assert ask(Query(text="close", paths=["nothing/**"])) == []


def test_a_filter_that_excludes_nothing_changes_almost_nothing(ask: Ask) -> None:
    # almost: with a filter more neighbours are asked for, and an HNSW search is approximate
    for text in ("close the file", "thread lock", "iterate over items"):
        plain = {answer.chunk_ids[0] for answer in ask(Query(text=text, limit=10, context=0))}
        both = Query(text=text, limit=10, context=0, languages=["python", "javascript"])
        assert len(plain & {answer.chunk_ids[0] for answer in ask(both)}) >= 8


def test_the_same_query_gives_the_same_answers(app: App, ask: Ask) -> None:
    query = Query(text="how are temporary files removed")
    assert ask(query) == ask(query) == app.search(query, repository="stdlib", reporter=Silence())


def test_strange_queries_are_answered_or_find_nothing(ask: Ask) -> None:
    for text in (
        '"quoted" OR NOT (',
        "*",
        "--",
        "a" * 5_000,
        "日本語 код",
        "\x00",
        "NEAR(a b)",
        "col:x",
        "'; DROP TABLE",
    ):
        ask(Query(text=text))


def test_an_unknown_repository_is_a_usage_error_that_names_the_known_ones(app: App) -> None:
    with pytest.raises(UsageError, match="stdlib@main"):
        app.search(Query(text="x"), repository="nope", reporter=Silence())


def test_repositories_are_ranked_together_not_each_by_itself(
    app: App, repo: GitRepo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = GitRepo(tmp_path_factory.mktemp("other") / "kitchen")
    recipes = {
        f"r{n}.md": f"# Recipe {n}\n\nStir the soup with spoon {n} until the onions are soft.\n" for n in range(30)
    }
    other.commit(recipes)
    both = app_in(tmp_path_factory.mktemp("both"))
    both.index(IndexRequest(source=str(repo.path)), Silence())
    both.index(IndexRequest(source=str(other.path)), Silence())
    code = both.search(Query(text="insert item into sorted list", limit=10), repository=None, reporter=Silence())
    assert {answer.repository for answer in code[:5]} == {"stdlib"}
    soup = both.search(Query(text="stir the soup until onions are soft", limit=10), repository=None, reporter=Silence())
    assert {answer.repository for answer in soup[:8]} == {"kitchen"}


def test_a_name_is_found_among_hundreds_of_files_that_are_alike(tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "alike")
    files = {f"t{n % 20}/f{n}.py": f"def handler_{n}(event):\n    return process(event, {n})\n" for n in range(900)}
    repo.commit({**files, "zz.py": "def brand_new_thing(event):\n    return process(event, 1)\n"})
    made = app_in(tmp_path / "data")
    made.index(IndexRequest(source=str(repo.path)), Silence())
    for text in ("brand_new_thing", "brand new thing", "brandNewThing"):
        assert made.search(Query(text=text, limit=1), repository=None, reporter=Silence())[0].path == "zz.py"


def test_similarities_of_different_spaces_are_never_compared(tmp_path: Path) -> None:
    """What one space finds similar at 0.009 competes, on a scale of its own, with what another finds similar at 0.9."""
    for name, dimensions in (("near", "768"), ("far", "256")):
        repo = GitRepo(tmp_path / name)
        repo.commit({f"{name}{n}.py": f"def {name}_{n}(soup):\n    return stir(soup, {n})\n" for n in range(20)})
        made = app_in(tmp_path / "data", embedding__dimensions=dimensions)
        made.index(IndexRequest(source=str(repo.path)), Silence())
    state = made.workspace.state
    indexes = state.catalog.indexes()
    vectors = {index.space_id: synthetic.embed(["stir"], index.space.dimensions)[0] for index in indexes}
    assert len(vectors) == 2

    def answers(scale: float) -> list[Answer]:
        def nearest(index: IndexRow, vector: Vectors, limit: int) -> list[tuple[str, float]]:
            factor = 1.0 if index.repository == "near" else scale
            return [(chunk, factor * value) for chunk, value in scan(state, index, vector, Filter(), limit)]

        # No word of the query is in the code, so only meaning ranks.
        query = Query(text="zyx", limit=40, context=0, anyway=True)
        return search(state, indexes, query, vector_of=vectors, nearest=nearest)

    alike, unlike = answers(1.0), answers(0.01)
    assert [(answer.path, answer.score) for answer in alike] == [(answer.path, answer.score) for answer in unlike]
    best = {answer.repository: answer.score for answer in reversed(unlike)}
    assert best["near"] == best["far"]


def test_a_chunk_that_two_refs_have_in_different_spaces_is_not_counted_twice(tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "soup")
    repo.commit({"a.py": "def stir(soup):\n    return soup\n", "b.py": "def taste(soup):\n    return 1\n"})
    repo.git("branch", "other")
    for ref, dimensions in (("main", "768"), ("other", "256")):
        made = app_in(tmp_path / "data", embedding__dimensions=dimensions)
        made.index(IndexRequest(source=str(repo.path), ref=ref), Silence())
    answers = made.search(Query(text="stir soup", limit=5, context=0), repository=None, reporter=Silence())
    assert answers[0].path == "a.py"
    assert answers[0].matched.meaning == 1.0
    assert len({chunk for answer in answers for chunk in answer.chunk_ids}) == len(answers)


def in_gemini_space(index: IndexRow, number: int, model: str) -> IndexRow:
    """The index as if its vectors came from Gemini."""
    space = dataclasses.replace(index.space, provider="gemini", model=model, dimensions=128)
    return dataclasses.replace(index, space_id=number, space=space)


def test_gemini_is_asked_once_for_each_of_its_spaces(app: App, tmp_path: Path) -> None:
    state = app.workspace.state
    [index] = state.catalog.indexes()
    old, new = "gemini-embedding-001", "gemini-embedding-2"
    indexes = [index, in_gemini_space(index, 70, old), in_gemini_space(index, 70, old), in_gemini_space(index, 71, new)]
    with GeminiEmulator() as emulator:
        asking = app_in(tmp_path, emulator.key, embedding__base_url=emulator.url)
        with QueryVectors(asking.workspace, indexes, Silence().say) as vectors_of:
            vectors = vectors_of("where are retries?")
        assert set(emulator.paid) == {"where are retries?", "task: code retrieval | query: where are retries?"}
        assert set(emulator.paid.values()) == {1}
    assert {space_id: vector.shape for space_id, vector in vectors.items()} == {
        index.space_id: (768,),
        70: (128,),
        71: (128,),
    }
    sold = np.array(vector_of("where are retries?", 128, old))
    assert np.allclose(vectors[70], sold / np.linalg.norm(sold), atol=1e-6)


def test_without_a_key_a_gemini_index_is_searched_by_words_and_that_is_told_once(app: App, tmp_path: Path) -> None:
    state = app.workspace.state
    [index] = state.catalog.indexes()
    told: list[str] = []
    gemini = in_gemini_space(index, 70, "gemini-embedding-001")
    with QueryVectors(app_in(tmp_path).workspace, [index, gemini], told.append) as vectors_of:
        vectors = vectors_of("insort"), vectors_of("insort")
    assert [set(made) for made in vectors] == [{index.space_id}, {index.space_id}]
    [sentence] = told
    assert "CODECHUNK_GEMINI_API_KEY" in sentence
    assert sentence.endswith("Meanwhile stdlib@main is searched by words alone.")
    answers = search(state, [gemini], Query(text="insort"), vector_of={}, nearest=lambda *_: [])
    assert answers[0].path == "bisect.py"
