"""The file a cache travels in: vectors keyed by the sha256 of their texts. Pure but for the stream it is given.

    codechunk cache 1\\n                     what it is, and the version of this form
    {"spaces": [...]}\\n                     one line of JSON: each vector space and how many vectors it has here
    a zlib stream of blocks                 space by space, in the order of the text's sha256
    32 bytes                                sha256 of everything before them

A block holds as many records as `_rows_at_once` says, the last of a space fewer, in five columns: the sha256s (32
bytes each), the provider's token counts (uint32, 0: not known), the low bytes of all vector values, their high bytes.
Values are float16, little-endian, exactly as the state database stores them. No time, no name and no row number is
written, so the same vectors make the same file. The checksum finds damage; it is no signature, and whoever may write
the file decides what search finds: take caches from where you take your code from.

Bytes apart, Huffman codes only: of float16 values only sign and exponent can be compressed, and no string ever comes
twice. Measured on 6 MB of unit vectors of 768 dimensions: 0.85 of their size at 134 MB/s, out again at 467. As they
are stored: gzip -1 0.92 at 33 MB/s, -6 and -9 0.92 at 37; xz -0 0.91 at 6, -6 0.90 at 2. Bytes apart: gzip -6 0.88 at
30, xz -6 0.86 at 2. (Synthetic vectors, mostly zeros: 0.19; gzip -6 would make it 0.12, but those cost nothing.)
"""

import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice, pairwise
from typing import Any, BinaryIO, NoReturn

import numpy as np

from codechunk.errors import CodechunkError
from codechunk.state.vector_rows import Record, Section

VERSION = 1
MAGIC = b"codechunk cache "
_FIRST_LINE = re.compile(rb"codechunk cache ([1-9][0-9]{0,5})\n")

_VALUE = np.dtype("<f2")
_COUNT = np.dtype("<u4")
_SHA_BYTES = 32
_CHECKSUM_BYTES = 32
# Of one block, in memory and in one transaction of whoever takes it in. Part of the form: no number says where it ends.
_BLOCK_BYTES = 4 * 2**20
_MOST_ROWS = 4096

