"""The command as a person's shell starts it. All other tests fork one that has imported everything (warm_start.py).

Here belongs what Python, the shell and the terminal have a part in: how it is started, streams that are closed, full or
no UTF-8, signals, exit codes, the environment of the interpreter.
"""

import os
import pty
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from cli_helpers import COMMAND, Cli, start_python
from git_helpers import GitRepo

SCRIPT = str(Path(sys.executable).with_name("codechunk"))


class RealCli(Cli):
    """Each command is a Python that starts from nothing."""

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start a command and return at once."""
        command = [*COMMAND[1:], "--data-dir", str(self.data), *map(str, arguments)]
        return start_python(*command, cwd=self.root, env=self.environment(env))


@pytest.fixture
def cli(tmp_path: Path) -> RealCli:
    return RealCli(tmp_path)


def function(name: str, lines: int = 5) -> str:
    body = "".join(f"    total += {name}_step(value, {number})\n" for number in range(lines))
    return f"def {name}(value):\n    '''Compute {name} step by step.'''\n    total = 0\n{body}    return total\n\n\n"


def small_repo(path: Path) -> GitRepo:
    repo = GitRepo(path)
    repo.commit({"cache.py": function("evict_oldest"), "io.py": function("read_all")})
    return repo


def large_repo(path: Path) -> GitRepo:
    """The standard library in part: seconds of work, so that a signal finds it busy."""
    repo = GitRepo(path)
    source = Path(subprocess.__file__).parent
    repo.commit({file.name: file.read_bytes() for file in sorted(source.glob("*.py"))[:120]})
    return repo


def run(cli: RealCli, *command: str, env: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=cli.root, env=cli.environment(env), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


# ---------------------------------------------------------------- starting it


@pytest.mark.parametrize("command", [COMMAND, [SCRIPT]], ids=["python -m", "console script"])
def test_both_ways_of_starting_it_are_the_same_command(cli: RealCli, tmp_path: Path, command: list[str]) -> None:
    repo = small_repo(tmp_path / "demo")
    assert run(cli, *command, "--version").stdout.startswith("codechunk ")
    told = run(cli, *command, "--help")
    assert (told.returncode, "Usage: codechunk" in told.stdout) == (0, True)
    common = ("--data-dir", str(cli.data))
    done = run(cli, *command, *common, "index", str(repo.path), "--test-embeddings")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    found = run(cli, *command, *common, "search", "evict oldest")
    assert (found.returncode, "cache.py" in found.stdout) == (0, True)
    wrong = run(cli, *command, *common, "index", ".", "--jobs", "0")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    gone = run(cli, *command, *common, "index", str(tmp_path / "nowhere"), "--test-embeddings")
    assert gone.returncode == 1
    assert len(gone.stderr.strip().splitlines()) == 1


def test_a_fork_of_a_warm_process_says_and_leaves_the_same_as_a_new_python(cli: RealCli, tmp_path: Path) -> None:
    """What all other tests of commands rest on."""
    repo = small_repo(tmp_path / "demo")
    (tmp_path / "forked").mkdir()
    forked = Cli(tmp_path / "forked")
    outputs = []
    for one in (cli, forked):
        document = one.index(repo.path)
        outputs.append({name: document[name] for name in ("status", "commit", "files", "chunks", "tokens", "mode")})
    assert outputs[0] == outputs[1]
    assert forked.final_state() == cli.final_state()
    for words in (("search", "evict oldest", "--json"), ("search", "--nonsense"), ("chunk", repo.path), ("--help",)):
        real, fork = cli.run(*words), forked.run(*words)
        assert (fork.code, fork.out, fork.err) == (real.code, real.out, real.err), words


def test_an_empty_home_and_no_configuration_are_enough(tmp_path: Path) -> None:
    repo = small_repo(tmp_path / "demo")
    with tempfile.TemporaryDirectory() as home:
        environment = {
            name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "TEST_GUARD_LOG"}
        }
        done = subprocess.run(
            [*COMMAND, "index", str(repo.path), "--test-embeddings"],
            cwd=tmp_path, env={**environment, "HOME": home}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (Path(home) / ".local" / "share" / "codechunk" / "state.db").exists()


def test_a_current_folder_that_was_deleted_is_a_sentence(cli: RealCli, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = run(cli, "bash", "-c", f"cd {gone} && rmdir {gone} && {' '.join(COMMAND)} config check")
    assert done.returncode == 1
    assert "current directory was deleted" in done.stderr


# ---------------------------------------------------------------- streams


def test_output_survives_terminals_pipes_and_disks_that_cannot_take_it(cli: RealCli, tmp_path: Path) -> None:
    repo = GitRepo(tmp_path / "repo")
    repo.commit({"a.py": function("größe", 3) + "# naïve café ☕\n"})
    cli.index(repo.path)
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    assert cli.run("search", "größe", "--json", env=ascii_only).json[0]["symbol"] == "größe"
    assert cli.run("search", "größe", env=ascii_only).code == 0
    assert cli.run("chunk", repo.path / "a.py", env=ascii_only).code == 0
    command = " ".join([*COMMAND, "--data-dir", str(cli.data), "search", "größe"])
    for redirection, code in ((">&-", 0), (">/dev/full", 1), ("| true", 0), ("2>&-", 0)):
        done = run(cli, "bash", "-c", f"set -o pipefail; {command} {redirection}")
        assert done.returncode == code, (redirection, done.stderr)
        assert "bug" not in done.stderr


def test_an_interpreter_that_warns_of_everything_has_nothing_to_say(cli: RealCli, tmp_path: Path) -> None:
    strict = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C", "PYTHONUTF8": "0"}
    repo = small_repo(tmp_path / "demo")
    done = cli.run("index", repo.path, "--test-embeddings", env=strict)
    assert done.code == 0, done.err
    assert "Warning" not in done.err


def test_a_terminal_sees_bars_and_colours_unless_no_color_is_set(cli: RealCli, tmp_path: Path) -> None:
    repo = small_repo(tmp_path / "demo")
    coloured = on_a_terminal(cli, "index", str(repo.path), "--test-embeddings")
    assert "\x1b[" in coloured
    assert "Chunking" in coloured
    assert "files/s" in coloured
    plain = on_a_terminal(cli, "search", "evict oldest", env={"NO_COLOR": "1"})
    assert "cache.py:1" in plain
    assert "\x1b[3" not in plain


def on_a_terminal(cli: RealCli, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What a command shows on a terminal of 100 columns."""
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "--data-dir", str(cli.data), *arguments],
        stdin=secondary, stdout=secondary, stderr=secondary, cwd=cli.root,
        env=cli.environment({"TERM": "xterm-256color", "COLUMNS": "100", **(env or {})}),
    )  # fmt: skip
    os.close(secondary)
    parts = []
    while True:
        try:
            part = os.read(primary, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(primary)
    assert process.wait() == 0, b"".join(parts)
    return b"".join(parts).decode("utf-8", "replace")


# ---------------------------------------------------------------- signals and bugs


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "a cancelled job of CI"])
def test_a_signal_is_130_and_the_next_run_goes_on(cli: RealCli, tmp_path: Path, sig: signal.Signals) -> None:
    repo = large_repo(tmp_path / "stdlib")
    code = cli.kill_when(lambda: cli.count("chunks") >= 50, "index", repo.path, "--test-embeddings", sig=sig)
    assert code == 130
    assert cli.sql("SELECT status FROM jobs") == [("cancelled",)]
    assert cli.count("chunks") >= 50
    done = cli.run("index", repo.path, "--test-embeddings", "--json")
    assert done.code == 0
    assert "unfinished run" in done.err
    assert cli.sql("SELECT status, attempts FROM jobs") == [("succeeded", 2)]


