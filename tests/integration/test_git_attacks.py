import contextlib
import fcntl
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from git_helpers import GitHttpServer, git_children, git_daemon, make_repo
from waiting import wait_until

from codechunk.errors import CodechunkError, GitError, Stopped, UsageError
from codechunk.git.process import GitRunner
from codechunk.git.repository import Source, mirror_path, open_repository, parse_source
from codechunk.process.stop import Stop

TOKEN = "ghp_canary0123456789abcdef"


@pytest.fixture
def repo(tmp_path):
    return make_repo(tmp_path / "origin", {"a.py": "x = 1\n"})


@pytest.fixture
def mirrors(tmp_path):
    return tmp_path / "mirrors"


def open_it(source, mirrors, ref=None, **options):
    options.setdefault("min_free_bytes", 0)
    source = source if isinstance(source, Source) else parse_source(str(source))
    return open_repository(source, ref=ref, mirrors=mirrors, **options)


def url(repo):
    return f"file://{repo.path}"


def raw_source(scheme, address):
    """A source that never went through parse_source: what git does when our first line of defence fails."""
    return Source(kind="remote", url=address, name="x", scheme=scheme)


def leftovers(mirrors):
    return [path.name for path in mirrors.glob("*") if path.suffix != ".lock"]


@pytest.fixture
def silent_server():
    """A loopback port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --- words that would make git run a command ------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "ext::sh -c 'touch {canary}'",
        "::ext::sh",
        "fd::17/foo",
        "--upload-pack=touch {canary}",
        "-oProxyCommand=touch {canary}",
        "ssh://-oProxyCommand=touch%20{canary}/x",
        "ssh://-oProxyCommand=x/x",
        "git@-oProxyCommand=x:path",
        "-x@host:path",
        "ssh://-x@host/path",
        "ftp://host/x",
        "javascript://host/x",
        "https://",
        "https:///x",
        "https://host",
        "https://host/x?y=z",
        "https://ho st/x",
        "https://host:port/x",
        "https://host\n/x",
        "file://host/x",
        "file://",
        "",
        "   ",
    ],
)
def test_a_source_that_is_no_plain_repository_is_refused(text, tmp_path):
    canary = tmp_path / "canary"
    with pytest.raises(UsageError):
        parse_source(text.format(canary=canary))
    assert not canary.exists()


@pytest.mark.parametrize(
    "text",
    [
        "https://user:secret-pw@host/x",
        "https://secret-pw@host/x",
        "http://a:secret-pw@host/x",
        "git://secret-pw@host/x",
        "ssh://git:secret-pw@host/x",
        "file://u:secret-pw@localhost/x",
        "user:secret-pw@host:path",
    ],
)
def test_credentials_in_a_source_are_refused_without_repeating_them(text):
    with pytest.raises(UsageError, match="CODECHUNK_GIT_TOKEN") as refused:
        parse_source(text)
    assert "secret-pw" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["https", "ssh", "file"])
def test_ext_is_refused_by_git_even_when_configuration_and_environment_allow_it(scheme, tmp_path, mirrors, monkeypatch):
    canary = tmp_path / "canary"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text('[protocol "ext"]\nallow = always\n[protocol]\nallow = always\n')
    hostile = {
        "HOME": str(home),
        "GIT_ALLOW_PROTOCOL": "ext:https:file",
        "GIT_PROTOCOL_FROM_USER": "1",
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "protocol.ext.allow",
        "GIT_CONFIG_VALUE_0": "always",
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(GitError, match="'ext', which is not allowed"):
        open_it(raw_source(scheme, f"ext::sh -c touch% {canary}"), mirrors)
    assert not canary.exists()
    assert leftovers(mirrors) == []


def test_an_option_in_place_of_a_url_or_ref_never_reaches_git_as_an_option(repo, tmp_path, mirrors):
    canary = tmp_path / "canary"
    with pytest.raises(GitError):
        open_it(raw_source("file", f"--upload-pack=touch {canary}"), mirrors)
    with pytest.raises(UsageError):
        open_it(url(repo), mirrors, ref=f"--upload-pack=touch {canary}")
    assert not canary.exists()


@pytest.mark.parametrize("scheme", ["https", "ssh", "git", "http"])
def test_file_is_refused_when_the_user_did_not_ask_for_it(scheme, repo, mirrors):
    for address in (url(repo), str(repo.path)):
        with pytest.raises(GitError, match="'file', which is not allowed"):
            open_it(raw_source(scheme, address), mirrors)


def test_a_redirect_to_another_protocol_is_refused(repo, tmp_path, mirrors):
    server = GitHttpServer(tmp_path, redirects={"/f": url(repo), "/e": "ext::sh -c true", "/p": "//evil.invalid/x"})
    with server.serve() as base:
        for path in "fep":
            with pytest.raises(GitError, match=r"redirects to|has moved to"):
                open_it(f"{base}/{path}/x.git", mirrors)
    assert leftovers(mirrors) == []


def test_submodules_are_entries_and_are_never_fetched(repo, tmp_path, mirrors):
    canary = tmp_path / "canary"
    repo.add_entry("sub", "160000", "1" * 40)
    module = f'[submodule "sub"]\n\tpath = sub\n\turl = ext::sh -c "touch {canary}"\n'
    repo.add_entry(".gitmodules", "100644", repo.add_blob(module.encode()))
    repo.commit_index()
    for source in (repo.path, url(repo)):
        it = open_it(source, mirrors)
        entries = {entry.path: entry for entry in it.repository.list_tree(it.commit)}
        assert (entries["sub"].mode, entries["sub"].size) == ("160000", None)
    assert not canary.exists()


def test_the_configuration_of_a_foreign_repository_runs_nothing(repo, tmp_path, mirrors):
    canary = tmp_path / "canary"
    script = tmp_path / "run.sh"
    script.write_text(f"#!/bin/sh\ntouch {canary}\n")
    script.chmod(0o755)
    keys = """core.fsmonitor core.pager pager.ls-tree core.sshCommand core.askPass core.editor
    filter.x.smudge diff.x.textconv credential.helper uploadpack.packObjectsHook"""
    for key in keys.split():
        repo.git("config", key, str(script))
    repo.git("config", "core.hooksPath", str(tmp_path))
    repo.git("config", "alias.ls-tree", f"!{script}")
    repo.git("config", "remote.origin.url", f"ext::{script}")
    repo.git("config", "remote.origin.promisor", "true")
    repo.git("config", "protocol.ext.allow", "always")
    repo.git("config", "extensions.partialClone", "origin")
    repo.add_entry(".gitattributes", "100644", repo.add_blob(b"*.py filter=x diff=x\n"))
    repo.commit_index()
    canary.unlink(missing_ok=True)  # the git of this test, unlike ours, may have run it
    for source in (repo.path, url(repo)):
        it = open_it(source, mirrors)
        entries = list(it.repository.list_tree(it.commit))
        assert len(list(it.repository.blobs(entry.blob for entry in entries))) == 2
        with pytest.raises(GitError):
            list(it.repository.blobs(["1" * 40]))
    assert not canary.exists()


# --- trees that would escape or exhaust -----------------------------------------------------------------


def test_a_symlink_to_a_secret_is_an_entry_and_never_followed(repo, mirrors):
    (repo.path / "leak.py").symlink_to("/etc/passwd")
    repo.commit({})
    for source in (repo.path, url(repo)):
        it = open_it(source, mirrors)
        entry = next(e for e in it.repository.list_tree(it.commit) if e.path == "leak.py")
        assert (entry.mode, entry.size) == ("120000", len("/etc/passwd"))
        assert list(it.repository.blobs([entry.blob])) == [(entry.blob, b"/etc/passwd")]
        assert it.repository.read_path(it.commit, "leak.py", max_bytes=100) is None


@pytest.mark.parametrize("name", [b"..", b".git", b"."])
def test_a_tree_with_a_path_out_of_the_repository_is_refused_when_fetched(name, repo, mirrors):
    tree = repo.git("rev-parse", "HEAD^{tree}")
    repo.commit_raw_tree([("40000", name, tree)])
    with pytest.raises(GitError, match="damaged or dangerous objects and was refused"):
        open_it(url(repo), mirrors)
    assert leftovers(mirrors) == []


def test_an_untidy_but_harmless_tree_is_fetched(repo, mirrors):
    tree = repo.git("rev-parse", "HEAD^{tree}")
    sha = repo.commit_raw_tree([("040000", b"old", tree)])
    assert open_it(url(repo), mirrors).commit == sha


def test_an_enormous_blob_is_known_by_its_size_without_being_read(repo, mirrors):
    size = 1 << 26
    stream = subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE)
    blob = subprocess.run(
        ["git", "-c", "core.compression=1", "-c", "core.bigFileThreshold=1m", "hash-object", "-w", "--stdin"],
        cwd=repo.path, stdin=stream.stdout, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    stream.stdout.close()
    assert stream.wait() == 0
    repo.add_entry("zeros.bin", "100644", blob)
    repo.commit_index()
    # A damaged file of which only the head is whole: whoever reads more than its size finds that out.
    stored = repo.path / ".git" / "objects" / blob[:2] / blob[2:]
    stored.chmod(0o644)
    with stored.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff" * 1000)
    with pytest.raises(AssertionError, match="failed"):
        repo.git_bytes("cat-file", "-p", blob)
    it = open_it(repo.path, mirrors)
    entries = {entry.path: entry for entry in it.repository.list_tree(it.commit)}
    assert entries["zeros.bin"].size == size
    with pytest.raises(GitError, match="larger than"):
        it.repository.read_path(it.commit, "zeros.bin", max_bytes=1000)


def test_a_tree_bomb_is_cut_at_the_limit(repo, mirrors):
    entry = ("100644", repo.add_blob(b"x"))
    for _ in range(10):
        tree = repo.git_bytes("hash-object", "-t", "tree", "-w", "--stdin", stdin=b"".join(
            f"{entry[0]} {n}\0".encode() + bytes.fromhex(entry[1]) for n in range(10)
        )).decode().strip()  # fmt: skip
        entry = ("40000", tree)
    repo.commit_raw_tree([("40000", b"bomb", entry[1])])
    for source in (repo.path, url(repo)):
        it = open_it(source, mirrors)
        listed = 0
        with pytest.raises(GitError, match="more than 20,000 files"):
            for _ in it.repository.list_tree(it.commit, limit=20_000):
                listed += 1
        assert listed <= 20_000, "of ten thousand million"
    assert git_children() == []


def test_a_tree_nested_deeper_than_any_file_system_is_refused(repo, mirrors):
    tree = repo.git("rev-parse", "HEAD^{tree}")
    for _ in range(60):
        tree = repo.git_bytes("hash-object", "-t", "tree", "-w", "--stdin", stdin=(
            b"40000 " + b"d" * 100 + b"\0" + bytes.fromhex(tree)
        )).decode().strip()  # fmt: skip
    repo.commit_raw_tree([("40000", b"deep", tree)])
    it = open_it(repo.path, mirrors)
    with pytest.raises(GitError, match="path of more than 4096 bytes"):
        list(it.repository.list_tree(it.commit))


def test_words_of_the_remote_cannot_steer_the_terminal(repo, tmp_path, mirrors):
    done = GitRunner(cwd=tmp_path, where="x").error(128, "fatal: \x1b[2Jremote\x07 said\nhttps://u:p@h/x\n")
    assert "\x1b" not in str(done)
    assert "u:p@" not in str(done)


# --- the token ------------------------------------------------------------------------------------------


def test_the_token_is_in_no_argument_of_a_running_git(silent_server, mirrors):
    failures = []

    def run():
        try:
            open_it(f"https://127.0.0.1:{silent_server}/o/r", mirrors, token=TOKEN, timeout_s=2)
        except CodechunkError as error:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    pid, _ = wait_until(lambda: [child for child in git_children() if b"ls-remote" in child[1]])[0]
    wait_until(lambda: b"remote-https" in b"".join(p.read_bytes() for p in cmdlines()))
    everything = b"".join(path.read_bytes() for path in cmdlines())
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    thread.join()
    encoded = b"eC1hY2Nlc3MtdG9rZW46"  # base64 of "x-access-token:"
    assert encoded in environment  # it was there, and yet:
    assert TOKEN.encode() not in everything
    assert encoded not in everything
    assert len(failures) == 1
    assert TOKEN not in failures[0]


def cmdlines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        yield path


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """A server context whose certificate git is told to trust."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate of this test")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert,
         "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("GIT_SSL_CAINFO", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def test_the_token_opens_a_private_repository_and_is_stored_nowhere(repo, tmp_path, mirrors, tls, caplog):
    caplog.set_level("DEBUG")
    server = GitHttpServer(tmp_path, token=TOKEN, redirects={"/moved": "https://localhost:1/x", "/old": "/origin"})
    with server.serve(tls) as base:
        assert open_it(f"{base}/origin/.git", mirrors, token=TOKEN).commit == repo.sha
        assert open_it(f"{base}/old/.git", mirrors, token=TOKEN).commit == repo.sha
        assert all(header.startswith("Basic ") for _, header in server.requests)
        with pytest.raises(GitError, match=r"has moved to https://localhost:1/x"):
            open_it(f"{base}/moved/.git", mirrors, token=TOKEN)
        for token in (None, "wrong"):
            with pytest.raises(GitError, match="or you may not read it") as refused:
                open_it(f"{base}/origin/.git", tmp_path / "m2", token=token)
            assert TOKEN not in str(refused.value)
    for path in mirrors.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()
        assert not path.is_file() or b"eC1hY2Nlc3MtdG9rZW46" not in path.read_bytes()
    assert TOKEN not in caplog.text
    assert "eC1hY2Nlc3MtdG9rZW46" not in caplog.text


