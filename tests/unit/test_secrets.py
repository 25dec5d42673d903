"""Which bytes of a file are taken for secrets, and what stands in their place."""

import re
import sysconfig
from itertools import pairwise
from pathlib import Path

import pytest
from counting import no_hang
from hypothesis import given
from hypothesis import strategies as st
from secret_samples import IN_CONTEXT, PASSWORD, TOKENS, private_key

from codechunk.selection import secret_rules, secrets
from codechunk.selection.secrets import Place, Span, counts, find, fingerprint, mask, places, redact


def found(text: str | bytes) -> list[tuple[str, str]]:
    """(kind, secret) of all that is found."""
    data = text.encode() if isinstance(text, str) else text
    return [(span.kind, data[span.start : span.end].decode("latin-1")) for span in find(data)]


def redacted(text: str | bytes, start: int = 0, end: int | None = None, encoding: str = "utf-8") -> str:
    """The text with markers."""
    data = text.encode() if isinstance(text, str) else text
    spans = find(data)
    return redact(mask(data, spans), spans, start, len(data) if end is None else end, encoding=encoding)


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize(
    "around", ["{}", "x = f('{}')\n", "KEY={}\n", "# see {} in the log", "https://{}@host/", "<a>{}</a>"]
)
def test_a_token_is_found_whole_wherever_it_stands(kind: str, around: str) -> None:
    token = TOKENS[kind]
    assert found(around.format(token)) in ([(kind, token)], [("token", token)])


def test_every_prefixed_kind_has_a_sample() -> None:
    assert {kind for kind, _, _ in secret_rules.TOKENS} - set(TOKENS) == set()


@pytest.mark.parametrize("name", IN_CONTEXT)
@pytest.mark.parametrize("around", ["{}", "first line\n{}\nlast line\n", "first line\r\n{}\r\nlast line\r\n"])
def test_a_secret_is_known_by_what_is_around_it(name: str, around: str) -> None:
    context, secret = IN_CONTEXT[name]
    text = around.format(context.format(secret))
    left = redacted(text)
    assert secret not in left
    assert left.replace("\r", "").count("\n") == text.count("\n")
    assert re.sub(r"\[REDACTED:[a-z-]+\]", secret, left) == text


@pytest.mark.parametrize(
    "line",
    [
        'password = "password"',
        'password = "changeme123"',
        'password = "${DB_PASSWORD_1}"',
        'password = "<your-password-1>"',
        'password = os.environ["DB_PASSWORD"]',
        'password = getpass("Password 1: ")',
        "password: {{ vault_password1 }}",
        'password = "{password1}"',
        'type = "password"; id = "#password1"',
        'PASSWORD = "%s1"',
        "password = hash_password(password1)",
        '"password": "Passwort"',
        '<input type="password" name="pass1">',
        "passwordField.value = field2.value;",
        "pass",
        'token = "next_token"',
        "token = self.next_token2()",
        'TOKEN_TYPE = "urn:ietf:params:oauth:token-type:jwt"',
        "secretName: my-secret-1",
        'key = "0123456789abcdef0123456789abcdef"',
        'api_key = "YOUR-API-KEY-1234567"',
        "api_key = config.api_key_v2",
        'token_url = "https://example.org/oauth2/token1"',
        "Authorization: Bearer <token>",
        "https://user:password@example.org/",
        "https://example.org:8080/a@b",
        "http://{user}:{password}@{host}:{port}/",
        "https://$USER:$PASS@host",
        "sha256 = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08'",
        "id: 123e4567-e89b-12d3-a456-426614174000",
        "test_files_of_the_project_itself_are_not_lost_to_a_greedy_rule",
        "sk-learn-contrib-packages-for-testing",
        "mask-image: url(x)",
        "task-abcdefghijklmnopqrstuvwxyz1234567890",
        "xox-game",
        '"integrity": "sha512-z3gX7e5cQk1Xw0dG5s9kPqW7yVn2b4m6L8j0hT1rR3cV5nB7mM9=="',
        "eyJust.some.words",
        "SKIPPED_BECAUSE_OF_REASONS",
        'begin = "-----BEGIN RSA ' + 'PRIVATE KEY-----"',
        'assert not line.startswith("-----BEGIN ' + 'PRIVATE KEY-----"), line',
    ],
)
def test_what_only_speaks_of_secrets_stays(line: str) -> None:
    assert found(line) == []
    assert found(f"first\n    {line}\nlast\n") == []


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "DSA ", "OPENSSH ", "ENCRYPTED "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\\n", '\\n"\n    "', "\\n' +\n  '", "\n        "])
def test_a_private_key_is_found_from_its_first_to_its_last_line(kind: str, end: str) -> None:
    key = private_key(kind, end=end)
    assert found(f'before = 1\nkey = "{key}"\nafter = 2\n') == [("private-key", key)]