def test_exit_code_70_is_a_bug_and_names_the_log_file(cli: RealCli, tmp_path: Path) -> None:
    script = (
        "import codechunk.app, codechunk.cli\n"
        "def broken(self, request, reporter): raise RuntimeError('wires crossed')\n"
        "codechunk.app.App.index = broken\n"
        "codechunk.cli.main()\n"
    )
    words = ("--data-dir", str(cli.data), "index", str(tmp_path), "--test-embeddings")
    done = run(cli, sys.executable, "-c", script, *words)
    assert done.returncode == 70
    log = cli.data / "logs" / "codechunk.log"
    assert str(log) in done.stderr
    assert "Traceback" not in done.stderr
    assert "wires crossed" in log.read_text()


# Ctrl-C while a module, the first argument, is about to be imported.
WHILE_IMPORTING = """
import os, runpy, signal, sys

class Ring:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

module = sys.argv.pop(1)
sys.meta_path.insert(0, Ring())
runpy.run_module("codechunk", run_name="__main__")
"""
# Ctrl-C at these moments, the first argument.
AT_MOMENTS = """
import logging, os, signal, sys, weakref
import codechunk.app, codechunk.cli, codechunk.process.log

moments = sys.argv.pop(1).split(",")

def ring(moment):
    while moment in moments:
        moments.remove(moment)
        os.kill(os.getpid(), signal.SIGINT)

def rings(place, name, moment):
    real = getattr(place, name)
    def ringing(*arguments, **more):
        ring(moment)
        return real(*arguments, **more)
    setattr(place, name, ringing)

def work(self, request, reporter):
    rings(signal, "signal", "restoring")
    ring("working")
    watched = codechunk.app.App.__new__(codechunk.app.App)
    watch = weakref.ref(watched, lambda _: ring("in a callback"))
    del watched
    self.workspace.stop.raise_if_asked()

codechunk.app.App.index = work
rings(codechunk.app.App, "close", "closing")
rings(codechunk.process.log, "mask_secrets", "telling")
rings(logging, "shutdown", "leaving")
codechunk.cli.main()
"""
INTERRUPTED = "codechunk: interrupted; the same command goes on from here."


