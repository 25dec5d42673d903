"""codechunk: index a git repository by meaning.

    with codechunk.open(data_dir=..., config=...) as cc:
        cc.index("https://github.com/redis/redis")
        for answer in cc.search("how are keys evicted"):
            print(answer.path, answer.start_line)

`open` is the whole product (codechunk/library.py), `chunk_source(data, path=...) -> list[Chunk]` one pure function.
Everything is imported at its first use, so that `import codechunk` stays instant and needs the standard library only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codechunk.chunking import ChunkSettings, chunk_source
    from codechunk.errors import CodechunkError
    from codechunk.library import Codechunk, open
    from codechunk.process.stop import Stop
    from codechunk.progress import Event
    from codechunk.text.chunks import Chunk

__version__ = "0.1.0"
__all__ = [
    "Chunk",
    "ChunkSettings",
    "Codechunk",
    "CodechunkError",
    "Event",
    "Stop",
    "__version__",
    "chunk_source",
    "open",
]

_ROOMS = {
    "Chunk": "codechunk.text.chunks",
    "ChunkSettings": "codechunk.chunking",
    "Codechunk": "codechunk.library",
    "CodechunkError": "codechunk.errors",
    "Event": "codechunk.progress",
    "Stop": "codechunk.process.stop",
    "chunk_source": "codechunk.chunking",
    "open": "codechunk.library",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'codechunk' has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
