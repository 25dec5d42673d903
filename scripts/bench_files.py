"""How the time of a run grows with the number of files: planning, comparing, and a whole run, of tiny files.

scripts/bench files [--sizes 60000,120000,240000] [--whole 15000,30000,60000] [--work FOLDER]

Repositories of that many files, each with a text of its own, are made with git fast-import. Planning: a run that finds
nothing known, up to the moment where the first file would be cut. Comparing: a run over the same commit when all its
files are published. Both are measured step by step in this process, in CPU seconds. A whole run is the real command
with synthetic vectors, first on an empty data directory, then again. Ratios are those of the last two sizes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from codechunk.git.address import parse_source
from codechunk.git.repository import OpenedRepository, open_repository
from codechunk.indexing.cut import SAVE_FILES, Comparison
from codechunk.selection.skip import SkipRules
from codechunk.state import CutFile, IndexRow, Space, State

COMMAND = [sys.executable, "-m", "codechunk"]
SPACE = Space(provider="synthetic", model="m", dimensions=4, task="t", header_version=1)
CUT = "bench"
GROWTH = 2.2  # what issue 10 asks for: twice as many files take at most so many times the seconds


def build(folder: Path, count: int) -> None:
    """A repository of one commit with `count` text files of one line in 100 folders."""
    subprocess.run(["git", "init", "-q", "--template=", folder], check=True)
    importer = subprocess.Popen(["git", "fast-import", "--quiet"], cwd=folder, stdin=subprocess.PIPE)
    assert importer.stdin is not None
    author = b"bench <bench@example.invalid> 1700000000 +0000"
    importer.stdin.write(b"commit refs/heads/main\ncommitter %s\ndata 5\nbench\n" % author)
    for number in range(count):
        text = b"number %d\n" % number
        importer.stdin.write(b"M 644 inline d%02d/f%07d.txt\ndata %d\n%s" % (number % 100, number, len(text), text))
    importer.stdin.write(b"\n")
    importer.stdin.close()
    if importer.wait():
        sys.exit("git fast-import failed")
    subprocess.run(["git", "symbolic-ref", "HEAD", "refs/heads/main"], cwd=folder, check=True)


class Clock:
    """Seconds of each step of a run, by `now`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.seconds: dict[str, float] = {}
        self.chunks = 0  # of the repository, as the command tells

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        began = self._now()
        yield
        self.seconds[step] = self._now() - began


def stages(folder: Path, data: Path) -> dict[str, float]:
    """CPU seconds of each step of planning and comparing one repository."""
    step = Clock(time.process_time)
    with State(data / "state.db") as state:
        opened = open_repository(parse_source(str(folder)), ref=None, mirrors=data)
        index = state.catalog.open_index(url=str(folder), names=["bench"], ref="main", space=SPACE)
        mine = {"repository_id": index.repository_id, "fingerprint": CUT}
        with step("plan"):
            plan(state, index, opened)
        with step("adopt"):
            state.contents.adopt(index.next, **mine)
        with step("count files"):
            state.contents.file_counts(index.next)
        with step("look for copies"):
            deque(state.copies.cut_elsewhere(index.next, **mine), maxlen=0)
        with step("read the plan"):
            unread = list(state.contents.unread(index.next, **mine))
        with step("save"):
            for start in range(0, len(unread), SAVE_FILES):
                parts = [
                    CutFile(file_id=file.id, path=file.path, blob=file.blob, status="chunked")
                    for file in unread[start : start + SAVE_FILES]
                ]
                state.contents.save(index.repository_id, CUT, parts)
        with step("sum up"):
            state.contents.new_sources(index.next, all_files=True)
            state.contents.token_sums(index.next)
            state.embeddings.ledger(index.next)
        state.catalog.publish(index.next, commit=opened.commit, fingerprint=CUT, whole=True)
        index = state.catalog.refreshed(index)
        with step("compare"):
            unchanged = plan(state, index, opened).unchanged
        assert unchanged == len(unread)
        with step("sweep"):
            state.catalog.sweep(index.next)
            state.catalog.drop_unused_sources(index.repository_id)
    return step.seconds


def plan(state: State, index: IndexRow, opened: OpenedRepository) -> Comparison:
    """What `Indexing.plan` does, without the processes that cut."""
    state.contents.abandon(index.next)
    known = state.contents.known_files(index.published)
    comparison = Comparison()
    entries = opened.repository.list_tree(opened.commit)
    changes = comparison.changes(entries, known, SkipRules.build(), redo=False)
    state.contents.write_plan(index.next, changes)
    state.contents.retire(index.next, comparison.replaced + comparison.gone)
    return comparison


def whole(folder: Path, data: Path) -> dict[str, float]:
    """Seconds of the real command, on nothing and again."""
    step = Clock(time.perf_counter)
    for name in ("first run", "unchanged run"):
        with step(name):
            done = subprocess.run(
                [*COMMAND, "--data-dir", data, "index", folder, "--test-embeddings", "--json"],
                capture_output=True,
                text=True,
            )
        if done.returncode:
            sys.exit(done.stderr)
        step.chunks = json.loads(done.stdout)["chunks"]["total"]
    return {"chunks": step.chunks, **step.seconds}


def show(title: str, sizes: list[int], columns: list[dict[str, float]]) -> None:
    """A table in Markdown: a row for each step, and how the last two sizes compare."""
    print(f"\n{title}\n\n| | {' | '.join(f'{size:,}' for size in sizes)} | ratio |")
    print("|---" * (len(sizes) + 2) + "|")
    total = [sum(seconds for name, seconds in column.items() if name != "chunks") for column in columns]
    rows = [(name, [column[name] for column in columns]) for name in columns[0]] + [("all", total)]
    for name, values in rows:
        ratio = f"{values[-1] / values[-2]:.2f}" if len(values) > 1 else ""
        cells = " | ".join(f"{value:,.0f}" if name == "chunks" else f"{value:.2f} s" for value in values)
        print(f"| {name} | {cells} | {ratio} |")
    if len(total) > 1 and total[-1] > GROWTH * total[-2]:
        print(f"\nMore than {GROWTH} times the seconds for twice the files.")


def run(sizes: list[int], work: Path, measure: Callable[[Path, Path], dict[str, float]]) -> list[dict[str, float]]:
    """Measure each size in a repository of its own, made when it is not there yet."""
    columns = []
    for size in sizes:
        folder = work / f"files{size}"
        if not folder.exists():
            build(folder, size)
        with tempfile.TemporaryDirectory(prefix="data-", dir=work) as data:
            columns.append(measure(folder, Path(data)))
        print(f"{size:,}: {columns[-1]}", file=sys.stderr)
    return columns


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench files", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="60000,120000,240000", help="files for planning and comparing; each twice")
    parser.add_argument("--whole", default="15000,30000,60000", help="files for whole runs; empty: none")
    parser.add_argument("--work", type=Path, help="where repositories are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="codechunk-bench-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for title, given, measure in (
            ("Planning and comparing, CPU", options.sizes, stages),
            ("Whole runs", options.whole, whole),
        ):
            sizes = [int(size) for size in given.split(",") if size]
            if sizes:
                show(title, sizes, run(sizes, work, measure))


if __name__ == "__main__":
    main()