def test_a_pgp_key_block_is_a_private_key() -> None:
    key = private_key("PGP ").replace("KEY-----", "KEY BLOCK-----").replace("KEY-----\n", "KEY-----\nVersion: 2\n\n", 1)
    assert found(key) == [("private-key", key)]


def test_a_key_that_is_cut_off_ends_where_its_base64_ends() -> None:
    key = private_key().rpartition("\n")[0]
    assert found(f"{key}\n\ndef after():\n    return 1\n") == [("private-key", key)]


def test_code_between_the_words_that_begin_and_end_a_key_is_not_a_key() -> None:
    begin, end = private_key(lines=0).split("\n")
    code = "\n".join(f"def parse_{n}(line):\n    return line.strip() == {n}" for n in range(20))
    assert found(f'BEGIN = "{begin}"\n{code}\nEND = "{end}"\n') == []


def test_a_key_stays_as_many_lines_as_it_was_and_is_marked_on_its_first_and_last() -> None:
    key = private_key(lines=25)
    lines = redacted(f'key = """{key}\n"""\nafter = 1\n').split("\n")
    assert lines[0] == 'key = """[REDACTED:private-key]'
    assert lines[1:26] == [""] * 25
    assert lines[26:] == ["[REDACTED:private-key]", '"""', "after = 1", ""]


def test_a_part_of_a_key_is_marked_like_the_whole() -> None:
    text = f"before\n{private_key(lines=25)}\nafter\n"
    first, second = redacted(text, 0, 500), redacted(text, 500)
    assert first.startswith("before\n[REDACTED:private-key]\n")
    assert second.startswith("[REDACTED:private-key]\n")
    assert second.endswith("[REDACTED:private-key]\nafter\n")
    assert (first + second).count("\n") == text.count("\n")


def test_masked_bytes_keep_length_lines_and_strings_together() -> None:
    text = 'keys = ["' + private_key(end='\\n"\n    "') + f'"]\ntoken = "{TOKENS["github-token"]}"\n'
    data = text.encode()
    masked = mask(data, find(data))
    assert len(masked) == len(data)
    assert [at for at, byte in enumerate(masked) if byte == 10] == [at for at, byte in enumerate(data) if byte == 10]
    compile(masked.decode(), "masked", "exec")
    assert b"X" * 40 in masked


def test_a_password_ends_at_the_end_of_a_character_of_several_bytes() -> None:
    text = 'password = "pässwörd123ß"  # größer\n'
    assert redacted(text) == 'password = "[REDACTED:password]"  # größer\n'
    assert redacted(text.encode("latin-1"), encoding="latin-1") == 'password = "[REDACTED:password]"  # größer\n'
    long = 'password = "' + "ä1" * 150 + '"'
    assert redacted(long).isprintable()


def test_overlapping_finds_are_one() -> None:
    url = f"postgres://user:{TOKENS['github-token']}@host/"
    assert len(found(url)) == 1
    assert TOKENS["github-token"] not in redacted(url)


