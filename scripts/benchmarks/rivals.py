"""Other people's search on the files of an extracted repository: ripgrep, BM25, and semble from PyPI without its model.

Each is `folder -> (question -> its ten answers)`. What their makers published of them is in PUBLISHED.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.semble_set import RANKS, Question, Span
from codechunk.text.words import index_words, query_words

Search = Callable[[Question], Sequence[Span]]

# Name -> the result file of the snapshot and the mode in it.
PUBLISHED = {
    "ripgrep": ("ripgrep-fixed-strings", None),
    "semble's BM25": ("semble-ablations", "bm25"),
    "semble, no vectors": ("semble-ablations", "semble-bm25"),
}
TOLERANCE = 0.02
_K1, _B = 1.2, 0.75


def rivals() -> dict[str, Callable[[Path], Search]]:
    """All that can be asked here, by name."""
    return {
        "ripgrep": ripgrep,
        "BM25 over files": bm25_over_files,
        "semble's BM25": semble_bm25,
        "semble, no vectors": semble,
    }


def ripgrep(folder: Path) -> Search:
    """Files by the lines that hold the whole query, whatever its case: `rg --count --fixed-strings --ignore-case`."""
    lines = {path: text.lower().splitlines() for path, text in _texts(folder).items()}

    def search(question: Question) -> list[Span]:
        wanted = question.text.lower()
        counts = {path: sum(wanted in line for line in some) for path, some in lines.items()}
        return [Span(path) for path in sorted(counts, key=lambda path: -counts[path])[:RANKS] if counts[path]]

    return search


def bm25_over_files(folder: Path) -> Search:
    """Whole files by BM25 over the words of path and text."""
    counts = {path: Counter(index_words(f"{path} {text}").split()) for path, text in _texts(folder).items()}
    holders = Counter(word for words in counts.values() for word in words)
    lengths = {path: words.total() for path, words in counts.items()}
    mean = sum(lengths.values()) / max(len(lengths), 1)

    def score(path: str, words: Sequence[str]) -> float:
        norm = _K1 * (1 - _B + _B * lengths[path] / mean)
        found = ((holders[word], counts[path][word]) for word in words if word in counts[path])
        return sum(
            math.log(1 + (len(counts) - held + 0.5) / (held + 0.5)) * times * (_K1 + 1) / (times + norm)
            for held, times in found
        )

    def search(question: Question) -> list[Span]:
        words = query_words(question.text)
        scores = {path: score(path, words) for path in counts}
        return [Span(path) for path in sorted(scores, key=lambda path: -scores[path])[:RANKS] if scores[path]]

    return search


def semble_bm25(folder: Path) -> Search:
    """semble's chunks by its BM25 alone."""
    from semble.search import _search_bm25

    bm25, _, chunks = _semble_index(folder)
    return lambda question: _spans(_search_bm25(question.text, bm25, chunks, RANKS, None))


def semble(folder: Path) -> Search:
    """semble as it is, but for the vectors, which are not asked (its `alpha` 0)."""
    from semble.search import search

    bm25, vectors, chunks = _semble_index(folder)
    return lambda question: _spans(search(question.text, _NoModel(), vectors, bm25, chunks, RANKS, alpha=0.0))


class _NoModel:
    """Stands where semble wants a model: equal vectors for all texts, whose ranking has weight 0."""

    dim = 2

    def encode(self, texts, **_):
        import numpy as np

        return np.ones((len(texts), self.dim), np.float32)


def _semble_index(folder: Path):
    from semble.index.create import create_index_from_path

    root = folder.resolve()
    bm25, vectors, chunks, _ = create_index_from_path(root, _NoModel(), display_root=root)
    return bm25, vectors, chunks


def _spans(results) -> list[Span]:
    chunks = [result.chunk for result in results]
    return [Span(chunk.file_path, chunk.start_line, chunk.end_line) for chunk in chunks]


def _texts(folder: Path) -> dict[str, str]:
    """Path -> text of every file that is text, in order; .git is none of them."""
    texts = {}
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {".git"})
        for name in sorted(names):
            path = Path(base) / name
            if path.is_symlink():
                continue
            data = path.read_bytes()
            if b"\0" not in data[:8192]:
                texts[path.relative_to(folder).as_posix()] = data.decode("utf-8", "replace")
    return texts