@pytest.mark.parametrize(
    "module", ["typer", "codechunk.cli.index", "codechunk.config.load", "codechunk.app", "sqlalchemy", "chromadb"]
)
def test_ctrl_c_while_a_module_is_imported_is_one_sentence(cli: RealCli, tmp_path: Path, module: str) -> None:
    repo = small_repo(tmp_path / "small")
    words = ("--data-dir", str(cli.data), "index", str(repo.path), "--test-embeddings")
    done = run(cli, sys.executable, "-c", WHILE_IMPORTING, module, *words)
    assert (done.returncode, done.stderr.count("interrupted")) == (130, 1), done.stderr
    assert done.stderr.splitlines()[-1] == INTERRUPTED
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "moments",
    [
        "working",
        "working,closing",
        "working,restoring",
        "working,telling",
        "working,leaving",
        "working,closing,closing",
        "in a callback",
        "working,closing,restoring",
        "working,working,working,working",
        "working,restoring,restoring,telling",
    ],
)
def test_however_often_ctrl_c_is_pressed_one_sentence_is_told(cli: RealCli, tmp_path: Path, moments: str) -> None:
    words = ("--data-dir", str(cli.data), "index", str(tmp_path), "--test-embeddings")
    done = run(cli, sys.executable, "-c", AT_MOMENTS, moments, *words)
    assert (done.returncode, done.stderr) == (130, f"{INTERRUPTED}\n")


def test_ctrl_c_while_an_error_is_told_leaves_it_as_it_is(cli: RealCli, tmp_path: Path) -> None:
    words = ("--data-dir", str(cli.data), "jobs", "show", "nosuch")
    done = run(cli, sys.executable, "-c", AT_MOMENTS, "telling", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "No job 'nosuch'" in done.stderr