def test_an_untrusted_certificate_is_one_sentence(repo, tmp_path, mirrors, tls, monkeypatch):
    monkeypatch.delenv("GIT_SSL_CAINFO")
    with GitHttpServer(tmp_path).serve(tls) as base, pytest.raises(GitError, match="TLS certificate"):
        open_it(f"{base}/origin/.git", mirrors)


def test_the_token_is_not_sent_over_plain_http(repo, tmp_path, mirrors):
    server = GitHttpServer(tmp_path)
    with server.serve() as base:
        open_it(f"{base}/origin/.git", mirrors, token=TOKEN)
    assert {header for _, header in server.requests} == {""}


def test_keys_and_git_variables_of_the_user_do_not_reach_git(repo, mirrors, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", "canary-key")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_WORK_TREE", "/nonexistent")
    it = open_it(repo.path, mirrors)
    stream = it.repository.blobs(e.blob for e in it.repository.list_tree(it.commit))
    next(stream)
    for pid, _ in git_children():
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"canary-key" not in environment
        assert b"GIT_DIR=" not in environment
    stream.close()


# --- things that break on the way -----------------------------------------------------------------------


def test_a_server_that_never_answers_ends_in_a_timeout_and_no_process_is_left(silent_server, mirrors):
    with pytest.raises(GitError, match=r"did not answer within 0\.5 s"):
        open_it(f"git://127.0.0.1:{silent_server}/x", mirrors, timeout_s=0.5)
    assert git_children() == []
    assert leftovers(mirrors) == []