def test_lines_of_secrets_are_told_without_them() -> None:
    data = f"\n\nt = '{TOKENS['npm-token']}'\n{private_key()}\n".encode()
    assert places(data, find(data)) == [Place(3, "npm-token"), Place(4, "private-key")]
    assert counts([Place(1, "b"), Place(2, "a"), Place(3, "b")]) == {"b": 2, "a": 1}


def test_the_fingerprint_names_the_patterns_only_where_they_are_used() -> None:
    assert fingerprint("off") == "off"
    assert fingerprint("redact") == f"redact-{secrets.PATTERNS_VERSION}"


PIECES = st.sampled_from(
    [
        *TOKENS.values(),
        *(context.format(secret) for context, secret in IN_CONTEXT.values()),
        private_key(lines=3),
        private_key(lines=2, end="\r\n"),
        "\n",
        "\r\n",
        "def f(x):\n    return x\n",
        '"',
        "'",
        " ",
        "password",
        "=",
        "-",
        "ä",
        "漢",
        "/",
    ]
)


@given(st.lists(PIECES, max_size=12).map("".join), st.data())
def test_nothing_outside_the_spans_changes_and_lines_stay_lines(text: str, draw: st.DataObject) -> None:
    data = text.encode()
    spans = find(data)
    assert all(0 <= span.start < span.end <= len(data) for span in spans)
    assert all(before.end <= after.start for before, after in pairwise(spans))
    masked = mask(data, spans)
    outside = [(0, 0), *((span.start, span.end) for span in spans), (len(data), len(data))]
    for (_, start), (end, _) in pairwise(outside):
        assert masked[start:end] == data[start:end]
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(text)), max_size=3)))
    at = [0, *(len(text[:cut].encode()) for cut in cuts), len(data)]
    parts = [redact(masked, spans, *cut, encoding="utf-8") for cut in pairwise(at)]
    assert "".join(parts).count("\n") == text.count("\n")
    whole = redact(masked, spans, 0, len(data), encoding="utf-8")
    assert re.sub(r"\[REDACTED:[a-z-]+\](?:[\r\n]+\[REDACTED:[a-z-]+\])?", "", whole).count("REDACTED") == 0


@given(st.binary(max_size=400))
def test_any_bytes_survive(data: bytes) -> None:
    spans = find(data)
    assert len(mask(data, spans)) == len(data)
    assert spans == sorted(spans)


@pytest.mark.parametrize(
    "hostile",
    [
        b"password=" * 20_000,
        b"token: " + b"a" * 200_000,
        b"://" * 60_000,
        b"://a:" * 40_000,
        b"-----BEGIN RSA PRI" + b"VATE KEY-----\n" * 9_000,
        (b"-----BEGIN " + b"PRIVATE KEY-----\n") * 6_000,
        b"eyJ" * 60_000,
        b"A" * 200_000,
        b"curl -u " * 20_000,
        b"secret = '" * 20_000,
        b"bearer " * 25_000,
        b"password : " + b" " * 200_000,
        b"key_" * 50_000,
        b"sk-" * 60_000,
        b"Private-Lines: 9\n" + b"AAAA\n" * 40_000,
        b"api_key[" + b"x, " * 60_000,
        b"ghp_" * 50_000,
        b"hooks.slack.com/services/" * 8_000,
        b'password", ' * 20_000,
        b"\\n" * 90_000 + b"PRIVATE KEY",
        b"api_key: a" + b" ?" * 90_000,
    ],
    ids=lambda data: data[:12].decode(),
)
def test_no_input_makes_the_search_slow(hostile: bytes) -> None:
    with no_hang():
        find(hostile)


def test_the_standard_library_holds_hardly_any_secrets() -> None:
    files = [
        path for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")) if "site-packages" not in path.parts
    ]
    hits = [(path, span) for path in files for span in find(path.read_bytes())]
    assert len(hits) <= len(files) // 200 + 2, hits


def test_a_sample_password_is_a_password() -> None:
    assert find(f"x = '{PASSWORD}'".encode()) == []
    assert find(f"pwd = '{PASSWORD}'".encode()) == [Span(7, 7 + len(PASSWORD), "password")]
