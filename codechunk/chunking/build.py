"""Outlines of Makefiles by target, of Dockerfiles by stage, and where shell scripts are best cut. Read by lines."""

import re
from collections.abc import Iterator

from codechunk.chunking.nested import INKED_LINE, Comments, Part, nested_outline
from codechunk.chunking.rules import LEAST_INK
from codechunk.chunking.source import Outline, Source
from codechunk.text.chunks import Kind

_TARGET = re.compile(rb"([^\s#:=?+!][^:=#\n]{0,300}?)[ \t]*&?::?(?![:=])")
_DEFINE = re.compile(rb"(?:override[ \t]+)?define[ \t]+([^\s=:]+)")
_STAGE = re.compile(rb"FROM[ \t]+(?:--\S+[ \t]+)*(\S+)(?:[ \t]+AS[ \t]+(\S+))?", re.I)
_HEREDOC = re.compile(rb"<<-?[ \t]*[\"']?([A-Za-z_]\w*)")
_BLANK_ABOVE = re.compile(rb"\n[ \t\r]*\n[ \t]*\Z")
_NAME_CHARS = 80


def make_outline(source: Source, *, max_tokens: int) -> Outline:
    """Targets with their recipes, named by their first target; variables grouped; `define` is a macro."""
    return nested_outline(source, _makefile(source), max_tokens=max_tokens, least_ink=LEAST_INK)


def docker_outline(source: Source, *, max_tokens: int) -> Outline:
    """Build stages, named by `AS` or else by their image; a large one is cut between instructions."""
    return nested_outline(source, _dockerfile(source), max_tokens=max_tokens)


def prefer_blank_lines(source: Source, outline: Outline) -> Outline:
    """Make cuts without a blank line above them the second choice: commands that stand together stay together."""
    data = source.data
    for number, (cut, (scope, depth, small)) in enumerate(zip(outline.cuts, outline.parts, strict=True)):
        if not _BLANK_ABOVE.search(data, max(0, cut - 80), cut):
            outline.parts[number] = (scope, depth + 1, small)
    return outline


def _text(raw: bytes) -> str:
    return " ".join(raw.decode("utf-8", "replace").split())[:_NAME_CHARS]


def _makefile(source: Source) -> Iterator[Part]:
    data = source.data
    # Also targets that only say something about the next one: they begin it.
    comments = Comments()
    continued = in_define = False
    behind = source.start
    for match in INKED_LINE.finditer(data, source.start):
        start, indent, body = match.start(), match[1], match[2].rstrip()
        was_continued, continued = continued and start == behind, body.endswith(b"\\")
        behind = match.end() + 1
        if in_define:
            in_define = not body.startswith(b"endef")
            continue
        if was_continued or indent.startswith(b"\t"):
            continue
        begin = comments.above(start)
        if body.startswith((b"#", b".PHONY")):
            comments.add(start, behind)
            continue
        macro, target = _DEFINE.match(body), _TARGET.match(body)
        if macro:
            in_define = True
            yield Part(begin, 0, _text(macro[1]), Kind.MACRO)
        elif target and not body.startswith((b"ifeq", b"ifneq", b"export ", b"-include", b"include ", b"$(eval")):
            yield Part(begin, 0, _text(target[1]), Kind.FUNCTION)
        else:
            # Variables: as one group, cut between any two, best behind a blank line.
            yield Part(begin, 0 if begin != start or _BLANK_ABOVE.search(data, max(0, start - 80), start) else 1)


def _dockerfile(source: Source) -> Iterator[Part]:
    data = source.data
    comments = Comments()
    continued = False
    heredoc = b""
    for match in INKED_LINE.finditer(data, source.start):
        start, body = match.start(), match[2].rstrip()
        if heredoc:
            heredoc = b"" if body == heredoc else heredoc
            continue
        begin = comments.above(start)
        if body.startswith(b"#"):
            # Comments stand between the lines of one instruction, too.
            if not continued:
                comments.add(start, match.end() + 1)
            continue
        was_continued, continued = continued, body.endswith((b"\\", b"`"))
        opened = _HEREDOC.search(body)
        if opened and not continued:
            heredoc = opened[1]
        if was_continued:
            continue
        stage = _STAGE.match(body)
        if stage:
            yield Part(begin, 0, _text(stage[2] or stage[1]))
        else:
            yield Part(begin, 1)
