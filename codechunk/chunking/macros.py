"""C's macros, blanked before the parser sees them: it cannot expand them and takes them for types and names.

`FMT_BEGIN_NAMESPACE` alone on its line makes the whole namespace after it a function to the grammar, and
`class LIB_API Name {` makes a class one. Blanks of the same length keep every offset.
"""

import re

_MACRO = rb"(_*+[A-Z][A-Z0-9_]{2,}+(?:\([^()\n]*\))?)"
_PARTS = (
    # Alone on its line, if what follows goes neither on with an expression nor opens a body.
    _MACRO + rb"[ \t]*+;?+(?=[ \t]*+\r?\n\s*+[^\s{}(=+\-*/|&?:,.)<>])",
    rb"(?:class|struct|union|enum)[ ]" + _MACRO + rb"(?=[ ]\w+\s*[:{<\w])",
    rb"namespace[ ]\w+[ ]" + _MACRO + rb"(?=\s*\{)",
)
# LIB_INLINE auto name(): not a type, for a type follows.
_BEFORE_TYPE = (
    rb"(?:(?:static|inline|friend|explicit|virtual|template[ ]?<[^\n<>]*>)[ ])*"
    rb"([A-Z][A-Z0-9]*+_[A-Z0-9_]++)(?=[ ](?:[a-z_][\w:<>]*[ *&]|~|operator))",
)
# Anchored at a line break, which makes the search five times faster than a look-behind does; a look at the first
# letter of the line saves most lines the attempts.
_FIRST_COLUMN = re.compile(rb"\n(?=[_A-Zcsuen])(?:" + b"|".join(_PARTS) + rb")")
_INDENTED = re.compile(rb"\n[ \t]*+(?=[_A-Zcsuenifvt])(?:" + b"|".join(_PARTS + _BEFORE_TYPE) + rb")")

LANGUAGES = frozenset({"c", "cpp", "cuda", "arduino", "objc"})


def without_macros(data: bytes, language: str) -> bytes:
    """The same bytes, with blanks for macros that stand where the grammar expects something else."""
    # C has them in the first column; C++ before members too, and its parser is slow enough to pay for the search.
    return (_FIRST_COLUMN if language == "c" else _INDENTED).sub(_blanked, data)


def _blanked(match: re.Match[bytes]) -> bytes:
    found, offset = match[0], match.start()
    start, end = match.span(match.lastindex or 0)
    return found[: start - offset] + b" " * (end - start) + found[end - offset :]
