"""What is asked: a symbol, a path, something in quotes, or a sentence; and what kind of file may answer it. Pure."""

import re
from dataclasses import dataclass

from codechunk.search.content import Content
from codechunk.text.stems import stems
from codechunk.text.words import query_words

_NAME = r"[A-Za-z_$][\w$]*[?!]?"
_JOIN = r"(?:::|\\|->|\.|\#|/)"
# HTTPServer.setTimeout · Foo#bar · :path · @name · do_modelines() · Rack::Builder
_SYMBOL = re.compile(rf"[:@$&#.]{{0,2}}({_NAME}(?:{_JOIN}{_NAME})*)(?:\(\s*\))?")
_PARTS = re.compile(r"::|\\|->|[.#/]")
# What makes a single word a name and not English: a capital, an underscore, a joint or a mark in front.
_NAMELIKE = re.compile(r"[A-Z_$:@#\\.?!]|->|\(\)")
# Inside a sentence: camelCase, PascalCase, snake_case, a::b, a.b.
_NAMES_WITHIN = re.compile(
    r"\b(?:[A-Z][a-z]\w*[A-Z]\w*|[a-z]\w*[A-Z]\w+|\w+_\w+|[A-Za-z]\w*(?:(?:::|\.)[A-Za-z]\w*)+)\b"
)
_QUOTED = re.compile(r"\"([^\"]{2,200})\"|(?<!\w)'([^']{4,200})'(?!\w)|`([^`]{2,200})`")
_PATH = re.compile(r"[\w.@+-]+(?:/[\w.@+-]+)+(?::\d+(?:-\d+)?)?|[\w.@+-]+\.[A-Za-z]\w{0,9}(?::\d+(?:-\d+)?)?")
# A query that has these words asks for such files, too.
_ABOUT: dict[Content, re.Pattern[str]] = {
    "tests": re.compile(r"\b(?:tests?|tested|specs?|test ?cases?|fixtures?|mocks?)\b", re.I),
    "examples": re.compile(r"\b(?:examples?|samples?|demos?)\b", re.I),
    "docs": re.compile(
        r"\b(?:how (?:to|do i|can i) (?:install|upgrade|contribute|configure|get started|deploy|set up)"
        r"|install(?:ation)? (?:guide|instructions?)|documentation|docs|readme|tutorial|changelog|release notes"
        r"|getting started|licen[sc]e)\b",
        re.I,
    ),
    "data": re.compile(
        r"\b(?:config(?:uration)? (?:key|file|option)s?|which (?:key|setting)s?|dependenc(?:y|ies) (?:version|list)s?"
        r"|ci (?:workflow|pipeline)|github actions?|package\.json|pyproject|translations?)\b",
        re.I,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query, taken apart.

    Attributes:
        words: the words to look up, in order.
        stems: their stems, each once.
        symbol: the parts of the name that is asked for, outermost first; empty when it is no question for a symbol.
        names: names in a sentence, their last parts.
        path: a path that is asked for, without line numbers; None when there is none.
        literals: texts in quotes, to be found as they are written.
        about: kinds of files that the query asks for by their name, besides code.
    """

    text: str
    words: tuple[str, ...]
    stems: tuple[str, ...]
    symbol: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    path: str | None = None
    literals: tuple[str, ...] = ()
    about: frozenset[Content] = frozenset()


def read(text: str) -> Question:
    """Take a query apart."""
    text = text.strip()
    words = tuple(query_words(text))
    stem_of = stems(words)
    path = _path(text)
    symbol = () if path else _symbol(text)
    return Question(
        text=text,
        words=words,
        stems=tuple(dict.fromkeys(stem_of[word] for word in words)),
        symbol=symbol,
        names=frozenset() if symbol else frozenset(_PARTS.split(name)[-1] for name in _NAMES_WITHIN.findall(text)),
        path=path,
        literals=tuple(next(filter(None, found)) for found in _QUOTED.findall(text)),
        about=frozenset() if symbol else frozenset(about for about, words in _ABOUT.items() if words.search(text)),
    )


def _symbol(text: str) -> tuple[str, ...]:
    found = _SYMBOL.fullmatch(text)
    if found is None or not _NAMELIKE.search(text):
        return ()
    return tuple(part for part in _PARTS.split(found[1]) if part)


def _path(text: str) -> str | None:
    """The query when it is a path: with a slash and an extension, or a file's name with an extension that is one."""
    if not _PATH.fullmatch(text):
        return None
    path = re.sub(r":\d+(?:-\d+)?$", "", text)
    name, _, extension = path.rpartition(".")
    is_file = bool(name) and extension.isalnum() and extension.islower() and len(extension) <= 5
    if "/" in path:
        return path if is_file else None
    return path if is_file and extension in _EXTENSIONS else None


# Of a name without a folder only these are taken for a file's: `os.path` and `app.run` are names.
_EXTENSION_WORDS = """
bash bat c cc cfg clj cmake conf cpp cs css cxx dart erl ex exs go gradle h hh hpp hs html ini ipynb java jl js
json jsx kt kts less lock lua m md mdx ml mm nix php pl pm proto ps1 py pyi r rb rs rst sass scala scss sh sql
svelte swift tf toml ts tsx txt vim vue xml yaml yml zig zsh
"""
_EXTENSIONS = frozenset(_EXTENSION_WORDS.split())
