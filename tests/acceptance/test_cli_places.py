"""The command where users run it: behind servers, on full disks, in CI, on code nobody here wrote."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich
from chroma_helpers import chroma_server
from cli_helpers import Cli
from git_helpers import GitRepo, git_daemon

CANARY = "ghp_canary0123456789canary0123456789"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def small_repo(path: Path) -> GitRepo:
    repo = GitRepo(path)
    repo.commit(
        {
            "cache.py": "def evict_oldest(cache):\n    '''Drop the least recently used entry.'''\n"
            "    key = next(iter(cache))\n    return cache.pop(key)\n",
            "io.go": "package io\n\n// ReadAll reads until the end of the stream.\n"
            "func ReadAll(r Reader) ([]byte, error) {\n\treturn r.drain()\n}\n",
        }
    )
    return repo


def test_real_code_nobody_here_wrote_is_indexed_whole(cli: Cli) -> None:
    packages = Path(rich.__file__).parent.parent
    repo = GitRepo(cli.root / "packages")
    files: dict[str, str | bytes] = {}
    for name in ("rich", "pydantic", "git", "typer", "hypothesis"):
        for path in sorted((packages / name).rglob("*")):
            if path.is_file() and path.suffix in {".py", ".pyi", ".json", ".md", ".txt", ".typed", ".css"}:
                files[str(path.relative_to(packages))] = path.read_bytes()
    assert len(files) > 200
    repo.commit(files)
    # What stands for a secret is no slice of the file; that it is put there is shown in test_cli_secrets.py.
    done = cli.run("index", repo.path, "--test-embeddings", "--json", env={"CODECHUNK_SECRETS": "off"})
    assert done.code == 0, done.err
    document = done.json
    assert document["status"] == "succeeded"
    assert document["files"]["discovered"] == len(files)
    assert document["files"]["failed"] == 0
    # nothing lost: every line with ink of every indexed file is in a chunk, and every chunk is an exact slice
    indexed = [row[0] for row in cli.sql("SELECT path FROM files WHERE status = 'indexed'")]
    for path in indexed:
        data = files[path]
        assert isinstance(data, bytes)
        covered: set[int] = set()
        rows = cli.sql(
            "SELECT c.start_byte, c.end_byte, c.start_line, c.end_line, c.text, c.tokens FROM chunks c"
            " JOIN sources s ON s.id = c.source_id WHERE s.path = ? ORDER BY c.ordinal", path,
        )  # fmt: skip
        for start, end, first, last, text, tokens in rows:
            assert data[start:end].decode() == text
            assert tokens <= 512
            covered.update(range(first, last + 1))
        inked = {
            number for number, line in enumerate(data.split(b"\n"), start=1) if line.strip(b"\xef\xbb\xbf \t\r\f\v")
        }
        assert inked <= covered, path
    found = cli.search("render a table with columns to the console", "--kind", "class", "--kind", "method")
    assert any("table" in hit["path"] for hit in found)


def test_a_repository_behind_a_git_daemon_is_cloned_and_found(cli: Cli, tmp_path: Path) -> None:
    small_repo(tmp_path / "served" / "demo")
    with git_daemon(tmp_path / "served") as url:
        document = cli.index(f"{url}/demo")
        assert document["repository"] == "demo"
        assert cli.search("read the whole stream")[0]["path"] == "io.go"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(tmp_path_factory.mktemp("chroma")) as url:
        yield url


def test_vectors_can_live_in_a_chroma_server(cli: Cli, tmp_path: Path, server: str) -> None:
    repo = small_repo(tmp_path / "demo")
    environment = {"CODECHUNK_VECTORS__URL": server}
    first = cli.run("index", repo.path, "--test-embeddings", "--json", env=environment)
    assert first.code == 0, first.err
    assert not (cli.data / "chroma").exists()
    again = cli.run("index", repo.path, "--test-embeddings", "--json", env=environment)
    assert again.json["chunks"]["new"] == 0
    found = cli.run("search", "least recently used", "--json", env=environment)
    assert found.json[0]["path"] == "cache.py"


def test_an_unreachable_chroma_server_is_a_sentence_and_the_run_goes_on_later(cli: Cli, tmp_path: Path) -> None:
    repo = small_repo(tmp_path / "demo")
    done = cli.run("index", repo.path, "--test-embeddings", env={"CODECHUNK_VECTORS__URL": "http://127.0.0.1:9"})
    assert done.code == 1
    assert "http://127.0.0.1:9" in done.err
    assert "Traceback" not in done.err
    assert cli.index(repo.path)["status"] == "succeeded"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("megabytes", [1, 4, 8])
def test_a_full_disk_is_a_sentence_and_the_run_goes_on_when_there_is_space(tmp_path: Path, megabytes: int) -> None:
    cli = Cli(tmp_path)
    source = Path(subprocess.__file__).parent
    repo = GitRepo(tmp_path / "stdlib")
    repo.commit({path.name: path.read_bytes() for path in sorted(source.glob("*.py"))[:60]})
    cli.data.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(cli.data)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk to be had here: {mounted.stderr.strip()}")
    try:
        done = cli.run("index", repo.path, "--test-embeddings", "--json")
        assert done.code == 1, (done.code, done.err)
        assert "Traceback" not in done.err
        assert "full" in done.err or "space" in done.err.lower()
        subprocess.run(["mount", "-o", "remount,size=200m", str(cli.data)], check=True)
        assert cli.index(repo.path)["status"] == "succeeded"
        undisturbed = Cli(tmp_path / "undisturbed")
        undisturbed.index(repo.path)
        assert cli.final_state() == undisturbed.final_state()
    finally:
        subprocess.run(["umount", "-l", str(cli.data)], check=True)


def test_no_secret_reaches_logs_errors_or_the_database(cli: Cli, tmp_path: Path) -> None:
    repo = small_repo(tmp_path / "demo")
    environment = {"CODECHUNK_GIT_TOKEN": CANARY, "CODECHUNK_GEMINI_API_KEY": CANARY[::-1]}
    outputs = [
        cli.run("-v", "index", f"file://{repo.path}", "--test-embeddings", env=environment),
        cli.run("-v", "index", f"https://user:{CANARY}@127.0.0.1:9/x/y.git", "--test-embeddings", env=environment),
        cli.run("-v", "index", "https://127.0.0.1:9/x/y.git", "--test-embeddings", env=environment),
        cli.run("config", "show", env=environment),
        cli.run("search", "evict", env=environment),
    ]
    for done in outputs:
        assert CANARY not in done.out + done.err
        assert CANARY[::-1] not in done.out + done.err
    for path in cli.root.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path
            assert CANARY[::-1].encode() not in path.read_bytes(), path


def test_names_made_to_trick_a_terminal_are_shown_harmlessly(cli: Cli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "odd")
    name = "evil\x1b[2Jname\n.py"
    repo.commit({name: "def walrus_feeding():\n    return 'fish'\n", "plain.py": "x = 1\n"})
    document = cli.index(repo.path)
    assert document["files"]["indexed"] == 2
    hit = cli.search("walrus feeding")[0]
    assert hit["path"] == name
    for look in ([], ["-l"], ["--full"], ["--format", "lines"], ["--format", "md"]):
        shown = cli.run("search", "walrus feeding", *look)
        assert "\x1b" not in shown.out
        assert "evil\\x1b[2Jname\\n.py:1" in shown.out
