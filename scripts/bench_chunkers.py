"""codechunk beside other people's chunkers on the same files: speed, memory, and what is wrong with their chunks.

    scripts/bench chunkers --folder DIR... [--files N] [--megabytes M] [--peers a,b] [--rounds 3] [--health-only]

DIR is a folder, or a git repository (bare or not) whose HEAD is read. Each chunker works in a process of its own; they
take turns at slices of the files, and the best round of each slice counts, in CPU time. Prints Markdown. With
--health-only every text file is taken, also those without a grammar, and every violation is listed (--violations FILE).
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.files import Pack, pack_files
from benchmarks.health import CRUMB_CHARS, Health
from benchmarks.peers import PEERS, release
from benchmarks.worker import Worker

from codechunk.chunking import ChunkSettings
from codechunk.pool.pool import ChunkPool, ParseTask

BARE = "bare parse"
_SLICE_FILES = 500
_SLICE_BYTES = 4_000_000


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-chunkers-") as work:
        pack = pack_files(
            args.folder,
            Path(work),
            most_files=args.files,
            most_bytes=args.megabytes and int(args.megabytes * 1e6),
            only_parsed=not args.health_only,
        )
        size = sum(entry.size for entry in pack.entries)
        languages = len({entry.language for entry in pack.entries})
        print(
            f"{len(pack.entries)} files, {size / 1e6:.1f} MB, {languages} languages; limit {args.max_tokens} tokens\n"
        )
        names = args.peers.split(",")
        workers = {
            name: Worker(name, Path(work), max_tokens=args.max_tokens, limit_s=args.limit_s)
            for name in ([] if args.health_only else [BARE]) + names
        }
        try:
            if not args.health_only:
                print_speed(pack, time_all(pack, workers, args.rounds))
            healths = {name: health_of(workers[name], len(pack.entries)) for name in names}
        finally:
            for worker in workers.values():
                worker.close()
        print_health(healths, args.max_tokens)
        if args.violations:
            lines = [f"{name}\t{path}\t{what}\n" for name, sums in healths.items() for path, what in sums.violations]
            args.violations.write_text("".join(lines), encoding="utf-8", errors="replace")
        if not args.health_only and "codechunk" in names:
            print_pool(pack, args.rounds, args.max_tokens)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, nargs="+", required=True)
    parser.add_argument("--files", type=int, help="draw so many at random, always the same")
    parser.add_argument("--megabytes", type=float, help="draw files at random until there are so many")
    parser.add_argument("--peers", help=f"names with commas between them; all: {','.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=ChunkSettings().max_tokens)
    parser.add_argument("--limit-s", type=float, default=20.0, help="seconds a chunker may take for one file")
    parser.add_argument("--health-only", action="store_true", help="codechunk's health on every text file")
    parser.add_argument("--violations", type=Path, help="write every violation to this file")
    args = parser.parse_args()
    args.peers = args.peers or ("codechunk" if args.health_only else ",".join(PEERS))
    unknown = set(args.peers.split(",")) - PEERS.keys()
    missing = [str(folder) for folder in args.folder if not folder.is_dir()]
    if missing:
        parser.error(f"no such folder: {', '.join(missing)}")
    if unknown:
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return args


def time_all(pack: Pack, workers: dict[str, Worker], rounds: int) -> dict[str, dict]:
    """For each chunker the sum over slices of the files, of each slice its best round by CPU time.

    All chunkers take a slice before anybody takes the next, so what disturbs the machine disturbs all of them.
    """
    best: dict[tuple[str, int], dict] = {}
    peak: dict[str, int] = {}
    cuts = slices(pack)
    for number in range(rounds):
        # The order turns round, so that nobody always comes after the same neighbour.
        names = list(workers) if number % 2 == 0 else list(workers)[::-1]
        for start, end in cuts:
            for name in names:
                result = workers[name].ask("time", start, end)
                # Memory is the first round's: later ones hold what the one before left behind.
                if number == 0:
                    peak[name] = max(peak.get(name, 0), result["peak_bytes"])
                key = (name, start)
                best[key] = min(best.get(key, result), result, key=lambda each: each["cpu_s"])
        print(f"round {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return {name: summed([best[name, start] for start, _ in cuts]) | {"peak_bytes": peak[name]} for name in workers}


def slices(pack: Pack) -> list[tuple[int, int]]:
    """Ranges of the files of about the same size in bytes."""
    cuts, start, size = [], 0, 0
    for number, entry in enumerate(pack.entries, start=1):
        size += entry.size
        if size >= _SLICE_BYTES or number == len(pack.entries):
            cuts.append((start, number))
            start, size = number, 0
    return cuts


def summed(results: list[dict]) -> dict:
    by_language: Counter[str] = Counter()
    for result in results:
        by_language.update(result["by_language"])
    sums = {field: sum(result[field] for result in results) for field in ("cpu_s", "bytes", "files", "chunks")}
    return sums | {"by_language": by_language}


def print_speed(pack: Pack, best: dict[str, dict]) -> None:
    bare = best[BARE]
    print("| chunker | release | files | MB/s of CPU time | CPU time / bare parse | chunks/s | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    took = {name: result for name, result in best.items() if result["files"]}
    for name, result in sorted(took.items(), key=lambda item: -item[1]["bytes"] / item[1]["cpu_s"]):
        # A chunker that takes only some languages is compared with bare parsing of just these.
        taken = sum(bare["by_language"].get(language, 0.0) for language in result["by_language"])
        chunks = f"{result['chunks'] / result['cpu_s']:,.0f}" if result["chunks"] else "-"
        share = "all" if result["files"] == len(pack.entries) else f"{result['files']:,}"
        ratio = result["cpu_s"] / taken
        print(
            f"| {name} | {release(name)} | {share} | {result['bytes'] / 1e6 / result['cpu_s']:.1f} | {ratio:.2f} "
            f"| {chunks} | {result['peak_bytes'] / 1e6:.0f} |"
        )
    print(f"\nLoad of the machine meanwhile: {os.getloadavg()[1]:.1f}; {os.cpu_count()} cores.\n", flush=True)


def health_of(worker: Worker, files: int) -> Health:
    """Slice by slice, so that a file that kills the process costs only its slice again."""
    sums = Health()
    for start in range(0, files, _SLICE_FILES):
        sums.merge(Health(**worker.ask("health", start, min(files, start + _SLICE_FILES))))
    for path, data, why in worker.excluded:
        sums.failed(path, data, why)
    return sums


def print_health(healths: dict[str, Health], max_tokens: int) -> None:
    print(
        f"| chunker | chunks | tokens mean / median | lines in no chunk | other bytes in no chunk | bytes out / in "
        f"| over {max_tokens} tokens | over its own limit | under {CRUMB_CHARS} characters (whole files) "
        "| text altered | wrong position or lines | files failed (their lines) |"
    )
    print("|---" * 12 + "|")
    for name, sums in healths.items():
        tokens = sums.tokens or [0]
        failed = ", ".join(f"{count} {what}" for what, count in sums.exceptions.items())
        print(
            f"| {name} | {sums.chunks:,} | {statistics.fmean(tokens):.0f} / {statistics.median(tokens):.0f} "
            f"| {sums.lines_lost:,} | {sums.ink_lost:,} | {sums.bytes_out / max(sums.bytes_in, 1):.3f} "
            f"| {sums.over:,} | {sums.over_own:,} "
            f"| {sums.crumbs / max(sums.chunks, 1):.2%} ({sums.file_crumbs / max(sums.chunks, 1):.2%}) "
            f"| {sums.altered:,} | {sums.misplaced + sums.wrong_lines:,} "
            f"| {failed + f' ({sums.lines_failed:,} lines)' if failed else 0} |"
        )
    print(flush=True)


def print_pool(pack: Pack, rounds: int, max_tokens: int) -> None:
    """codechunk's own pool with one process and with two. Wall time only means something on an idle machine."""
    size = sum(entry.size for entry in pack.entries) / 1e6
    wall: dict[int, float] = {}
    cpu: dict[int, float] = {}
    for _ in range(rounds):
        for jobs in (1, 2):
            seconds = pool_seconds(pack, jobs, max_tokens)
            wall[jobs] = min(wall.get(jobs, seconds[0]), seconds[0])
            cpu[jobs] = min(cpu.get(jobs, seconds[1]), seconds[1])
    print(
        "| processes of codechunk's pool | wall s | MB/s of wall time | times one | CPU s, all processes | MB/s of it |"
    )
    print("|---" * 6 + "|")
    for jobs in wall:
        print(
            f"| {jobs} | {wall[jobs]:.2f} | {size / wall[jobs]:.1f} | {wall[1] / wall[jobs]:.2f} "
            f"| {cpu[jobs]:.2f} | {size / cpu[jobs]:.1f} |"
        )
    print(f"\nLoad of the machine meanwhile: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores.")


def pool_seconds(pack: Pack, jobs: int, max_tokens: int) -> tuple[float, float]:
    """Wall time, and CPU time of this process and the pool's, with their start."""
    tasks = (
        ParseTask(key=key, path=entry.path, data=pack.data(entry), language=entry.language, encoding="utf-8")
        for key, entry in enumerate(pack.entries)
    )
    first = ParseTask(key=0, path="a.py", data=b"a = 1\n", language="python", encoding="utf-8")
    settings = ChunkSettings(max_tokens=max_tokens)
    cpu = cpu_seconds()
    with ChunkPool(jobs=jobs, settings=settings, token_mode="on_demand", sample_percent=0.0, seed="") as pool:
        list(pool.run([first]))  # it is warm now
        start = time.perf_counter()
        for _ in pool.run(tasks):
            pass
        wall = time.perf_counter() - start
    return wall, cpu_seconds() - cpu


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
