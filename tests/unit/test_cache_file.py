"""The cache file: what was written comes back, the same cache is the same bytes, and anything else is refused."""

import hashlib
import io
import json
import tracemalloc
import zipfile
import zlib
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codechunk.errors import CodechunkError
from codechunk.state.vector_rows import Record, Section
from codechunk.upkeep.vector_file_format import CacheReader, write

# As version 1 wrote it: a later codechunk must still read it. One vector (0.6, 0.8) of the text "hello", 2 tokens.
VERSION_1 = b64decode(
    "Y29kZWNodW5rIGNhY2hlIDEKeyJzcGFjZXMiOiBbeyJkaW1lbnNpb25zIjogMiwgImhlYWRlcl92ZXJzaW9uIjogMSwgIm1vZGVsIjogIm0iLCAi"
    "cHJvdmlkZXIiOiAicCIsICJ0YXNrIjogInQiLCAidmVjdG9ycyI6IDF9XX0KeAHT+eS7K37DYj61F9ZaR3c+mictJhcjv9wprpjFOGly9wwVJgYG"
    "hrNpFlYAW9AO9fxIUGqwReu85MobqGt9j8HqYBeVaVl750b7bGDnH0fo"
)


def section(vectors: int, *, dimensions: int = 8, model: str = "m") -> Section:
    return Section(
        provider="p", model=model, dimensions=dimensions, task="t", header_version=1, vectors=vectors
    )  # fmt: skip


def some(count: int, *, dimensions: int = 8, seed: int = 0) -> list[Record]:
    """Records with random unit vectors, in order; every third without a token count."""
    values = np.random.default_rng(seed).standard_normal((count, dimensions))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    shas = sorted(hashlib.sha256(f"{seed} {number}".encode()).hexdigest() for number in range(count))
    return [
        Record(sha=sha, vector=values[row].astype("<f2").tobytes(), tokens=row + 1 if row % 3 else None)
        for row, sha in enumerate(shas)
    ]


def written(sections: Sequence[Section], records: Sequence[Record]) -> bytes:
    file = io.BytesIO()
    write(file, sections, records)
    return file.getvalue()


def read(data: bytes) -> tuple[tuple[Section, ...], list[Record]]:
    reader = CacheReader(io.BytesIO(data), "it.ccv")
    return reader.sections, [record for block in reader.blocks() for record in block.records]


def refused(data: bytes) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(CodechunkError) as caught:
        read(data)
    sentence = str(caught.value)
    assert sentence.startswith("it.ccv ")
    assert sentence.endswith("Nothing was imported.")
    return sentence


def sealed(body: bytes) -> bytes:
    """Something that is wrong under a checksum that is right."""
    return body + hashlib.sha256(body).digest()


def forged(spaces: object, payload: bytes = b"") -> bytes:
    return sealed(b"codechunk cache 1\n" + json.dumps({"spaces": spaces}).encode() + b"\n" + zlib.compress(payload))


def fields(**other: object) -> dict[str, object]:
    known = {"provider": "p", "model": "m", "dimensions": 8, "task": "t", "header_version": 1, "vectors": 1}
    return {**known, **other}


def columns(records: Sequence[Record]) -> bytes:
    """A block, made anew: what `write` would refuse to write."""
    tokens = b"".join((record.tokens or 0).to_bytes(4, "little") for record in records)
    values = b"".join(record.vector for record in records)
    return b"".join(bytes.fromhex(record.sha) for record in records) + tokens + values[::2] + values[1::2]


def test_what_was_written_comes_back_bit_for_bit_over_several_blocks_and_spaces() -> None:
    first, second = some(5000), some(300, dimensions=8192, seed=1)
    sections = [section(5000), section(300, dimensions=8192, model="n")]
    assert read(written(sections, [*first, *second])) == (tuple(sections), [*first, *second])


def test_an_empty_cache_is_a_cache() -> None:
    assert read(written([], [])) == ((), [])


def test_the_same_vectors_make_the_same_bytes() -> None:
    assert written([section(100)], some(100)) == written([section(100)], some(100))


def test_the_first_lines_say_what_it_is_and_what_it_holds() -> None:
    magic, header = written([section(3)], some(3)).split(b"\n")[:2]
    assert magic == b"codechunk cache 1"
    assert json.loads(header) == {"spaces": [fields(vectors=3)]}


def test_a_file_of_version_1_can_be_read() -> None:
    sections, records = read(VERSION_1)
    assert sections == (section(1, dimensions=2),)
    assert records == [
        Record(sha=hashlib.sha256(b"hello").hexdigest(), vector=np.array([0.6, 0.8], "<f2").tobytes(), tokens=2)
    ]


def test_one_bit_flipped_anywhere_is_noticed() -> None:
    data = written([section(12)], some(12))
    for place in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            refused(bytes(flipped))


