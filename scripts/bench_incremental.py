"""What a change costs: cold, nothing changed, one line changed, in repositories of 1,000, 3,000 and 10,000 files.

scripts/bench incremental --repo PATH [--sizes 1000,3000,10000] [--rounds 7] [--work FOLDER] [--profile]

PATH is a local git repository whose middle-sized source files are copied as often as needed. Every copy has other
names, so that its texts are new ones. The real command is measured, with synthetic vectors; medians of the rounds.
--work keeps repositories and data there and uses what is there already: a cold run of 10,000 files takes minutes.
--profile prints, instead of the table, where the time of a one-line change goes in the largest repository.
"""

import argparse
import contextlib
import cProfile
import io
import json
import os
import pstats
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

COMMAND = [sys.executable, "-m", "codechunk"]
SUFFIXES = (".c", ".cc", ".go", ".java", ".js", ".kt", ".php", ".py", ".rb", ".rs", ".ts")
SIZES = range(1_000, 3_500)  # bytes of a copied file: 5 to 8 chunks
LONG_WORD = re.compile(rb"\b[A-Za-z_]{7,}\b")
# What the issue asks for.
NOTHING_S, ONE_LINE_S, GROWTH = 0.5, 2.0, 1.5


@dataclass
class Measured:
    """Seconds of one repository: wall time of the command, and what it says of its own work."""

    files: int
    chunks: int = 0
    cold: float | None = None
    start: list[float] = field(default_factory=list)
    nothing: list[float] = field(default_factory=list)
    nothing_inside: list[float] = field(default_factory=list)
    line: list[float] = field(default_factory=list)
    line_inside: list[float] = field(default_factory=list)
    search: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)


def git(folder, *arguments):
    """Run git as nobody in particular. Returns its standard output."""
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid", "-c", "gc.auto=0"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True).stdout


def originals(repo):
    """The middle-sized source files of the newest commit: (path, bytes), in order of path."""
    rows = git(repo, "ls-tree", "-r", "-l", "-z", "HEAD").split(b"\0")
    found = []
    for row in filter(None, rows):
        facts, _, path = row.partition(b"\t")
        _, kind, blob, size = facts.split()
        name = path.decode("utf-8", "replace")
        if kind == b"blob" and name.endswith(SUFFIXES) and int(size) in SIZES and "vendor" not in name:
            found.append((name, blob))
    wanted = b"".join(blob + b"\n" for _, blob in found)
    packed = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=repo, input=wanted, check=True, capture_output=True
    ).stdout
    files, at = [], 0
    for name, _ in found:
        head_end = packed.index(b"\n", at)
        size = int(packed[at:head_end].split()[2])
        files.append((name, packed[head_end + 1 : head_end + 1 + size]))
        at = head_end + 2 + size
    return files


def build(folder, files, count):
    """A repository of `count` files: copies of `files`, each with names of its own."""
    for number in range(count):
        path, data = files[number % len(files)]
        copy = number // len(files)
        if copy:
            data = LONG_WORD.sub(lambda word: b"%s_%d" % (word[0], copy), data)  # noqa: B023 - used at once
        target = folder / f"part{copy}" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    git(folder, "init", "-q", "--template=")
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-qm", "bench")


def command(data, *arguments):
    """(seconds, standard output) of the real command."""
    started = time.perf_counter()
    done = subprocess.run([*COMMAND, "--data-dir", str(data), *arguments], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr)
    return seconds, done.stdout


def index(data, folder):
    """(seconds, document) of one run of index."""
    seconds, out = command(data, "index", str(folder), "--test-embeddings", "--json")
    return seconds, json.loads(out)


