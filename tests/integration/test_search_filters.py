"""What a search is restricted to: it finds what passes, however little of an index that is."""

from collections.abc import Iterator

import pytest
from sql_helpers import statements

from codechunk.cli import options
from codechunk.documents import Answer
from codechunk.search.content import CONTENTS
from codechunk.search.ranking import Query, search
from codechunk.state import CutFile, IndexRow, PlannedFile, Space, State
from codechunk.text.chunks import Chunk, Kind, chunk_ids
from codechunk.text.words import index_words

SPACE = Space(provider="synthetic", model="m", dimensions=4, task="t", header_version=1)
FILES = 3_000
FEW = ["examples/deep/demo_1.py", "examples/deep/demo_2.py", "docs/guide.md", "tests/test_parse.py", "conf/app.toml"]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """Thousands of files that all have the words, and have them more often than the few others."""
    with State(tmp_path_factory.mktemp("filters") / "state.db") as opened:
        index = opened.catalog.open_index(url="https://host.invalid/o/one", names=["one"], ref="main", space=SPACE)
        mine = {"repository_id": index.repository_id, "fingerprint": "f"}
        paths = [f"src/m{number % 40}/f{number}.py" for number in range(FILES)] + FEW
        rows = [PlannedFile(path=path, blob=path, size_bytes=1, reason=None) for path in paths]
        opened.contents.write_plan(index.next, rows)
        opened.contents.adopt(index.next, **mine)
        parts = []
        for file in opened.contents.unread(index.next, **mine):
            often = 1 if file.path in FEW else 6
            text = "def parse_header(line):\n" + "    parse(header, line)\n" * often + f"    # {file.path}\n" * 3
            language = {"md": "markdown", "toml": "toml"}.get(file.path.rpartition(".")[2], "python")
            chunks = [
                Chunk(
                    path=file.path, language=language, kind=Kind.FUNCTION, symbol="parse_header", start_line=1,
                    end_line=9, start_byte=0, end_byte=len(text), text=text, tokens=9,
                )
            ]  # fmt: skip
            parts.append(
                CutFile(
                file_id=file.id, path=file.path, blob=file.blob, status="chunked", language=language, chunks=chunks,
                chunk_ids=chunk_ids(index.url, chunks), words=[index_words(text)],
                )
            )  # fmt: skip
        opened.contents.save(index.repository_id, "f", parts)
        opened.catalog.publish(index.next, commit="c", fingerprint="f", whole=True)
        yield opened


def found(state: State, text: str = "parse header", **restricted: list[str]) -> list[Answer]:
    def nearest(index: IndexRow, vector: object, limit: int) -> None:
        raise AssertionError("there is no vector to ask for")

    query = Query(text=text, context=0, **restricted)  # type: ignore[arg-type]
    return search(state, state.catalog.indexes(), query, vector_of={}, nearest=nearest)


@pytest.mark.parametrize("text", ["parse header", "parse_header", "ParseHeader", '"def parse_header(line)"'])
@pytest.mark.parametrize(
    ("restricted", "paths"),
    [
        ({"paths": ["examples/"]}, FEW[:2]),
        ({"paths": ["examples/deep/demo_1.py"]}, FEW[:1]),
        ({"paths": ["[e]xamples/**"]}, FEW[:2]),
        ({"paths": ["docs/", "conf/*.toml"]}, [FEW[2], FEW[4]]),
        ({"paths": ["!src/", "!*.py"]}, [FEW[2], FEW[4]]),
        ({"content": ["examples"]}, FEW[:2]),
        ({"content": ["docs", "data"]}, [FEW[2], FEW[4]]),
        ({"content": ["tests"]}, [FEW[3]]),
        ({"content": ["examples"], "paths": ["!*_1.py"]}, [FEW[1]]),
        ({"languages": ["toml", "markdown"]}, [FEW[2], FEW[4]]),
        ({"paths": ["nothing/"]}, []),
        ({"content": ["docs"], "paths": ["*.py"]}, []),
    ],
)
def test_a_filter_that_few_files_pass_finds_them_all(
    state: State, text: str, restricted: dict[str, list[str]], paths: list[str]
) -> None:
    assert sorted(answer.path for answer in found(state, text, **restricted)) == sorted(paths)


def test_a_filter_that_most_files_pass_does_not_look_at_the_others(state: State) -> None:
    with statements(state) as plain:
        everything = found(state)
    with statements(state) as filtered:
        no_tests = found(state, content=["code", "examples", "docs", "data"])
    assert [answer.path for answer in no_tests] == [answer.path for answer in everything]
    assert len(filtered) <= len(plain) + 1


def test_the_option_has_the_kinds_of_files_that_there_are() -> None:
    choice = options.ContentChoice
    assert [*CONTENTS, "all"] == list(choice)
    assert options.contents([], no_tests=False) == []
    assert options.contents([choice.ALL], no_tests=False) == []
    assert options.contents([choice.DOCS, choice.CODE], no_tests=False) == ["code", "docs"]
    assert options.contents([], no_tests=True) == ["code", "examples", "docs", "data"]
    assert options.contents([choice.TESTS, choice.DOCS], no_tests=True) == ["docs"]
