"""The wheel: it holds only what runs, and works from an empty environment, installed with pip and with uv.

No test may reach a package index, so only codechunk itself is installed there. Its dependencies are those of the
environment that the tests run in, by a .pth file; that the locks pin all of them is held by test_scripts.py.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
from git_helpers import GitRepo

import codechunk

ROOT = Path(__file__).parent.parent.parent
REPOSITORY = {
    "src/retry.py": 'def schedule(attempts):\n    """Schedule retries in turn."""\n    return attempts + 1\n',
    "README.md": "# Demo\n\nIt tries again.\n",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout by what requirements-build.lock pins."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {name.partition(".dist-info/")[2] for name in archive.namelist() if ".dist-info/" in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "codechunk").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == wanted
    assert {"codechunk/py.typed", "codechunk/data/cl100k_base.tiktoken"} <= inside
    assert any(name.startswith("codechunk/state/migrations/versions/") for name in inside)
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_the_metadata_says_what_it_is_and_invents_no_address(wheel: Path) -> None:
    found = metadata_of(wheel)
    assert (found["Name"], found["Version"]) == ("codechunk", codechunk.__version__)
    assert (found["License-Expression"], found.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    assert (found["Author"], found["Author-email"]) == ("codechunk authors", None)
    assert found["Requires-Python"] == ">=3.11"
    assert found.get_all("Project-URL") is None
    assert found["Home-page"] is None
    classifiers = found.get_all("Classifier") or []
    assert "Typing :: Typed" in classifiers
    assert not [each for each in classifiers if each.startswith("License ::")], "the expression says it"
    assert not [each for each in classifiers if "MacOS" in each or "Windows" in each], "no test runs there"


@dataclass
class Installed:
    """codechunk as a user has it: `command` is what is on their PATH."""

    command: Path
    python: Path
    home: Path

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.command, *arguments],
            cwd=self.home,
            env={**os.environ, "HOME": str(self.home), **(env or {})},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=True,
        )


def lend_dependencies(python: Path) -> None:
    """Let an environment import what this one has installed; the checkout itself is not part of that."""
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    folder = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    # Folders alone: the .pth files in them, and with them the editable codechunk, are not looked at.
    lent = [path for path in sys.path if path.endswith("site-packages")]
    (Path(folder) / "lent.pth").write_text("".join(f"{path}\n" for path in lent))


def with_pip(wheel: Path, folder: Path) -> Installed:
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, capture_output=True)
    python = folder / "venv" / "bin" / "python"
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--disable-pip-version-check",
        wheel,
    ]
    subprocess.run(install, check=True, capture_output=True)
    lend_dependencies(python)
    return Installed(folder / "venv" / "bin" / "codechunk", python, folder)


def with_uv(wheel: Path, folder: Path) -> Installed:
    uv = pytest.importorskip("uv", reason="in the environment that scripts/test makes").find_uv_bin()
    overrides = folder / "overrides.txt"
    asked = [text.partition(";")[0].strip() for text in metadata_of(wheel).get_all("Requires-Dist") or []]
    names = sorted({match[0] for text in asked if (match := re.match(r"[\w.-]+", text))})
    overrides.write_text("".join(f'{name} ; sys_platform == "never"\n' for name in names))
    environment = {
        **os.environ,
        "HOME": str(folder),
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_TOOL_DIR": str(folder / "tools"),
        "UV_TOOL_BIN_DIR": str(folder / "bin"),
    }
    install = [uv, "tool", "install", "--offline", "--no-index", "--no-config", "--python", sys.executable]
    subprocess.run([*install, "--overrides", overrides, wheel], env=environment, check=True, capture_output=True)
    python = folder / "tools" / "codechunk" / "bin" / "python"
    lend_dependencies(python)
    return Installed(folder / "bin" / "codechunk", python, folder)


@pytest.mark.parametrize("install", [with_pip, with_uv], ids=["pip", "uv tool install"])
def test_the_main_job_works_from_an_empty_environment(install: Any, wheel: Path, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "demo")
    repo.commit(REPOSITORY, "first")
    installed = install(wheel, tmp_path)
    where = subprocess.run(
        [installed.python, "-c", "import codechunk; print(codechunk.__file__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(tmp_path)), "the checkout was found, not the wheel"
    assert installed.run("--version").stdout.splitlines()[0] == f"codechunk {codechunk.__version__}"
    data = ("--data-dir", tmp_path / "data")
    document = json.loads(installed.run(*data, "index", repo.path, "--test-embeddings", "--json").stdout)
    assert (document["status"], document["files"]["indexed"]) == ("succeeded", 2)
    free = {"CODECHUNK_BATCH_PROCESSING__USE_TEST_EMBEDDINGS": "true"}
    answers = json.loads(installed.run(*data, "search", "schedule retries", "--json", env=free).stdout)
    assert (answers[0]["path"], answers[0]["symbol"]) == ("src/retry.py", "schedule")


def test_importing_it_costs_nothing_and_its_types_are_told(wheel: Path) -> None:
    script = "import sys, codechunk; print(sorted(m for m in sys.modules if m.partition('.')[0] == 'codechunk'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "['codechunk']\n"
    assert "py.typed" in {path.name for path in (ROOT / "codechunk").iterdir()}
