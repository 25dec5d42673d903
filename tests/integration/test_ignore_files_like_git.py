"""An ignore file means what git says it means: the oracle is `git check-ignore`, and not a library about git."""

import shutil
import subprocess
from pathlib import Path

import pytest
from git_helpers import git_env
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codechunk.selection.globs import IgnoreFile

_COMPONENTS = st.sampled_from(["a", "b", "ab", ".a", "a.b", "*", "*a", "a*", "*a*b", "a?", "[ab]", "[!a]", "**", "*.b"])
_NAMES = st.sampled_from(["a", "b", "ab", "aab", ".a", "a.b", "c", "aXb", "bba"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=4).map("/".join)
_PATTERNS = st.builds(
    lambda components, anchored, folder: "/" * anchored + "/".join(components) + "/" * folder,
    st.lists(_COMPONENTS, min_size=1, max_size=3),
    st.booleans(),
    st.booleans(),
)


@pytest.fixture(scope="module")
def work_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ignored")
    subprocess.run(["git", "init", "-q", folder], check=True, env=git_env(folder))
    return folder


def ignored_by_git(work_tree: Path, paths: list[str]) -> list[str]:
    """Those of the paths that git ignores, in their order. They need not exist."""
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=work_tree, env=git_env(work_tree), input="\0".join(paths), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.split("\0")[:-1]


# 30 times twenty patterns: more than a hundred of one pattern each, and a fifth of the processes.
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(_PATTERNS, st.lists(_PATHS, min_size=1, max_size=20)), min_size=1, max_size=20))
# What pathspec 1.1.1 says ignores `a/a`.
@example([("a/**/", ["a/a", "a/a/a", "a", "b/a/a"]), ("**/", ["a", "a/b"]), ("/**/", ["a", "a/b"])])
def test_one_pattern_of_an_ignore_file_means_what_git_says(work_tree: Path, cases: list[tuple[str, list[str]]]) -> None:
    """Each pattern stands alone, in the ignore file of a folder of its own; git is asked once for all of them."""
    ours, asked = [], []
    for number, (pattern, paths) in enumerate(cases):
        folder = work_tree / str(number)
        folder.mkdir()
        (folder / ".gitignore").write_text(pattern + "\n")
        alone = IgnoreFile(pattern)
        for path in dict.fromkeys(paths):
            asked.append(f"{number}/{path}")
            if alone.matches(path):
                ours.append(asked[-1])
    try:
        theirs = ignored_by_git(work_tree, asked)
    finally:
        for number in range(len(cases)):
            shutil.rmtree(work_tree / str(number))
    assert ours == theirs, [cases[int(path.partition("/")[0])] for path in set(ours) ^ set(theirs)]


def test_negations_in_an_ignore_file_mean_what_git_says(work_tree: Path) -> None:
    text = "build/\n!build/keep.py\n*.log\n!important.log\n/top\ndocs/**/x\n!docs/a/x\n\\#odd\nsp \\ \n"
    paths = ["build/keep.py", "a/build/b/c.py", "x.log", "a/important.log", "top", "a/top", "docs/x", "docs/a/x"]
    paths += ["docs/a/b/x", "docs/a/x/y", "#odd", "sp  "]
    (work_tree / ".gitignore").write_text(text)
    try:
        theirs = ignored_by_git(work_tree, paths)
    finally:
        (work_tree / ".gitignore").unlink()
    ours = IgnoreFile(text)
    assert [path for path in paths if ours.matches(path)] == theirs
