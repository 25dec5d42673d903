"""Search by words: the same answers as when every match is joined and sorted, with far fewer looked up."""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from sql_helpers import statements

from codechunk.state import CutFile, Filter, IndexRow, PlannedFile, Space, State
from codechunk.text.chunks import Chunk, Kind, chunk_ids
from codechunk.text.words import index_words

SPACE = Space(provider="synthetic", model="m", dimensions=4, task="t", header_version=1)
WORDS = ("read", "write", "parse", "render", "close")
FILES = 300


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[State]:
    """Two repositories; one has two refs, of which the second lacks half of the files and has some others."""
    chance = random.Random(3)
    with State(tmp_path_factory.mktemp("lexical") / "state.db") as opened:
        for url, ref, numbers in (
            ("https://host.invalid/o/one", "main", range(FILES)),
            ("https://host.invalid/o/one", "other", range(FILES // 2, FILES + 20)),
            ("https://host.invalid/o/two", "main", range(40)),
        ):
            fill(opened, url, ref, numbers, chance)
        yield opened


def fill(state: State, url: str, ref: str, numbers: range, chance: random.Random) -> None:
    index = state.catalog.open_index(url=url, names=[url[-3:]], ref=ref, space=SPACE)
    mine = {"repository_id": index.repository_id, "fingerprint": "f"}
    rows = [
        PlannedFile(path=path, blob=path, size_bytes=1, reason=None)
        for path in (f"{'lib' if number % 3 else 'docs'}/f{number}.py" for number in numbers)
    ]
    state.contents.write_plan(index.next, rows)
    state.contents.adopt(index.next, **mine)
    parts = []
    for file in state.contents.unread(index.next, **mine):
        # Few lengths and few words: many matches have the same score.
        texts = [" ".join(chance.choices(WORDS, k=chance.choice((3, 3, 8)))) + f" {file.path} {n}" for n in range(3)]
        chunks = [
            Chunk(
                path=file.path, language=chance.choice(("python", "go")), kind=Kind.FUNCTION, symbol=None, start_line=1,
                end_line=2, start_byte=0, end_byte=len(text), text=text, tokens=3,
            )
            for text in texts
        ]  # fmt: skip
        parts.append(
            CutFile(
                file_id=file.id, path=file.path, blob=file.blob, status="chunked", language=chunks[0].language,
                chunks=chunks, chunk_ids=chunk_ids(url, chunks), words=[index_words(text) for text in texts],
            )
        )  # fmt: skip
    state.contents.save(index.repository_id, "f", parts)
    state.catalog.publish(index.next, commit="c", fingerprint="f", whole=True)


def sorted_from_all(
    state: State, indexes: Sequence[IndexRow], words: Sequence[str], wanted: Filter
) -> list[tuple[int, str, float]]:
    """Every match joined with the files of the indexes, then sorted: the plain way."""
    query = (
        "SELECT c.chunk_id, c.source_id, f.index_id, s.path, s.language, -m.score AS score FROM"
        " (SELECT rowid, bm25(chunk_words, 3.0, 6.0, 1.0) AS score FROM chunk_words WHERE chunk_words MATCH ?) m"
        " JOIN chunks c ON c.id = m.rowid JOIN files f ON f.source_id = c.source_id"
        " JOIN sources s ON s.id = c.source_id"
        " ORDER BY m.score, c.chunk_id"
    )
    order = {index.id: number for number, index in enumerate(indexes)}
    found: dict[str, tuple[int, float]] = {}
    with state.database.read() as connection:
        for row in connection.exec_driver_sql(query, (" OR ".join(f'"{word}"' for word in words),)):
            passes = not wanted.languages or row.language in wanted.languages
            passes = passes and wanted.passes(row.source_id, row.path, row.language)
            if row.index_id not in order or not passes:
                continue
            best = found.get(row.chunk_id)
            if best is None or order[row.index_id] < order[best[0]]:
                found[row.chunk_id] = (row.index_id, row.score)
    return [(index_id, chunk_id, score) for chunk_id, (index_id, score) in found.items()]


@pytest.mark.parametrize("words", [("read",), ("parse", "render"), WORDS, ("f7",), ("nothing",)], ids=" ".join)
@pytest.mark.parametrize("limit", [1, 10, 100, 5_000])
@pytest.mark.parametrize(
    "what", ["all", "one ref", "a large ref", "a language", "few files", "most files", "few paths", "most paths"]
)
def test_the_best_matches_are_those_of_all_matches_sorted(
    state: State, words: Sequence[str], limit: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexes = state.catalog.every_index()
    paths = {source: path for index in indexes for path, source in state.lookup.files(index.published)}
    wanted = {
        "a language": Filter(languages=("go",)),
        "few files": Filter(sources=frozenset(source for source, path in paths.items() if path.endswith("7.py"))),
        "most files": Filter(sources=frozenset(source for source in paths if source % 5)),
        "few paths": Filter(passing=lambda path, _: path.endswith("7.py"), pieces=[("7", ".py")]),
        "most paths": Filter(passing=lambda path, _: not path.endswith("7.py")),
    }.get(what, Filter())
    if what == "a large ref":
        monkeypatch.setattr("codechunk.state.lookup.FEW_FILES", 100)
    if what in {"one ref", "a large ref"}:
        indexes = [index for index in indexes if index.ref == "other"]
    found = state.lookup.by_words([index.id for index in indexes], words, wanted, limit=limit)
    assert found == sorted_from_all(state, indexes, words, wanted)[:limit]


def looked_up(state: State, indexes: Sequence[IndexRow], wanted: Filter) -> int:
    """How many chunk rows a search by a word that nearly every chunk has joins with files."""
    with statements(state) as asked:
        assert state.lookup.by_words([index.id for index in indexes], WORDS, wanted, limit=10)
    return sum(len(parameters) for statement, parameters in asked if "JOIN files" in statement)


def test_the_best_ten_of_a_thousand_matches_are_found_without_joining_the_others(state: State) -> None:
    assert looked_up(state, state.catalog.every_index(), Filter()) < 200


def test_of_a_large_index_the_chunks_are_not_all_looked_at_to_find_the_best_ten(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bounds of its rows took 40 times as long as the search itself, for every question."""
    large = [index for index in state.catalog.every_index() if index.ref == "other"]
    monkeypatch.setattr("codechunk.state.lookup.FEW_FILES", 1)

    def bounds(words: Sequence[str]) -> list[str]:
        with statements(state) as asked:
            assert state.lookup.by_words([large[0].id], words, Filter(), limit=10)
        return [statement for statement, _ in asked if "min(chunks.id)" in statement]

    assert bounds(WORDS) == bounds(["read"]) == bounds(["f200"]) == []


def test_of_a_small_index_the_words_of_others_are_not_read(state: State) -> None:
    small = [index for index in state.catalog.every_index() if "two" in index.url]
    with statements(state) as asked:
        assert state.lookup.by_words([small[0].id], WORDS, Filter(), limit=10)
    (bounds,) = [parameters[2:4] for statement, parameters in asked if "FROM chunk_words" in statement]
    with state.database.read() as connection:
        assert bounds[0] > 0
        assert bounds[1] - bounds[0] < connection.exec_driver_sql("SELECT count(*) FROM chunks").scalar_one() / 2


def test_of_few_files_only_their_own_chunks_are_looked_up(state: State) -> None:
    indexes = state.catalog.every_index()
    sources = [source for index in indexes for _, source in state.lookup.files(index.published)][:5]
    assert looked_up(state, indexes, Filter(sources=frozenset(sources))) < 40


def test_a_database_is_asked_for_the_paths_that_hold_the_fixed_texts_of_a_glob(state: State) -> None:
    index = state.catalog.every_index()[0]
    everything = [path for path, _ in state.lookup.files(index.published)]
    found = [path for path, _ in state.lookup.files(index.published, containing=("lib/", "7", ".py"))]
    assert sorted(found) == sorted(path for path in everything if path.startswith("lib/") and "7" in path)
    assert 0 < len(found) < len(everything) / 2
    assert [path for path, _ in state.lookup.files(index.published, containing=("f7%",))] == []
    assert [path for path, _ in state.lookup.files(index.published, containing=("f_7",))] == []


def test_of_all_vectors_only_those_of_the_files_that_are_asked_for_are_read(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codechunk.state.lookup.FEW_SOURCES", 20)
    index = state.catalog.every_index()[0]
    sources = [source.id for source in state.contents.new_sources(index.published, all_files=True)]
    state.embeddings.request(index.space_id, sources)
    ids = [text.embedding_id for text in state.queue.claim(index.space_id, "me", most=10_000, lease_s=60.0)]
    values = np.ones((len(ids), 4), dtype=np.float32)
    state.queue.save_direct(ids, values, tokens=[None] * len(ids), requests=0, free=True)
    asked_for = frozenset(sources[::4])
    assert len(asked_for) > 2 * 20
    with statements(state) as asked:
        found = [
            chunk_id for ids, _ in state.lookup.vectors(index.published, Filter(sources=asked_for)) for chunk_id in ids
        ]
    assert len(found) == len(set(found)) == 3 * len(asked_for)
    reading = [parameters for statement, parameters in asked if "vectors.vector" in statement]
    assert len(reading) == -(-len(asked_for) // 20)
    assert {source for parameters in reading for source in parameters} >= asked_for
