"""The first sentence of a documentation comment as a search query: without markers, markup, and the function's name."""

import re

MIN_WORDS = 4
MAX_WORDS = 60

_LINE_START = re.compile(r"^[ \t]*(?:///?!?|/\*+!?|\*+/|\*(?!\*)|\#+(?=\s|$))[ \t]?", re.MULTILINE)
_BLOCK_END = re.compile(r"\**\*/\s*$")
_DOCSTRING = re.compile(r"""^[rRbBuU]{0,2}(?:\"{3}|'{3}|"|')(.*?)(?:\"{3}|'{3}|"|')$""", re.DOTALL)
_RUBY_BLOCK = re.compile(r"^=(?:begin|end)\b.*$", re.MULTILINE)
# Directives for tools that share the comment's form.
_DIRECTIVE = re.compile(
    r"^\s*(?:go:|nolint|eslint|istanbul|@ts-|prettier-|rubocop:|:nodoc:|:nocov:|:call-seq:|NOLINT|clang-format|c8 ).*$",
    re.MULTILINE,
)

# What follows one of these is what the comment says; the tag goes and the text stays.
_TEXT_TAGS = re.compile(
    r"^\s*[@\\](?:summary|description|desc|brief|short|details)\b[ \t]*:?", re.MULTILINE | re.IGNORECASE
)
# From here to the end of the paragraph or the next tag it is about something else.
_OTHER_TAGS = re.compile(
    r"^\s*(?:[@\\](?!summary|desc|brief|short|details)\w+|:\w[\w ]*(?:\w|\*|`)+:|\.\. ?\w+).*"
    r"(?:\n(?!\s*[@\\:]|\s*$).*)*",
    re.MULTILINE,
)
_DESCRIPTION = re.compile(r"^\s*[@\\](?:description|desc)\b[ \t]*\n?(?P<text>(?:(?!\s*[@\\]\w).*\n?)+)", re.MULTILINE)
_SUMMARY = re.compile(r"^\s*[@\\](?:summary|brief|short)\b[ \t]*(?P<text>(?:(?!\s*[@\\]\w)\s*\S.*\n?)+)", re.MULTILINE)
# Headings of sections that come after what the function does.
_SECTIONS = (
    "args? arguments parameters? params returns? yields? raises usage examples? notes? warning errors panics safety"
).replace(" ", "|")
_LATER_PARTS = re.compile(
    rf"^\s*(?:```|~~~|#+ \w|(?:{_SECTIONS}|see also)\s*:?\s*$|(?:usage|examples?|e\.g\.)\s*:?::?\s*$"
    r"|[-=~*_+]{3,}\s*$|>>> ).*",
    re.MULTILINE | re.IGNORECASE | re.DOTALL,
)
_MARKUP = [
    (
        re.compile(
            r"<a\b[^>]*>|</?(?:p|code|pre|tt|b|i|em|strong|br|ul|ol|li|h\d|a|dl|dt|dd|sup|sub|blockquote|rst)\b[^>]*/?>",
            re.I,
        ),
        " ",
    ),
    (re.compile(r"\\e?n?d?rst\b|\\endrst"), " "),
    (re.compile(r"\{@link(?:plain)?\s+[^\s(}]+(?:\([^)]*\))?\s+([^}]+)\}"), r"\1"),
    (re.compile(r"\{@(?:link|linkplain|code|literal|value|see)\s+([^\s}]*#)?([^}]*)\}"), r"\2"),
    (re.compile(r"\{@\w+\}"), " "),
    (re.compile(r":(?:[\w+]+:)?[\w+-]+:`(?:[^`<]*<)?[~!.]?(?:[\w.]*\.)?([^`>]+)>?`"), r"\1"),
    (re.compile(r"(?<!\w)!?\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])?"), r"\1"),
    (re.compile(r"`+\+?([^`]+?)\+?`+_{0,2}"), r"\1"),
    (re.compile(r"(?<![\w+])\+(\w[\w:.#?!]*)\+(?![\w+])"), r"\1"),
    (re.compile(r"\*\*([^*]+)\*\*|(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])"), r"\1\2"),
    (re.compile(r"[\\@][cpea] (?=\w)"), ""),
    (re.compile(r"https?://[^\s'\"`,)]+"), " "),
    (re.compile(r"&(?:nbsp|amp|lt|gt|quot|#\d+);"), " "),
]
_ROLE_WORD = re.compile(
    r"^(?:public|internal|private|protected|semi-?public|summary|description|brief|api|note|helper|@\w+)\s*:\s*"
    r"|^-{1,3}\s+|^\*\s+",
    re.IGNORECASE,
)
_ABBREVIATIONS = r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\bcf)(?<!\bapprox)(?<!\bno)(?<!\bw\.r\.t)"
_SENTENCE_END = re.compile(
    _ABBREVIATIONS
    + r"[.!?](?=\s+[A-Z(`\"'<\[]|\s*$)|[.!?]\s*\n\s*\n|\n\s*\n|:\s*(?:\n\s*\n|$)|\n\s*(?:[-*•]|\d+[.)])\s"
)
# Says nothing about this function: legal text, notes to the authors, and what only points elsewhere.
_BOILERPLATE = re.compile(
    r"^(?:copyright|licen[cs]e|\(c\)|spdx|redistribution|permission is hereby"
    r"|todo\b|fixme|hack\b|xxx\b|nolint|deprecated|unused\b|internal use|this is (?:deprecated|internal)"
    r"|for internal use|for (?:backwards?|testing)|used (?:only )?(?:for|by|in) test|test\b|tests\b|regression"
    r"|see\b|@|inherit|overrid|same as\b|alias (?:of|for)\b|like\s+\S+,? but|equivalent (?:to|of)\b"
    r"|implements?\s+\S+\s*\S*\.?$|wrapper (?:for|around)\b|helper (?:function|method)\s*\.?$"
    r"|no-?op\b|constructor\b|default constructor|the following)"
    r"|\bfollowing(?: \w+)?$|\bcopyright\b|all rights reserved",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]\w*(?:['-]\w+)*")


def plain_text(comment: str) -> str:
    """A comment without its markers: what it says, paragraphs apart."""
    text = comment.strip().replace("\r\n", "\n")
    if docstring := _DOCSTRING.match(text):
        text = docstring.group(1).replace("\\\n", "")
    else:
        text = _RUBY_BLOCK.sub("", _BLOCK_END.sub("", text))
        text = _LINE_START.sub("", text)
    return _DIRECTIVE.sub("", text).strip()


def first_sentence(comment: str) -> str:
    """The first sentence of what a documentation comment says, in one line, "" when there is none."""
    text = plain_text(comment)
    # JSDoc in the manner of date-fns: the tagged text is the comment's text.
    tagged = _DESCRIPTION.search(text) or _SUMMARY.search(text)
    if tagged and not text[: tagged.start()].strip().strip("*").strip().startswith(tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")):
        text = tagged.group("text")
    text = _OTHER_TAGS.sub("\n", _TEXT_TAGS.sub("", text))
    text = _LATER_PARTS.sub("", text).strip()
    for pattern, instead in _MARKUP:
        text = pattern.sub(instead, text)
    text = _ROLE_WORD.sub("", text.strip(" \t\n*-=/")).strip()
    end = _SENTENCE_END.search(text)
    sentence = text[: end.start()] if end else text
    return " ".join(sentence.split()).strip(" .:;,!-–—*=/")


def masked(sentence: str, name: str) -> str:
    """`sentence` without the word `name`, in any case.

    It becomes "it" where it is an identifier that no article stands before; else it is dropped.
    """
    bare = name.lstrip("~#@$").rstrip("?!=") or name
    word = re.compile(rf"(?<!\w)(?:\w+(?:::|\.|#|->))*[#~@$&]?{re.escape(bare)}[?!=]?(?!\w)(?:\(\s*\))?", re.IGNORECASE)
    identifier = "_" in bare.strip("_") or re.search(r"[a-z][A-Z]", bare)
    without = re.sub(rf"^\W*{word.pattern}[\s:,–—-]*", "", sentence, flags=re.IGNORECASE)
    without = re.sub(rf"\b(an?|the)\s+{word.pattern}", r"\1", without, flags=re.IGNORECASE)
    without = word.sub("it" if identifier else "", without)
    return " ".join(re.sub(r"\s+([,.;:)])", r"\1", without).split())


def query_of(comment: str, name: str) -> str | None:
    """The query that a documented function makes, None when its comment does not say enough or is boilerplate."""
    sentence = first_sentence(comment)
    if not sentence or _BOILERPLATE.search(sentence):
        return None
    text = masked(sentence, name)
    words = _WORD.findall(text)
    if len(words) < MIN_WORDS or len(text.split()) > MAX_WORDS or _BOILERPLATE.search(text):
        return None
    # Code that somebody took out, and tables.
    letters = sum(char.isalpha() or char.isspace() for char in text)
    if letters < 0.8 * len(text) or re.search(r"[;{}]\s*$|\breturn \w+;|==|,\s*,", text):
        return None
    return text
