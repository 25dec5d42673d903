"""Whole runs of the command: cold, unchanged, one file changed; wall time, CPU, memory of all processes.

scripts/bench index --repo PATH [--growth]     PATH is a local git repository; a copy of it is used.

Memory is sampled every 20 ms over the process tree: RSS counts shared pages once per process, PSS once in all.
--growth builds repositories of N and 5 N files from the same sources and compares the peaks (Linux only).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "helpers"))
from chroma_helpers import chroma_server

COMMAND = [sys.executable, "-m", "codechunk"]


@dataclass
class Run:
    """One measured command."""

    seconds: float
    cpu: float
    rss_mb: float
    pss_mb: float
    document: dict


def tree_memory(process):
    """(RSS, PSS) of a process and its descendants, in bytes."""
    rss = pss = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            info = member.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        rss += info.rss
        pss += getattr(info, "pss", info.rss)
    return rss, pss


def measure(*arguments, data):
    """Run the command and sample its memory."""
    before = os.times()
    started = time.perf_counter()
    process = psutil.Popen([*COMMAND, "--data-dir", data, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak = [0, 0]
    done = threading.Event()

    def sample():
        while not done.wait(0.02):
            try:
                peak[:] = map(max, zip(peak, tree_memory(process), strict=True))
            except psutil.NoSuchProcess:
                return

    watcher = threading.Thread(target=sample)
    watcher.start()
    out, err = process.communicate()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    after = os.times()
    if process.returncode:
        sys.exit(err.decode())
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seconds, cpu, peak[0] / 1e6, peak[1] / 1e6, json.loads(out) if out.startswith(b"{") else {})


def show(name, run):
    """One row of the report."""
    chunks = run.document.get("chunks", {})
    print(
        f"| {name} | {run.seconds:.2f} | {run.cpu:.2f} | {run.rss_mb:.0f} | {run.pss_mb:.0f} "
        f"| {chunks.get('total', '')} | {chunks.get('new', '')} |",
        flush=True,
    )


def head():
    """The report's head."""
    print("| run | wall s | CPU s | peak RSS MB | peak PSS MB | chunks | new |")
    print("|---|---|---|---|---|---|---|")


def git(*arguments, cwd):
    """Run git in a repository of ours."""
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


def whole(repo, work, rounds):
    """Cold, unchanged and one-line-changed runs."""
    copy = work / "repo"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", repo, copy], check=True)
    head()
    for number in range(rounds):
        data = work / f"data{number}"
        show(f"cold {number + 1}", measure("index", str(copy), "--test-embeddings", "--json", data=str(data)))
        for again in range(3):
            name = f"nothing changed {again + 1}"
            show(name, measure("index", str(copy), "--test-embeddings", "--json", data=str(data)))
        listing = subprocess.run(
            ["git", "ls-files", "src/*.c", "*.py", "*.c"], cwd=copy, capture_output=True, text=True
        )
        target = copy / listing.stdout.strip().split("\n")[-1]
        target.write_bytes(target.read_bytes() + b"\n/* a line more */\n")
        git("commit", "-qam", "a line more", cwd=copy)
        show("one line more", measure("index", str(copy), "--test-embeddings", "--json", data=str(data)))
        shutil.rmtree(data)


def growth(repo, work):
    """Peak memory with N files and with 5 N; Chroma runs as a server, so its index is not counted."""
    copy = work / "small"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{Path(repo).resolve()}", copy], check=True)
    shutil.rmtree(copy / ".git")
    shutil.rmtree(copy / "deps", ignore_errors=True)  # skipped as vendored at the root, but not in a part
    big = work / "big"
    for number in range(5):
        target = big / f"part{number}"
        shutil.copytree(copy, target, symlinks=True)
        # other words in every copy, so that its texts are new ones
        for path in target.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.suffix in {".c", ".h", ".py", ".go", ".rs", ".ts"}:
                path.write_bytes(path.read_bytes().replace(b"return", b"return/*%d*/" % number))
    with chroma_server(work) as url:
        os.environ["CODECHUNK_VECTORS__URL"] = url
        head()
        for name, folder in (("N files", copy), ("5 N files", big)):
            git("init", "-q", cwd=folder)
            git("add", "-A", "-f", cwd=folder)
            git("commit", "-qm", name, cwd=folder)
            data = str(work / f"data-{name[0]}")
            show(name, measure("index", str(folder), "--test-embeddings", "--json", data=data))


def main():
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codechunk-bench-") as work:
        if options.growth:
            growth(options.repo, Path(work))
        else:
            whole(options.repo, Path(work), options.rounds)


if __name__ == "__main__":
    main()