# Whatever is beyond these was not written by codechunk.
_HEADER_BYTES = 2**20
_MOST_SPACES = 1000
_MOST_DIMENSIONS = 16_384
_LONGEST_NAME = 200
_MOST_TOKENS = 10**6
# A sha256 cannot be compressed, so no file of n bytes holds more than n / 24 records: a bomb is seen by its header.
_LEAST_RECORD_BYTES = 24
# float16 leaves less than 0.001; vectors are scaled to length 1 before they are stored.
_NORM_TOLERANCE = 0.01
_READ_BYTES = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Records of one section, checked."""

    section: Section
    records: Sequence[Record]


def write(file: BinaryIO, sections: Sequence[Section], records: Iterable[Record]) -> None:
    """Write the vectors to an empty file, holding one block of them at a time.

    Args:
        sections: sorted by `key`, each with at least one vector.
        records: as many of each section as it says, the sections in their order, sorted by `sha` within each.

    Raises:
        CodechunkError: a stored vector is damaged.
    """
    checksum = hashlib.sha256()

    def put(data: bytes) -> None:
        checksum.update(data)
        file.write(data)

    put(MAGIC + b"%d\n" % VERSION)
    put(json.dumps({"spaces": [asdict(section) for section in sections]}, sort_keys=True).encode() + b"\n")
    deflate = zlib.compressobj(strategy=zlib.Z_HUFFMAN_ONLY)
    rest = iter(records)
    for section in sections:
        for count in _blocks_of(section):
            put(deflate.compress(_packed(section, list(islice(rest, count)), count)))
    put(deflate.flush())
    file.write(checksum.digest())


def _rows_at_once(dimensions: int) -> int:
    return max(1, min(_MOST_ROWS, _BLOCK_BYTES // (dimensions * _VALUE.itemsize)))


def _blocks_of(section: Section) -> Iterator[int]:
    """How many records each block of a section has."""
    rows = _rows_at_once(section.dimensions)
    whole, rest = divmod(section.vectors, rows)
    for _ in range(whole):
        yield rows
    if rest:
        yield rest


def _packed(section: Section, records: Sequence[Record], count: int) -> bytes:
    """The columns of a block."""
    if len(records) != count:
        raise AssertionError(f"{count} records were announced and {len(records)} came")
    length = section.dimensions * _VALUE.itemsize
    wrong = next((record.sha for record in records if len(record.vector) != length), None)
    stored = b"".join(record.vector for record in records)
    if wrong is None:
        row = _first_bad(stored, section.dimensions)
        wrong = None if row is None else records[row].sha
    if wrong is not None:
        raise CodechunkError(
            f"the stored vector of text {wrong[:12]} ({section.model}) is damaged, so nothing was exported; "
            f"`codechunk doctor` says what to do.",
            kind="damaged",
        )
    shas = b"".join(bytes.fromhex(record.sha) for record in records)
    tokens = np.array([record.tokens or 0 for record in records], dtype=_COUNT).tobytes()
    low_and_high = np.frombuffer(stored, np.uint8).reshape(-1, 2).T.tobytes()
    return shas + tokens + low_and_high


def _first_bad(stored: bytes, dimensions: int) -> int | None:
    """The first vector that is not of length (L2 norm) 1; what is infinite, no number or zero is not."""
    values = np.frombuffer(stored, _VALUE).reshape(-1, dimensions).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", values, values))
        bad = np.flatnonzero(~(np.abs(norms - 1) <= _NORM_TOLERANCE))
    return int(bad[0]) if len(bad) else None


def is_cache(file: BinaryIO) -> bool:
    """Whether a file begins as a cache file of any version does."""
    return file.read(len(MAGIC)) == MAGIC


class CacheReader:
    """A cache file that is opened for reading, whose first lines and checksum have been found right.

    `sections` says what it should hold; only `blocks`, read to the end, shows that it does.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Read `file` once to its end for its checksum; `name` is what sentences call it.

        Raises:
            CodechunkError: it is no cache file, or a newer one, or damaged.
        """
        self._file = file
        self._name = name
        self.size_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
        self._check_first_line(file.readline(len(MAGIC) + 8))
        self._check_sum()
        file.seek(0)
        file.readline()
        header = file.readline(_HEADER_BYTES)
        self._start = file.tell()
        self.sections = self._sections(header)

    def blocks(self) -> Iterator[Block]:
        """All records in the order of the file, checked block by block. Can be asked for again.

        Raises:
            CodechunkError: it does not hold what it should; what came before is then not to be trusted either.
        """
        self._file.seek(self._start)
        stream = _Inflated(self._file, self.size_bytes - self._start - _CHECKSUM_BYTES, self._broken)
        for section in self.sections:
            last = ""
            for count in _blocks_of(section):
                block = self._unpacked(section, stream, count)
                shas = [record.sha for record in block.records]
                if any(a >= b for a, b in pairwise(chain((last,), shas))):
                    self._broken("its texts are not in order")
                last = shas[-1]
                yield block
        stream.expect_end()

    def _check_first_line(self, line: bytes) -> None:
        found = _FIRST_LINE.fullmatch(line)
        if found is None:
            if line.startswith(MAGIC):
                self._broken("its first line is not whole")
            raise CodechunkError(
                f"{self._name} is not a cache file of codechunk; `codechunk cache export FILE` writes one. "
                f"Nothing was imported.",
                kind="usage",
            )
        if int(found[1]) > VERSION:
            raise CodechunkError(
                f"{self._name} was written by a newer codechunk (version {int(found[1])} of the cache file; this one "
                f"reads version {VERSION}): update codechunk. Nothing was imported.",
                kind="damaged",
            )

    def _check_sum(self) -> None:
        checksum = hashlib.sha256()
        self._file.seek(0)
        left = self.size_bytes - _CHECKSUM_BYTES
        while left > 0 and (data := self._file.read(min(left, _READ_BYTES))):
            checksum.update(data)
            left -= len(data)
        if left != 0 or self._file.read(_CHECKSUM_BYTES) != checksum.digest():
            self._broken("its checksum is wrong; it was cut off, or changed on its way")

    def _sections(self, header: bytes) -> tuple[Section, ...]:
        try:
            spaces = json.loads(header)["spaces"]
            sections = tuple(_section(fields) for fields in spaces[: _MOST_SPACES + 1])
        except (ValueError, TypeError, KeyError, RecursionError):  # ValueError: also what is not JSON, or not UTF-8
            self._broken("its second line does not say what it holds")
        keys = [section.key for section in sections]
        if len(sections) > _MOST_SPACES or any(a >= b for a, b in pairwise(keys)):
            self._broken("its second line does not say what it holds")
        if sum(section.vectors for section in sections) * _LEAST_RECORD_BYTES > self.size_bytes:
            self._broken("it is too short for the vectors it says it holds")
        return sections

    def _unpacked(self, section: Section, stream: "_Inflated", count: int) -> Block:
        length = section.dimensions * _VALUE.itemsize
        shas = stream.read(count * _SHA_BYTES).hex()
        tokens = np.frombuffer(stream.read(count * _COUNT.itemsize), _COUNT).tolist()
        planes = np.frombuffer(stream.read(count * length), np.uint8).reshape(2, -1)
        stored = planes.T.tobytes()
        if max(tokens) > _MOST_TOKENS:
            self._broken("a token count in it cannot be")
        if _first_bad(stored, section.dimensions) is not None:
            self._broken("a vector in it is not of length 1")
        digits = 2 * _SHA_BYTES
        records = [
            Record(
                sha=shas[row * digits : (row + 1) * digits],
                vector=stored[row * length : (row + 1) * length],
                tokens=tokens[row] or None,
            )
            for row in range(count)
        ]
        return Block(section=section, records=records)

    def _broken(self, why: str) -> NoReturn:
        raise CodechunkError(
            f"{self._name} is damaged: {why}. Copy or export it again. Nothing was imported.", kind="damaged"
        )


class _Inflated:
    """The bytes of a zlib stream that takes up exactly `size` bytes of a file, never more at once than asked for."""

    def __init__(self, file: io.BufferedIOBase | BinaryIO, size: int, broken: Callable[[str], NoReturn]) -> None:
        self._file = file
        self._left = size
        self._broken = broken
        self._inflate = zlib.decompressobj()
        self._waiting = b""

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            part = self._more(size)
            if not part:
                self._broken("it ends too early")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def expect_end(self) -> None:
        if self._more(1) or not self._inflate.eof or self._inflate.unused_data or self._waiting or self._left:
            self._broken("there is something behind its end")

    def _more(self, most: int) -> bytes:
        """Up to `most` bytes, none at the end of the stream."""
        while not self._inflate.eof:
            if not self._waiting:
                self._waiting = self._file.read(min(self._left, _READ_BYTES))
                self._left -= len(self._waiting)
            ended = not self._waiting
            try:
                part = self._inflate.decompress(self._waiting, most)
            except zlib.error:
                self._broken("its vectors cannot be read")
            self._waiting = self._inflate.unconsumed_tail
            if part or ended:
                return part
        return b""


def _section(fields: Mapping[str, Any]) -> Section:
    """A section of the header. Raises ValueError, TypeError or KeyError when it cannot be one."""
    section = Section(
        provider=_name(fields["provider"]),
        model=_name(fields["model"]),
        dimensions=_number(fields["dimensions"], _MOST_DIMENSIONS),
        task=_name(fields["task"]),
        header_version=_number(fields["header_version"], 10**6),
        vectors=_number(fields["vectors"], 10**12),
    )
    if len(fields) != len(asdict(section)):
        raise ValueError("a field that is not known")
    return section


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
        raise ValueError("no name")
    return value


def _number(value: object, most: int) -> int:
    if type(value) is not int or not 0 < value <= most:
        raise ValueError("no number, or an absurd one")
    return value
