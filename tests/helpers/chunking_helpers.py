"""What every list of chunks must hold, and folders of real code to try it on."""

import sysconfig
from collections.abc import Iterable
from pathlib import Path

from codechunk.chunking import ChunkSettings, chunk_source
from codechunk.text.chunks import Chunk
from codechunk.text.tokens import count_tokens

WHITE = b" \t\n\r\v\f"
BOM = b"\xef\xbb\xbf"


def encoding_of(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def checked_chunks(
    data: bytes, path: str = "file", language: str | None = None, max_tokens: int = 512, parse: bool = True
) -> list[Chunk]:
    """The chunks of `data`, after asserting everything that is promised of any file."""
    settings = ChunkSettings(max_tokens=max_tokens)
    chunks = chunk_source(data, path=path, language=language, settings=settings, parse=parse)
    assert chunk_source(data, path=path, language=language, settings=settings, parse=parse) == chunks
    assert_promises(data, chunks, max_tokens)
    return chunks


def assert_promises(data: bytes, chunks: Iterable[Chunk], max_tokens: int) -> None:
    encoding = encoding_of(data)
    body = data.removeprefix(BOM) if encoding == "utf-8" else data
    position, joined = 0, bytearray()
    line, counted = 1, 0
    for chunk in chunks:
        start, end = chunk.start_byte, chunk.end_byte
        assert position <= start < end <= len(data), "disjoint, in order"
        piece = data[start:end]
        assert chunk.text == piece.decode(encoding), "an exact slice"
        assert piece.rstrip() == piece, "no blank tail"
        assert piece.strip(), "not blank"
        line += data.count(b"\n", counted, start)
        counted = start
        assert chunk.start_line == line
        assert chunk.end_line == line + piece.count(b"\n")
        assert not (data[end - 1 : end] == b"\r" and data[end : end + 1] == b"\n"), "no cut in CRLF"
        assert chunk.tokens is None, "not counted is None"
        joined += piece
        position = end
        if len(chunk.embedding_text.encode()) > max_tokens:
            assert count_tokens(chunk.embedding_text) <= max_tokens, "within the limit"
    assert bytes(joined).translate(None, WHITE) == body.translate(None, WHITE), "nothing lost, nothing twice"


def real_files(count: int) -> list[Path]:
    """Real code that nobody here wrote, spread over the interpreter's own library and its site-packages."""
    suffixes = {
        ".py",
        ".pyi",
        ".c",
        ".h",
        ".hpp",
        ".js",
        ".json",
        ".md",
        ".rst",
        ".txt",
        ".css",
        ".html",
        ".toml",
        ".sql",
    }
    found: list[Path] = []
    for name in ("stdlib", "purelib"):
        root = Path(sysconfig.get_path(name))
        found += [
            path
            for path in sorted(root.rglob("*"))
            if path.suffix in suffixes and path.is_file() and path.stat().st_size < 200_000
        ]
    return found[:: max(1, len(found) // count)]
