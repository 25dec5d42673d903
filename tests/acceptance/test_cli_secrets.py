"""Acceptance: no secret of a repository reaches the data directory, and the ledger tells of all of them."""

import json
import zlib
from pathlib import Path

import pytest
from cli_helpers import Cli
from git_helpers import GitRepo, make_repo
from secret_samples import IN_CONTEXT, PASSWORD, TOKENS, private_key

from codechunk.selection.skip import SkipReason

KEY = private_key(lines=60)
CRLF_KEY = private_key("EC ", lines=8, end="\r\n")
TOKEN = TOKENS["github-token"]
NPM = TOKENS["npm-token"]

FILLER = "".join(f"def helper_{n}(value):\n    return value + {n}\n\n\n" for n in range(40))
FILES: dict[str, str | bytes] = {
    **{f"tokens/{kind}.py": f'def use():\n    return "{token}"\n' for kind, token in TOKENS.items()},
    **{
        f"places/{number}.txt": context.format(secret) + "\n"
        for number, (context, secret) in enumerate(IN_CONTEXT.values())
    },
    "key_in_code.py": f'{FILLER}KEY = """{KEY}\n"""\n\n\n{FILLER}',
    "key_in_notes.md": f"# Keys\n\n{KEY}\n\n## After\n\nText.\n",
    "doc.py": f'class Client:\n    """Talks to the service.\n\n    Example: Client("{TOKEN}")\n    """\n',
    "signature.py": f'class Deep:\n    def connect(self, host, password="{PASSWORD}", port=1):\n'
    + "".join(f"        self.step_{n}(host, port, retries={n}, label='step number {n}')\n" for n in range(150)),
    "windows.ini": f"[tls]\r\nname = a\r\n{CRLF_KEY}\r\nother = b\r\n",
    "wide.py": f"token = '{NPM}'\n".encode("utf-16"),
    "latin.c": f'/* gr\xfc\xdfe */\nconst char *t = "{TOKEN}";\n'.encode("latin-1"),
    "clean.py": "def clean():\n    return 'nothing to see'\n",
    ".env": f"DB_PASSWORD={PASSWORD}\n",
    ".env.example": "DB_PASSWORD=changeme\n",
    "deploy/id_ed25519": private_key("OPENSSH ", lines=4),
    "deploy/server.key": private_key(lines=4),
}
CANARIES = {
    *TOKENS.values(),
    *(secret for _, secret in IN_CONTEXT.values() if len(secret) > 6),
    *(line for text in (KEY, CRLF_KEY) for line in text.split() if len(line) > 40),
    PASSWORD,
}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> GitRepo:
    return make_repo(tmp_path_factory.mktemp("secret") / "demo", FILES)


