"""What a list of answers is worth: recall@k, MRR@10 and Cov@4k, and the plain ranking that every other chunker gets.

Relevant is an answer that shares a line with the gold. Cov@4k is the mean share of the gold's lines within the first
4,000 tokens of the answers, headers counted: the figure that is fair between chunk sizes (recall@k favours big chunks).
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from codechunk.text.words import index_words, query_words

BUDGET_TOKENS = 4_000
CANDIDATES = 100
RRF_K = 60


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer: lines of a file (1-based, inclusive) and what it costs to read, in cl100k tokens with its header."""

    path: str
    start_line: int
    end_line: int
    tokens: int


Gold = Sequence[tuple[str, int, int]]


@dataclass(slots=True)
class Scores:
    """Sums over queries; `means` makes the figures of a table's row."""

    queries: int = 0
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, answers: Sequence[Shown], gold: Gold) -> None:
        """Take one query's answers, best first."""
        self.queries += 1
        rank = first_hit(answers, gold)
        for k in (1, 5, 10):
            self.sums[f"R@{k}"] += rank is not None and rank <= k
        self.sums["MRR@10"] += 1 / rank if rank is not None and rank <= 10 else 0.0
        self.sums["Cov@4k"] += covered(answers, gold)

    def merge(self, other: "Scores") -> None:
        """Add the sums of another part of the same set."""
        self.queries += other.queries
        for name, value in other.sums.items():
            self.sums[name] += value

    def means(self) -> dict[str, float]:
        """R@1, R@5, R@10, MRR@10, Cov@4k: means over all queries."""
        return {name: value / max(self.queries, 1) for name, value in self.sums.items()}


def first_hit(answers: Sequence[Shown], gold: Gold) -> int | None:
    """The rank (from 1) of the first answer that shares a line with the gold."""
    for rank, answer in enumerate(answers, start=1):
        for path, start, end in gold:
            if answer.path == path and answer.start_line <= end and start <= answer.end_line:
                return rank
    return None


def covered(answers: Sequence[Shown], gold: Gold, budget: int = BUDGET_TOKENS) -> float:
    """Share of the gold's lines among the answers' first `budget` tokens; the last answer is read as far as it goes."""
    wanted = {(path, line) for path, start, end in gold for line in range(start, end + 1)}
    seen: set[tuple[str, int]] = set()
    left = budget
    for answer in answers:
        lines = answer.end_line - answer.start_line + 1
        if answer.tokens > left:
            lines = int(lines * left / answer.tokens)
        left -= answer.tokens
        seen.update((answer.path, line) for line in range(answer.start_line, answer.start_line + lines))
        if left <= 0:
            break
    return len(wanted & seen) / max(len(wanted), 1)


class Lexical:
    """BM25 over path and text: sub-words of identifiers, stemmed, in SQLite's FTS5: codechunk's own lexical half."""

    def __init__(self, rows: Iterable[tuple[str, str]]) -> None:
        """`rows`: path and text of each chunk, in order."""
        self._db = sqlite3.connect(":memory:")
        self._db.execute("CREATE VIRTUAL TABLE words USING fts5(path, body, tokenize='porter unicode61')")
        self._db.executemany(
            "INSERT INTO words(rowid, path, body) VALUES (?, ?, ?)",
            ((number, index_words(path), index_words(text)) for number, (path, text) in enumerate(rows)),
        )

    def ranking(self, query: str, limit: int = CANDIDATES) -> list[int]:
        """Numbers of the best rows, best first."""
        words = query_words(query)
        if not words:
            return []
        match = " OR ".join(f'"{word}"' for word in words)
        sql = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, 2.0, 1.0), rowid LIMIT ?"
        return [row[0] for row in self._db.execute(sql, (match, limit))]


def by_vector(vectors: np.ndarray, query: np.ndarray, limit: int = CANDIDATES) -> list[int]:
    """Numbers of the most similar rows, best first."""
    similarity = vectors @ query
    return [int(number) for number in np.argsort(-similarity, kind="stable")[:limit]]


def fused(*rankings: Sequence[int], limit: int = CANDIDATES) -> list[int]:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009; k = 60)."""
    scores: dict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            scores[number] += 1 / (RRF_K + rank)
    return sorted(scores, key=lambda number: (-scores[number], number))[:limit]