def test_a_server_that_refuses_or_does_not_exist_is_one_sentence(mirrors):
    with pytest.raises(GitError, match="cannot be reached"):
        open_it("git://127.0.0.1:1/x", mirrors)
    with pytest.raises(GitError, match="was not found; check the URL and the network"):
        open_it("https://host.invalid/a/b", mirrors)


@contextlib.contextmanager
def stalling(upstream_port, limit):
    """A loopback proxy that hands on `limit` bytes of every answer and then says nothing more; its port."""
    sockets = []
    stop = threading.Event()

    def pump(source, target, allowed):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data[:allowed])
                allowed -= len(data[:allowed])
                if allowed == 0:
                    stop.wait()
            target.shutdown(socket.SHUT_WR)

    def serve(server):
        with contextlib.suppress(OSError):
            while True:
                client = server.accept()[0]
                upstream = socket.create_connection(("127.0.0.1", upstream_port))
                sockets.extend((client, upstream))
                threading.Thread(target=pump, args=(client, upstream, 1 << 40), daemon=True).start()
                threading.Thread(target=pump, args=(upstream, client, limit), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        stop.set()
        for each in sockets:
            each.close()


@pytest.fixture
def half_a_pack(tmp_path):
    """The URL of a repository whose transfer stops in the middle of the pack."""
    make_repo(tmp_path / "served" / "big", {"big.bin": os.urandom(2_000_000)})
    with git_daemon(tmp_path / "served") as base, stalling(int(base.rpartition(":")[2]), 600_000) as port:
        yield f"git://127.0.0.1:{port}/big"


def in_the_pack(mirrors):
    return list(mirrors.glob("*.tmp-*/objects/pack/tmp_pack_*"))


@pytest.mark.parametrize("victim", [b"fetch", b"index-pack"])
def test_a_git_killed_in_the_middle_of_a_fetch_is_one_sentence(victim, half_a_pack, mirrors):
    failures = []

    def run():
        try:
            open_it(half_a_pack, mirrors, timeout_s=30)
        except CodechunkError as error:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: in_the_pack(mirrors))
    [(pid, _)] = git_children()
    if victim == b"index-pack":
        [pid] = [int(p.parent.name) for p in cmdlines() if parent_of(p.parent) == pid and victim in p.read_bytes()]
    os.kill(pid, signal.SIGKILL)
    thread.join(20)
    [failure] = failures
    assert "was killed" in failure
    assert "\n" not in failure
    assert leftovers(mirrors) == []
    assert git_children() == []


