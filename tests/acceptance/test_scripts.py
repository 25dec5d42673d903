"""The scripts for people, run for real in a copy of the checkout; only Python is a stand-in that takes notes.

The stand-in answers what the scripts ask of Python (version, venv, pip, compileall), so that no test installs
anything. The real installation is what runs these tests in CI.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
NAMES = ("python3.13", "python3.12", "python3.11", "python3", "python")

STAND_IN = r"""#!/usr/bin/env bash
here=$(cd "$(dirname "$0")" && pwd)
echo "$1" >>"$NOTES.asked"
case "$1 ${2:-}" in
  "-V "*) echo "Python ${FAKE_VERSION:-3.12.9}" ;;
  "-c "*) printf '%s\n' ${FAKE_FACTS:-3.12 True complete} ;;
  "-m venv") mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; cp "$0" "$3/bin/python"; echo "venv" >>"$NOTES" ;;
  "-m pip")
    echo "pip ${*: -4}" >>"$NOTES"
    case $* in *requirements*) for n in $(seq 1 "${FAKE_PIP_COLLECTS:-0}"); do echo "Collecting p$n==1"; done ;; esac
    if [ -n "${FAKE_PIP_SLEEP:-}" ]; then "$SLEEPER" -c "$SLEEP" "$NOTES.busy" "$FAKE_PIP_SLEEP"; fi
    if [ -n "${FAKE_PIP_FAILS:-}" ]; then seq 1 100; echo "ERROR: no such package" >&2; exit 1; fi
    case $* in *--editable*)
      printf '#!/usr/bin/env bash\necho "$@"\nexit ${FAKE_EXIT:-0}\n' >"$here/codechunk"
      chmod +x "$here/codechunk" ;;
    esac ;;
  "-m compileall") echo "compileall" >>"$NOTES" ;;
  *) echo "$@"; exit "${FAKE_EXIT:-0}" ;;
esac
"""

# The sleeper itself says that it is busy: a bash that is about to start one can drop the Ctrl-C that comes meanwhile.
SLEEP = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(float(sys.argv[2]))"

UV_STAND_IN = r"""#!/usr/bin/env bash
case "$1 ${2:-}" in
  "--version "*) echo "uv 0.13.9" ;;
  "venv "*)
    echo "uv-venv" >>"$NOTES"
    if [ -n "${FAKE_UV_FAILS:-}" ]; then echo "error: no route to the index" >&2; exit 2; fi
    folder="${*: -1}"; mkdir -p "$folder/bin"; echo "uv = 0.13.9" >"$folder/pyvenv.cfg"
    cp "$(command -v python3)" "$folder/bin/python" ;;
  "pip install")
    echo "uv-pip" >>"$NOTES"
    printf '%s\n' "$*" >>"$NOTES.uv"
    echo "Resolved 83 packages in 5ms"
    case $* in *--editable*)
      printf '#!/usr/bin/env bash\necho "$@"\nexit ${FAKE_EXIT:-0}\n' >"${4%/*}/codechunk"
      chmod +x "${4%/*}/codechunk" ;;
    esac ;;
  *) exit 9 ;;
