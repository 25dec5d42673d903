import os
import subprocess
import sys
import threading

import pytest
from counting import calls_made
from git_helpers import GitHttpServer, GitRepo, git_children, git_daemon, make_repo

from codechunk.errors import GitError, UsageError
from codechunk.git.repository import Repository, check_git, mirror_path, open_repository, parse_source

FILES = {"a.py": "x = 1\n", "src/b.py": "y = 2\n", "src/c.txt": "text\n"}


@pytest.fixture
def repo(tmp_path):
    return make_repo(tmp_path / "origin", FILES)


@pytest.fixture
def opened(tmp_path):
    def open_it(source, ref=None, **options):
        options.setdefault("mirrors", tmp_path / "mirrors")
        options.setdefault("min_free_bytes", 0)
        return open_repository(parse_source(str(source)), ref=ref, **options)

    return open_it


def content(it):
    entries = list(it.repository.list_tree(it.commit))
    return dict(zip([e.path for e in entries], [b for _, b in it.repository.blobs(e.blob for e in entries)],
                    strict=True))  # fmt: skip


def url(repo):
    return f"file://{repo.path}"


def ways(repo, tmp_path):
    """The same repository by path and by file://."""
    return (str(repo.path), url(repo))


# --- what a person types --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "normal", "name"),
    [
        ("https://GitHub.com/Owner/Name.git", "https://github.com/Owner/Name.git", "Owner/Name"),
        ("https://example.org:443/a/b/", "https://example.org/a/b", "a/b"),
        ("https://example.org:8443/g/s/p.git", "https://example.org:8443/g/s/p.git", "g/s/p"),
        ("git@github.com:a/b.git", "ssh://git@github.com/a/b.git", "a/b"),
        ("host.example:a/b", "ssh://host.example/a/b", "a/b"),
        ("ssh://git@h.example:2222//a/b", "ssh://git@h.example:2222/a/b", "a/b"),
        ("git://127.0.0.1:9418/x.git", "git://127.0.0.1/x.git", "x"),
        ("http://localhost/x", "http://localhost/x", "x"),
        ("file:///srv/repos/x.git", "file:///srv/repos/x.git", "x"),
    ],
)
def test_a_remote_source_has_one_normal_form_and_a_name(text, normal, name):
    source = parse_source(text)
    assert (source.kind, source.url, source.name) == ("remote", normal, name)


def test_a_local_source_is_the_root_of_the_repository_that_holds_the_path(repo, tmp_path):
    for path in (repo.path, repo.path / "src", repo.path / ".git"):
        source = parse_source(str(path))
        assert (source.kind, source.url, source.name) == ("local", str(repo.path), "origin")


def test_a_path_without_a_repository_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(GitError, match="neither a URL nor an existing folder"):
        parse_source(str(tmp_path / "nowhere"))
    with pytest.raises(GitError, match=r"Did you mean https://github\.com/a/b"):
        parse_source("github.com/a/b")
    with pytest.raises(GitError, match="not inside a git repository"):
        parse_source("/proc")


# --- reading --------------------------------------------------------------------------------------------


def test_path_and_file_url_give_the_same_commit_ref_and_content(repo, opened, tmp_path):
    for source in ways(repo, tmp_path):
        it = opened(source)
        assert (it.ref, it.commit) == ("main", repo.sha)
        assert content(it) == {name: text.encode() for name, text in FILES.items()}


def test_a_local_repository_is_read_in_place_and_nothing_is_copied(repo, opened, tmp_path):
    opened(repo.path)
    assert not (tmp_path / "mirrors").exists()


def test_git_daemon_is_cloned_when_the_url_says_git(repo, opened, tmp_path):
    with git_daemon(tmp_path) as base:
        it = opened(f"{base}/origin")
        assert (it.ref, it.commit, content(it)["a.py"]) == ("main", repo.sha, b"x = 1\n")
        with pytest.raises(GitError, match="There is no repository at git://"):
            opened(f"{base}/nowhere")


def test_http_is_cloned_when_the_url_says_http(repo, opened, tmp_path):
    with GitHttpServer(tmp_path).serve() as base:
        assert parse_source(f"{base}/origin/.git").name == "origin"
        assert opened(f"{base}/origin/.git").commit == repo.sha
        with pytest.raises(GitError, match="There is no repository at http://"):
            opened(f"{base}/nowhere.git")


