"""A search is never nothing: it answers from what there is, and says what is missing, how old it is, what it covers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from asking_helpers import SALT, SOUP, Asking
from gemini_emulator import GeminiEmulator
from scripted_server import Reply, Server

from codechunk.app import IndexRequest
from codechunk.errors import NotFound, VectorStoreError
from codechunk.progress import Silence
from codechunk.search import query_vectors
from codechunk.search.freshness import age_in_words
from codechunk.search.ranking import Query
from codechunk.text.times import utc


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    made = Asking(tmp_path)
    yield made
    made.app.close()


def test_that_vectors_are_synthetic_is_told_once_to_people_alone(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_vectors, "SYNTHETIC", "not told yet")
    asking.index(asking.repo("soup", {"a.py": SOUP}).path)
    asking.app.search(Query(text="stir"), repository=None, reporter=Silence())
    asking.ask("stir")
    [sentence] = asking.told
    assert "The vectors of soup are synthetic" in sentence
    assert "CODECHUNK_GEMINI_API_KEY" in sentence
    asking.ask("stir")
    assert asking.told == []


def test_an_answer_says_how_old_its_commit_is_and_how_many_came_after_it(asking: Asking) -> None:
    repo = asking.repo("soup", {"a.py": SOUP})
    asking.index(repo.path)
    [answer] = asking.ask("stir soup")
    assert answer.behind == 0
    assert answer.committed_at == utc(float(repo.git("show", "--no-patch", "--format=%ct", "HEAD")))
    assert asking.told == []
    for number in range(3):
        repo.commit({"b.py": f"x = {number}\n"})
    [answer] = asking.ask("stir soup")
    assert (answer.path, answer.behind) == ("a.py", 3)
    [sentence] = asking.told
    assert "soup@main is searched as of" in sentence
    assert "3 commits behind" in sentence
    assert f"`codechunk index {repo.path} --ref main` follows." in sentence


def test_a_mirror_knows_the_age_and_a_repository_that_is_gone_nothing(asking: Asking) -> None:
    repo = asking.repo("soup", {"a.py": SOUP})
    asking.index(f"file://{repo.path}")
    [answer] = asking.ask("stir soup")
    assert answer.behind is None
    assert answer.committed_at is not None
    other = asking.repo("other", {"a.py": SALT})
    asking.index(other.path)
    other.path.rename(asking.folder / "away")
    [answer] = asking.ask("salt soup taste", "other")
    assert (answer.committed_at, answer.behind) == (None, None)


def test_a_work_tree_is_as_old_as_what_it_stands_on(asking: Asking) -> None:
    repo = asking.repo("soup", {"a.py": SOUP})
    (repo.path / "new.py").write_text(SALT)
    asking.app.index(IndexRequest(source=str(repo.path), working_tree=True), Silence())
    assert {answer.behind for answer in asking.ask("salt soup")} == {0}
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "x")
    assert {answer.behind for answer in asking.ask("salt soup")} == {1}


def test_ages_are_told_in_their_largest_unit() -> None:
    ages = [age_in_words(seconds) for seconds in (5, 61, 7_200, 86_400, 40 * 86_400, 800 * 86_400)]
    assert ages == ["just now", "1 minute old", "2 hours old", "1 day old", "1 month old", "2 years old"]


def test_nothing_found_says_how_much_was_searched_and_what_was_not(asking: Asking) -> None:
    files: dict[str, bytes | str] = {"a.py": SOUP, "logo.png": b"\x89PNG\0\0", "empty.py": "", "data/b.bin": b"\0\1"}
    asking.index(asking.repo("soup", files).path)
    assert asking.ask("stir soup", paths=["nothing/**"]) == []
    assert asking.told == [
        "No file matches --path.",
        "Searched 1 file (1 chunk) of soup@main; not 3 files: 2 binary, 1 empty.",
    ]
    assert asking.ask("stir soup", paths=["data/b.bin"]) == []
    assert asking.told[0] == "Not indexed: data/b.bin: binary."
    assert asking.ask("stir soup", paths=["*.png", "empty.py"]) == []
    assert asking.told[0] == "Not indexed: empty.py: empty; logo.png: binary."
    assert asking.ask("stir soup", paths=["a.py"], content=["docs"]) == []
    assert asking.told == ["Searched 1 file (1 chunk) of soup@main; not 3 files: 2 binary, 1 empty."]


GEMINI = {"embedding__provider": "gemini", "embedding__dimensions": "128"}


@pytest.fixture
def paid(tmp_path: Path) -> Iterator[tuple[Asking, GeminiEmulator]]:
    """A repository that was indexed with vectors of Gemini."""
    with GeminiEmulator() as emulator:
        made = Asking(tmp_path, emulator.key, embedding__base_url=emulator.url, **GEMINI)
        made.index(made.repo("soup", {"a.py": SOUP, "b.py": SALT}).path)
        made.app.close()
        yield made, emulator


def again(asking: Asking, key: str | None, url: str) -> Asking:
    """The same data directory, with another key or another provider."""
    return Asking(asking.folder, key, embedding__base_url=url, **GEMINI)


@pytest.mark.parametrize(
    ("key", "up", "told"),
    [
        (None, True, "No Gemini key: set CODECHUNK_GEMINI_API_KEY"),
        ("wrong-key", True, "Gemini refused the key"),
        ("right", False, "Gemini"),
    ],
)
def test_without_the_provider_words_answer(
    paid: tuple[Asking, GeminiEmulator], key: str | None, up: bool, told: str
) -> None:
    before, emulator = paid
    url = emulator.url if up else "http://127.0.0.1:9"
    asking = again(before, emulator.key if key == "right" else key, url)
    assert asking.ask("stir the soup")[0].path == "a.py"
    [sentence] = asking.told
    assert told in sentence
    assert sentence.endswith(" Meanwhile soup@main is searched by words alone.")
    asking.app.close()


def test_a_slow_provider_is_not_waited_for(
    paid: tuple[Asking, GeminiEmulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, emulator = paid
    monkeypatch.setattr(query_vectors, "PATIENCE_S", 0.3)
    server = Server()
    server.answers(Reply(stall_s=60.0))
    asking = again(before, emulator.key, server.url)
    assert asking.ask("stir the soup")[0].path == "a.py"
    assert "did not answer in 0.3 s" in asking.told[0]
    with asking.app.searcher(None, Silence()) as ask:
        assert ask(Query(text="stir the soup"))
        assert ask(Query(text="salt"))
    assert len(server.requests) == 2, "a provider that failed is left alone for a while"
    asking.app.close()
    server.close()


def test_a_run_whose_first_batch_is_out_can_be_searched_by_words(tmp_path: Path) -> None:
    with GeminiEmulator() as emulator:
        asking = Asking(tmp_path, emulator.key, embedding__base_url=emulator.url, **GEMINI)
        repo = asking.repo("soup", {"a.py": SOUP, "b.py": SALT})
        request = IndexRequest(source=str(repo.path), mode="batch", wait=False)
        assert asking.app.index(request, Silence()).status == "embedding"
        [answer, *_] = asking.ask("stir the soup", "soup")
        assert (answer.path, answer.ref, answer.commit, answer.behind) == ("a.py", "main", repo.sha, 0)
        assert answer.matched.meaning is None
        assert asking.told == [
            "soup@main has not all vectors yet, so words find more than meaning does; `codechunk jobs list` shows how "
            "far it is."
        ]
        assert [found.path for found in asking.ask("SALT", paths=["b.py"])] == ["b.py"]
        assert asking.ask("soup", paths=["nothing/"]) == []
        assert "2 texts wait for their vectors" in asking.told[-1]
        emulator.finish()
        assert asking.app.sync(Silence()).indexes_finished == 1
        [answer, *_] = asking.ask("stir the soup")
        assert (answer.path, asking.told) == ("a.py", [])
        asking.app.close()


def test_a_run_that_was_stopped_while_it_cut_says_what_is_missing(asking: Asking) -> None:
    state = asking.app.workspace.state
    index = state.catalog.open_index(
        url="https://host.invalid/o/soup", names=["soup"], ref="main", space=asking.app.workspace.space()
    )
    state.catalog.start_job(index.id, "c" * 40, redo=False)
    with pytest.raises(NotFound, match="The first run for soup@main has not cut every file yet"):
        asking.ask("soup")


def test_a_broken_vector_store_is_done_without(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    asking.index(asking.repo("soup", {"a.py": SOUP, "b.py": SALT}).path)

    def refuse(*_: object, **__: object) -> None:
        raise VectorStoreError("the vector index cannot be opened.")

    monkeypatch.setattr(type(asking.app.workspace.vector_backend), "open", refuse)
    [answer, *_] = asking.ask("stir the soup")
    assert answer.path == "a.py"
    assert answer.matched.meaning is not None, "the vectors in the state database are compared"
    assert asking.told == ["the vector index cannot be opened. Searching the vectors in the state database meanwhile."]
