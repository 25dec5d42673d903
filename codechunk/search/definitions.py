"""Whether a chunk defines the symbol that is asked for, and how well. Pure."""

import re
from collections.abc import Collection

from codechunk.search.question import Question
from codechunk.state import FoundChunk

_PARTS = re.compile(r"::|\\|->|[.#]")
TYPES = frozenset({"class", "struct", "interface", "module", "enum", "type"})
"""Kinds of chunks that define a type."""
# A name in other letters (`setheader` for `setHeader`), and one whose outer names are others, say less.
OTHER_CASE, OTHER_OWNER = 0.6, 0.7
# The file that is called like the symbol is its home; a type is asked for more often than a method of its name.
HOME, TYPE = 0.5, 1.1


def defines(question: Question, chunk: FoundChunk) -> float:
    """0 when the chunk does not define it, else 1 and somewhat less or more; of several definitions the best."""
    if not question.symbol or not chunk.symbol:
        return 0.0
    return max((_defines(question.symbol, one, chunk) for one in chunk.symbol.split(", ")), default=0.0)


def names_one(names: Collection[str], symbol: str, kind: str) -> float:
    """What a chunk of this symbol and kind is worth as the definition of one of these names; 0: it is none."""
    last = {_PARTS.split(one)[-1] for one in symbol.split(", ") if " > " not in one}
    if last.isdisjoint(names):
        folded = {name.lower() for name in names}
        worth = OTHER_CASE if any(name.lower() in folded for name in last) else 0.0
    else:
        worth = 1.0
    return worth * (TYPE if kind in TYPES else 1.0)


def _defines(asked: tuple[str, ...], symbol: str, chunk: FoundChunk) -> float:
    if " > " in symbol:  # a heading below a heading
        return 0.0
    parts = [part for part in _PARTS.split(symbol) if part]
    if not parts or parts[-1].lower() != asked[-1].lower():
        return 0.0
    worth = 1.0 if parts[-1] == asked[-1] else OTHER_CASE
    owners = [part.lower() for part in asked[:-1]]
    if owners:
        have = {part.lower() for part in parts[:-1]} | set(chunk.path.lower().replace(".", "/").split("/"))
        worth *= OTHER_OWNER + (1.2 - OTHER_OWNER) * sum(owner in have for owner in owners) / len(owners)
    if _folded(chunk.path.rpartition("/")[2].rpartition(".")[0]) == _folded(asked[-1]):
        worth += HOME
    return worth * (TYPE if chunk.kind in TYPES else 1.0)


def _folded(name: str) -> str:
    return re.sub(r"[_-]", "", name).lower()
