"""Two generations of an index side by side. Reads only the files that begin or end with the newer one."""

from typing import Any

from sqlalchemy import Select, select

from codechunk.state.compare import Changes, Piece, compare_chunks, compare_files
from codechunk.state.contents import files_of, sum_of_chunks
from codechunk.state.database import Database
from codechunk.state.generation import Generation
from codechunk.state.tables import chunks, files


class Comparisons:
    """Compares generations. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def between(self, old: Generation, new: Generation) -> Changes:
        """What generation `new` of an index is beside its generation `old`."""
        with self._db.read() as connection:
            columns = select(files.c.path, files.c.blob)
            was, now = (
                {row.path: row.blob for row in connection.execute(columns.where(*_differing(old, new, begins=begins)))}
                for begins in (False, True)
            )
            counts = compare_files(was, now)
            if not old.number:  # everything is new: nothing to compare
                total = sum_of_chunks(connection, *_differing(old, new, begins=True))
                return Changes(**counts, chunks_added=total, ids_new=total)
            pieces = (
                connection.execution_options(yield_per=1_000).execute(self._pieces(old, new, begins=begins))
                for begins in (False, True)
            )
            before, after = (map(Piece._make, rows) for rows in pieces)
            return Changes(**counts, **compare_chunks(before, after))

    def _pieces(self, old: Generation, new: Generation, *, begins: bool) -> Select[Any]:
        # Both sides are merged by path, so both must come in one order: that of the bytes.
        path = files.c.path if self._db.is_sqlite else files.c.path.collate("C")
        return (
            select(
                files.c.path,
                chunks.c.chunk_id,
                chunks.c.symbol,
                chunks.c.kind,
                chunks.c.text_sha,
                chunks.c.start_line,
            )
            .join(chunks, chunks.c.source_id == files.c.source_id)
            .where(*_differing(old, new, begins=begins))
            .order_by(path, chunks.c.ordinal)
        )


def _differing(old: Generation, new: Generation, *, begins: bool) -> tuple[Any, ...]:
    """The rows of `files` that begin with `new`, or that `old` has and that end with `new`."""
    if begins:
        return files_of(new), files.c.from_generation == new.number
    return files_of(old), files.c.to_generation == new.number