esac
"""


class Checkout:
    """A copy of what the scripts need, in a folder with a space in its name, and a PATH with the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "my checkout"
        self.root.mkdir()
        shutil.copytree(ROOT / "scripts", self.root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / ".ci", self.root / ".ci")
        for file in (ROOT / "pyproject.toml", *ROOT.glob("requirements*.lock")):
            shutil.copy(file, self.root)
        (self.root / "codechunk").mkdir()
        (self.root / "codechunk" / "__init__.py").touch()
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in NAMES:
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)
        (self.bin / "getconf").write_text("#!/usr/bin/env bash\necho 2\n")
        (self.bin / "getconf").chmod(0o755)
        self.notes_file = folder / "notes"
        self.venv = self.root / ".venv"
        self.env = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(folder),
            "NOTES": str(self.notes_file),
            "SLEEPER": sys.executable,
            "SLEEP": SLEEP,
            # Whatever this machine has; tests of uv bring a stand-in.
            "CODECHUNK_INSTALLER": "pip",
        }

    def add_uv(self) -> None:
        """From now on uv is on PATH: a stand-in that takes notes, too."""
        (self.bin / "uv").write_text(UV_STAND_IN)
        (self.bin / "uv").chmod(0o755)
        del self.env["CODECHUNK_INSTALLER"]

    def start(self, script: str, *words: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / script if "/" in script else self.root / "scripts" / script, *words],
            env=self.env | env,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str, *words: str, **env: str) -> tuple[int, str, str]:
        process = self.start(script, *words, **env)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def notes(self) -> list[str]:
        """What Python was asked to do since the last look."""
        lines = self.notes_file.read_text().splitlines() if self.notes_file.exists() else []
        self.notes_file.unlink(missing_ok=True)
        return [line.split()[0] for line in lines]


INSTALLED = ["venv", "pip", "pip", "compileall"]
# How many tests at a time there are with the two cores of the stand-in.
SEVERAL = "-n 3 --dist worksteal"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_first_use_installs_then_indexes_with_the_dev_settings_and_says_how_to_search(
    checkout: Checkout,
) -> None:
    code, out, err = checkout.run("index", "https://host/a b", "--json")
    assert code == 0
    assert out == f"--config {checkout.root}/configs/dev.yaml index https://host/a b --json\n"
    assert re.search(r"^  \.venv/bin/codechunk --config configs/dev\.yaml search \"", err, re.MULTILINE)
    assert err.count("installing") == 1
    assert checkout.notes() == INSTALLED


def test_the_search_line_can_be_pasted_from_another_folder(checkout: Checkout, tmp_path: Path) -> None:
    script = checkout.root / "scripts" / "index"
    result = subprocess.run(
        [script, "repo"], cwd=tmp_path, env=checkout.env, capture_output=True, text=True, check=True
    )
    line = result.stderr.splitlines()[-1]
    pasted = subprocess.run(["bash", "-c", line], cwd="/", capture_output=True, text=True, check=True)
    assert pasted.stdout.startswith(f"--config {checkout.root}/configs/dev.yaml search ")


def test_later_runs_install_nothing_and_ask_python_only_for_its_version(checkout: Checkout) -> None:
    checkout.run("index", "repo")
    checkout.notes()
    asked = Path(f"{checkout.notes_file}.asked")
    asked.unlink()
    code, _, err = checkout.run("index", "repo")
    assert asked.read_text().split() == ["-V"]
    assert (code, checkout.notes()) == (0, [])
    assert "install" not in err


def test_the_benchmarks_of_chunkers_have_an_environment_of_their_own(checkout: Checkout) -> None:
    code, out, _ = checkout.run("bench", "chunkers", "--folder", "x")
    assert (code, out) == (0, f"{checkout.root}/scripts/bench_chunkers.py --folder x\n")
    assert checkout.notes() == INSTALLED
    assert (checkout.root / ".venv-bench" / "stamp-bench").exists()
    assert not checkout.venv.exists()
    assert checkout.run("bench", "chunkers")[0] == 0
    assert checkout.notes() == []
    assert checkout.run("bench", "parsing")[0] == 0
    assert (checkout.venv / "stamp-dev").exists()


def test_a_changed_source_is_compiled_again_and_not_installed_again(checkout: Checkout) -> None:
    checkout.run("index", "repo")
    checkout.notes()
    changed = checkout.root / "codechunk" / "new.py"
    changed.touch()
    os.utime(changed, (time.time() + 5, time.time() + 5))
    checkout.run("index", "repo")
    assert checkout.notes() == ["compileall"]


