"""Stems of words, exactly as the lexical index makes them: `expired`, `expires` and `expiring` are one word.

The index is SQLite's FTS5 with its `porter` tokenizer, so SQLite is asked: in memory, many words at a time. A stemmer
of another maker differs in some words, and then evidence would be seen where the index has none.
"""

import sqlite3
import threading
from collections.abc import Iterable

_REMEMBERED = 100_000


class _Stemmer:
    """Word -> stem, remembered. Usable from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        self._database: sqlite3.Connection | None = None

    def __call__(self, words: Iterable[str]) -> dict[str, str]:
        wanted = set(words)
        with self._lock:
            new = list(wanted - self._known.keys())
            if len(self._known) + len(new) > _REMEMBERED:
                self._known.clear()
                new = list(wanted)
            if new:
                self._known.update(zip(new, new, strict=True))  # what the tokenizer would cut has no stem of its own
                self._known.update(self._ask(new))
            return {word: self._known[word] for word in wanted}

    def _ask(self, words: list[str]) -> dict[str, str]:
        database = self._opened()
        rows = enumerate(word.replace("\0", "") for word in words)
        database.executemany("INSERT INTO words(rowid, word) VALUES (?, ?)", rows)
        found: dict[str, list[str]] = {}
        for stem, row in database.execute("SELECT term, doc FROM stems"):
            found.setdefault(words[row], []).append(stem)
        database.execute("DELETE FROM words")
        return {word: stems[0] for word, stems in found.items() if len(stems) == 1}

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
            self._database.execute("CREATE VIRTUAL TABLE words USING fts5(word, tokenize='porter unicode61')")
            self._database.execute("CREATE VIRTUAL TABLE stems USING fts5vocab(words, 'instance')")
        return self._database


_stemmer = _Stemmer()


def stems(words: Iterable[str]) -> dict[str, str]:
    """The stem of each of these words, which are as `codechunk.text.words` cuts them."""
    return _stemmer(words)
