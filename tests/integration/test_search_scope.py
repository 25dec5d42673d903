"""Whose code answers: which repository and which ref a search asks, and that one content is one answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from asking_helpers import SALT, SOUP, Asking
from git_helpers import GitRepo

from codechunk.errors import NotFound, UsageError
from codechunk.git.address import place_of
from codechunk.git.checkout import Checkout


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Asking]:
    made = Asking(tmp_path)
    yield made
    made.app.close()


def test_several_repositories_are_searched_by_name_path_and_glob(asking: Asking) -> None:
    repos = [asking.repo(name, {f"{name}.py": f"{SOUP}# {name}\n"}) for name in ("ab", "ac", "b")]
    for repo in repos:
        asking.index(repo.path)
    assert asking.who("stir soup") == {"ab@main", "ac@main", "b@main"}
    assert asking.who("stir soup", "ab", str(repos[2].path)) == {"ab@main", "b@main"}
    assert asking.who("stir soup", "a*") == {"ab@main", "ac@main"}
    assert asking.who("stir soup", "?", "ac@main") == {"b@main", "ac@main"}
    assert asking.who("stir soup", f"{repos[0].path.parent}/a*") == {"ab@main", "ac@main"}
    for unknown in ("nope", "z*", "a*@dev"):
        with pytest.raises(NotFound, match="ab@main, ac@main, b@main"):
            asking.ask("stir soup", "ab", unknown)


def test_in_a_folder_of_an_indexed_repository_that_one_is_searched(asking: Asking) -> None:
    one, two = (asking.repo(name, {f"lib/{name}.py": f"{SOUP}# {name}\n"}) for name in ("one", "two"))
    asking.index(one.path)
    assert asking.who("stir soup", here=one.path) == {"one@main"}
    assert asking.told == [], "there is no other one"
    asking.index(two.path)
    assert asking.who("stir soup", here=one.path / "lib") == {"one@main"}
    assert asking.told == ["Searching one, where you are; --all searches all 2 repositories."]
    assert asking.who("stir soup", here=asking.folder) == {"one@main", "two@main"}
    assert asking.told == []
    assert asking.who("stir soup", "two", here=one.path) == {"two@main"}


def test_a_clone_of_an_indexed_remote_and_a_linked_work_tree_are_known(asking: Asking) -> None:
    one, two = (asking.repo(name, {f"{name}.py": f"{SOUP}# {name}\n"}) for name in ("one", "two"))
    url = f"file://{one.path}"
    asking.index(url)
    asking.index(two.path)
    clone = asking.folder / "elsewhere"
    one.git("clone", "-q", str(one.path), str(clone))
    for remote in (str(one.path), url, f"{url}/.git/", f"{url}.git"):
        one.git("-C", str(clone), "remote", "set-url", "origin", remote)
        assert asking.who("stir soup", here=clone) == {"one@main"}
    one.git("-C", str(clone), "remote", "set-url", "origin", f"{url}-other")
    assert asking.who("stir soup", here=clone) == {"one@main", "two@main"}
    two.git("worktree", "add", "-q", "-b", "side", str(asking.folder / "linked"))
    assert asking.who("stir soup", here=asking.folder / "linked") == {"two@main"}


def test_a_repository_within_an_indexed_one_belongs_to_it_unless_it_is_indexed_itself(asking: Asking) -> None:
    outer = asking.repo("outer", {"outer.py": f"{SOUP}# outer\n"})
    other = asking.repo("other", {"other.py": f"{SOUP}# other\n"})
    inner = GitRepo(outer.path / "vendor" / "inner")
    inner.commit({"inner.py": f"{SOUP}# inner\n"})
    asking.index(outer.path)
    asking.index(other.path)
    assert asking.who("stir soup", here=inner.path) == {"outer@main"}
    asking.index(inner.path)
    assert asking.who("stir soup", here=inner.path) == {"inner@main"}


def test_all_ways_to_reach_a_remote_are_one_place() -> None:
    ways = [
        "https://host.example/a/b",
        "https://host.example/a/b.git",
        "https://user:secret@host.example/a/b/",
        "git@host.example:a/b.git",
        "ssh://git@HOST.example:22/a/b",
    ]
    assert {place_of(url) for url in ways} == {"host.example/a/b"}
    assert place_of("../somewhere") is None
    assert place_of("/a/b.git/") == place_of("file:///a/b") == "/a/b"
    assert place_of("https://host.example/a/c") == "host.example/a/c"


def test_one_ref_speaks_for_a_repository_unless_others_are_asked_for(asking: Asking) -> None:
    repo = asking.repo("soup", {"a.py": SOUP, "b.py": SALT})
    repo.git("checkout", "-q", "-b", "dev")
    repo.commit({"a.py": SOUP, "b.py": SALT.replace("3", "4"), "c.py": SOUP.replace("9", "8")})
    for ref in ("main", "dev"):
        asking.index(repo.path, ref)
    assert asking.who("stir soup") == {"soup@dev"}, "what is out in the repository"
    assert asking.told == ["Searching soup@dev; main is indexed, too: --repo soup@main, or 'soup@*' for all."]
    repo.git("checkout", "-q", "main")
    assert asking.who("stir soup") == {"soup@main"}
    assert asking.who("stir soup", "soup@dev") == {"soup@dev"}
    assert asking.told == []


def test_equal_code_of_several_refs_is_one_answer_that_names_the_others(asking: Asking) -> None:
    repo = asking.repo("soup", {"a.py": SOUP, "b.py": SALT})
    repo.git("checkout", "-q", "-b", "dev")
    repo.git("mv", "a.py", "z.py")
    repo.commit({"c.py": SALT.replace("3", "4")})
    repo.git("checkout", "-q", "main")
    for ref in ("main", "dev"):
        asking.index(repo.path, ref)
    answers = {answer.path: answer for answer in asking.ask("salt and stir soup", "soup@*")}
    assert set(answers) == {"a.py", "b.py", "c.py"}
    assert (answers["a.py"].ref, list(answers["a.py"].also)) == ("main", ["soup@dev:z.py"]), "main is out"
    assert (answers["b.py"].ref, list(answers["b.py"].also)) == ("main", ["soup@dev:b.py"])
    assert answers["c.py"].ref == "dev"
    assert not answers["c.py"].also


def test_equal_code_of_several_repositories_is_one_answer(asking: Asking) -> None:
    for name in ("original", "fork"):
        asking.index(asking.repo(name, {"kitchen/a.py": SOUP, f"{name}.py": SALT + f"# {name}\n"}).path)
    answers = asking.ask("stir the soup with a spoon")
    same = [answer for answer in answers if answer.path == "kitchen/a.py"]
    assert len(same) == 1
    assert list(same[0].also) == [f"{'fork' if same[0].repository == 'original' else 'original'}@main:kitchen/a.py"]
    assert {answer.path for answer in answers} == {"kitchen/a.py", "original.py", "fork.py"}


def test_the_difference_of_two_refs_is_what_only_the_new_one_has(asking: Asking) -> None:
    repo = asking.repo("soup", {"a.py": SOUP, "b.py": SALT})
    asking.index(repo.path)
    repo.git("checkout", "-q", "-b", "v2")
    repo.commit({"a.py": SOUP, "b.py": SALT.replace("3", "4"), "c.py": SOUP.replace("9", "8")})
    asking.index(repo.path, "v2")
    new = asking.ask("stir and salt soup", ref_diff="main..v2")
    assert {(answer.path, answer.ref) for answer in new} == {("b.py", "v2"), ("c.py", "v2")}
    assert {answer.path for answer in asking.ask("stir and salt soup", ref_diff="v2..main")} == {"b.py"}
    for wrong in ("main", "main..v3", "main...v2", ".."):
        with pytest.raises(NotFound, match=r"there is main, v2\."):
            asking.ask("soup", ref_diff=wrong)
    asking.index(asking.repo("other", {"x.py": SOUP}).path)
    with pytest.raises(UsageError, match="name it with --repo"):
        asking.ask("soup", ref_diff="main..v2")
    assert asking.ask("soup", "soup", ref_diff="main..v2")


def test_a_checkout_that_git_does_not_tell_anything_about_is_still_one(tmp_path: Path) -> None:
    (tmp_path / "broken" / ".git").mkdir(parents=True)
    found = Checkout.of(tmp_path / "broken")
    assert found is not None
    assert (found.root, found.main, found.branch, list(found.places)) == (
        tmp_path / "broken",
        tmp_path / "broken",
        None,
        [],
    )
    assert Checkout.of(tmp_path) is None