def test_a_changed_pin_updates_the_environment_in_place(checkout: Checkout) -> None:
    checkout.run("index", "repo")
    checkout.notes()
    with (checkout.root / "requirements.lock").open("a") as file:
        file.write("new-package==1.0\n")
    assert checkout.run("index", "repo")[0] == 0
    assert [note for note in checkout.notes() if note != "compileall"] == ["pip", "pip"]


@pytest.mark.parametrize("change", ["another Python", "a moved checkout"])
def test_an_environment_that_no_longer_fits_is_made_anew(change: str, checkout: Checkout) -> None:
    checkout.run("index", "repo")
    checkout.notes()
    env = {}
    if change == "another Python":
        env = {"FAKE_VERSION": "3.13.1"}
    else:
        checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert checkout.run("index", "repo", **env)[0] == 0
    assert checkout.notes() == INSTALLED


def test_an_installation_killed_half_way_is_not_trusted(checkout: Checkout) -> None:
    process = checkout.start("index", "repo", FAKE_PIP_SLEEP="60")
    busy = Path(f"{checkout.notes_file}.busy")
    wait_until(busy.exists, "pip was never started")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert (checkout.root / ".venv.lock").is_symlink()
    checkout.notes()
    assert checkout.run("index", "repo")[0] == 0
    assert checkout.notes() == INSTALLED
    assert not (checkout.root / ".venv.lock").is_symlink()


def test_ctrl_c_while_installing_leaves_no_lock(checkout: Checkout) -> None:
    process = checkout.start("index", "repo", FAKE_PIP_SLEEP="60")
    busy = Path(f"{checkout.notes_file}.busy")
    wait_until(busy.exists, "pip was never started")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert not (checkout.root / ".venv.lock").is_symlink()


def test_uv_installs_where_it_is_there_and_later_runs_do_nothing(checkout: Checkout) -> None:
    checkout.add_uv()
    code, _, err = checkout.run("index", "repo")
    assert code == 0
    assert checkout.notes() == ["uv-venv", "uv-pip", "uv-pip", "compileall"]
    assert "with uv" in err
    first, second = Path(f"{checkout.notes_file}.uv").read_text().splitlines()
    assert "--no-deps -r" in first
    assert "--no-deps --no-build-isolation --editable" in second
    assert checkout.run("index", "repo")[0] == 0
    assert checkout.notes() == []


def test_where_uv_fails_pip_installs_and_says_why(checkout: Checkout) -> None:
    checkout.add_uv()
    code, _, err = checkout.run("index", "repo", FAKE_UV_FAILS="1")
    assert code == 0
    assert checkout.notes() == ["uv-venv", *INSTALLED]
    assert err.index("no route to the index") < err.index("trying pip")


def test_an_environment_of_uv_is_made_again_when_uv_is_gone_and_something_changed(checkout: Checkout) -> None:
    checkout.add_uv()
    checkout.run("index", "repo")
    checkout.notes()
    with (checkout.root / "requirements.lock").open("a") as lock:
        lock.write("# one more pin\n")
    assert checkout.run("index", "repo", CODECHUNK_INSTALLER="pip")[0] == 0
    assert checkout.notes() == INSTALLED


def test_an_unknown_installer_is_one_sentence(checkout: Checkout) -> None:
    code, _, err = checkout.run("index", "repo", CODECHUNK_INSTALLER="conda")
    assert (code, checkout.notes()) == (1, [])
    assert err == "codechunk: CODECHUNK_INSTALLER is conda; it can be uv or pip.\n"


def test_installing_says_which_step_it_is_at(checkout: Checkout) -> None:
    err = checkout.run("index", "repo", FAKE_PIP_COLLECTS="45")[2]
    told = [line.removeprefix("codechunk: ").strip() for line in err.splitlines()]
    assert [line[:11] for line in told if line.startswith("step")] == ["step 1 of 3", "step 2 of 3", "step 3 of 3"]
    pinned = pins("requirements.lock") | pins("requirements-build.lock")
    assert f"step 2 of 3: {len(pinned)} packages, with pip ..." in told
    assert [line for line in told if line[:1].isdigit()] == [f"{n} of {len(pinned)} packages ..." for n in (20, 40)]


