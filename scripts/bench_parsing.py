"""CPU time of chunking beside bare tree-sitter parsing of the same files, in one process.

    python scripts/bench_parsing.py --repo PATH [--suffix .c .h] [--language c] [--rounds 5] [--profile]

PATH is a folder, or a git repository (bare or not) whose HEAD is read. The rounds alternate and the best of
each counts. Prints megabytes per CPU second, their ratio, and statistics of the chunks.
"""

import argparse
import cProfile
import gc
import pstats
import subprocess
import time
from pathlib import Path

from tree_sitter import Parser

from codechunk.chunking import ChunkSettings, chunk_source, count_chunks
from codechunk.chunking.languages import detect_language, load_language


def files_of(root: Path, suffixes: tuple[str, ...]) -> list[tuple[str, bytes]]:
    if (root / "HEAD").exists() or (root / ".git").exists():
        names = git(root, "ls-tree", "-r", "-z", "--name-only", "HEAD").decode("utf-8", "replace").split("\0")
        return [(name, git(root, "show", f"HEAD:{name}")) for name in names if name.endswith(suffixes)]
    paths = sorted(path for path in root.rglob("*") if path.name.endswith(suffixes) and path.is_file())
    return [(str(path), path.read_bytes()) for path in paths if not path.is_symlink()]


def git(root: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", str(root), *words], check=True, stdout=subprocess.PIPE).stdout


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
        for path, data in files_of(args.repo, tuple(args.suffix))
    ]
    files = [file for file in files if file[2] not in {"text", "markdown"}]
    size = sum(len(data) for _, data, _ in files)

    def parse() -> None:
        for _, data, language in files:
            Parser(load_language(language)).parse(data)

    def chunk() -> None:
        for path, data, language in files:
            chunk_source(data, path=path, language=language, settings=settings)

    chunk()
    parse()
    if args.profile:
        profile = cProfile.Profile()
        profile.runcall(chunk)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    bare, ours = [], []
    for _ in range(args.rounds):
        for run, times in ((parse, bare), (chunk, ours)):
            gc.collect()
            start = time.process_time()
            run()
            times.append(time.process_time() - start)
    print(f"{len(files)} files, {size / 1e6:.1f} MB")
    print(f"parse  {min(bare):.2f} s CPU  {size / 1e6 / min(bare):.1f} MB/s")
    print(f"chunk  {min(ours):.2f} s CPU  {size / 1e6 / min(ours):.1f} MB/s   ratio {min(ours) / min(bare):.2f}")
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
