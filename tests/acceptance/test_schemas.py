"""Acceptance: what every `--json` command writes is what its schema in docs/schema says."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from document_helpers import SCHEMAS, check
from gemini_emulator import Faults, GeminiEmulator
from jsonschema import ValidationError
from paid_helpers import FUNCTION, Paid, small_repository


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator(faults=Faults(job_seconds=0.05)) as running:
        yield running


class Checked(Paid):
    """Runs commands, and holds what they write against their schemas."""

    seen: set[str]

    def document(self, schema: str, *words: str | Path, code: int = 0) -> object:
        """Run with --json; what it wrote must be as `schema` says."""
        done = self.paid(*words, "--json")
        assert done.code == code, done.err
        check(schema, done.json)
        self.seen.add(schema)
        return done.json


def test_every_command_writes_what_its_schema_says(tmp_path: Path, emulator: GeminiEmulator) -> None:
    cli, repo = Checked(tmp_path, emulator), small_repository(tmp_path / "demo")
    cli.seen = set()
    repo.commit({"a.bin": "\0\1", "key.py": "TOKEN = 'ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8'\n"}, "more")
    cli.document("config-show", "config", "show")
    cli.document("config-check", "config", "check")
    cli.document("queue-status", "queue", "status")
    cli.document("index-dry-run", "index", repo.path, "--dry-run")
    cli.document("estimate", "estimate", repo.path)
    out = cli.document("index", "index", repo.path, "--mode", "batch", "--no-wait")
    assert isinstance(out, dict)
    for words in (("jobs-list", "jobs", "list"), ("jobs-show", "jobs", "show", out["job_id"])):
        cli.document(*words)
    cli.document("queue-remote", "queue", "remote")
    cli.document("repos-list", "repos", "list")
    emulator.finish()
    cli.document("queue-flush", "queue", "flush")
    cli.document("queue-sync", "queue", "sync")
    cli.document("queue-retry", "queue", "retry")
    cli.document("index", "index", repo.path)
    cli.document("search", "search", "value number 3")
    cli.document("search", "similar", "f1.py:1")
    cli.document("show", "show", "f1.py:1")
    for line in cli.paid("chunk", repo.path, "--json").out.splitlines():
        check("chunk", json.loads(line))
        cli.seen.add("chunk")
    for command in ("list", "show"):
        cli.document(f"repos-{command}", "repos", command, *(["demo"] if command == "show" else []))
    cli.document("doctor", "doctor", "--remote", code=0)
    cli.document("cache-export", "cache", "export", tmp_path / "vectors.ccv")
    cli.document("cache-import", "cache", "import", tmp_path / "vectors.ccv")
    cli.document("gc", "gc", "--dry-run")
    repo.commit({"new.py": FUNCTION.format(77)}, "to be cancelled")
    later = cli.document("index", "index", repo.path, "--mode", "batch", "--no-wait")
    assert isinstance(later, dict)
    cli.document("jobs-cancel", "jobs", "cancel", later["job_id"])
    cli.document("jobs-list", "jobs", "list")
    cli.document("repos-remove", "repos", "remove", "demo")
    cli.document("version", "version")
    assert {path.stem for path in SCHEMAS.iterdir()} == cli.seen, "a command was not looked at"


def test_a_schema_finds_a_key_that_is_missing_strange_or_of_another_type() -> None:
    good = {"requeued": 1, "jobs_reopened": 0}
    check("queue-retry", good)
    for wrong in ({"requeued": 1}, {**good, "more": 1}, {**good, "requeued": "1"}, {**good, "requeued": None}):
        with pytest.raises(ValidationError):
            check("queue-retry", wrong)