def test_a_file_that_is_cut_off_or_goes_on_is_noticed() -> None:
    data = written([section(12)], some(12))
    for length in range(len(data)):
        refused(data[:length])
    for more in (b"\0", b"\n", data):
        refused(data + more)


def test_files_of_others_are_called_no_cache_file() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a", "b")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n"
    for foreign in (b"", b"\n", archive.getvalue(), b"<!DOCTYPE html>", b"\x1f\x8b\x08\0", b"codechunk", pointer):
        assert "not a cache file of codechunk" in refused(foreign)


def test_a_newer_file_asks_for_a_newer_codechunk() -> None:
    for version in (b"2", b"10", b"999999"):
        assert "update codechunk" in refused(b"codechunk cache " + version + b"\nwhatever it may be")
    for version in (b"0", b"01", b"-1", b"1 ", b"", b"9" * 5000):
        assert "damaged" in refused(sealed(b"codechunk cache " + version + b"\n"))


@pytest.mark.parametrize(
    "spaces",
    [
        None, 1, "m", {}, [1], [[]], [{}], [fields(), fields()], [fields(model="n"), fields()], [fields()] * 1001,
        [fields(dimensions=10**9)], [fields(dimensions=0)], [fields(dimensions=-8)], [fields(dimensions=8.0)],
        [fields(dimensions=True)], [fields(vectors=0)], [fields(vectors=10**12)], [fields(vectors=10**13)],
        [fields(vectors="1")], [fields(vectors=None)], [fields(model="")], [fields(model="m" * 201)],
        [fields(model="a\x1b[2J")], [fields(model="\ud800")], [fields(provider=5)], [fields(task=None)],
        [fields(header_version=0)], [fields(more=1)],
    ],
)  # fmt: skip
def test_a_header_that_says_nonsense_is_refused(spaces: object) -> None:
    assert "is damaged" in refused(forged(spaces, columns(some(1))))


def test_a_header_that_is_no_json_is_refused() -> None:
    for header in (b"", b"{", b"[" * 100_000, b"\xff\xfe", b"9" * 5000, b"x" * 2**21, b'"spaces"', b"[]", b"null"):
        assert "damaged" in refused(sealed(b"codechunk cache 1\n" + header + b"\n" + zlib.compress(b"")))


def test_vectors_that_cannot_be_are_refused() -> None:
    good = some(3)
    assert read(forged([fields(vectors=3)], columns(good)))[1] == good
    for values in ([0.0] * 8, [np.nan] * 8, [np.inf] + [0.0] * 7, [6e4] * 8, [0.5] + [0.0] * 7, [1.02] + [0.0] * 7):
        bad = [good[0], replace(good[1], vector=np.array(values, "<f2").tobytes()), good[2]]
        assert "a vector in it" in refused(forged([fields(vectors=3)], columns(bad)))


def test_texts_out_of_order_or_twice_are_refused() -> None:
    one, two, three = some(3)
    for records in ([two, one, three], [one, one, three], [one, three, two]):
        assert "not in order" in refused(forged([fields(vectors=3)], columns(records)))
    # also where two blocks meet
    many = some(4097)
    many[4096] = many[4095]
    data = columns(many[:4096]) + columns(many[4096:])
    assert "not in order" in refused(forged([fields(vectors=4097)], data))


def test_a_token_count_that_cannot_be_is_refused() -> None:
    bad = [replace(some(1)[0], tokens=10**6 + 1)]
    assert "token count" in refused(forged([fields()], columns(bad)))


def test_more_or_less_than_was_announced_is_refused() -> None:
    three = columns(some(3))
    for payload in (three[:-1], three + b"\0", b"", three * 2):
        assert "damaged" in refused(forged([fields(vectors=3)], payload))
    body = forged([fields(vectors=3)], three)[:-32]
    for wrong in (body[:-1], body[:-5], body + b"\0", body + zlib.compress(three), body[:-20] + b"\0" * 20):
        assert "damaged" in refused(sealed(wrong))
    for count in (2, 4):
        assert "damaged" in refused(forged([fields(vectors=count)], three))


def test_a_bomb_is_refused_without_being_unpacked() -> None:
    zeros = bytes(50_000_000)
    big, hidden = forged([fields(vectors=10**6)], zeros), forged([fields(vectors=900)], zeros)
    tracemalloc.start()
    assert "too short" in refused(big)
    assert "not of length 1" in refused(hidden)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_do_anything_but_be_refused(noise: bytes, after_header: bool) -> None:
    header = json.dumps({"spaces": [fields()]}).encode() + b"\n" if after_header else b""
    refused(sealed(b"codechunk cache 1\n" + header + noise))


def test_a_damaged_vector_is_not_passed_on() -> None:
    good = some(3)
    for vector in (b"", b"\0" * 16, good[0].vector[:-2]):
        with pytest.raises(CodechunkError, match="doctor"):
            written([section(3)], [good[0], replace(good[1], vector=vector), good[2]])
