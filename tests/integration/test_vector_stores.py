"""What every vector store must do, asked of each: Chroma on disk, a real Chroma server on loopback, and exact."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from chroma_helpers import chroma_server
from store_helpers import ChromaShelf, ExactShelf, Shelf, unit_vectors

from codechunk.errors import IndexBusy, VectorStoreError
from codechunk.vectors import BACKENDS
from codechunk.vectors.arrays import Vectors
from codechunk.vectors.chroma import ChromaDirectory, ChromaServer

COUNT = 1_500
IDS = [f"{n:032x}" for n in range(COUNT)]
# float16 keeps lengths to a few parts in ten thousand.
NEAR = 1e-3


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return unit_vectors(COUNT)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(params=["chroma embedded", "chroma server", "exact"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelf]:
    """Each store, empty."""
    if request.param == "chroma embedded":
        yield ChromaShelf(ChromaDirectory(tmp_path / "chroma"))
    elif request.param == "chroma server":
        backend = ChromaServer(request.getfixturevalue("server"))
        with backend.open(write=True) as store:
            for name in store.names():
                store.drop(name)
        yield ChromaShelf(backend)
    else:
        exact = ExactShelf(tmp_path)
        yield exact
        exact.state.close()


def probes(vectors: Vectors, n: int) -> list[tuple[str, Vectors]]:
    return [(IDS[at], vectors[at]) for at in range(0, n, 37)]


def ranked(vectors: Vectors, query: Vectors, n: int) -> list[str]:
    """What comparing all of them gives."""
    similarity = vectors @ query / np.linalg.norm(vectors, axis=1)
    return [IDS[row] for row in np.argsort(-similarity)[:n]]


def test_every_registered_store_is_asked() -> None:
    assert set(BACKENDS) == {"chroma", "exact"}, "give the new store a shelf in store_helpers, and this suite"


def test_stored_vectors_are_found_best_first_with_their_cosines(shelf: Shelf, vectors: Vectors) -> None:
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        shelf.put(collection, IDS[:300], vectors[:300])
        [found] = collection.query(vectors[7:8], 5)
        assert [id_ for id_, _ in found] == ranked(vectors[:300], vectors[7], 5)
        assert found[0] == (IDS[7], pytest.approx(1, abs=NEAR))
        exact = {id_: float(vectors[IDS.index(id_)] @ vectors[7]) for id_, _ in found}
        assert dict(found) == pytest.approx(exact, abs=NEAR)


def test_several_questions_at_once_are_answered_like_one_by_one(shelf: Shelf, vectors: Vectors) -> None:
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        shelf.put(collection, IDS[:50], vectors[:50])
        together = collection.query(vectors[:3], 4)
        assert len(together) == 3
        for number, found in enumerate(together):
            [alone] = collection.query(vectors[number : number + 1], 4)
            assert [id_ for id_, _ in found] == [id_ for id_, _ in alone]
            assert dict(found) == pytest.approx(dict(alone), abs=1e-6)


def test_only_what_is_allowed_is_answered_and_all_of_it(shelf: Shelf, vectors: Vectors) -> None:
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        shelf.put(collection, IDS[:300], vectors[:300])
        allowed = {*IDS[100:120], "never-there"}
        for found in collection.query(vectors[:2], 50, allowed):
            assert {id_ for id_, _ in found} == set(IDS[100:120])
            scores = [score for _, score in found]
            assert scores == sorted(scores, reverse=True)
        assert [len(found) for found in collection.query(vectors[:2], 3, allowed)] == [3, 3]
        assert collection.query(vectors[:2], 3, set()) == [[], []]


def test_vectors_are_there_after_reopening(shelf: Shelf, vectors: Vectors) -> None:
    name = shelf.name("main")
    with shelf.backend.open(write=True) as store:
        shelf.put(store.collection(name), IDS, vectors)
    with shelf.backend.open(write=False) as store:
        assert store.names() == [name]
        collection = store.collection(name)
        assert collection.count() == COUNT
        assert collection.check(expected=COUNT, probes=probes(vectors, COUNT)) is None
        assert collection.query(vectors[-1:], 1)[0][0][0] == IDS[-1]
        assert store.recovered is None


def test_an_id_that_exists_gets_the_new_vector(shelf: Shelf, vectors: Vectors) -> None:
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        shelf.put(collection, IDS[:50], vectors[:50])
        shelf.put(collection, IDS[:1], vectors[60:61])
        assert collection.count() == 50
        assert collection.query(vectors[60:61], 1)[0][0][0] == IDS[0]


def test_deleted_ids_are_gone_and_unknown_ids_are_fine(shelf: Shelf, vectors: Vectors) -> None:
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        shelf.put(collection, IDS[:50], vectors[:50])
        shelf.take_out(collection, [*IDS[:10], "never-there"])
        collection.delete([])
        assert collection.count() == 40
        assert not set(IDS[:10]) & {id_ for id_, _ in collection.query(vectors[3:4], 50)[0]}


def test_asking_for_more_than_there_is_gives_what_there_is(shelf: Shelf, vectors: Vectors) -> None:
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        assert collection.query(vectors[:2], 10) == [[], []]
        assert collection.query(vectors[:1], 10, {IDS[0]}) == [[]]
        assert collection.count() == 0
        assert collection.check(expected=0, probes=[]) is None
        shelf.put(collection, IDS[:3], vectors[:3])
        assert len(collection.query(vectors[:1], 10)[0]) == 3
        assert collection.query(vectors[:1], 0) == [[]]


def test_collections_do_not_see_each_other_and_can_be_dropped(shelf: Shelf, vectors: Vectors) -> None:
    one, two = shelf.name("one"), shelf.name("two")
    with shelf.backend.open(write=True) as store:
        shelf.put(store.collection(one), IDS[:5], vectors[:5])
        shelf.put(store.collection(two), IDS[5:6], vectors[5:6])
        assert store.names() == sorted([one, two])
        assert store.collection(two).count() == 1
    shelf.drop("one")
    shelf.drop("never-there")
    with shelf.backend.open(write=False) as store:
        assert store.names() == [two]
        assert store.collection(one).count() == 0


def test_a_collection_has_a_name_that_no_other_has_and_that_lasts(shelf: Shelf, vectors: Vectors) -> None:
    names = []
    for write in (True, False):
        with shelf.backend.open(write=write) as store:
            names.append([store.collection(shelf.name(short)).identity for short in ("one", "two")])
    assert names[0] == names[1]
    assert len(set(names[0])) == 2
    assert shelf.backend.identity() == shelf.backend.identity()


def test_a_reader_makes_nothing_and_changes_nothing(shelf: Shelf, vectors: Vectors) -> None:
    name = shelf.name("main")
    with shelf.backend.open(write=True) as store:
        shelf.put(store.collection(shelf.name("other")), IDS[:3], vectors[:3])
    with shelf.backend.open(write=False) as store:
        empty = store.collection(name)
        assert empty.count() == 0
        assert empty.query(vectors[:1], 3) == [[]]
        assert empty.check(expected=3, probes=[]) == "it holds 0 vectors instead of 3"
        collection = store.collection(shelf.name("other"))
        for work in (
            lambda: collection.upsert(IDS[:5], vectors[:5]),
            lambda: collection.delete(IDS[:1]),
            lambda: store.drop(shelf.name("other")),
        ):
            with pytest.raises(VectorStoreError, match="open for reading"):
                work()
        assert collection.count() == 3
        assert store.names() == [shelf.name("other")]


@pytest.mark.parametrize("bad", ["nan", "inf", "zero", "flat"])
def test_vectors_that_would_spoil_it_are_refused(shelf: Shelf, vectors: Vectors, bad: str) -> None:
    spoiled = vectors[:3].copy()
    spoiled[1] = {"nan": np.nan, "inf": np.inf, "zero": 0, "flat": 1}[bad]
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        with pytest.raises(VectorStoreError):
            collection.upsert(IDS[:3], spoiled[0] if bad == "flat" else spoiled)
        with pytest.raises(VectorStoreError):
            collection.query(spoiled[0] if bad == "flat" else spoiled, 3)
        assert collection.count() == 0


def test_another_dimension_and_repeated_ids_are_refused(shelf: Shelf, vectors: Vectors) -> None:
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        shelf.put(collection, IDS[:3], vectors[:3])
        with pytest.raises(VectorStoreError, match="dimension"):
            collection.upsert(IDS[:1], vectors[:1, :50])
        with pytest.raises(VectorStoreError, match="dimension"):
            collection.query(vectors[:1, :50], 3)
        with pytest.raises(VectorStoreError):
            collection.upsert([IDS[0]] * 2, vectors[:2])
        with pytest.raises(ValueError, match="same length"):
            collection.upsert(IDS[:1], vectors[:2])
        assert collection.count() == 3


def test_a_check_names_a_wrong_count_a_lost_id_and_a_wrong_vector(shelf: Shelf, vectors: Vectors) -> None:
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        shelf.put(collection, IDS[:50], vectors[:50])
        assert collection.check(expected=50, probes=probes(vectors, 50)) is None
        assert collection.check(expected=51, probes=[]) == "it holds 50 vectors instead of 51"
        lost = collection.check(expected=50, probes=[(IDS[60], vectors[60])])
        assert lost == "1 of 1 sampled vectors are lost or wrong"
        wrong = collection.check(expected=50, probes=[(IDS[0], vectors[0]), (IDS[1], vectors[2])])
        assert wrong == "1 of 2 sampled vectors are lost or wrong"


def test_equal_vectors_are_healthy(shelf: Shelf, vectors: Vectors) -> None:
    same = np.repeat(vectors[:1], 200, axis=0)
    with shelf.backend.open(write=True) as store:
        collection = store.collection(shelf.name("main"))
        shelf.put(collection, IDS[:200], same)
        assert collection.check(expected=200, probes=[(id_, same[0]) for id_ in IDS[:200]]) is None
        assert len(collection.query(vectors[:1], 10)[0]) == 10


def test_two_writers_are_told_of_each_other_or_see_the_same(shelf: Shelf, vectors: Vectors) -> None:
    name = shelf.name("main")
    with shelf.backend.open(write=True) as one:
        if shelf.backend.exclusive:
            for write in (True, False):
                with pytest.raises(IndexBusy):
                    shelf.backend.open(write=write)
            return
        with shelf.backend.open(write=True) as two:
            shelf.put(one.collection(name), IDS[:10], vectors[:10])
            shelf.put(two.collection(name), IDS[10:20], vectors[10:20])
            assert one.collection(name).count() == two.collection(name).count() == 20


def test_a_closed_store_says_so(shelf: Shelf) -> None:
    store = shelf.backend.open(write=True)
    store.close()
    store.close()
    with pytest.raises(VectorStoreError, match="closed"):
        store.collection(shelf.name("main"))
