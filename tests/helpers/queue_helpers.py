"""Texts that wait for their vectors, in a real state database."""

from collections.abc import Sequence

import numpy as np

from codechunk.state import CutFile, IndexRow, PlannedFile, Space, State
from codechunk.state.embeddings import Vectors
from codechunk.text.chunks import Chunk, Kind, chunk_ids
from codechunk.text.words import index_words

DIMENSIONS = 128
MODEL = "gemini-embedding-001"
SPACE = Space(provider="gemini", model=MODEL, dimensions=DIMENSIONS, task="RETRIEVAL_DOCUMENT", header_version=1)


def add_texts(state: State, texts: Sequence[str], *, tokens: int | None = 100, name: str = "a.py") -> IndexRow:
    """An index whose only file has these texts as chunks, all of them pending; each was counted as `tokens`."""
    index = state.catalog.open_index(url="https://host.invalid/o/n", names=["o/n"], ref=name, space=SPACE)
    chunks = [
        Chunk(
            path=name, language="python", kind=Kind.FUNCTION, symbol=f"f{number}", start_line=1, end_line=2,
            start_byte=0, end_byte=len(text), text=text, tokens=tokens,
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip
    state.contents.write_plan(index.next, [PlannedFile(path=name, blob=name, size_bytes=1, reason=None)])
    repository = index.repository_id
    (file,) = state.contents.unread(index.next, repository_id=repository, fingerprint="f")
    cut = CutFile(
        file_id=file.id, path=file.path, blob=file.blob, status="chunked", language="python", chunks=chunks,
        chunk_ids=chunk_ids(index.url, chunks), words=[index_words(chunk.text) for chunk in chunks],
    )  # fmt: skip
    state.contents.save(repository, "f", [cut])
    job = state.catalog.start_job(index.id, "c" * 40, redo=False)
    (source,) = state.contents.new_sources(index.next, all_files=True)
    state.embeddings.request(index.space_id, [source.id], job_id=job.id)
    return index


def rows(state: State, query: str) -> list[tuple[object, ...]]:
    """Rows of the database, by SQL."""
    with state.database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def by_text(state: State, column: str) -> dict[str, object]:
    """A column of `embeddings` by text."""
    found = rows(state, f"SELECT c.text, e.{column} FROM embeddings e JOIN chunks c ON c.text_sha = e.text_sha")
    return {str(text): value for text, value in found}


def stored_vectors(state: State) -> dict[str, Vectors]:
    """The stored vector of each text that has one."""
    query = (
        "SELECT c.text, v.vector FROM vectors v JOIN embeddings e ON e.id = v.embedding_id "
        "JOIN chunks c ON c.text_sha = e.text_sha"
    )
    return {
        str(text): np.frombuffer(bytes(blob), "<f2").astype(np.float32)  # type: ignore[call-overload]
        for text, blob in rows(state, query)
    }
