"""Outlines of HTML, Vue, Svelte, Astro and templates: by elements and blocks, with embedded scripts and styles.

Read by lines: elements nest by their indentation, which people keep, and not by their tags, which they leave open;
blocks of templates (`{% block %}`, `{{#each}}`, `{#if}`) nest by their ends. Scripts and styles are read by the
grammar of their own language.
"""

import re
from collections.abc import Iterator

from codechunk.chunking.nested import INKED_LINE, Comments, Embedded, Part, nested_outline
from codechunk.chunking.source import Outline, Source
from codechunk.text.chunks import Kind

MARKUP = frozenset({"html", "vue", "svelte", "astro", "twig", "embeddedtemplate", "xml"})
_TAG = re.compile(rb"<([A-Za-z][\w:.-]{0,60})(?=[\s/>]|$)")
_CALLED = re.compile(rb"""[\s:](?:id|name|ref|key)[ \t]*=[ \t]*["']([^"'<>{}\n]{1,60})["']""")
_LANG = re.compile(rb"""\s(?:lang|type)[ \t]*=[ \t]*["']?([\w./+-]{1,40})""")
_BLOCK = re.compile(
    rb"\{%[-+~]?[ \t]*(?P<end>end)?(?P<word>\w+)(?:[ \t]+(?P<name>[\w./:'\"-]{1,60}))?"
    rb"|\{\{[~-]?(?P<sign>[#/])[*>]?[ \t]*(?P<bars>\w+)(?:[ \t]+(?P<inline>[\w.\"'-]{1,60}))?"
    rb"|\{(?P<brace>[#/])(?P<svelte>\w+)(?:[ \t]+(?P<snippet>\w{1,60}))?"
    rb"|\{\{-?[ \t]*(?P<go>define|block|range|if|with|end)\b(?:[ \t]+\"(?P<gone>[\w./-]{1,60})\")?"
)
_BLOCKS = frozenset(
    b"block macro for if filter call set with trans blocktrans blocktranslate autoescape embed raw verbatim comment"
    b" unless case capture form paginate schema javascript stylesheet spaceless cache apply sandbox".split()
)
_NAMED = {b"block": Kind.SECTION, b"macro": Kind.MACRO, b"define": Kind.SECTION, b"inline": Kind.SECTION,
          b"snippet": Kind.FUNCTION}  # fmt: skip
# Elements that say by their tag alone what is in them; of others the id does.
_TELLING = frozenset(
    b"head header nav main footer aside section article template form table script style dialog fieldset figure"
    b" svg body dependencies build properties profiles target".split()
)
_LANGUAGES = {
    b"ts": "typescript", b"typescript": "typescript", b"text/typescript": "typescript", b"tsx": "tsx",
    b"application/json": "json", b"application/ld+json": "json", b"importmap": "json", b"json": "json",
    b"scss": "scss", b"sass": "", b"stylus": "", b"styl": "", b"text/coffeescript": "", b"coffee": "",
    b"text/template": "", b"text/x-template": "", b"text/html": "", b"text/x-handlebars-template": "", b"pug": "",
    b"text/plain": "", b"text/x-mathjax-config": "javascript", b"yaml": "", b"yml": "",
}  # fmt: skip
# A part inside of blocks is deeper than any indentation outside of them.
_BLOCK_LEVELS = 1000
_MOST_BLOCKS = 50
_LEAST_SHARE = 1.5
_FRONT_MATTER = re.compile(rb"---[ \t\r]*\n")


def markup_outline(source: Source, *, max_tokens: int, min_tokens: int) -> Outline:
    """Elements with an id or a telling tag, and blocks, as scopes where they are large enough; others as cuts."""
    return nested_outline(
        source, _Reader(source).parts(), max_tokens=max_tokens, least_tokens=min_tokens * _LEAST_SHARE
    )


