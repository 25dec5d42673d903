"""CPU time of chunking beside bare tree-sitter parsing of the same files, in one process; then in child processes.

    python scripts/bench_parsing.py --repo PATH [--suffix .c .h] [--language c] [--rounds 5] [--profile]

PATH is a folder, or a git repository (bare or not) whose HEAD is read. The rounds alternate and the best of
each file counts, so that a busy machine hurts little.
Prints megabytes per CPU second, their ratio, what one and two child processes do in wall time with everything that
`index` asks of them (pipes, words, exact counts), and statistics of the chunks.
"""

import argparse
import cProfile
import gc
import pstats
import time
from pathlib import Path

from benchmarks.files import files_of
from tree_sitter import Parser

from codechunk.chunking import ChunkSettings, chunk_source, count_chunks
from codechunk.chunking.languages import detect_language, load_language
from codechunk.pool.pool import ChunkPool, ParseTask


def beside_parsing(files: list[tuple[str, bytes, str]], settings: ChunkSettings, rounds: int) -> tuple[float, float]:
    """CPU seconds of bare parsing and of chunking: the sum of each file's best round."""
    best = [[float("inf")] * len(files) for _ in range(2)]
    for _ in range(rounds + 1):
        gc.collect()
        gc.disable()
        for number, (path, data, language) in enumerate(files):
            grammar = load_language(language)
            start = time.thread_time()
            Parser(grammar).parse(data)
            middle = time.thread_time()
            chunk_source(data, path=path, language=language, settings=settings)
            end = time.thread_time()
            best[0][number] = min(best[0][number], middle - start)
            best[1][number] = min(best[1][number], end - middle)
        gc.enable()
    return sum(best[0]), sum(best[1])


def pool_wall(files: list[tuple[str, bytes, str]], settings: ChunkSettings, jobs: int) -> float:
    """Wall seconds of a warm pool for all files, as `index` runs it by default."""
    tasks = [
        ParseTask(key=key, path=path, data=data, language=language, encoding="utf-8")
        for key, (path, data, language) in enumerate(files)
    ]
    with ChunkPool(
        jobs=jobs, settings=settings, token_mode="all", sample_percent=10, seed="bench", secrets="redact"
    ) as pool:
        for _ in pool.run(tasks[: 20 * jobs]):
            pass
        start = time.perf_counter()
        for _ in pool.run(tasks):
            pass
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", type=Path, required=True)
    parser.add_argument("--suffix", nargs="+", default=[".c", ".h"])
    parser.add_argument("--language")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    settings = ChunkSettings(max_tokens=args.max_tokens)
    files = [
        (path, data, args.language or detect_language(path, data))
        for path, data in files_of(args.repo)
        if path.endswith(tuple(args.suffix))
    ]
    files = [file for file in files if file[2] not in {"text", "markdown"}]
    size = sum(len(data) for _, data, _ in files)

    def chunk() -> None:
        for path, data, language in files:
            chunk_source(data, path=path, language=language, settings=settings)

    if args.profile:
        chunk()
        profile = cProfile.Profile()
        profile.runcall(chunk)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    bare, ours = beside_parsing(files, settings, args.rounds)
    print(f"{len(files)} files, {size / 1e6:.1f} MB")
    print(f"parse  {bare:.2f} s CPU  {size / 1e6 / bare:.1f} MB/s")
    print(f"chunk  {ours:.2f} s CPU  {size / 1e6 / ours:.1f} MB/s   ratio {ours / bare:.2f}")
    walls = [min(pool_wall(files, settings, jobs) for _ in range(args.rounds)) for jobs in (1, 2)]
    print(
        f"pool   1 job {size / 1e6 / walls[0]:.1f} MB/s, 2 jobs {size / 1e6 / walls[1]:.1f} MB/s (wall): "
        f"{walls[0] / walls[1]:.2f} times"
    )
    chunks = [
        chunk
        for path, data, language in files
        for chunk in chunk_source(data, path=path, language=language, settings=settings)
    ]
    tokens = sorted(chunk.tokens for chunk in count_chunks(chunks))
    crumbs = sum(len("".join(chunk.text.split())) < 50 for chunk in chunks)
    print(
        f"{len(chunks)} chunks, tokens mean {sum(tokens) / len(tokens):.0f}, median {tokens[len(tokens) // 2]}, "
        f"max {tokens[-1]}; under 50 characters {crumbs / len(chunks):.2%}; "
        f"with a symbol {sum(chunk.symbol is not None for chunk in chunks) / len(chunks):.0%}"
    )


if __name__ == "__main__":
    main()