def test_on_a_terminal_installing_is_one_line_that_changes(checkout: Checkout) -> None:
    primary, secondary = os.openpty()
    process = subprocess.Popen(
        [checkout.root / "scripts" / "index", "repo"],
        env=checkout.env | {"FAKE_PIP_COLLECTS": "3"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=secondary,
        start_new_session=True,
    )
    os.close(secondary)
    shown = b""
    with suppress(OSError):  # the terminal is gone when the last process that has it ends
        while piece := os.read(primary, 4096):
            shown += piece
    assert process.wait(timeout=30) == 0
    os.close(primary)
    number = len(pins("requirements.lock") | pins("requirements-build.lock"))
    assert f"\r\x1b[K  2 of {number} packages: p2".encode() in shown


def test_two_first_uses_at_once_install_once(checkout: Checkout) -> None:
    processes = [checkout.start("index", "repo", FAKE_PIP_SLEEP="0.3") for _ in range(3)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    notes = checkout.notes()
    assert (notes.count("venv"), notes.count("pip")) == (1, 2)
    assert sum("waiting for it" in error for error in errors) == 2


def test_a_failed_installation_shows_the_last_lines_of_pip_and_can_be_repeated(checkout: Checkout) -> None:
    code, out, err = checkout.run("index", "repo", FAKE_PIP_FAILS="1")
    assert (code, out) == (1, "")
    assert "ERROR: no such package" in err
    assert "the installation failed" in err.splitlines()[-1]
    assert len(err.splitlines()) < 20
    assert checkout.run("index", "repo")[0] == 0


@pytest.mark.parametrize(("exit_code", "hint"), [(0, True), (1, False), (3, True), (70, False), (130, False)])
def test_the_exit_code_is_that_of_codechunk(exit_code: int, hint: bool, checkout: Checkout) -> None:
    code, _, err = checkout.run("index", "repo", FAKE_EXIT=str(exit_code))
    assert code == exit_code
    assert ("Search it:" in err) is hint


def test_help_passes_through(checkout: Checkout) -> None:
    code, out, err = checkout.run("index", "--help")
    assert (code, out.split()[-2:]) == (0, ["index", "--help"])
    assert "Search it:" not in err


def test_no_repository_is_a_usage_error_that_installs_nothing(checkout: Checkout) -> None:
    code, _, err = checkout.run("index")
    assert (code, checkout.notes()) == (2, [])
    assert "Usage: scripts/index <repo-url-or-path>" in err


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ("3.9 False", "Python 3.11 or newer is needed (python3.13 is 3.9, "),
        ("3.12 True", "cannot make virtual environments; install its venv module"),
    ],
)
def test_a_python_that_will_not_do_is_one_sentence(facts: str, sentence: str, checkout: Checkout) -> None:
    for script in ("index", "test", "check"):
        code, out, err = checkout.run(script, "repo", FAKE_FACTS=facts)
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert sentence in err


def test_a_python_named_in_the_environment_is_the_only_one_tried(checkout: Checkout) -> None:
    code, _, err = checkout.run("index", "repo", PYTHON="/nowhere/python")
    assert (code, len(err.splitlines())) == (1, 1)
    assert "none was found" in err


def test_a_missing_git_is_one_sentence(checkout: Checkout) -> None:
    for tool in ("bash", "dirname"):
        (checkout.bin / tool).symlink_to(str(shutil.which(tool)))
    code, out, err = checkout.run("index", "repo", PATH=str(checkout.bin))
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "git is needed" in err


