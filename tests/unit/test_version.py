"""`codechunk --version` and `codechunk version`: the versions that matter, from one place each."""

import json
import re
import sqlite3
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

import codechunk
from codechunk.cli import app
from codechunk.cli.version import PACKAGES, as_text, versions
from codechunk.git.process import check_git
from codechunk.state.database import SCHEMA_REVISION
from codechunk.versions import CHUNKER_VERSION, HEADER_VERSION

ROOT = Path(__file__).parent.parent.parent


def test_the_first_line_is_the_name_and_the_version_alone() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"codechunk {codechunk.__version__}"
    assert re.fullmatch(r"codechunk \d+\.\d+\.\d+", done.stdout.splitlines()[0])
    assert done.stdout.rstrip("\n") == as_text(versions())


def test_the_document_holds_every_version_that_matters() -> None:
    done = CliRunner().invoke(app, ["version", "--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == 0
    assert document["codechunk"] == codechunk.__version__
    assert document["python"] == ".".join(map(str, sys.version_info[:3]))
    assert document["packages"] == {name: metadata.version(name) for name in PACKAGES}
    assert (document["sqlite"], document["git"]) == (sqlite3.sqlite_version, check_git())
    assert (document["schema"], document["chunker"]) == (SCHEMA_REVISION, CHUNKER_VERSION)
    assert document["header"] == HEADER_VERSION


def test_what_people_read_names_the_same_versions() -> None:
    found = versions()
    text = as_text(found)
    for value in (found.python, found.sqlite, f"schema {found.schema}", *found.packages, *found.packages.values()):
        assert str(value) in text


def test_what_is_missing_is_said_and_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("codechunk.cli.version.PACKAGES", ("no-such-package",))
    found = versions()
    assert (found.git, found.packages) == (None, {"no-such-package": None})
    assert "git not found" in as_text(found)
    assert "no-such-package not installed" in as_text(found)


def test_versions_are_told_without_importing_what_they_are_of() -> None:
    script = (
        "import sys, codechunk.cli.version as v; v.versions()\n"
        "heavy = {'chromadb', 'google.genai', 'tree_sitter', 'tree_sitter_language_pack', 'sqlalchemy', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_version_is_written_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "codechunk/__init__.py"
    told = re.compile(rf"\b{re.escape(codechunk.__version__)}\b")
    files = [ROOT / name for name in ("Dockerfile", "action.yml", "README.md", "CONTRIBUTING.md", "SECURITY.md")]
    files += [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
    files += [path for path in (ROOT / "codechunk").rglob("*.py") if path.name != "__init__.py"]
    repeated = [str(path.relative_to(ROOT)) for path in files if told.search(path.read_text())]
    assert repeated == []
