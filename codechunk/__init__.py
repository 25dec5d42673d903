"""codechunk: index a git repository by meaning.

The library front is one pure function: `chunk_source(data, path=...) -> list[Chunk]`.
It is imported on first use, so that `import codechunk` stays instant for the command line.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codechunk.chunking import ChunkSettings, chunk_source
    from codechunk.text.chunks import Chunk

__version__ = "0.1.0"
__all__ = ["Chunk", "ChunkSettings", "__version__", "chunk_source"]


def __getattr__(name: str) -> Any:
    if name in {"chunk_source", "ChunkSettings"}:
        from codechunk import chunking

        return getattr(chunking, name)
    if name == "Chunk":
        from codechunk.text.chunks import Chunk

        return Chunk
    raise AttributeError(f"module 'codechunk' has no attribute {name!r}")
