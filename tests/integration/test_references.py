"""What a person may call a repository, and that every command understands the same words."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from codechunk.errors import NotFound, UsageError
from codechunk.state import Space, State
from codechunk.workspace.references import named, published

SPACE = Space(provider="synthetic", model="m", dimensions=128, task="t", header_version=1)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State(tmp_path / "state.db") as opened:
        yield opened


def made(state: State, url: str, name: str, *refs: str, published: bool = True) -> None:
    """An index for each ref."""
    for ref in refs or ("main",):
        index = state.catalog.open_index(url=url, names=[name], ref=ref, space=SPACE)
        if published:
            state.catalog.publish(index.next, commit="c", fingerprint="f", whole=True)


def folder(path: Path) -> Path:
    """A folder that looks like a git repository."""
    (path / ".git").mkdir(parents=True)
    (path / "sub").mkdir()
    return path


def test_a_name_a_url_and_each_with_a_ref(state: State) -> None:
    made(state, "https://host.example/owner/demo.git", "owner/demo", "main", "v1")
    for words in ("owner/demo", "https://host.example/owner/demo.git", "https://host.example/owner/demo/"):
        assert sorted(index.ref for index in named(state, words).indexes) == ["main", "v1"]
        assert named(state, words).whole
        assert [index.ref for index in published(state, f"{words}@v1")] == ["v1"]
        assert not named(state, f"{words}@v1").whole


def test_a_path_however_it_is_written(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "work" / "demo")
    made(state, str(root), "demo", "main", "feature/x")
    monkeypatch.chdir(root)
    ways = [
        str(root),
        f"{root}/",
        f"{root}/.git",
        ".",
        "./",
        "..//demo",
        "../demo",
        "sub/..",
        "./sub",
        str(root / "sub"),
    ]
    for words in ways:
        assert named(state, words).repository.url == str(root), words
        assert [index.ref for index in published(state, f"{words}@feature/x")] == ["feature/x"], words
    (tmp_path / "link").symlink_to(root)
    assert named(state, str(tmp_path / "link")).repository.url == str(root)


def test_a_repository_whose_folder_is_gone_is_still_known_by_its_path(state: State, tmp_path: Path) -> None:
    made(state, str(tmp_path / "gone"), "gone")
    made(state, str(tmp_path / "bare.git"), "bare")
    for words in (f"{tmp_path}/gone", f"{tmp_path}/gone/", f"{tmp_path}/gone@main"):
        assert named(state, words).repository.name == "gone"
    assert named(state, f"{tmp_path}/bare").repository.name == "bare"


def test_a_name_comes_before_a_folder_of_that_name(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(state, "https://host.example/a/demo", "demo")
    made(state, str(folder(tmp_path / "demo")), "other/demo")
    monkeypatch.chdir(tmp_path)
    assert named(state, "demo").repository.url == "https://host.example/a/demo"
    assert named(state, "./demo").repository.name == "other/demo"


def test_what_may_be_several_things_names_the_ways_to_say_it(state: State, tmp_path: Path) -> None:
    made(state, "https://host.example/a/demo", "demo", "v1@x", "x")
    made(state, "https://host.example/b/demo", "demo@v1", "x")
    with pytest.raises(UsageError) as caught:
        named(state, "demo@v1@x")
    assert caught.value.kind == "usage"
    assert "https://host.example/a/demo@v1@x or https://host.example/b/demo@x" in str(caught.value)
    made(state, str(folder(tmp_path / "x")), "x")
    made(state, str(tmp_path / "x.git"), "x.git")
    assert named(state, str(tmp_path / "x")).repository.name == "x", "exact words are never several things"


def test_what_is_not_there_is_told_with_what_is(state: State) -> None:
    with pytest.raises(NotFound, match="nothing is indexed yet"):
        named(state, "demo")
    made(state, "https://host.example/a/demo", "demo", "dev", published=False)
    for words in ("nope", "demo@main", "/nowhere", "."):
        with pytest.raises(NotFound, match="there is demo@dev"):
            named(state, words)
    assert named(state, "demo").whole
    with pytest.raises(NotFound, match="No index of 'demo' is published yet"):
        published(state, "demo")
