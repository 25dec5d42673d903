"""Chunks of real-looking files, written down; UPDATE_SNAPSHOTS=1 writes them anew."""

import os
from pathlib import Path

import pytest
from chunking_helpers import checked_chunks

from codechunk.chunking import count_chunks

HERE = Path(__file__).parent / "snapshots"

UPDATE = bool(os.environ.get("UPDATE_SNAPSHOTS"))
INPUTS = sorted((HERE / "inputs").iterdir())


@pytest.mark.parametrize("path", INPUTS, ids=[path.name for path in INPUTS])
def test_chunks_are_as_written_down(path):
    chunks = count_chunks(checked_chunks(path.read_bytes(), path=path.name))
    lines = [f"language {chunks[0].language}"]
    for chunk in chunks:
        lines.append(f"{chunk.start_line}-{chunk.end_line} {chunk.kind} {chunk.symbol or '-'} {chunk.tokens}")
        lines += [f"    | {line}" for line in chunk.header.splitlines()]
    seen = "\n".join(lines) + "\n"
    expected = HERE / f"{path.name}.chunks"
    if UPDATE:
        expected.write_text(seen, encoding="utf-8")
    assert seen == expected.read_text(encoding="utf-8")
