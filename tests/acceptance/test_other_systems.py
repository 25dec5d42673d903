"""Acceptance: what only Linux has may be missing, as it is on macOS; `index` and `search` work all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Cli
from git_helpers import GitRepo

import codechunk
from codechunk.chunking import ChunkSettings
from codechunk.pool.pool import ChunkPool, ParseTask
from codechunk.process.cpus import usable_cpus

# Before anything of codechunk is imported. /proc is not there for Python; native code is not asked.
WITHOUT_LINUX = """
import io, os, resource, sys, time
for module, names in (
    (os, ("sched_getaffinity", "process_cpu_count", "memfd_create", "pidfd_open", "posix_fadvise", "eventfd")),
    (time, ("CLOCK_BOOTTIME",)),
    (resource, ("prlimit",)),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
def without_proc(call):
    def refused(path, *arguments, **named):
        if not isinstance(path, int) and os.fsdecode(path).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", path)
        return call(path, *arguments, **named)
    return refused
os.stat, os.readlink, os.open = (without_proc(call) for call in (os.stat, os.readlink, os.open))
io.open = without_proc(io.open)
"""
COMMAND = WITHOUT_LINUX + "from codechunk.cli import main\nmain()\n"
# A child asks for the platform only when it runs: what it imports before must be what this machine can load.
CHILD = WITHOUT_LINUX + "from codechunk.pool import child\nsys.platform = 'darwin'\nchild.main()\n"


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    made = GitRepo(tmp_path / "demo")
    made.commit({"a.py": "def alpha():\n    return 1\n", "b.md": "# Title\n\nWords about retries.\n"}, "first")
    return made


def test_the_processors_are_counted_on_a_system_that_has_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4}, raising=False)
    assert usable_cpus() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert usable_cpus() == 3
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus() == 1


def test_index_runs_where_the_processors_are_not_told_by_affinity(
    tmp_path: Path, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    with codechunk.open(data_dir=tmp_path / "data", config={"embedding.provider": "synthetic"}) as cc:
        assert cc.index(repo.path).status == "succeeded"


def test_index_and_search_work_without_anything_that_only_linux_has(tmp_path: Path, repo: GitRepo) -> None:
    cli = Cli(tmp_path)

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", COMMAND, "--data-dir", str(cli.data), *map(str, words)]
        return subprocess.run(command, cwd=cli.root, env=cli.environment(), capture_output=True, text=True)

    probe = [sys.executable, "-c", WITHOUT_LINUX + "from pathlib import Path\nprint(Path('/proc/mounts').exists())"]
    assert subprocess.run(probe, capture_output=True, text=True, check=True).stdout == "False\n"
    indexed = run("index", repo.path, "--test-embeddings", "--json")
    assert indexed.returncode == 0, indexed.stderr
    assert json.loads(indexed.stdout)["files"]["indexed"] == 2
    remote = run("index", f"file://{repo.path}", "--test-embeddings", "--json")
    assert remote.returncode == 0, remote.stderr
    found = run("search", "retries", "--repo", repo.path, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)[0]["path"] == "b.md"


def test_files_are_cut_by_children_that_are_not_on_linux() -> None:
    task = ParseTask(key=1, path="a.py", data=b"def alpha():\n    return 1\n", language=None, encoding="utf-8")
    with ChunkPool(
        jobs=1,
        settings=ChunkSettings(),
        token_mode="all",
        sample_percent=100,
        seed="s",
        child_argv=(sys.executable, "-c", CHILD),
    ) as pool:
        [result] = pool.run([task])
    assert result.error is None
    assert [chunk.symbol for chunk in result.chunks] == ["alpha"]
    assert pool.replaced == 0