def parent_of(process):
    return int((process / "stat").read_text().rpartition(")")[2].split()[1])


OPEN = """
import sys
from pathlib import Path
from codechunk.errors import CodechunkError
from codechunk.git.repository import open_repository, parse_source
try:
    source = parse_source(sys.argv[1])
    open_repository(source, ref=None, mirrors=Path(sys.argv[2]), min_free_bytes=0, timeout_s=30)
except CodechunkError as error:
    sys.exit(str(error))
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_in_the_middle_of_a_fetch_leaves_nothing(half_a_pack, mirrors):
    with subprocess.Popen([sys.executable, "-c", OPEN, half_a_pack, mirrors]) as program:
        wait_until(lambda: in_the_pack(mirrors))
        program.send_signal(signal.SIGINT)
        assert program.wait(10) == 130
    assert leftovers(mirrors) == []


def test_a_stop_in_the_middle_of_a_fetch_ends_git_from_any_thread_and_leaves_nothing(half_a_pack, mirrors):
    stop, ended = Stop(), []

    def run():
        try:
            open_it(half_a_pack, mirrors, timeout_s=600, stop=stop)
        except Stopped:
            ended.append("stopped")

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: in_the_pack(mirrors))
    stop.ask()
    thread.join(20)
    assert ended == ["stopped"]
    assert leftovers(mirrors) == []
    assert git_children() == []
    with pytest.raises(Stopped):
        open_it(half_a_pack, mirrors, stop=stop)


def test_a_stop_ends_the_wait_for_a_mirror_that_another_process_fetches(half_a_pack, mirrors):
    stop = Stop()
    mirrors.mkdir(exist_ok=True)
    path = mirror_path(parse_source(half_a_pack), mirrors).with_suffix(".lock")
    with path.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        threading.Timer(0.5, stop.ask).start()
        with pytest.raises(Stopped):
            open_it(half_a_pack, mirrors, timeout_s=600, stop=stop)


def test_kill_9_of_codechunk_in_the_middle_of_a_fetch_is_repaired_by_the_next_run(half_a_pack, repo, mirrors, tmp_path):
    with subprocess.Popen([sys.executable, "-c", OPEN, half_a_pack, mirrors]) as program:
        wait_until(lambda: in_the_pack(mirrors))
        program.kill()
    assert leftovers(mirrors) != []
    open_it(url(repo), mirrors)  # any open cleans up, also that of another repository
    assert [name for name in leftovers(mirrors) if ".tmp-" in name] == []


def test_too_little_space_is_said_before_anything_is_fetched(repo, mirrors):
    with pytest.raises(GitError, match=r"MiB are needed; free some space"):
        open_it(url(repo), mirrors, min_free_bytes=1 << 60)
    assert leftovers(mirrors) == []


def test_a_fetch_may_not_eat_the_space_that_must_stay_free(tmp_path, mirrors):
    big = make_repo(tmp_path / "big", {"big.bin": os.urandom(8_000_000)})
    mirrors.mkdir()
    keep = shutil.disk_usage(mirrors).free - 4_000_000
    with pytest.raises(GitError, match="free some space"):
        open_it(url(big), mirrors, min_free_bytes=keep)
    assert leftovers(mirrors) == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    big = make_repo(tmp_path / "big", {"big.bin": os.urandom(4_000_000)})
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = 'mount -t tmpfs -o size=2m tmpfs "$1" || exit 77; '
    script = mount + '"$2" -c "$3" "$4" "$1/m"; s=$?; ls "$1/m"; exit $s'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", disk, sys.executable, OPEN, url(big)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("making a small file system needs root")
    assert done.returncode == 1
    assert done.stderr.startswith("The disk is full: git could not store file://")
    assert [name for name in done.stdout.split() if not name.endswith(".lock")] == []


def test_a_mirror_folder_that_cannot_be_written_is_one_sentence(repo, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GitError, match="cannot be written: Not a directory"):
        open_it(url(repo), tmp_path / "file" / "mirrors")


def test_an_update_that_fails_keeps_the_mirror_as_it_was(repo, tmp_path, mirrors):
    it = open_it(url(repo), mirrors)
    tree = repo.git("rev-parse", "HEAD^{tree}")
    repo.commit_raw_tree([("40000", b"..", tree)])
    with pytest.raises(GitError, match="refused"):
        open_it(url(repo), mirrors)
    assert [entry.path for entry in it.repository.list_tree(it.commit)] == ["a.py"]
    assert not list(it.repository.git_dir.glob("objects/pack/tmp_*"))
