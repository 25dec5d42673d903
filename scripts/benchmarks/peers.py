"""Other people's chunkers, each behind the same call, and codechunk itself.

`PEERS[name]()` imports the package (the extra `bench`) and gives a `Chunker`. Everything else here turns what a package
returns into byte ranges of the file. A package is used as its documentation shows, without overlap: overlap would only
embed text twice.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from typing import Literal, Protocol

from codechunk.chunking import ChunkSettings, available_languages, chunk_source
from codechunk.text.tokens import count_tokens

# The field notes measured the peers at 1,500 characters; 512 tokens, codechunk's limit, stand for as much here.
CHARS_OF_512_TOKENS = 1500
# What cocoindex retrieved best with: small chunks under a line with the path.
SMALL_CHARS = 400


class UnsupportedLanguageError(Exception):
    """The package has no grammar for this language; it is not used on such files."""


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk: the bytes `[start, end)` of the file, `text` as the package gave it (not always the same as the bytes).

    `header` is what is embedded above the text, on lines of its own. `lines` (1-based, inclusive) is what the package
    says, where it says it. `exact` is False when `text` is nowhere in the rest of the file: then the range is that of
    `lines`, or empty where there are none. `misplaced`: the package's own position was not where its text is.
    """

    start: int
    end: int
    text: str
    header: str = ""
    lines: tuple[int, int] | None = None
    exact: bool = True
    misplaced: bool = False

    @property
    def embedded(self) -> str:
        """What is sent to be embedded."""
        return f"{self.header}\n{self.text}" if self.header else self.text


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as a package gives it. Positions count bytes or characters of the decoded text, see `unit`."""

    text: str
    start: int | None = None
    end: int | None = None
    lines: tuple[int, int] | None = None
    header: str = ""


class Cut(Protocol):
    """A package's own work: what is timed."""

    def __call__(self, text: str, path: str, language: str, max_tokens: int) -> list[Piece]: ...


@dataclass(frozen=True)
class Chunker:
    """One package. Call it for the spans of a file; `pieces` alone is the package's work without ours."""

    name: str
    cut: Cut
    unit: Literal["characters", "bytes", "none"]
    """What the positions in its pieces count."""
    size: Callable[[str], int]
    """A text's size in the unit of the package's own limit."""
    limit: Callable[[int], int]
    """Its own limit when codechunk's is that many tokens."""
    note: str = ""

    def pieces(self, data: bytes, path: str, language: str, max_tokens: int) -> list[Piece]:
        """What the package makes of the file. Raises UnsupportedLanguageError, and whatever the package raises."""
        return self.cut(decoded(data)[0], path, language, max_tokens)

    def kept(self, data: bytes, path: str, language: str, max_tokens: int) -> list[Piece]:
        """What is embedded in the end: `pieces`, but for packages that look at them once more."""
        return self.pieces(data, path, language, max_tokens)

    def __call__(self, data: bytes, path: str, language: str, max_tokens: int) -> list[Span]:
        """The chunks of the file, in its order. Raises like `pieces`."""
        return self.spans(data, self.kept(data, path, language, max_tokens))

    def spans(self, data: bytes, pieces: list[Piece]) -> list[Span]:
        """Where the pieces are in the bytes of the file."""
        text, encoding = decoded(data)
        place = _Places(text, encoding)
        found, at = [], 0
        for piece in pieces:
            if self.unit == "none" or piece.start is None or piece.end is None:
                span = _searched(piece, data, encoding, at)
            else:
                of_byte = place.of_character if self.unit == "characters" else place.of_utf8
                span = Span(of_byte(piece.start), of_byte(piece.end), piece.text, piece.header, piece.lines)
                if data[span.start : span.end].decode(encoding, "replace") != piece.text:
                    span = replace(_searched(piece, data, encoding, at), misplaced=True)
            found.append(span)
            at = max(at, span.end)
        return found


def decoded(data: bytes) -> tuple[str, str]:
    """The text of a file and its encoding, as codechunk decides it."""
    try:
        return data.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


class _Places:
    """Positions in the text, in characters or in bytes of its UTF-8, as bytes of the file. Ask in ascending order."""

    def __init__(self, text: str, encoding: str) -> None:
        self._text = text
        self._same = text.isascii()
        self._utf8 = encoding == "utf-8"
        self._character = 0
        self._byte = 0
        self._encoded = b"" if self._same or self._utf8 else text.encode()

    def of_character(self, character: int) -> int:
        if self._same or not self._utf8:
            return character
        if character < self._character:
            self._character = self._byte = 0
        self._byte += len(self._text[self._character : character].encode())
        self._character = character
        return self._byte

    def of_utf8(self, byte: int) -> int:
        if self._same or self._utf8:
            return byte
        return len(self._encoded[:byte].decode(errors="ignore"))


