"""Searches inside one process, and the start of the command.

scripts/bench search --repo PATH [--chunks 20000]     indexes PATH as often as needed to have that many chunks.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.progress import Silence
from codechunk.search.ranking import Query

QUERIES = [
    "how are expired keys deleted",
    "parse command line arguments",
    "evict keys when memory is full",
    "write the append only file to disk",
    "hash table resize and rehash",
    "send a reply to the client",
    "acquire a lock",
    "compress a string",
    "cluster failover election",
    "read the configuration file",
]
FILTERS = {
    "no filter": {},
    "language": {"languages": ["c"]},
    "kind": {"kinds": ["function"]},
    "path": {"paths": ["*.h"]},
}


def copies(repo, work, count):
    """A repository holding `count` copies of the files of `repo`."""
    target = work / "repo"
    for number in range(count):
        archive = subprocess.run(["git", "-C", repo, "archive", "HEAD"], check=True, capture_output=True).stdout
        folder = target / f"part{number}"
        folder.mkdir(parents=True)
        subprocess.run(["tar", "x", "-C", folder], input=archive, check=True)
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"]
    for arguments in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-qm", "bench"]):
        subprocess.run(["git", *identity, *arguments], cwd=target, check=True, capture_output=True)
    return target


def quantile(times, share):
    """Milliseconds below which `share` of the times are."""
    return sorted(times)[int(share * (len(times) - 1))] * 1000


def main():
    """Index, search, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--chunks", type=int, default=20_000)
    options = parser.parse_args()
    starts = []
    for _ in range(10):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "codechunk", "--help"], check=True, capture_output=True)
        starts.append(time.perf_counter() - started)
    print(f"codechunk --help: median {statistics.median(starts):.3f} s of 10")
    with tempfile.TemporaryDirectory(prefix="codechunk-bench-") as work:
        loaded = load_config(
            config_file=None,
            flags={"data_dir": f"{work}/data", "embedding.provider": "synthetic"},
            environ={"HOME": os.environ["HOME"]},
            cwd=Path(work),
        )
        app = App(loaded)
        folder = copies(options.repo, Path(work) / "one", 1)
        total = app.index(IndexRequest(source=str(folder)), Silence()).chunks.total
        if total < options.chunks:
            folder = copies(options.repo, Path(work) / "many", math.ceil(options.chunks / total))
            total = app.index(IndexRequest(source=str(folder)), Silence()).chunks.total
        newest = Path(folder).parent.name + "/repo" if folder.parent.name == "many" else "repo"
        with app.searcher(newest, Silence()) as ask:
            print(f"{total:,} chunks\n\n| search | first ms | p50 ms | p95 ms |\n|---|---|---|---|")
            for name, filters in FILTERS.items():
                times = []
                for _ in range(5):
                    for text in QUERIES:
                        started = time.perf_counter()
                        ask(Query(text=text, **filters))
                        times.append(time.perf_counter() - started)
                print(f"| {name} | {times[0] * 1000:.0f} | {quantile(times, 0.5):.0f} | {quantile(times, 0.95):.0f} |")


if __name__ == "__main__":
    main()