def test_ssh_runs_without_prompts_with_the_users_home_and_without_the_users_git_configuration(
    repo, opened, tmp_path, monkeypatch
):
    # The program on the other end of the wire is real; only the wire is a script.
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()
    script.write_text('#!/bin/sh\necho "$HOME $GIT_CONFIG_GLOBAL $*" >> "$HOME/ssh.log"\neval "eval \\"\\${$#}\\""\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text('[core]\nsshCommand = false\n[url "ext::false"]\ninsteadOf = ssh://\n')
    assert opened(f"ssh://git@host.invalid{repo.path}").commit == repo.sha
    words = (tmp_path / "ssh.log").read_text()
    assert words.startswith(f"{tmp_path} /dev/null -oBatchMode=yes -oStrictHostKeyChecking=yes")
    script.write_text("#!/bin/sh\necho 'git@host.invalid: Permission denied (publickey).' >&2\nexit 255\n")
    with pytest.raises(GitError, match="refused the ssh login"):
        opened("git@host.invalid:owner/name")
    script.write_text("#!/bin/sh\necho 'Host key verification failed.' >&2\nexit 255\n")
    with pytest.raises(GitError, match="ssh host key"):
        opened("git@host.invalid:owner/name")


def test_a_repository_that_moved_on_its_server_is_followed_once(repo, opened, tmp_path):
    server = GitHttpServer(tmp_path, redirects={"/old": "/origin", "/far": "http://localhost:1/origin"})
    with server.serve() as base:
        assert opened(f"{base}/old/.git").commit == repo.sha
        with pytest.raises(GitError, match=r"has moved to http://localhost:1/origin/\.git; give that URL"):
            opened(f"{base}/far/.git")
        server.redirects["/origin"] = "/old"
        with pytest.raises(GitError):
            opened(f"{base}/old/.git")


def test_only_the_newest_commit_is_fetched(repo, opened):
    first = repo.sha
    second = repo.commit({"a.py": "x = 2\n"})
    it = opened(url(repo))
    assert it.commit == second
    with pytest.raises(GitError):
        list(it.repository.list_tree(first))


def test_a_mirror_follows_the_remote_even_after_a_force_push(repo, opened, tmp_path):
    opened(url(repo))
    second = repo.commit({"a.py": "x = 2\n"}, delete=["src/c.txt"])
    assert content(opened(url(repo))) == {"a.py": b"x = 2\n", "src/b.py": b"y = 2\n"}
    repo.git("reset", "-q", "--hard", "HEAD~1")
    third = repo.commit({"d.py": "z\n"})
    it = opened(url(repo))
    assert (it.commit, "d.py" in content(it)) == (third, True)
    assert third != second
    assert len(list((tmp_path / "mirrors").glob("*.git"))) == 1


def test_nothing_is_fetched_when_the_ref_has_not_moved(repo, opened, tmp_path):
    seen = []
    opened(url(repo), on_progress=seen.append)
    assert {p.stage for p in seen} >= {"counting", "receiving"}
    assert seen[-1].current == seen[-1].total
    seen.clear()
    packs = sorted((tmp_path / "mirrors").glob("*.git/objects/pack/*"))
    opened(url(repo), on_progress=seen.append)
    assert seen == []
    assert sorted((tmp_path / "mirrors").glob("*.git/objects/pack/*")) == packs


def test_every_kind_of_ref_is_resolved(repo, opened, tmp_path):
    first = repo.sha
    repo.git("tag", "light")
    repo.git("tag", "-a", "v1.0", "-m", "annotated")
    repo.git("checkout", "-q", "-b", "feature/x")
    second = repo.commit({"f.py": "f\n"})
    repo.git("checkout", "-q", "main")
    third = repo.commit({"g.py": "g\n"})
    repo.git("config", "uploadpack.allowAnySHA1InWant", "true")
    expected = {None: ("main", third), "HEAD": ("main", third), "light": ("light", first),
                "v1.0": ("v1.0", first),
                "feature/x": ("feature/x", second), "refs/heads/feature/x": ("feature/x", second),
                second: (second, second)}  # fmt: skip
    for source in ways(repo, tmp_path):
        for ref, (label, commit) in expected.items():
            it = opened(source, ref)
            assert (it.ref, it.commit) == (label, commit)
            assert "a.py" in content(it)
    assert opened(repo.path, first[:8]).ref == first


def test_a_branch_may_become_a_folder_of_branches(repo, opened):
    repo.git("branch", "a")
    assert opened(url(repo), "a").commit == repo.sha
    repo.git("branch", "-D", "a")
    repo.git("branch", "a/b")
    assert opened(url(repo), "a/b").ref == "a/b"


def test_a_detached_head_is_labelled_with_its_commit(repo, opened, tmp_path):
    repo.git("checkout", "-q", "--detach")
    for source in ways(repo, tmp_path):
        assert opened(source).ref == repo.sha


def test_a_missing_ref_is_one_sentence_and_leaves_no_mirror(repo, opened, tmp_path):
    for source in ways(repo, tmp_path):
        with pytest.raises(GitError, match=r"has no branch,? .*'nope'"):
            opened(source, "nope")
    with pytest.raises(GitError, match=r"check --ref|does not hand out"):
        opened(url(repo), "1" * 40)
    assert list((tmp_path / "mirrors").glob("*.git*")) == []


def test_a_tag_on_something_that_is_no_commit_is_one_sentence(repo, opened, tmp_path):
    repo.git("tag", "data", repo.add_blob(b"data"))
    for source in ways(repo, tmp_path):
        with pytest.raises(GitError, match=r"check --ref"):
            opened(source, "data")


def test_an_empty_repository_is_one_sentence(opened, tmp_path):
    empty = GitRepo(tmp_path / "empty")
    with pytest.raises(GitError, match="has no commits yet"):
        opened(empty.path)
    with pytest.raises(GitError, match="is empty"):
        opened(url(empty))


def test_bare_linked_and_sha256_repositories_are_read(repo, opened, tmp_path):
    repo.git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    assert content(opened(tmp_path / "bare.git"))["a.py"] == b"x = 1\n"
    assert parse_source(str(tmp_path / "bare.git")).name == "bare"
    repo.git("worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    assert opened(tmp_path / "linked").ref == "side"
    modern = GitRepo(tmp_path / "modern", object_format="sha256")
    modern.commit(FILES)
    for source in ways(modern, tmp_path):
        it = opened(source)
        assert len(it.commit) == 64
        assert content(it)["a.py"] == b"x = 1\n"


def test_a_tree_lists_modes_sizes_and_odd_names_exactly(repo, opened, tmp_path):
    blob = repo.add_blob(b"content")
    names = [b"new\nline.py", b"tab\t.py", b"bad\xff.py", b"-option.py", "ünï.py".encode(), b'quo"te.py']
    for name in names:
        repo.add_entry(name, "100644", blob)
    repo.add_entry("run.sh", "100755", blob)
    repo.add_entry("link", "120000", blob)
    repo.add_entry("sub", "160000", repo.sha)
    repo.commit_index()
    for source in ways(repo, tmp_path):
        it = opened(source)
        entries = {entry.path: entry for entry in it.repository.list_tree(it.commit)}
        assert not entries[r"/bad\xff.py"].valid_path
        assert all(entry.valid_path for path, entry in entries.items() if path != r"/bad\xff.py")
        assert {"new\nline.py", "tab\t.py", "-option.py", "ünï.py", 'quo"te.py'} <= entries.keys()
        assert [(entries[p].mode, entries[p].size) for p in ("run.sh", "link", "sub")] == [
            ("100755", 7), ("120000", 7), ("160000", None),
        ]  # fmt: skip


def test_blobs_come_in_order_and_are_asked_for_lazily(repo, opened):
    repo.commit({f"f/{n}.bin": bytes([n % 256]) * (n * 37) + b"\n" for n in range(600)} | {"empty": b""})
    it = opened(repo.path)
    entries = list(it.repository.list_tree(it.commit))
    asked = 0

    def ids():
        nonlocal asked
        for entry in entries:
            asked += 1
            yield entry.blob

    ahead = []
    for number, ((blob, data), entry) in enumerate(zip(it.repository.blobs(ids()), entries, strict=True)):
        assert (blob, len(data)) == (entry.blob, entry.size)
        ahead.append(asked - number)
    assert max(ahead) <= 120
    assert list(it.repository.blobs([])) == []


def test_leaving_a_stream_early_ends_git(repo, opened):
    repo.commit({"big": os.urandom(3_000_000)})
    it = opened(repo.path)
    entry = next(it.repository.list_tree(it.commit))
    stream = it.repository.blobs([entry.blob] * 1000)
    next(stream)
    assert len(git_children()) == 1
    stream.close()
    assert git_children() == []


def test_a_blob_that_is_not_there_is_one_sentence(repo, opened):
    it = opened(repo.path)
    with pytest.raises(GitError, match="is missing"):
        list(it.repository.blobs(["1" * 40]))
    with pytest.raises(GitError, match="is not a file"):
        list(it.repository.blobs([it.commit]))


def test_one_path_is_read_only_when_it_is_a_small_regular_file(repo, opened):
    repo.add_entry("link", "120000", repo.add_blob(b"a.py"))
    repo.add_entry(":(top)*.py", "100644", repo.add_blob(b"odd"))
    repo.commit_index()
    it = opened(repo.path)

    def read(path, max_bytes=100):
        return it.repository.read_path(it.commit, path, max_bytes=max_bytes)

    assert read("src/b.py") == b"y = 2\n"
    assert read(":(top)*.py") == b"odd"
    assert [read(path) for path in ("src", "src/", "link", "nowhere", "*.py", "", "a\0b")] == [None] * 7
    with pytest.raises(GitError, match="larger than 3 bytes"):
        read("src/b.py", 3)


def test_a_partial_clone_is_read_without_fetching_what_it_lacks(repo, opened, tmp_path):
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.git("clone", "-q", "--bare", "--filter=blob:none", url(repo), str(tmp_path / "partial.git"))
    it = opened(tmp_path / "partial.git")
    with pytest.raises(GitError, match="is a partial clone"):
        list(it.repository.list_tree(it.commit))
    blob = repo.git("rev-parse", "HEAD:a.py")
    with pytest.raises(GitError, match="partial clone"):
        list(it.repository.blobs([blob]))


# --- locks and leftovers --------------------------------------------------------------------------------


def test_a_second_process_waits_for_the_mirror_a_little_and_then_says_so(repo, opened, tmp_path):
    mirrors = tmp_path / "mirrors"
    mirrors.mkdir()
    lock = mirror_path(parse_source(url(repo)), mirrors).with_suffix(".lock")
    code = "import fcntl, sys, time; file = open(sys.argv[1], 'a'); fcntl.flock(file, 2)"
    code += "; print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(GitError, match="is being fetched by another codechunk process"):
            opened(url(repo), lock_wait_s=0.2)
        threading.Timer(0.3, holder.kill).start()
        assert opened(url(repo), lock_wait_s=10).commit == repo.sha


def test_what_a_killed_process_left_behind_is_removed_at_the_next_open(repo, opened, tmp_path):
    it = opened(url(repo))
    mirror = it.repository.git_dir
    other = tmp_path / "mirrors" / "other-0123.git.tmp-abc"
    (other / "objects").mkdir(parents=True)
    (tmp_path / "mirrors" / f"{mirror.name}.tmp-xyz").mkdir()
    (mirror / "shallow.lock").touch()
    (mirror / "objects/pack/tmp_pack_1").touch()
    second = repo.commit({"a.py": "x = 2\n"})
    assert opened(url(repo)).commit == second
    left = sorted(path.name for path in (tmp_path / "mirrors").iterdir() if path.suffix != ".lock")
    assert left == [mirror.name]
    assert not (mirror / "objects/pack/tmp_pack_1").exists()


def test_a_damaged_mirror_is_made_anew(repo, opened):
    mirror = opened(url(repo)).repository.git_dir
    (mirror / "HEAD").unlink()
    assert content(opened(url(repo)))["a.py"] == b"x = 1\n"


def test_the_mirror_survives_while_its_remote_is_gone_and_its_commit_is_named(repo, opened, tmp_path):
    repo.git("config", "uploadpack.allowAnySHA1InWant", "true")
    opened(url(repo), repo.sha)
    address = url(repo)
    repo.path.rename(tmp_path / "elsewhere")
    assert opened(address, repo.sha).commit == repo.sha
    with pytest.raises(GitError, match="There is no repository at file://"):
        opened(address)


# --- git itself -----------------------------------------------------------------------------------------


def test_a_missing_git_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="git is not installed"):
        check_git()


def test_a_git_too_old_to_be_isolated_is_refused(monkeypatch, tmp_path):
    fake = tmp_path / "git"
    fake.write_text("#!/bin/sh\necho git version 2.31.9\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(GitError, match=r"git 2\.31\.9 is too old"):
        check_git()


def test_importing_the_module_does_not_import_gitpython():
    code = "import codechunk.git.repository, sys; sys.exit('git' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_ten_thousand_entries_are_listed_with_few_steps_each(tmp_path, opened):
    repo = GitRepo(tmp_path / "many")
    blob = repo.add_blob(b"x")
    index = "".join(f"100644 {blob}\tsrc/pkg{n % 100}/file{n}.py\n" for n in range(10_000))
    repo.git("update-index", "--index-info", stdin=index.encode())
    repo.commit_index()
    it = opened(repo.path)
    listed = []
    assert calls_made(lambda: listed.extend(it.repository.list_tree(it.commit))) < 20 * 10_000
    assert len(listed) == 10_000
    assert isinstance(it.repository, Repository)


def test_a_ref_that_is_no_name_is_a_usage_error(repo, opened):
    for ref in (
        "--upload-pack=x",
        "a b",
        "a..b",
        "a:b",
        "HEAD~1",
        "x^{tree}",
        "@{1}",
        "",
        "a\nb",
        "/a",
        "a.lock",
    ):
        with pytest.raises(UsageError, match="not a valid name"):
            opened(url(repo), ref)
