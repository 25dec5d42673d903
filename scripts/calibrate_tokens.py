"""Make codechunk/data/token_boundaries.z from folders of real code, and say how well it fits.

    python scripts/calibrate_tokens.py FOLDER... [--check]

Two files of three calibrate; every third is held back and measured. With --check the shipped table is
measured on all files and nothing is written.
"""

import argparse
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from codechunk.text import tokens

MAX_FILE_BYTES = 200_000
SPAN = 1_600
LEAST_BEYOND_ASCII = 128


def pairs(data: bytes) -> np.ndarray:
    raw = np.frombuffer(data, np.uint8).astype(np.intp)
    return raw[:-1] | raw[1:] << 8


def boundaries(data: bytes) -> np.ndarray:
    encoding = tokens._encoding()
    pieces = encoding.decode_tokens_bytes(encoding.encode_ordinary(data.decode()))
    starts = np.zeros(len(data), np.uint8)
    starts[np.cumsum([0] + [len(piece) for piece in pieces[:-1]])] = 1
    return starts


def samples(folders: list[Path]) -> list[tuple[str, bytes]]:
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.is_symlink() or path.stat().st_size > MAX_FILE_BYTES:
                continue
            data = path.read_bytes()
            try:
                data.decode()
            except UnicodeDecodeError:
                continue
            if len(data) > 2 and b"\0" not in data:
                found.append((path.suffix or path.name, data))
    return found


def fit(files: list[tuple[str, bytes]]) -> np.ndarray:
    size = tokens._PAIRS
    seen, cut = np.zeros(size), np.zeros(size)
    for _, data in files:
        index = pairs(data)
        seen += np.bincount(index, minlength=size)
        cut += np.bincount(index, weights=boundaries(data)[1:], minlength=size)
    # Two imagined boundaries per pair: what was never seen counts as one, what is rare leans to it.
    table = np.round((cut + 2) / (seen + 2) * 255).clip(1, 255).astype(np.uint8)
    # Beyond ASCII code has mostly common characters: lean to the rare ones.
    beyond = np.arange(size) >> 8 > 127
    table[beyond] = np.maximum(table[beyond], LEAST_BEYOND_ASCII)
    return table


def report(files: list[tuple[str, bytes]]) -> None:
    by_suffix: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    spans = []
    for suffix, data in files:
        estimate = tokens.TokenEstimate(data)
        exact = np.cumsum(boundaries(data))
        by_suffix[suffix][0] += estimate.span(0, len(data))
        by_suffix[suffix][1] += exact[-1]
        for start in range(0, len(data) - SPAN, SPAN):
            spans.append(estimate.span(start, start + SPAN) / (exact[start + SPAN] - exact[start]))
    for suffix, (guess, truth) in sorted(by_suffix.items(), key=lambda item: -item[1][1])[:40]:
        print(f"{suffix:16} {truth:10.0f} tokens  estimate / exact {guess / truth:.3f}")
    levels = [0.001, 0.01, 0.05, 0.5, 0.95, 0.99, 0.999]
    print(
        f"spans of {SPAN} bytes, estimate / exact:",
        dict(zip(levels, np.quantile(spans, levels).round(3), strict=True)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    files = samples(args.folders)
    print(f"{len(files)} files, {sum(len(data) for _, data in files):,} bytes")
    if not args.check:
        table = fit([file for number, file in enumerate(files) if number % 3])
        tokens.BOUNDARIES.write_bytes(zlib.compress(table.tobytes(), 9))
        print(f"wrote {tokens.BOUNDARIES.name}: {tokens.BOUNDARIES.stat().st_size:,} bytes")
        files = files[::3]
    report(files)


if __name__ == "__main__":
    main()