def assert_no_secret_below(folder: Path) -> None:
    """No file holds a canary, neither as it is nor within what SQLite or Chroma store compressed or as UTF-16."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name.startswith("state.db") for path in files)
    for path in files:
        data = path.read_bytes()
        leaks = [canary for canary in CANARIES if canary.encode() in data or canary.encode("utf-16-le") in data]
        assert leaks == [], path


def texts(cli: Cli, path: str) -> list[str]:
    """What is embedded of a file: header and text of each chunk."""
    query = (
        "SELECT c.header, c.text FROM chunks c JOIN sources s ON s.id = c.source_id WHERE s.path = ? ORDER BY ordinal"
    )
    return [f"{header}\n{text}" for header, text in cli.sql(query, path)]


def config(tmp_path: Path, **values: str) -> list[str]:
    file = tmp_path / "given.yaml"
    file.write_text("".join(f"{name}: {value}\n" for name, value in values.items()))
    return ["--config", str(file)]


def test_no_secret_reaches_the_data_directory(cli: Cli, repo: GitRepo) -> None:
    document = cli.index(repo.path)
    assert document["status"] == "succeeded"
    assert document["secrets"]["mode"] == "redact"
    assert document["secrets"]["files"] == len(TOKENS) + len(IN_CONTEXT) + 6
    assert document["secrets"]["found"] >= document["secrets"]["files"]
    assert document["files"]["skipped_by_reason"] == {"secret_file": 3, "undecodable": 1}
    assert_no_secret_below(cli.data)
    assert "[REDACTED:private-key]" in "".join(texts(cli, "key_in_code.py"))
    assert '"[REDACTED:github-token]"' in texts(cli, "latin.c")[0]
    assert "[REDACTED:github-token]" in "".join(texts(cli, "doc.py"))
    parts = texts(cli, "signature.py")
    assert len(parts) > 2
    assert all('password="' in part for part in parts), "its signature is in every header"
    again = cli.index(repo.path)
    assert again["secrets"] == document["secrets"]
    assert again["chunks"]["new"] == 0


def test_lines_and_bytes_of_chunks_stay_those_of_the_file(cli: Cli, repo: GitRepo) -> None:
    cli.index(repo.path)
    rows = cli.sql(
        "SELECT s.path, c.start_line, c.end_line, c.start_byte, c.end_byte, c.text, c.tokens FROM chunks c"
        " JOIN sources s ON s.id = c.source_id"
    )
    for path, first, last, start, end, text, tokens in rows:
        content = FILES[path]
        original = content.encode() if isinstance(content, str) else content
        piece = original[start:end]
        assert text.count("\n") == piece.count(b"\n") == last - first, path
        assert text.count("\r\n") == piece.count(b"\r\n")
        assert original[:start].count(b"\n") + 1 == first
        assert tokens <= 512
        if "REDACTED" not in text and "XXXX" not in text:
            assert text.encode("latin-1" if path == "latin.c" else "utf-8") == piece


def test_the_chunk_command_prints_the_exact_bytes(cli: Cli, repo: GitRepo) -> None:
    done = cli.run("chunk", repo.path / "key_in_code.py", repo.path / ".env", "--json")
    assert done.code == 0, done.err
    chunks = [json.loads(line) for line in done.out.splitlines()]
    source = (repo.path / "key_in_code.py").read_text()
    for chunk in chunks[:-1]:
        assert chunk["text"] == source[chunk["start_byte"] : chunk["end_byte"]]
    assert chunks[-1]["text"] == f"DB_PASSWORD={PASSWORD}"


def test_many_short_secrets_keep_every_chunk_within_the_token_limit(cli: Cli, tmp_path: Path) -> None:
    urls = "def urls():\n    return [\n" + "".join(f"        'a://b:s{n % 10}x@c',\n" for n in range(3000)) + "    ]\n"
    repo = make_repo(tmp_path / "urls", {"urls.py": urls})
    document = cli.index(repo.path)
    assert document["secrets"]["found"] == 3000
    rows = cli.sql("SELECT tokens, text FROM chunks")
    assert max(tokens for tokens, _ in rows) <= 512
    assert all(":s" not in text for _, text in rows)
    assert any("XXX" in text for _, text in rows), "where markers do not fit, what was masked stays masked"


def test_a_file_with_a_secret_is_left_out_when_so_configured(cli: Cli, tmp_path: Path) -> None:
    repo = make_repo(tmp_path / "demo", {"a.py": f"t = '{TOKEN}'\n", "b.py": "def b():\n    return 2\n"})
    done = cli.run(*config(tmp_path, secrets="skip"), "index", repo.path, "--test-embeddings", "--json")
    assert done.code == 0, done.err
    assert done.json["files"]["skipped_by_reason"] == {str(SkipReason.SECRET): 1}
    assert done.json["secrets"] == {"mode": "skip", "found": 1, "files": 1}
    assert texts(cli, "a.py") == []
    assert len(texts(cli, "b.py")) == 1
    assert_no_secret_below(cli.data)


def test_a_run_that_must_fail_on_secrets_names_their_places_and_embeds_nothing(cli: Cli, tmp_path: Path) -> None:
    files = {"a.py": f"\nt = '{TOKEN}'\n", "b.py": "def b():\n    return 2\n"}
    files |= {f"more/{n:02}.py": f"t = '{NPM}'\n" for n in range(25)}
    repo = make_repo(tmp_path / "demo", files)
    done = cli.run(*config(tmp_path, secrets="fail"), "index", repo.path, "--test-embeddings", "--json")
    assert done.code == 1
    assert "26 secrets in 26 files" in done.err
    assert "a.py:2 (github-token)" in done.err
    assert "and 6 more" in done.err
    assert done.err.count("(npm-token)") == 19
    assert TOKEN not in done.err
    assert cli.count("embeddings") == 0
    assert cli.sql("SELECT commit_sha FROM indexes") == [(None,)]
    assert_no_secret_below(cli.data)
    repo.commit(dict.fromkeys(files, "def gone():\n    return 1\n"))
    assert cli.run(*config(tmp_path, secrets="fail"), "index", repo.path, "--test-embeddings").code == 0


def test_another_setting_cuts_again_and_embeds_only_texts_that_changed(cli: Cli, tmp_path: Path) -> None:
    repo = make_repo(
        tmp_path / "demo",
        {"a.py": f"t = '{TOKEN}'\n", "b.py": "def b():\n    return 2\n", ".env": f"PASSWORD={PASSWORD}\n"},
    )
    as_it_is = config(tmp_path, secrets="off")
    done = cli.run(*as_it_is, "index", repo.path, "--test-embeddings", "--json")
    assert done.json["secrets"] == {"mode": "off", "found": 0, "files": 0}
    assert TOKEN in texts(cli, "a.py")[0]
    assert PASSWORD in texts(cli, ".env")[0], "files by these names are indexed like any other"
    done = cli.run("index", repo.path, "--test-embeddings", "--json")
    assert "secrets off -> redact-" in done.err
    assert done.json["embedding"]["texts_sent"] == 1
    assert done.json["files"]["skipped_by_reason"] == {"secret_file": 1}
    assert "[REDACTED:github-token]" in texts(cli, "a.py")[0]
    assert TOKEN not in str(cli.final_state())


def test_the_summary_and_the_dry_run_tell_of_secrets(cli: Cli, tmp_path: Path) -> None:
    two = f"t = '{TOKEN}'\nu = '{NPM}'\n"
    repo = make_repo(tmp_path / "demo", {"a.py": two, "b.py": f"\n\n# {TOKEN}\n", ".env": "A=1\n"})
    plan = cli.run("index", repo.path, "--test-embeddings", "--dry-run", "--json").json
    assert plan["secrets"] == {
        "mode": "redact",
        "found": 3,
        "files": 2,
        "by_kind": {"github-token": 2, "npm-token": 1},
        "places": [
            {"path": "a.py", "line": 1, "kind": "github-token"},
            {"path": "a.py", "line": 2, "kind": "npm-token"},
            {"path": "b.py", "line": 3, "kind": "github-token"},
        ],
    }
    shown = cli.run("index", repo.path, "--test-embeddings", "--dry-run")
    assert "a.py:2 (npm-token)" in shown.out
    done = cli.run("index", repo.path, "--test-embeddings")
    assert done.code == 0
    assert "3 replaced in 2 files" in done.err
    assert "1 files for secrets" in done.err


def test_canaries_are_really_searched_for(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"\0" + TOKEN.encode() + zlib.compress(b"x"))
    with pytest.raises(AssertionError):
        assert_no_secret_below(tmp_path)
