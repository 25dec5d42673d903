"""The outline of a file without syntax: cut at blank lines."""

import re

from codechunk.chunking.source import Outline, Scope, Source
from codechunk.text.chunks import Kind

_PARAGRAPH = re.compile(rb"\n[ \t\r\f\v]*\n(?=[^\n])")


def plain_outline(source: Source) -> Outline:
    """One scope, cuts where a paragraph begins. Lines and bytes are found later, where paragraphs are too large."""
    kind = Kind.TEXT if source.language == "text" else Kind.BLOCK
    scope = Scope(None, kind, None, source.start)
    outline = Outline()
    outline.add(source.start, scope, 0)
    for blank in _PARAGRAPH.finditer(source.data):
        outline.add(blank.end(), scope, 0)
    return outline