def test_a_folder_that_is_no_environment_is_never_removed(checkout: Checkout, tmp_path: Path) -> None:
    precious = tmp_path / "home" / "letter.txt"
    precious.parent.mkdir()
    precious.touch()
    code, _, err = checkout.run("index", "repo", CODECHUNK_VENV=str(precious.parent))
    assert code == 1
    assert "name another folder with CODECHUNK_VENV" in err
    assert precious.exists()


def test_the_test_script_adds_what_tests_need_and_hands_on_arguments_and_exit_code(
    checkout: Checkout,
) -> None:
    checkout.run("index", "repo")
    checkout.notes()
    code, out, _ = checkout.run("test", "-k", "a b", FAKE_EXIT="5")
    assert (code, out) == (5, f"-m pytest {SEVERAL} -m not long -k a b\n")
    assert [note for note in checkout.notes() if note != "compileall"] == ["pip", "pip"]
    assert checkout.run("index", "repo")[0] == 0
    assert checkout.notes() == []


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("", f"{SEVERAL} -m not long"),
        ("--long", SEVERAL),
        ("--long chaos -x", f"{SEVERAL} tests/chaos -x"),
        ("unit", f"{SEVERAL} -m not long tests/unit"),
        ("unit chaos -x", f"{SEVERAL} -m not long tests/unit tests/chaos -x"),
        ("unit -n 4", "-m not long tests/unit -n 4"),
        ("unit -n0", "-m not long tests/unit -n0"),
        ("chaos --pdb", "-m not long tests/chaos --pdb"),
        ("chaos -m long", f"{SEVERAL} tests/chaos -m long"),
        ("tests/unit/test_a.py::test_b", "tests/unit/test_a.py::test_b"),
        ("-k unit", f"{SEVERAL} -m not long -k unit"),
        ("nonsense", f"{SEVERAL} -m not long nonsense"),
    ],
)
def test_the_test_script_leaves_out_what_is_long_and_runs_several_tests_at_a_time_unless_that_makes_no_sense(
    checkout: Checkout, words: str, asked: str
) -> None:
    for tier in ("unit", "chaos"):
        (checkout.root / "tests" / tier).mkdir(parents=True)
    code, out, _ = checkout.run("test", *words.split())
    assert (code, out) == (0, f"-m pytest {asked}\n")


def test_the_check_script_runs_every_check_even_after_a_failure(checkout: Checkout) -> None:
    code, out, _ = checkout.run("check", FAKE_EXIT="1")
    assert code == 1
    assert out.splitlines() == ["-m ruff format --check .", "-m ruff check .", "-m mypy"]
    assert checkout.run("check")[0] == 0


def test_ci_checks_and_tests_in_the_same_environment_and_touches_no_system_package(
    checkout: Checkout,
) -> None:
    code, out, _ = checkout.run(".ci/run")
    assert code == 0
    checks = ["-m ruff format --check .", "-m ruff check .", "-m mypy"]
    assert out.splitlines() == [*checks, f"-m pytest {SEVERAL}"]
    assert checkout.notes() == INSTALLED


def test_ci_stops_when_the_checks_fail(checkout: Checkout) -> None:
    code, out, _ = checkout.run(".ci/run", FAKE_EXIT="1")
    assert code == 1
    assert "-m pytest" not in out


