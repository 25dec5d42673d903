"""`index --working-tree`: what is on disk, safely."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest
from cli_helpers import Cli
from git_helpers import GitRepo

from codechunk.errors import GitError, UsageError
from codechunk.git.address import parse_source
from codechunk.git.repository import OpenedRepository, TreeEntry
from codechunk.git.worktree import WORKING_TREE_REF, open_working_tree
from codechunk.selection.skip import FILTERED


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "demo")
    made.commit({"kept.py": "def kept(): pass\n", "edited.py": "def before(): pass\n", "gone.py": "def gone(): pass\n"})
    return made


def opened(repo: GitRepo, *, max_file_bytes: int = 1 << 20) -> OpenedRepository:
    return open_working_tree(parse_source(str(repo.path)), max_file_bytes=max_file_bytes)


def entries(tree: OpenedRepository) -> dict[str, TreeEntry]:
    return {entry.path: entry for entry in tree.repository.list_tree(tree.commit)}


def contents(tree: OpenedRepository) -> dict[str, bytes]:
    files = {path: entry.blob for path, entry in entries(tree).items() if entry.mode.startswith("100")}
    blobs = tree.repository.blobs(files.values())
    return {path: data for path, (_, data) in zip(files, blobs, strict=True)}


def test_a_clean_work_tree_is_its_commit(repo: GitRepo) -> None:
    tree = opened(repo)
    assert (tree.ref, tree.commit) == (WORKING_TREE_REF, repo.sha)
    assert {path: (entry.blob, entry.size) for path, entry in entries(tree).items()} == {
        name: (repo.git("rev-parse", f"HEAD:{name}"), (repo.path / name).stat().st_size)
        for name in ("edited.py", "gone.py", "kept.py")
    }


def test_edits_deletions_and_untracked_files_are_seen_and_ignored_ones_are_not(repo: GitRepo) -> None:
    (repo.path / "edited.py").write_text("def after(): pass\n")
    (repo.path / "gone.py").unlink()
    (repo.path / "new").mkdir()
    (repo.path / "new" / "file.py").write_text("def new(): pass\n")
    (repo.path / ".gitignore").write_text("*.log\n")
    (repo.path / "noise.log").write_text("noise")
    tree = opened(repo)
    assert contents(tree) == {
        ".gitignore": b"*.log\n", "edited.py": b"def after(): pass\n", "kept.py": b"def kept(): pass\n",
        "new/file.py": b"def new(): pass\n",
    }  # fmt: skip
    assert tree.commit.startswith(repo.sha + "+")
    assert entries(tree)["edited.py"].blob == repo.git("hash-object", "edited.py"), "the id git would give it"
    assert opened(repo).commit == tree.commit, "the same files, the same identity"


def test_what_is_staged_but_differs_on_disk_is_read_from_disk(repo: GitRepo) -> None:
    (repo.path / "edited.py").write_text("staged = 1\n")
    repo.git("add", "edited.py")
    (repo.path / "edited.py").write_text("on_disk = 1\n")
    assert contents(opened(repo))["edited.py"] == b"on_disk = 1\n"


def test_a_file_that_changes_while_it_is_indexed_is_what_it_was_when_it_was_looked_at(repo: GitRepo) -> None:
    (repo.path / "edited.py").write_text("first = 1\n")
    tree = opened(repo)
    (repo.path / "edited.py").write_text("second = 2\n")
    assert contents(tree)["edited.py"] == b"first = 1\n"


def test_the_users_own_ignore_file_is_honoured(repo: GitRepo, tmp_path: Path) -> None:
    (repo.path / "secret.swp").write_text("x")
    (repo.path / "other.bak").write_text("x")
    home = tmp_path / "home"
    (home / ".config" / "git").mkdir(parents=True)
    (home / ".config" / "git" / "ignore").write_text("*.swp\n")
    with patch.dict(os.environ, HOME=str(home), XDG_CONFIG_HOME=""):
        assert sorted(entries(opened(repo))) == ["edited.py", "gone.py", "kept.py", "other.bak"]
        (home / "mine").write_text("*.bak\n")
        (home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/mine\n")
        assert sorted(entries(opened(repo))) == ["edited.py", "gone.py", "kept.py", "secret.swp"]


def test_no_filter_of_the_repository_is_run_and_what_it_hides_stays_hidden(repo: GitRepo) -> None:
    ran = repo.path.parent / "ran"
    (repo.path / ".gitattributes").write_text("*.key filter=crypt\n")
    blob = repo.add_blob(b"\0GITCRYPT\0 not readable")
    repo.git("update-index", "--add", "--cacheinfo", f"100644,{blob},tracked.key")
    (repo.path / "tracked.key").write_text("in the clear")
    (repo.path / "untracked.key").write_text("in the clear")
    with (repo.path / ".git" / "config").open("a") as config:
        config.write(f'[core]\n\tfsmonitor = "touch {ran}; false"\n[filter "crypt"]\n')
        config.writelines(f'\t{key} = "touch {ran}; cat"\n' for key in ("clean", "smudge", "process"))
    tree = opened(repo)
    found = contents(tree)
    assert found["tracked.key"] == b"\0GITCRYPT\0 not readable"
    assert entries(tree)["untracked.key"].mode == FILTERED
    assert not ran.exists()


def test_a_filter_that_only_leaves_things_out_hides_nothing(repo: GitRepo) -> None:
    repo.commit({".gitattributes": "*.ipynb filter=nbstripout\n", "a.ipynb": "{}"})
    (repo.path / "a.ipynb").write_text('{"cells": []}')
    (repo.path / "b.ipynb").write_text("{}")
    found = contents(opened(repo))
    assert (found["a.ipynb"], found["b.ipynb"]) == (b'{"cells": []}', b"{}")


def test_what_is_taken_as_committed_is_said(repo: GitRepo) -> None:
    repo.commit({".gitattributes": "*.py ident\n", "edited.py": "# $Id$\n"})
    (repo.path / "edited.py").write_text("# $Id: 1234 $\n")
    told: list[str] = []
    tree = open_working_tree(parse_source(str(repo.path)), max_file_bytes=1 << 20, say=told.append)
    assert tree.commit == repo.sha
    assert told[0].startswith("1 changed file is taken as committed")


def test_line_ends_that_git_changed_are_no_change(repo: GitRepo) -> None:
    (repo.path / "kept.py").write_bytes(b"def kept(): pass\r\n")
    assert opened(repo).commit == repo.sha


def test_an_edit_among_line_ends_that_git_changed_is_what_git_would_commit(repo: GitRepo) -> None:
    (repo.path / "kept.py").write_bytes(b"def kept(): pass\r\nmore = 1\r\n")
    (repo.path / "new.py").write_bytes(b"x = 1\r\n")
    found = contents(opened(repo))
    assert found["kept.py"] == b"def kept(): pass\nmore = 1\n"
    assert found["new.py"] == b"x = 1\r\n", "nobody knows better"


def test_links_lead_nowhere(repo: GitRepo, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "inner.py").write_text("private = 1\n")
    repo.commit({"folder/inner.py": "public = 1\n"})
    (repo.path / "folder" / "inner.py").unlink()
    (repo.path / "folder").rmdir()
    (repo.path / "folder").symlink_to(outside)
    (repo.path / "kept.py").unlink()
    (repo.path / "kept.py").symlink_to(outside / "inner.py")
    tree = opened(repo)
    found = entries(tree)
    assert "folder/inner.py" not in found
    assert found["folder"].mode == found["kept.py"].mode == "120000"
    assert b"private = 1\n" not in contents(tree).values()


def test_odd_things_on_disk_do_no_harm(repo: GitRepo) -> None:
    os.mkfifo(repo.path / "pipe.py")
    nested = GitRepo(repo.path / "nested")
    nested.commit({"x.py": "x = 1\n"})
    os.mkdir(os.fsencode(repo.path) + b"/caf\xe9")  # noqa: PTH102 - no text names it
    with open(os.fsencode(repo.path) + b"/caf\xe9/a.py", "w") as file:  # noqa: PTH123
        file.write("x = 1\n")
    found = entries(opened(repo))
    assert found["nested"].mode == "160000"
    assert "pipe.py" not in found
    assert [entry.valid_path for path, entry in found.items() if path.endswith("/a.py")] == [False]


def test_a_large_file_is_not_read(repo: GitRepo) -> None:
    (repo.path / "huge.bin").write_bytes(b"x" * 5_000)
    (repo.path / "kept.py").write_bytes(b"x" * 5_000)
    found = entries(opened(repo, max_file_bytes=1_000))
    assert found["huge.bin"].size == found["kept.py"].size == 5_000


def test_a_file_that_grows_too_large_and_shrinks_again_is_followed(tmp_path: Path, repo: GitRepo) -> None:
    cli = Cli(tmp_path)
    limit = {"CODECHUNK_GIT__MAX_FILE_SIZE": "1000"}
    small = (repo.path / "kept.py").read_text()

    def indexed() -> set[str]:
        done = cli.run("index", repo.path, "--working-tree", "--test-embeddings", "--json", env=limit)
        assert done.code == 0, done.err
        return {
            path for (path,) in cli.sql("SELECT path FROM files WHERE to_generation IS NULL AND status = 'indexed'")
        }

    assert "kept.py" in indexed()
    (repo.path / "kept.py").write_text(small + "#" * 1_000)
    assert "kept.py" not in indexed()
    (repo.path / "kept.py").write_text(small)
    assert "kept.py" in indexed()


def test_a_sparse_checkout_is_no_deletion(repo: GitRepo) -> None:
    repo.git("update-index", "--skip-worktree", "gone.py")
    (repo.path / "gone.py").unlink()
    assert contents(opened(repo))["gone.py"] == b"def gone(): pass\n"


def test_a_conflict_is_read_once_from_disk(repo: GitRepo) -> None:
    ours, theirs = repo.add_blob(b"ours\n"), repo.add_blob(b"theirs\n")
    lines = f"0 {'0' * 40}\tedited.py\n100644 {ours} 2\tedited.py\n100644 {theirs} 3\tedited.py\n"
    repo.git("update-index", "--index-info", stdin=lines.encode())
    (repo.path / "edited.py").write_text("<<<<<<< both\n")
    tree = opened(repo)
    assert [entry.path for entry in tree.repository.list_tree("")].count("edited.py") == 1
    assert contents(tree)["edited.py"] == b"<<<<<<< both\n"


def test_a_repository_of_sha256_and_one_without_commits(tmp_path: Path) -> None:
    modern = GitRepo(tmp_path / "modern", object_format="sha256")
    modern.commit({"a.py": "a = 1\n"})
    assert opened(modern).commit == modern.sha
    empty = GitRepo(tmp_path / "empty")
    (empty.path / "a.py").write_text("a = 1\n")
    tree = opened(empty)
    assert tree.commit.startswith("0" * 40 + "+")
    assert contents(tree) == {"a.py": b"a = 1\n"}


def test_what_has_no_work_tree_is_refused(tmp_path: Path, repo: GitRepo) -> None:
    bare = GitRepo(tmp_path / "bare.git", bare=True)
    with pytest.raises(UsageError, match="bare repository"):
        open_working_tree(parse_source(str(bare.path)), max_file_bytes=1)
    with pytest.raises(UsageError, match="is a URL"):
        open_working_tree(parse_source(f"file://{repo.path}"), max_file_bytes=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_a_sentence(repo: GitRepo) -> None:
    (repo.path / "edited.py").write_text("x")
    (repo.path / "edited.py").chmod(0)
    with pytest.raises(GitError, match=r"edited\.py .* cannot be read"):
        opened(repo)


def test_the_working_tree_is_an_index_of_its_own_beside_the_branch(tmp_path: Path, repo: GitRepo) -> None:
    cli = Cli(tmp_path)
    committed = cli.index(repo.path)
    (repo.path / "edited.py").write_text("def quite_another_purpose(): pass\n")
    first = cli.index(repo.path, "--working-tree")
    assert (first["ref"], first["embedding"]["texts_sent"]) == (WORKING_TREE_REF, 1), "the rest is known"
    assert cli.index(repo.path, "--working-tree")["mode_reason"] == "nothing changed"
    assert cli.index(repo.path)["commit"] == committed["commit"]
    found = cli.search("quite another purpose", "--repo", f"demo@{WORKING_TREE_REF}")[0]
    assert (found["path"], found["ref"], found["commit"]) == ("edited.py", WORKING_TREE_REF, first["commit"])
    assert all(answer["symbol"] != "quite_another_purpose" for answer in cli.search("purpose", "--repo", "demo@main"))
    done = cli.run("index", repo.path, "--working-tree", "--ref", "main", "--test-embeddings")
    assert done.code == 2
    assert "exclude each other" in done.err
