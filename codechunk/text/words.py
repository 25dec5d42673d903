"""Words of code: identifiers cut into lowercase parts, for synthetic vectors and the lexical search. Pure.

What counts as a word character is a fixed table in this file, not `\\w`, which changes with the Unicode
version of the interpreter. Lower case and composition (NFC) come from the interpreter, but Unicode never
changes them for an assigned character: the result is the same on every Python for text of characters
assigned in Unicode 14, the table of Python 3.11. Source code of nothing but ASCII never touches the table.

The work is done once per distinct identifier and remembered: a text costs one `findall` and look-ups.
"""

import re
import unicodedata
from collections.abc import Callable

# Word characters beyond ASCII: everything except Latin-1 signs, the Ogham space, punctuation and symbol blocks, private
# use, surrogates and emoji. Ranges, because a script added by Unicode later must not depend on the interpreter.
_LETTERS = (
    "\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u167f\u1681-\u1fff\u2c00-\u2dff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029"
    "\u3031-\u3035\u303b\u303c\u3041-\ud7ff\uf900-\ufdff\ufe70-\ufefe\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
    "\uff66-\uffdc\U00010000-\U0001cfff\U0001e000-\U0001efff\U00020000-\U0003ffff"
)
# Scripts written without spaces: Japanese kana and the Han ideographs.
_UNSPACED = "\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

_ASCII_WORD = re.compile(r"[0-9A-Za-z_]+")
_WORD = re.compile(f"[0-9A-Za-z_{_LETTERS}]+")
_UNSPACED_RUN = re.compile(f"([{_UNSPACED}]+)")
# In this order: 0x1F · IPv6 · URLs, IDs · HTTP of HTTPServer · Server, server · HTTP · 42. Digits stay with
# the letters before them: utf8, sha256, MD5.
_PART = re.compile(
    r"\b0[xX][0-9a-fA-F]+|IPv[0-9]+|[A-Z]{2,}s(?![a-z])[0-9]*|[A-Z]+(?=[A-Z][a-z])"
    r"|[A-Z]?[a-z]+[0-9]*|[A-Z]+[0-9]*|[0-9]+"
)
_NUMBERED = re.compile(r"([^0-9]{2,})[0-9]+")
_CONTRACTION = re.compile(r"(?<=[A-Za-z])['\u2019](?:s|t|re|ll|ve|d|m)\b", re.ASCII)

# A longer run of word characters is data (base64, hex), not a name: its parts count, the whole does not.
_LONGEST_NAME = 100
_REMEMBERED = 50_000

_FUNCTION_WORDS = """
a about am an and are as at be been being but by can could did do does for from had has have how i if in into
is it its me my of on or our shall should so than that the their them then there these they this those to was
we were what when where which who whom whose why will with would you your
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English function words: they say nothing about what is searched for."""


def subwords(text: str) -> list[str]:
    """The parts of all identifiers, words and numbers of `text`, in lower case and in order, repeats kept.

    `getHTTPServer_v2` gives get, http, server, v2. Digits stay with their letters; two letters or more are
    given without the digits too (`sha256`: sha256, sha), so that `sha 256` still meets it. Runs of Japanese
    and Chinese, which have no spaces, become overlapping pairs of characters.
    """
    return _expand(text, _SUBWORDS)


def index_words(text: str) -> str:
    """What the full-text index stores for `text`: words joined by spaces.

    Every sub-word, and before its parts the whole of a compound identifier as one word without underscores:
    `context_header` gives `contextheader context header`. Words of ASCII letters and digits pass through
    SQLite's tokenizer `unicode61` uncut. Some scripts' marks it does cut, alike in the index and in a query,
    so a quoted word still finds itself.
    """
    return " ".join(_expand(text, _INDEX_WORDS))


def names_in(text: str) -> list[str]:
    """The identifiers, words and numbers of `text` as they are written, in order, repeats kept."""
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text)


def words_of_name(name: str) -> list[str]:
    """The words of `index_words` for one of `names_in`."""
    return _INDEX_WORDS[name].split(" ")[:-1]


def query_words(text: str) -> list[str]:
    """The distinct words to look up for a query, in the form of `index_words`, in the order they appear.

    English function words are left out, unless the query has no others. Empty only if `text` has no word.
    """
    words = list(dict.fromkeys(_expand(_CONTRACTION.sub("", text), _INDEX_WORDS)))
    return [word for word in words if word not in STOP_WORDS] or words


class _Memory(dict[str, str]):
    """Identifier -> its words, each followed by a space. Forgets everything when full: memory is bounded."""

    def __init__(self, words_of: Callable[[str], list[str]]) -> None:
        super().__init__()
        self._words_of = words_of

    def __missing__(self, name: str) -> str:
        words = "".join([f"{word} " for word in self._words_of(name)])
        if len(name) <= _LONGEST_NAME:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[name] = words
        return words


def _expand(text: str, memory: _Memory) -> list[str]:
    pattern = _ASCII_WORD if text.isascii() else _WORD
    return "".join(map(memory.__getitem__, pattern.findall(text))).split(" ")[:-1]


def _name_subwords(name: str) -> list[str]:
    words = []
    for part in _parts(name):
        words.append(part)
        if numbered := _NUMBERED.fullmatch(part):
            words.append(numbered[1])
    return words


def _name_index_words(name: str) -> list[str]:
    words = _name_subwords(name)
    whole = _fold(name.replace("_", ""))
    if len(name) > _LONGEST_NAME or not words or whole == words[0] or _UNSPACED_RUN.search(whole):
        return words
    return [whole, *words]


def _parts(name: str) -> list[str]:
    if name.isascii():
        return [part.lower() for part in _PART.findall(name)]
    words = []
    for index, piece in enumerate(_UNSPACED_RUN.split(unicodedata.normalize("NFC", name))):
        if index % 2:
            words += [piece[at : at + 2] for at in range(len(piece) - 1)] or [piece]
        else:
            shape = "".join(map(_shape, piece))
            words += [_fold(piece[part.start() : part.end()]) for part in _PART.finditer(shape)]
    return words


def _shape(char: str) -> str:
    """What stands for `char` where identifiers are cut: itself, or an ASCII letter of the same case."""
    if char.isascii():
        return char
    return "a" if char == char.lower() else "A"


def _fold(word: str) -> str:
    if word.isascii():
        return word.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).casefold())


_SUBWORDS = _Memory(_name_subwords)
_INDEX_WORDS = _Memory(_name_index_words)