class _Reader:
    """Reads the lines of one file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.data = source.data
        self.blocks = 0
        # Lines before this are inside of a comment, a script or a style.
        self.behind = source.start
        self.comments = Comments()
        self.endings: dict[bytes, int] = {}

    def parts(self) -> Iterator[Part]:
        """The parts, in file order."""
        if self.source.language == "astro":
            yield from self._front_matter()
        blank_until = self.source.start
        for match in INKED_LINE.finditer(self.data, self.source.start):
            start, body = match.start(), match[2]
            after_blank, blank_until = start > blank_until, match.end() + 1
            if start < self.behind:
                continue
            column = min(len(match[1]), _BLOCK_LEVELS - 1)
            begin = self.comments.above(start)
            if body.startswith((b"<!--", b"{#-", b"{# ", b"{{!", b"<%#")):
                self._skip_comment(start, match.start(2))
                continue
            part = None
            if body[:1] == b"<":
                part = self._element(match.start(2), begin, column, body)
            elif body[:1] == b"{":
                part = self._block(begin, column, body)
            if part is None and after_blank and not body.startswith((b"</", b"{% end", b"{{/", b"{/", b"<?", b"<!")):
                part = Part(begin, self._level(column))
            if part is not None:
                yield part

    def _level(self, column: int) -> int:
        return self.blocks * _BLOCK_LEVELS + column

    def _find(self, mark: bytes, start: int) -> int:
        """Where `mark` is next, from `start` on; the end of the file if nowhere. Linear over all calls for a mark."""
        known = self.endings.get(mark, -1)
        if known < start:
            found = self.data.find(mark, start)
            known = self.endings[mark] = found if found >= 0 else len(self.data)
        return known

    def _skip_comment(self, start: int, opening: int) -> None:
        """Go behind the comment that opens there; it belongs to what follows it."""
        mark = {b"<!": b"-->", b"{#": b"#}", b"{{": b"}}", b"<%": b"%>"}[self.data[opening : opening + 2]]
        end = self._find(mark, opening)
        line = self.data.find(b"\n", end)
        self.behind = line + 1 if line >= 0 else len(self.data)
        self.comments.add(start, self.behind)

    def _element(self, tag_at: int, begin: int, column: int, body: bytes) -> Part | None:
        tag = _TAG.match(body)
        if tag is None:
            return None
        name = tag[1]
        lower = name.lower()
        # Attributes may be on lines of their own.
        opening = self.data[tag_at : self.data.find(b">", tag_at, tag_at + 600) + 1 or tag_at + 200]
        if lower in {b"script", b"style"} and self.source.language != "xml":
            return self._code(tag_at, begin, column, lower, opening)
        called = _CALLED.search(opening)
        text = name.decode("utf-8", "replace")
        if called:
            text += "#" + called[1].decode("utf-8", "replace")
        elif lower not in _TELLING and self.source.language != "xml":
            return Part(begin, self._level(column))
        return Part(begin, self._level(column), text, minor=True)

    def _code(self, tag_at: int, begin: int, column: int, tag: bytes, opening: bytes) -> Part:
        """A script or style, up to its closing tag, in its own language."""
        content = tag_at + len(opening)
        end = self._closing(tag, content)
        said = _LANG.search(opening)
        default = "javascript" if tag == b"script" else "css"
        if self.source.language == "astro" and tag == b"script":
            default = "typescript"
        language = _LANGUAGES.get(said[1].lower(), default) if said else default
        line = self.data.find(b"\n", end)
        self.behind = line + 1 if line >= 0 else len(self.data)
        embedded = Embedded(content, end, language) if language and end > content else None
        return Part(begin, self._level(column), tag.decode(), Kind.BLOCK, minor=True, embedded=embedded)

    def _closing(self, tag: bytes, start: int) -> int:
        lower, upper = self._find(b"</" + tag, start), self._find(b"</" + tag.upper(), start)
        return min(lower, upper)

    def _block(self, begin: int, column: int, body: bytes) -> Part | None:
        """The part that a block of a template makes; the ends of blocks lead out of them."""
        match = _BLOCK.match(body)
        if match is None:
            return None
        word = match["word"] or match["bars"] or match["svelte"] or match["go"]
        if match["end"] or b"/" in (match["sign"], match["brace"]) or word == b"end":
            self.blocks = max(self.blocks - 1, 0)
            return None
        if match["word"] and (word not in _BLOCKS or self._ends_on_its_line(word, body)):
            return None
        name = match["name"] or match["inline"] or match["snippet"] or match["gone"]
        part = Part(begin, self._level(column), minor=True)
        if name and word in _NAMED:
            part.name, part.kind = name.decode("utf-8", "replace").strip("\"'"), _NAMED[word]
        if not self._closes(body):
            self.blocks = min(self.blocks + 1, _MOST_BLOCKS)
        return part

    def _ends_on_its_line(self, word: bytes, body: bytes) -> bool:
        # `{% set x = 1 %}` has no end; `{% set x %}` has.
        return b"end" + word in body or (word == b"set" and b"=" in body)

    def _closes(self, body: bytes) -> bool:
        return b"{{/" in body or b"{/" in body or b"{{end" in body or b"{{ end" in body or b"{{- end" in body

    def _front_matter(self) -> Iterator[Part]:
        """The script of an Astro component, between two lines of dashes."""
        start = self.source.start
        opening = _FRONT_MATTER.match(self.data, start)
        if opening is None:
            return
        end = self.data.find(b"\n---", opening.end())
        if end < 0:
            return
        yield Part(start, 0, "script", Kind.BLOCK, embedded=Embedded(opening.end(), end, "typescript"))
        line = self.data.find(b"\n", end + 1)
        self.behind = line + 1 if line >= 0 else len(self.data)
