"""The glob after --path: what the database is told of it never leaves out a file that it matches."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codechunk.errors import UsageError
from codechunk.search.path_glob import PathGlob, PathGlobs

# What Python says of a class like [[ab], which is one to git.
pytestmark = pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")

names = st.text(alphabet="abB.-_ %[]!#", min_size=1, max_size=4).filter(lambda name: name not in {".", ".."})
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
globs = st.lists(
    st.sampled_from(
        ["a", "b", "B", "/", "*", "**", "?", "[ab]", "[!a]", "[", "]", "\\", ".", "-", "_", "%", " ", "!", "#"]
    ),
    min_size=1,
    max_size=8,
).map("".join)


def has_in_order(path: str, pieces: tuple[str, ...]) -> bool:
    at = 0
    for piece in pieces:
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def known(glob: str) -> PathGlob | None:
    try:
        return PathGlob.parse(glob)
    except UsageError:
        return None


@given(globs, paths)
@example("a/**/b", "a/b")
@example("/a", "a")
@example("a/", "a/b")
@example("**/a", "a")
@example("a/**", "a/b")
@example("a ", "a")
@example("*", "a")
def test_every_path_that_a_glob_matches_has_its_pieces(glob: str, path: str) -> None:
    asked = known(glob)
    if asked is not None and asked.matches(path):
        assert has_in_order(path, tuple(asked.pieces())), asked.pieces()


@given(paths, paths)
def test_every_path_that_a_path_taken_as_a_glob_matches_has_its_pieces(glob: str, path: str) -> None:
    asked = known(glob)
    if asked is not None and asked.matches(path):
        assert has_in_order(path, tuple(asked.pieces())), asked.pieces()


@pytest.mark.parametrize(
    ("glob", "pieces"),
    [
        ("src/**/*.py", ("src", ".py")),
        ("/docs/", ("docs",)),
        ("*.go", (".go",)),
        ("lib/[ab]/x.c", ("lib",)),
        ("**", ()),
        ("!a", ()),
        ("#a", ()),
        ("a\\*b", ()),
    ],
)
def test_pieces_are_the_fixed_texts_between_wildcards(glob: str, pieces: tuple[str, ...]) -> None:
    assert tuple(PathGlob.parse(glob).pieces()) == pieces


def test_what_is_no_glob_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="is not a glob"):
        PathGlob.parse("a/***\\")


def test_several_globs_add_up_and_those_with_a_mark_in_front_exclude() -> None:
    globs = PathGlobs.parse(["src/", "*.md", "!src/gen/", "!LICENSE.md"])
    meant = ["src/a.py", "README.md", "docs/a.md"]
    others = ["a.py", "src/gen/b.py", "LICENSE.md"]
    assert [path for path in meant + others if globs.matches(path)] == meant
    assert list(globs.pieces()) == [("src",), (".md",)]


def test_only_exclusions_leave_everything_else() -> None:
    globs = PathGlobs.parse(["!tests/"])
    assert globs.matches("src/a.py")
    assert not globs.matches("tests/a.py")
    assert list(globs.pieces()) == []


def test_nothing_is_known_of_paths_when_one_of_the_globs_may_be_anything() -> None:
    assert list(PathGlobs.parse(["src/", "[ab]*"]).pieces()) == []


def test_a_mark_alone_excludes_nothing_and_is_refused() -> None:
    with pytest.raises(UsageError, match="is not a glob"):
        PathGlobs.parse(["a", "!"])
