"""Contents that were cut at another path: a renamed or copied file is not read again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Text, and_, cast, func, literal, select

from codechunk.state.contents import CutFile, planned_for
from codechunk.state.database import Database
from codechunk.state.generation import Generation
from codechunk.state.lexical import lexical_of
from codechunk.state.tables import chunks, files, repositories, sources
from codechunk.text.chunks import Chunk, Kind


@dataclass(frozen=True, slots=True)
class Copy:
    """A planned file whose content was cut at other paths: (row of that content, path)."""

    file_id: int
    path: str
    blob: str
    places: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class KnownCut:
    """What a content was cut into: `texts` are (hash of the text, tokens); or why it is `skipped`."""

    language: str | None
    skipped: str | None
    texts: list[tuple[str, int]]


class Copies:
    """Contents by their blob. Every method is one transaction; `cut_elsewhere` goes by pages."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lexical = lexical_of(database)

    def cut_elsewhere(
        self, generation: Generation, *, repository_id: int, fingerprint: str, page: int = 500
    ) -> Iterator[list[Copy]]:
        """Planned files whose content was cut at another path, page by page in order of path, with every such path."""
        same = and_(
            sources.c.repository_id == repository_id,
            sources.c.blob == files.c.blob,
            sources.c.fingerprint == fingerprint,
            sources.c.path != files.c.path,
            sources.c.status.in_(("chunked", "skipped")),
        )
        after = ""
        while True:
            planned = (
                select(files.c.id, files.c.path, files.c.blob)
                .where(*planned_for(generation), files.c.path > after)
                .order_by(files.c.path)
                .limit(page)
            )
            with self._db.read() as connection:
                rows = connection.execute(planned).all()
                ids = [row.id for row in rows]
                found = connection.execute(
                    select(files.c.id, sources.c.id.label("source"), sources.c.path)
                    .join(sources, same)
                    .where(files.c.id.in_(ids))
                    .order_by(files.c.id, sources.c.id)
                ).all()
            places: dict[int, list[tuple[int, str]]] = {}
            for row in found:
                places.setdefault(row.id, []).append((row.source, row.path))
            yield [Copy(row.id, row.path, row.blob, places[row.id]) for row in rows if row.id in places]
            if len(rows) < page:
                return
            after = rows[-1].path

    def known(self, url: str, cut_by: str, files: Sequence[tuple[str, str]]) -> dict[tuple[str, str], KnownCut]:
        """Those of these (path, blob) that an earlier run has cut and counted, and that hold no secrets.

        Args:
            url: the repository; nothing is known of one that was never indexed.
            cut_by: as `indexing.fingerprint` gives it; what `index --full` made stale is not known.
        """
        same = and_(
            repositories.c.url == url,
            sources.c.fingerprint == literal(f"{cut_by} epoch=") + cast(repositories.c.epoch, Text),
            sources.c.path.in_([path for path, _ in files]),
            sources.c.status.in_(("chunked", "skipped")),
            sources.c.counted == sources.c.chunks,
            func.coalesce(sources.c.secrets, 0) == 0,
        )
        wanted = set(files)
        with self._db.read() as connection:
            found = connection.execute(select(sources).join(repositories).where(same)).all()
            cuts = {
                row.id: ((row.path, row.blob), KnownCut(row.language, row.reason, []))
                for row in found
                if (row.path, row.blob) in wanted
            }
            texts = select(chunks.c.source_id, chunks.c.text_sha, chunks.c.tokens)
            for row in connection.execute(texts.where(chunks.c.source_id.in_(list(cuts)))):
                cuts[row.source_id][1].texts.append((row.text_sha, row.tokens))
        return dict(cuts.values())

    def read_back(self, source_id: int, file: Copy) -> CutFile:
        """A content as it was cut at another path, for `save` at the path of `file`; its chunks need new ids."""
        of = select(sources).where(sources.c.id == source_id)
        rows = select(chunks).where(chunks.c.source_id == source_id).order_by(chunks.c.ordinal)
        with self._db.read() as connection:
            source = connection.execute(of).one()
            found = connection.execute(rows).all()
            words = self._lexical.bodies(connection, source_id)
        return CutFile(
            file_id=file.file_id,
            path=file.path,
            blob=file.blob,
            status=source.status,
            reason=source.reason,
            fallback=source.fallback,
            language=source.language,
            chunks=[_chunk_of(row, path=file.path, language=source.language) for row in found],
            words=[""] * len(found) if words is None else words,
            secrets=source.secrets,
        )


def _chunk_of(row: Row[Any], *, path: str, language: str) -> Chunk:
    return Chunk(
        path=path,
        language=language,
        kind=Kind(row.kind),
        symbol=row.symbol,
        start_line=row.start_line,
        end_line=row.end_line,
        start_byte=row.start_byte,
        end_byte=row.end_byte,
        text=row.text,
        header=row.header,
        tokens=row.tokens,
    )
