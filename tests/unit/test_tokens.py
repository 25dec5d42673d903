"""Exact counts without a download, and the estimate that spares most of them."""

import random
import sysconfig
from pathlib import Path

import pytest
from counting import no_hang

from codechunk.text import tokens
from codechunk.text.tokens import TokenEstimate, VocabularyError, count_tokens


@pytest.mark.parametrize(
    ("text", "count"),
    # The last four are the published examples of OpenAI's cookbook for cl100k_base.
    [
        ("", 0),
        ("hello world", 2),
        ("<|endoftext|>", 7),
        ("antidisestablishmentarianism", 6),
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 9),
        ("tiktoken is great!", 6),
    ],
)
def test_counts_are_those_of_cl100k(text, count):
    assert count_tokens(text) == count


def test_ascii_counted_by_remembered_pieces_is_counted_as_tiktoken_does(monkeypatch):
    monkeypatch.setattr(tokens, "_REMEMBERED", 500)  # so that it forgets now and then
    exact = tokens._encoding().encode_ordinary
    chooser = random.Random(5)
    alphabets = ["".join(map(chr, range(128))), "aB1 \n\t'sS.", "  \n\r\t\v\f x", "sdmtlLvVeErR 'x\n ", "012345 .,\n"]
    for _ in range(20_000):
        alphabet = chooser.choice(alphabets)
        text = "".join(chooser.choices(alphabet, k=chooser.randrange(40)))
        assert count_tokens(text) == len(exact(text)), repr(text)


def test_a_damaged_vocabulary_is_one_clear_sentence(tmp_path, monkeypatch):
    damaged = tmp_path / "cl100k_base.tiktoken"
    damaged.write_bytes(tokens.VOCABULARY.read_bytes()[:-100])
    monkeypatch.setattr(tokens, "VOCABULARY", damaged)
    tokens._load_encoding.cache_clear()
    try:
        with pytest.raises(VocabularyError, match="install codechunk again"):
            count_tokens("x")
    finally:
        tokens._load_encoding.cache_clear()


@pytest.mark.parametrize("unit", ["a", " ", "-", "\n", "中", "ab\n", "x = 1\n\n"])
def test_a_million_characters_of_one_kind_do_not_hang_the_counting(unit):
    text = unit * (1_000_000 // len(unit))
    with no_hang():
        assert 0 < count_tokens(text) <= len(text.encode())


def real_files():
    return [path.read_bytes() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:60]]


@pytest.mark.parametrize("letter", ["u", "ü"])  # ASCII is counted in another way
def test_slices_at_lines_do_not_change_the_count(letter):
    # In files of this size there is a line to cut at in every slice.
    files = [data.decode("utf-8", "replace") for data in real_files() if len(data) < 30_000]
    text = "".join(f"# {letter}\n{file}\n" for file in files)
    slices = []
    start = 0
    while start < len(text):
        end = tokens._slice_end(text, start)
        slices.append(text[start:end])
        start = end
    assert len(slices) > 5
    assert not any(piece[0].isspace() for piece in slices)
    assert count_tokens(text) == len(tokens._encoding().encode_ordinary(text))


def test_the_estimate_is_within_a_few_percent_on_real_code_and_near_in_every_file():
    guess = exact = 0.0
    for data in real_files():
        mine, theirs = TokenEstimate(data).span(0, len(data)), count_tokens(data.decode("utf-8", "replace"))
        assert theirs < 100 or mine / theirs == pytest.approx(1.0, abs=0.12)
        guess, exact = guess + mine, exact + theirs
    assert guess / exact == pytest.approx(1.0, abs=0.06)


def test_the_estimate_is_high_where_text_is_dense():
    rng = random.Random(7)
    base64 = bytes(rng.choices(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k=4000))
    digits = bytes(rng.choices(b"0123456789abcdef", k=4000))
    noise = rng.randbytes(4000)
    chinese = ("它把仓库的每个文件按语法树切成小块，计算词元，得到向量，然后存入数据库。" * 40).encode()
    for data in (base64, digits, chinese):
        exact = count_tokens(data.decode())
        assert TokenEstimate(data).span(0, len(data)) > 0.8 * exact
    assert TokenEstimate(noise, latin1=True).span(0, 4000) > 0.8 * count_tokens(noise.decode("latin-1"))


def test_spans_add_up_and_reach_is_their_inverse():
    data = Path(tokens.__file__).read_bytes()
    estimate = TokenEstimate(data)
    assert estimate.span(0, 700) + estimate.span(700, 2000) == pytest.approx(estimate.span(0, 2000))
    for start in (0, 100, 5000):
        end = estimate.reach(start, 50)
        assert estimate.span(start, end) <= 50 < estimate.span(start, end + 8)
    assert estimate.reach(10, 1e9) == len(data)
    for size in range(20):
        short = TokenEstimate(data[:size])
        assert 0 <= short.span(0, size) <= size
        assert short.reach(0, 1e9) == size
        assert short.reach(size, 0) == size
