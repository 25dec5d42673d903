"""Batch mode against the emulator: wall time, CPU and memory of codechunk for N chunks, and how many requests it made.

scripts/bench batch [--chunks N] [--job-seconds S]

The emulator runs in a process of its own. The chunks are cut, counted and stored with synthetic vectors first, so that
the measured run does nothing but ask for vectors, send, poll, take results, store them in Chroma and publish. Memory is
sampled every 20 ms; "to vectors" ends when the last vector is in the state database, before Chroma is opened.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "codechunk"]
FUNCTIONS_PER_FILE = 100


def make_repository(path, chunks):
    """A git repository whose functions make about `chunks` chunks, no two alike."""
    path.mkdir()
    for number in range(-(-chunks // FUNCTIONS_PER_FILE)):
        functions = []
        for part in range(FUNCTIONS_PER_FILE):
            call = f"    total += weigh_{number}_{part}(value"
            steps = "\n".join(f"{call}, {step}, scale={step * part})" for step in range(8))
            functions.append(f"def compute_{number}_{part}(value):\n    total = 0\n{steps}\n    return total\n")
        (path / f"module_{number:04}.py").write_text("\n\n".join(functions))
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=b", "-c", "user.email=b@x", "commit", "-qm", "b"]):
        subprocess.run(["git", *command], cwd=path, check=True, env=environment)


class Watch:
    """Peak resident memory of one process, and its CPU time."""

    def __init__(self, process):
        self.process, self.peaks, self._stop = process, {"to vectors": 0, "all": 0}, threading.Event()
        self.stage = "to vectors"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stop.wait(0.02):
            try:
                rss = self.process.memory_info().rss
            except psutil.NoSuchProcess:
                return
            self.peaks["all"] = max(self.peaks["all"], rss)
            if self.stage == "to vectors":
                self.peaks["to vectors"] = max(self.peaks["to vectors"], rss)

    def end(self):
        self._stop.set()
        self._thread.join()


def measured(arguments, environment):
    """Run the command; when each of its stages ended (seconds from the start), memory and CPU."""
    started = time.perf_counter()
    before = os.times()
    process = psutil.Popen(
        [*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watch = Watch(process)
    stages = {}
    for line in process.stderr:
        found = re.match(r"(Embedding|Storing): .* in ([\d.]+) s", line)
        if found:
            stages[found[1]] = float(found[2])
            watch.stage = "after"
    out = process.stdout.read()
    process.wait()
    watch.end()
    after = os.times()
    if process.returncode:
        sys.exit(f"the command failed with {process.returncode}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return json.loads(out), time.perf_counter() - started, cpu, stages, watch.peaks


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--job-seconds", type=float, default=0.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_repository(work / "repo", options.chunks)
        emulator = subprocess.Popen(
            [sys.executable, ROOT / "tests/helpers/gemini_emulator.py", "--job-seconds", str(options.job_seconds)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            url, key = address(emulator)
            environment = {
                **os.environ,
                "HOME": folder,
                "CODECHUNK_GEMINI_API_KEY": key,
                "CODECHUNK_EMBEDDING__BASE_URL": url,
                "CODECHUNK_BATCH_PROCESSING__POLLER_INTERVAL": "2s",
                "CODECHUNK_LOG__LEVEL": "warning",
            }
            base = ["--data-dir", str(work / "data")]
            subprocess.run(
                [*COMMAND, *base, "-q", "index", work / "repo", "--test-embeddings"], env=environment, check=True
            )
            document, seconds, cpu, stages, peaks = measured(
                [*base, "index", str(work / "repo"), "--mode", "batch", "--json"], environment
            )
            with urllib.request.urlopen(f"{url}/__emulator__/ledger") as answer:
                ledger = json.load(answer)
        finally:
            emulator.terminate()
    chunks = document["chunks"]["ready"]
    print(f"{chunks:,} chunks ready, {document['embedding']['batches']} batch jobs, status {document['status']}")
    print(f"wall {seconds:.1f} s, CPU {cpu:.1f} s; stages {stages}")
    vectors, whole = peaks["to vectors"] / 1e6, peaks["all"] / 1e6
    print(f"peak RSS {vectors:.0f} MB until the last vector was saved, {whole:.0f} MB in all")
    print("requests", json.dumps(ledger.get("requests", {}), sort_keys=True))


def address(emulator):
    """The emulator's URL and key, from the lines it prints when it is ready."""
    url = key = None
    for line in emulator.stdout:
        url = (re.search(r"https?://127\.0\.0\.1:\d+", line) or [url])[0]
        key = (re.search(r"GEMINI_API_KEY=(\S+)", line) or [None, key])[1]
        if url and key:
            return url, key
    sys.exit("the emulator did not start")


if __name__ == "__main__":
    main()
