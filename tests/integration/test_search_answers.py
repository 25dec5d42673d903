"""How hits become answers: scores joined, files rewarded, neighbours taken in up to a budget."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from git_helpers import GitRepo
from test_search import Ask, app_in

from codechunk import cli
from codechunk.app import App, IndexRequest
from codechunk.progress import Silence
from codechunk.search.ranking import CONTEXT_TOKENS, Query
from codechunk.text.tokens import count_tokens

METHOD = '''
    def {name}(self, parcel):
        """{text}"""
        label = self.printer.print_label(parcel, size="{name}", copies={copies})
        return self.archive.store(label, parcel, reason="{name}")
'''


def depot(name: str, words: list[str]) -> str:
    """A class with a method of about 60 tokens for each of the words."""
    methods = (METHOD.format(name=word, text=f"Handle {word} parcels.", copies=n) for n, word in enumerate(words))
    return f"class {name}:\n    printer = None\n" + "".join(methods)


WORDS = ["apple", "banana", "cherry", "damson", "elder", "fig", "grape", "hazel", "iris", "juniper", "kale", "lemon"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> App:
    folder = tmp_path_factory.mktemp("answers")
    repo = GitRepo(folder / "depots")
    long = "\n".join(f"    step_{n} = weigh(cargo, {n}, scale='harbour', unit='tonne {n}')" for n in range(60))
    repo.commit(
        {
            "fruit.py": depot("Fruit", WORDS),
            # As long as the other, and nothing in it but the one method is about parcels.
            "lone.py": depot("Lone", ["apple"]) + f"\n\ndef load_train(cargo):\n{long}\n    return cargo\n",
            "ship.py": f"def load_ship(cargo):\n{long}\n    return cargo\n",
            **{f"other{n}.py": depot(f"Other{n}", [f"thing{n}"]) for n in range(12)},
        }
    )
    app = app_in(folder / "data")
    app.index(IndexRequest(source=str(repo.path)), Silence())
    return app


@pytest.fixture
def ask(made: App) -> Iterator[Ask]:
    with made.searcher(None, Silence()) as found:
        yield found


def test_the_best_answer_holds_the_code_around_its_hit_within_the_budget(ask: Ask) -> None:
    narrow = ask(Query(text="handle damson parcels", context=0))[0]
    wide = ask(Query(text="handle damson parcels", context=300))[0]
    assert narrow.symbol == wide.symbol == "Fruit.damson"
    assert len(narrow.chunk_ids) == 1 < len(wide.chunk_ids)
    assert set(narrow.chunk_ids) < set(wide.chunk_ids)
    assert wide.start_line <= narrow.start_line <= narrow.end_line <= wide.end_line
    assert (
        count_tokens(wide.text) <= 320
    )  # the sum of the chunks' tokens is at most 300; line breaks between come on top


def test_later_answers_hold_less_than_the_first(ask: Ask) -> None:
    answers = ask(Query(text="print a label for parcels", limit=10))
    sizes = [count_tokens(answer.text) for answer in answers]
    assert sizes[0] <= CONTEXT_TOKENS * 1.1
    for rank, size in enumerate(sizes, start=1):
        assert size <= CONTEXT_TOKENS / rank**0.5 * 1.1


def test_no_line_is_in_two_answers(ask: Ask) -> None:
    seen: set[tuple[str, int]] = set()
    for answer in ask(Query(text="store parcels in the archive", limit=20)):
        lines = {(answer.path, line) for line in range(answer.start_line, answer.end_line + 1)}
        assert not lines & seen
        seen |= lines


def test_the_parts_of_one_function_are_taken_in_before_other_neighbours(ask: Ask) -> None:
    [best, *_] = ask(Query(text="weigh cargo at step 30 of the harbour scale", context=2_000))
    assert best.path == "ship.py"
    assert (best.start_line, best.end_line) == (1, 62)


def test_a_file_with_several_hits_comes_before_one_with_a_single_hit(ask: Ask) -> None:
    answers = ask(Query(text="handle apple parcels", context=0))
    places = [answer.path for answer in answers if answer.symbol and answer.symbol.endswith(".apple")]
    assert places == ["fruit.py", "lone.py"]


def test_scores_fall_and_stay_between_nothing_and_one(ask: Ask) -> None:
    for text in ("handle damson parcels", "weigh cargo", "qqq zzz"):
        scores = [answer.score for answer in ask(Query(text=text, limit=20))]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)


def test_names_of_tiny_definitions_that_share_a_chunk_are_all_found(tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "points")
    tiny = "    def {}(self):\n        return {}\n\n"
    repo.commit({"p.py": "class P:\n" + tiny.format("ax", 1) + tiny.format("by", 2) + tiny.format("cz", 3)})
    app = app_in(tmp_path / "data")
    app.index(IndexRequest(source=str(repo.path)), Silence())
    [answer] = app.search(Query(text="P.by"), repository=None, reporter=Silence())
    assert answer.symbol == "P, P.ax, P.by, P.cz"


def test_a_notebook_answer_is_without_the_outputs_between_its_cells(tmp_path: Path) -> None:
    def cell(text: str) -> dict[str, object]:
        output = {"output_type": "display_data", "data": {"image/png": "A" * 50_000}, "metadata": {}}
        return {"cell_type": "code", "metadata": {}, "source": [f"{text}\n"] * 12, "outputs": [output]}

    repo = GitRepo(tmp_path / "book")
    cells = [cell("weigh_the_cargo(ship, harbour)"), cell("load_the_cargo(ship, crane)")]
    repo.commit({"a.ipynb": json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})})
    app = app_in(tmp_path / "data")
    app.index(IndexRequest(source=str(repo.path)), Silence())
    [answer] = app.search(Query(text="weigh cargo"), repository=None, reporter=Silence())
    assert "weigh_the_cargo" in answer.text
    assert "load_the_cargo" in answer.text
    assert len(answer.text) < 2_000


def test_the_command_asks_for_as_much_context_as_the_library() -> None:
    """The command line has its own literal, because to import the search costs every command its start."""
    # By its registration: the module of the same name takes the name of the function when it is imported.
    command = next(one.callback for one in cli.app.registered_commands if one.callback.__name__ == "search")
    option = inspect.signature(command).parameters["context_tokens"]
    assert option.default == CONTEXT_TOKENS == Query(text="x").context