def _searched(piece: Piece, data: bytes, encoding: str, at: int) -> Span:
    """The piece at the first place from `at` on where its text is, else at the lines it names."""
    wanted = piece.text.strip()
    raw = wanted.encode(encoding, "surrogatepass")
    start = data.find(raw, at) if raw else at
    if start >= 0:
        return Span(start, start + len(raw), piece.text, piece.header, piece.lines)
    end = at
    if piece.lines is not None:
        at, end = _line_start(data, piece.lines[0]), _line_start(data, piece.lines[1] + 1)
    return Span(at, end, piece.text, piece.header, piece.lines, exact=False)


def _line_start(data: bytes, line: int) -> int:
    """Where the line (1-based) begins; the file's end when it has not so many."""
    place = 0
    for _ in range(line - 1):
        place = data.find(b"\n", place) + 1
        if place == 0:
            return len(data)
    return place


def _chars(max_tokens: int) -> int:
    return max_tokens * CHARS_OF_512_TOKENS // 512


def _utf8(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@cache
def grammars() -> frozenset[str]:
    """The languages that tree-sitter-language-pack parses."""
    return frozenset(available_languages())


def _needs_grammar(language: str) -> None:
    if language not in grammars():
        raise UnsupportedLanguageError(language)


def _chonkie() -> Chunker:
    from chonkie import CodeChunker

    made: dict[tuple[str, int], CodeChunker] = {}

    def cut(text: str, path: str, language: str, max_tokens: int) -> list[Piece]:  # noqa: ARG001
        key = (language, max_tokens)
        if key not in made:
            _needs_grammar(language)
            made[key] = CodeChunker(tokenizer="character", chunk_size=_chars(max_tokens), language=language)
        # Its positions add up the lengths of the texts; they are the file's only as long as no text is lost.
        return [Piece(chunk.text, chunk.start_index, chunk.end_index) for chunk in made[key].chunk(text)]

    return Chunker("chonkie", cut, "characters", len, _chars, "tokenizer=character, chunk_size=1500")


def _llamaindex() -> Chunker:
    from llama_index.core.node_parser import CodeSplitter

    made: dict[tuple[str, int], CodeSplitter] = {}

    def cut(text: str, path: str, language: str, max_tokens: int) -> list[Piece]:  # noqa: ARG001
        key = (language, max_tokens)
        if key not in made:
            _needs_grammar(language)
            # The tokenizer is not used in this mode; without one it would be downloaded.
            made[key] = CodeSplitter(language=language, max_chars=_chars(max_tokens), tokenizer=str.split)
        return [Piece(chunk) for chunk in made[key].split_text(text)]

    return Chunker("llamaindex", cut, "none", len, _chars, "max_chars=1500; chunk_lines and overlap are without effect")


# codechunk's names of languages that LangChain calls otherwise.
_LANGCHAIN = {"javascript": "js", "typescript": "ts", "tsx": "ts", "jsx": "js", "latex": "latex", "solidity": "sol"}


def _langchain() -> Chunker:
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

    known = {language.value for language in Language}
    made: dict[tuple[str, int], RecursiveCharacterTextSplitter] = {}

    def make(language: str, max_tokens: int) -> RecursiveCharacterTextSplitter:
        sizes = {"chunk_size": _chars(max_tokens), "chunk_overlap": 0, "add_start_index": True}
        name = _LANGCHAIN.get(language, language)
        if name not in known or name in {"visualbasic6"}:
            return RecursiveCharacterTextSplitter(**sizes)
        return RecursiveCharacterTextSplitter.from_language(Language(name), **sizes)

    def cut(text: str, path: str, language: str, max_tokens: int) -> list[Piece]:  # noqa: ARG001
        key = (language, max_tokens)
        if key not in made:
            made[key] = make(language, max_tokens)
        pieces = []
        for document in made[key].create_documents([text]):
            start = document.metadata["start_index"]
            content = document.page_content
            pieces.append(Piece(content, start, start + len(content)) if start >= 0 else Piece(content))
        return pieces

    return Chunker("langchain", cut, "characters", len, _chars, "chunk_size=1500, chunk_overlap=0; does not parse")


def _semantic() -> Chunker:
    from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter
    from tree_sitter_language_pack import get_binding

    made = {}

    def make(language: str, max_tokens: int):
        if language == "markdown":
            return MarkdownSplitter(_chars(max_tokens))
        if language not in grammars():
            return TextSplitter(_chars(max_tokens))
        return CodeSplitter(get_binding(language), _chars(max_tokens))

    def cut(text: str, path: str, language: str, max_tokens: int) -> list[Piece]:  # noqa: ARG001
        key = (language, max_tokens)
        if key not in made:
            made[key] = make(language, max_tokens)
        return [Piece(chunk, start, start + len(chunk)) for start, chunk in made[key].chunk_indices(text)]

    return Chunker("semantic-text-splitter", cut, "characters", len, _chars, "capacity=1500 characters")


# astchunk has four grammars; the one for TSX reads JavaScript as well.
_ASTCHUNK = {
    "python": "python", "java": "java", "csharp": "csharp", "typescript": "typescript", "tsx": "typescript",
    "javascript": "typescript",
}  # fmt: skip


def _ink(text: str) -> int:
    return len("".join(text.split()))


def _astchunk() -> Chunker:
    from astchunk import ASTChunkBuilder

    made: dict[tuple[str, int], ASTChunkBuilder] = {}

    def cut(text: str, path: str, language: str, max_tokens: int) -> list[Piece]:  # noqa: ARG001
        if language not in _ASTCHUNK:
            raise UnsupportedLanguageError(language)
        key = (language, max_tokens)
        if key not in made:
            made[key] = ASTChunkBuilder(
                max_chunk_size=_chars(max_tokens), language=_ASTCHUNK[language], metadata_template="default"
            )
        return [
            Piece(
                window["content"],
                lines=(window["metadata"]["start_line_no"] + 1, window["metadata"]["end_line_no"] + 1),
            )
            for window in made[key].chunkify(text)
        ]

    return Chunker("astchunk", cut, "none", _ink, _chars, "max_chunk_size=1500 characters that are not white")


def _cocoindex(*, chars: int | None = None) -> Chunker:
    # It tells its makers about every import, and logs when it cannot.
    os.environ["COCOINDEX_DISABLE_USAGE_TRACKING"] = "1"
    from cocoindex.ops.text import RecursiveSplitter, detect_code_language

    splitter = RecursiveSplitter()

    def limit(max_tokens: int) -> int:
        return chars or _chars(max_tokens)

    def cut(text: str, path: str, language: str, max_tokens: int) -> list[Piece]:  # noqa: ARG001
        known = detect_code_language(filename=path.rsplit("/", 1)[-1])
        chunks = splitter.split(text, limit(max_tokens), chunk_overlap=0, language=known)
        header = path if chars else ""
        return [
            Piece(
                chunk.text,
                chunk.start.byte_offset,
                chunk.end.byte_offset,
                (chunk.start.line, chunk.end.line),
                header,
            )
            for chunk in chunks
        ]

    name = "cocoindex-path" if chars else "cocoindex"
    note = f"chunk_size={chars} bytes, a path line above" if chars else "chunk_size=1500 bytes, chunk_overlap=0"
    return Chunker(name, cut, "bytes", _utf8, limit, note)


class _Codechunk(Chunker):
    """codechunk takes bytes and gives bytes: nothing is decoded or searched for it."""

    def pieces(self, data: bytes, path: str, language: str, max_tokens: int):
        return chunk_source(data, path=path, language=language, settings=ChunkSettings(max_tokens=max_tokens))

    def kept(self, data: bytes, path: str, language: str, max_tokens: int):
        # As the product does when it counts the chunks: the rare file that fooled the estimate is cut again.
        chunks = self.pieces(data, path, language, max_tokens)
        if all(count_tokens(chunk.embedding_text) <= max_tokens for chunk in chunks):
            return chunks
        settings = ChunkSettings(max_tokens=max_tokens)
        return chunk_source(data, path=path, language=language, settings=settings, trust_estimate=False)

    def spans(self, data: bytes, pieces) -> list[Span]:  # noqa: ARG002
        return [
            Span(chunk.start_byte, chunk.end_byte, chunk.text, chunk.header, (chunk.start_line, chunk.end_line))
            for chunk in pieces
        ]


def _codechunk() -> Chunker:
    def never(*_: object) -> list[Piece]:
        raise AssertionError("codechunk is asked by its own `pieces`")

    return _Codechunk("codechunk", never, "bytes", count_tokens, lambda tokens: tokens, "its defaults")


PEERS: dict[str, Callable[[], Chunker]] = {
    "codechunk": _codechunk,
    "chonkie": _chonkie,
    "llamaindex": _llamaindex,
    "langchain": _langchain,
    "semantic-text-splitter": _semantic,
    "astchunk": _astchunk,
    "cocoindex": _cocoindex,
    "cocoindex-path": lambda: _cocoindex(chars=SMALL_CHARS),
}
_PACKAGES = {
    "llamaindex": "llama-index-core", "langchain": "langchain-text-splitters", "cocoindex-path": "cocoindex",
    "bare parse": "tree-sitter",
}  # fmt: skip


def release(name: str) -> str:
    """The installed version of the package behind a name in PEERS (or behind "bare parse")."""
    return version(_PACKAGES.get(name, name))
