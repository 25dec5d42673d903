"""What came, changed, moved and went between two states of an index, counted. Pure."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, repeat
from typing import NamedTuple, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """A generation compared with the one before it.

    Files are told apart by path and blob, chunks by id, which holds path, symbol and text. `moved` are files with
    the same content at another path, and chunks with the same text on other lines or in another file; `changed` are
    chunks of one file with the same symbol and kind and another text. What is none of these is as it was.
    """

    files_added: int = 0
    files_changed: int = 0
    files_moved: int = 0
    files_deleted: int = 0
    chunks_added: int = 0
    chunks_changed: int = 0
    chunks_moved: int = 0
    chunks_deleted: int = 0
    ids_new: int = 0
    """Chunk ids that are in the new generation only: these are written to Chroma."""
    ids_gone: int = 0
    """Chunk ids that were in the old generation only: these are deleted from Chroma."""

    def dump(self) -> dict[str, int]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def load(cls, values: dict[str, int]) -> Self:
        """From what `dump` gave."""
        return cls(**values)


class Piece(NamedTuple):
    """A chunk as far as it takes part in a comparison."""

    path: str
    chunk_id: str
    symbol: str | None
    kind: str
    text_sha: str
    start_line: int


def compare_files(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, int]:
    """The counts of files, by the names of `Changes`, from path -> blob of those that differ on each side."""
    came = Counter(blob for path, blob in after.items() if path not in before)
    went = Counter(blob for path, blob in before.items() if path not in after)
    moved = (came & went).total()
    return {
        "files_added": came.total() - moved,
        "files_changed": sum(before.get(path, blob) != blob for path, blob in after.items()),
        "files_moved": moved,
        "files_deleted": went.total() - moved,
    }


def compare_chunks(before: Iterable[Piece], after: Iterable[Piece]) -> dict[str, int]:
    """The counts of chunks, by the names of `Changes`; both sides sorted by path.

    File by file, in memory of one file and the texts left over, which may have moved to another file.
    """
    moved = changed = new_ids = gone_ids = 0
    came: Counter[str] = Counter()
    went: Counter[str] = Counter()
    for was, now in _by_path(before, after):
        lines = {piece.chunk_id: piece.start_line for piece in was}
        moved += sum(lines.get(piece.chunk_id, piece.start_line) != piece.start_line for piece in now)
        new = [piece for piece in now if piece.chunk_id not in lines]
        kept = {piece.chunk_id for piece in now}
        gone = [piece for piece in was if piece.chunk_id not in kept]
        new_ids, gone_ids = new_ids + len(new), gone_ids + len(gone)
        # The same text under another symbol, or one of several equal ones; then another text under the same symbol, or
        # under one that begins with the same name where tiny definitions share a chunk.
        renamed, new, gone = _pair(new, gone, lambda piece: piece.text_sha)
        moved += renamed
        for key in (lambda piece: (piece.symbol, piece.kind), _first_name):
            edited, new, gone = _pair(new, gone, key)
            changed += edited
        came.update(piece.text_sha for piece in new)
        went.update(piece.text_sha for piece in gone)
    across = (came & went).total()
    return {
        "chunks_added": came.total() - across,
        "chunks_changed": changed,
        "chunks_moved": moved + across,
        "chunks_deleted": went.total() - across,
        "ids_new": new_ids,
        "ids_gone": gone_ids,
    }


def _first_name(piece: Piece) -> str:
    return (piece.symbol or "").partition(", ")[0]


def _by_path(before: Iterable[Piece], after: Iterable[Piece]) -> Iterator[tuple[list[Piece], list[Piece]]]:
    """Both sides of each path; both come sorted by it."""
    sides = (zip(repeat(number), pieces) for number, pieces in enumerate((before, after)))
    for _, group in groupby(heapq.merge(*sides, key=_path), key=_path):
        both: tuple[list[Piece], list[Piece]] = ([], [])
        for number, piece in group:
            both[number].append(piece)
        yield both


def _path(side: tuple[int, Piece]) -> str:
    return side[1].path


def _pair(
    new: Sequence[Piece], gone: Sequence[Piece], key: Callable[[Piece], object]
) -> tuple[int, list[Piece], list[Piece]]:
    """How many of both sides have a partner with the same key, and who is left over on each."""
    common = Counter(map(key, new)) & Counter(map(key, gone))
    return common.total(), _without(new, common, key), _without(gone, common, key)


def _without(pieces: Sequence[Piece], taken: Counter[object], key: Callable[[Piece], object]) -> list[Piece]:
    left = Counter(taken)
    rest = []
    for piece in pieces:
        if left[key(piece)]:
            left[key(piece)] -= 1
        else:
            rest.append(piece)
    return rest