def change_a_line(folder, number):
    """Put a word into the middle of one file and commit it. Returns the word."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    path = paths[(number * 7919 + len(paths) // 3) % len(paths)]
    word = f"zebrafinch{time.time_ns()}"
    lines = path.read_bytes().split(b"\n")
    at = len(lines) // 2
    lines[at] += b" " + word.encode()
    path.write_bytes(b"\n".join(lines))
    git(folder, "add", "-A", "-f", str(path))
    git(folder, "commit", "-qm", f"change {number}")
    return word


def prepare(work, files, count):
    """(folder, data, measured) of a repository that was indexed once."""
    folder, data = work / f"files{count}", work / f"data{count}"
    measured = Measured(files=count)
    if not (folder / ".git").exists():
        folder.mkdir(parents=True)
        build(folder, files, count)
    fresh = not (data / "state.db").exists()
    seconds, document = index(data, folder)
    measured.cold = seconds if fresh else None
    measured.chunks = document["chunks"]["total"]
    return folder, data, measured


def measure(folder, data, measured, number):
    """One round of one size."""
    measured.start.append(command(data, "config", "show")[0])
    seconds, document = index(data, folder)
    measured.nothing.append(seconds)
    measured.nothing_inside.append(document["seconds"])
    word = change_a_line(folder, number)
    seconds, document = index(data, folder)
    measured.line.append(seconds)
    measured.line_inside.append(document["seconds"])
    measured.sent.append(document["embedding"]["texts_sent"])
    seconds, found = command(data, "search", word, "--json")
    measured.search.append(seconds)
    if not any(word in hit["text"] for hit in json.loads(found)):
        sys.exit(f"{word} was indexed and not found")


def table(results):
    """The measurements as Markdown, targets beside."""
    median = statistics.median
    head = ["", *(f"{one.files:,} files ({one.chunks:,} chunks)" for one in results), "target"]
    rows = [
        ["cold, s", *("-" if one.cold is None else f"{one.cold:.1f}" for one in results), ""],
        ["start-up (`config show`), s", *(f"{median(one.start):.2f}" for one in results), ""],
        ["nothing changed, s", *(f"{median(one.nothing):.2f}" for one in results), ""],
        [
            "nothing changed, after start-up, s",
            *(f"{median(one.nothing) - median(one.start):.2f}" for one in results),
            f"< {NOTHING_S} at 3,000 files",
        ],
        ["nothing changed, the run's own seconds", *(f"{median(one.nothing_inside):.2f}" for one in results), ""],
        [
            "one line changed, s (slowest)",
            *(f"{median(one.line):.2f} ({max(one.line):.2f})" for one in results),
            f"< {ONE_LINE_S:.0f}",
        ],
        ["one line changed, the run's own seconds", *(f"{median(one.line_inside):.2f}" for one in results), ""],
        ["one line changed, texts sent (most)", *(f"{median(one.sent):g} ({max(one.sent)})" for one in results), "1"],
        ["search that finds it, s", *(f"{median(one.search):.2f}" for one in results), ""],
    ]
    if len(results) > 1:
        small, big = results[0], results[-1]
        for name, times in (("", "line"), (", the run's own seconds", "line_inside")):
            ratio = median(getattr(big, times)) / median(getattr(small, times))
            rows.append(
                [
                    f"one line changed, {big.files:,} to {small.files:,} files{name}",
                    *[""] * (len(results) - 1),
                    f"{ratio:.2f} times",
                    f"<= {GROWTH}",
                ]
            )
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def profile(work, files, count):
    """Where the time goes: cProfile of a one-line change in this process, after a first one that imports everything."""
    from codechunk.app import App, IndexRequest
    from codechunk.config.load import load_config
    from codechunk.progress import Silence

    folder, data, _ = prepare(work, files, count)
    loaded = load_config(
        config_file=None,
        flags={"data_dir": str(data), "embedding.provider": "synthetic", "batch_processing.use_test_embeddings": True},
        environ={"HOME": os.environ["HOME"]},
        cwd=work,
    )
    for name in ("first, with imports", "second"):
        change_a_line(folder, 100)
        profiler = cProfile.Profile()
        started = time.perf_counter()
        with profiler:
            App(loaded).index(IndexRequest(source=str(folder), jobs=1), Silence())
        seconds = time.perf_counter() - started
        for order, lines in (("cumulative", 70), ("tottime", 25)):
            out = io.StringIO()
            pstats.Stats(profiler, stream=out).sort_stats(order).print_stats(lines)
            print(f"## {count:,} files, one line changed, {name}: {seconds:.2f} s under the profiler, by {order}\n")
            print(out.getvalue())


def main():
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--sizes", default="1000,3000,10000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    files = originals(options.repo)
    with contextlib.ExitStack() as stack:
        work = options.work
        if work is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="codechunk-bench-")))
        if options.profile:
            profile(work, files, sizes[-1])
            return
        prepared = [prepare(work, files, count) for count in sizes]
        # Round by round, not size by size: what else the machine does meanwhile meets all sizes alike.
        for number in range(options.rounds):
            for folder, data, measured in prepared:
                measure(folder, data, measured, number)
        print(table([measured for _, _, measured in prepared]))


if __name__ == "__main__":
    main()
