"""The log: what people and machines read, and what must never stand in it."""

import io
import json
import logging
import os
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from codechunk.errors import CodechunkError
from codechunk.process.log import mask_secrets, remember_secrets, setup

log = logging.getLogger("codechunk.tests")


@pytest.fixture(autouse=True)
def _logging_put_back() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("codechunk")
    levels = root.level, ours.level
    yield
    setup()
    for handler in [handler for handler in root.handlers if type(handler).__module__ == "codechunk.process.log"]:
        root.removeHandler(handler)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def written(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_text_is_one_line_with_the_sentence_and_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    setup()
    log.info("Submitted batch", extra={"action": "batch_submitted", "rows": 500, "note": "two words"})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(' info    Submitted batch  action=batch_submitted rows=500 note="two words"\n')


def test_json_is_one_object_a_line_with_fields_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    setup(format="json")
    log.warning("Slow %s", "disk", extra={"seconds": 1.5, "path": Path("/a"), "ids": (1, None)})
    entry = json.loads(capsys.readouterr().err)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "warning",
        "logger": "codechunk.tests",
        "message": "Slow disk",
        "seconds": 1.5,
        "path": "/a",
        "ids": [1, None],
    }


def test_the_level_is_for_the_screen_and_the_file_has_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "data" / "logs" / "codechunk.log"
    setup(level="error", file=file)
    log.debug("detail")
    log.error("trouble")
    assert [entry["message"] for entry in written(file)] == ["detail", "trouble"]
    assert "detail" not in capsys.readouterr().err


def test_libraries_are_heard_from_warning_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(level="debug", file=tmp_path / "logs" / "l.log")
    logging.getLogger("somelibrary").info("chatter")
    logging.getLogger("somelibrary").warning("worth knowing")
    err = capsys.readouterr().err
    assert "chatter" not in err
    assert "worth knowing" in err


def test_the_file_and_its_folder_are_for_their_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "l.log"
    umask = os.umask(0)
    try:
        setup(file=file)
        log.info("x")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_the_file_is_rotated_and_old_ones_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "l.log"
    setup(level="error", file=file)
    for _ in range(30):
        log.info("x" * 1_000_000)
    sizes = {path.name: path.stat().st_size for path in file.parent.iterdir()}
    assert set(sizes) == {"l.log", "l.log.1", "l.log.2", "l.log.3"}
    assert max(sizes.values()) <= 5_000_000
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in file.parent.iterdir())


def test_a_second_setup_replaces_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup(file=tmp_path / "logs" / "one.log")
    setup(file=tmp_path / "logs" / "two.log")
    log.info("once")
    assert capsys.readouterr().err.count("once") == 1
    assert written(tmp_path / "logs" / "two.log")
    assert (tmp_path / "logs" / "one.log").read_text() == ""


def test_lines_go_to_the_stderr_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    setup()
    proxy = io.StringIO()
    monkeypatch.setattr(sys, "stderr", proxy)
    log.info("above the progress bar")
    assert "above the progress bar" in proxy.getvalue()


def test_control_characters_of_file_names_are_made_visible(capsys: pytest.CaptureFixture[str]) -> None:
    setup()
    log.info("Skipped %s", "a\n12:00:00 error   faked\x1b[2J\x9b")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "a\\n12:00:00 error   faked\\x1b[2J\\x9b" in err


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("key AIzaSyA-0123456789abcdefghijklmnop used", "SyA-0123"),
        ("Authorization: Bearer abc.def-123", "abc.def"),
        ("authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("{'Authorization': 'token ghp_abc'}", "ghp_abc"),
        ("http.extraHeader=Authorization: opaque123", "opaque123"),
        ('{"x-goog-api-key": "plain-key"}', "plain-key"),
        ("x-goog-api-key: plain-key", "plain-key"),
        ("[('Authorization', 'Bearer abc.def')]", "abc.def"),
        ("(b'x-goog-api-key', b'plain-key')", "plain-key"),
        ("cloning https://user:pa-ss@host/x.git", "pa-ss"),
        ("cloning https://ghp_abc@host/x.git", "ghp_abc"),
        ("postgresql://u:pw@db/x and http://a:bb@c", "bb"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, hidden: str) -> None:
    assert hidden not in mask_secrets(text)
    assert "***" in mask_secrets(text)


@pytest.mark.parametrize(
    "text", ["https://host/path@2x.png", "mail a@b.c", "git@host:a/b.git", "the author: Ann", "file:///a/b"]
)
def test_what_is_no_secret_is_left_as_it_is(text: str) -> None:
    assert mask_secrets(text) == text


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_known_secret_reaches_neither_screen_nor_file(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = 'odd"secret/ü+1'
    file = tmp_path / "logs" / "l.log"
    setup(level="debug", format=format, file=file, secrets=[secret])  # type: ignore[arg-type]
    log.info("Used %s", secret, extra={"token": secret, "nested": {"deep": [secret]}})
    log.info("Quoted %s", quote(secret, safe=""))
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("Failed")
    everything = capsys.readouterr().err + file.read_text(encoding="utf-8")
    assert "odd" not in everything
    assert "ValueError: ***" in everything


def test_a_basic_header_made_of_a_known_token_is_masked_even_alone() -> None:
    remember_secrets(["canary-token-1"])
    assert mask_secrets("sent eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5LXRva2VuLTE=") == "sent ***"


def test_a_very_short_secret_does_not_blank_out_ordinary_words() -> None:
    remember_secrets(["e", ""])
    assert mask_secrets("Submitted the batch") == "Submitted the batch"


def test_a_log_file_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file in the way")
    with pytest.raises(CodechunkError, match=r"log file .* cannot be written .*--data-dir"):
        setup(file=tmp_path / "data" / "logs" / "l.log")


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "l.log"
    setup(level="error", file=file)

    def write(name: int) -> None:
        for number in range(100):
            log.info("line", extra={"writer": name, "number": number})

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written(file)) == 400