def test_ci_installs_missing_system_packages_where_it_may(checkout: Checkout) -> None:
    for name, text in (("id", "echo 0"), ("apt-get", 'echo "apt-get $*" >>"$NOTES.apt"')):
        (checkout.bin / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (checkout.bin / name).chmod(0o755)
    code, _, err = checkout.run(".ci/run", FAKE_FACTS="3.9 False")
    asked = Path(f"{checkout.notes_file}.apt").read_text().splitlines()
    assert asked[0] == "apt-get update -q"
    assert asked[1].endswith("git python3 python3-venv")
    # The stand-in for apt-get installs nothing, so what is missing is said in one sentence.
    assert (code, len(err.splitlines())) == (1, 1)


def test_the_chaos_script_finds_the_helpers_of_the_tests() -> None:
    script = (ROOT / "scripts" / "chaos").read_text()
    assert 'export PYTHONPATH="$root/tests/helpers"' in script
    program = ROOT / "tests" / "chaos" / "test_chaos.py"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "helpers")}
    told = subprocess.run([sys.executable, program, "--help"], env=env, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "--direct" in told.stdout


def test_every_script_is_executable_and_parses() -> None:
    for script in ("scripts/index", "scripts/test", "scripts/check", ".ci/run"):
        assert (ROOT / script).stat().st_mode & stat.S_IXUSR
        subprocess.run(["bash", "-n", ROOT / script], check=True)


def pins(file: str) -> dict[str, Requirement]:
    lines = (ROOT / file).read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def test_the_locks_pin_everything_that_pyproject_asks_for_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    build, bench = pins("requirements-build.lock"), pins("requirements-bench.lock")
    for pinned in (run, dev, build, bench):
        assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pinned.values())
    asked = [(run, text) for text in project["dependencies"]]
    asked += [(dev, text) for text in project["optional-dependencies"]["dev"]]
    asked += [(run | bench, text) for text in project["optional-dependencies"]["bench"]]
    for pinned, text in asked:
        requirement = Requirement(text)
        version = str(pinned[canonicalize_name(requirement.name)].specifier).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True), text
    for name in build.keys() & (run | dev).keys():
        assert build[name].specifier == (run | dev)[name].specifier
    assert bench.keys() & run.keys() == set()


# What chromadb requires and codechunk never loads (docs/decisions/0055-pinned-environment.md).
LEFT_OUT = {"kubernetes", "onnxruntime", "tokenizers", "uvicorn"}


def needed(asked: list[str]) -> set[str]:
    """The names of these packages and of all that they require here, but for what is left out."""
    found: set[str] = set()
    todo = [(Requirement(text), "") for text in asked]
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT or (requirement.marker and not requirement.marker.evaluate({"extra": extra})):
            continue
        known = name in found
        found.add(name)
        for part in requirement.extras if known else {"", *requirement.extras}:
            todo += [(Requirement(text), part) for text in metadata.distribution(name).requires or ()]
    return found


def test_the_locks_name_every_package_because_they_are_installed_without_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run = pins("requirements.lock").keys()
    build, dev = pins("requirements-build.lock").keys(), pins("requirements-dev.lock").keys()
    assert needed(project["project"]["dependencies"]) - run == set()
    assert needed(project["project"]["optional-dependencies"]["dev"]) - run - dev == set()
    assert needed(project["build-system"]["requires"]) - run - build == set()
    assert run & LEFT_OUT == set()


def test_what_the_lock_leaves_out_is_loaded_by_nothing() -> None:
    script = (
        "import sys, tempfile\n"
        f"left_out = {sorted(LEFT_OUT)!r}\n"
        "sys.modules.update(dict.fromkeys(left_out))\n"  # whoever imports one meets an ImportError
        "from pathlib import Path\n"
        "import codechunk.app, codechunk.cli.index, codechunk.vectors.chroma\n"
        "import chromadb\n"
        "from chromadb.config import Settings\n"
        "client = chromadb.PersistentClient(tempfile.mkdtemp(), settings=Settings(anonymized_telemetry=False))\n"
        "made = client.create_collection('abc', embedding_function=None)\n"
        "made.upsert(ids=['a'], embeddings=[[1.0, 0.0]])\n"
        "print(made.query(query_embeddings=[[1.0, 0.0]], n_results=1)['ids'])\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "[['a']]\n", done.stderr[-800:]


def test_what_is_left_out_for_uv_is_the_same() -> None:
    lines = (ROOT / "requirements-overrides.txt").read_text().splitlines()
    overrides = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert {each.name for each in overrides} == LEFT_OUT
    assert not any(each.marker is None or each.marker.evaluate() for each in overrides)
