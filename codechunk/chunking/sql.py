"""The outline of an SQL script: its statements, named by the object they are about.

Read by a scan for what can hide a semicolon: strings, comments, dollar quotes, BEGIN ... END. Dialects differ in
everything else, and no grammar takes them all.
"""

import re
from collections.abc import Iterator

from codechunk.chunking.nested import Part, nested_outline
from codechunk.chunking.rules import LEAST_INK
from codechunk.chunking.source import Outline, Source
from codechunk.text.chunks import Kind

_TOKEN = re.compile(
    rb"--[^\n]*|/\*|'|\"|`|\$(?:[A-Za-z_]\w*)?\$|;"
    rb"|^[ \t]*(?:GO|/|\\\.)[ \t\r]*$|^[ \t]*DELIMITER[ \t]+(?P<delimiter>\S+)"
    rb"|\b(?:BEGIN|CASE|END)\b",
    re.M | re.I,
)
_DOLLARS = re.compile(rb"\$(?:[A-Za-z_]\w*)?\$")
_LINE_ENDS = re.compile(rb"^[ \t]*(GO|/)[ \t\r]*$", re.M | re.I)
_WORD = rb"(?:[\w$#@]+|\"[^\"\n]{1,80}\"|`[^`\n]{1,80}`|\[[^\]\n]{1,80}\])"
_NAME = rb"(" + _WORD + rb"(?:\s{0,4}\.\s{0,4}" + _WORD + rb"){0,3})"
_OBJECT = re.compile(
    rb"(?:CREATE|ALTER)\s+(?:(?:OR\s+(?:REPLACE|ALTER)|TEMP|TEMPORARY|GLOBAL|LOCAL|UNLOGGED|UNIQUE|MATERIALIZED|EXTERNAL"
    rb"|FOREIGN|VIRTUAL|RECURSIVE|CONSTRAINT|CLUSTERED|NONCLUSTERED|FULLTEXT|SPATIAL|EDITIONABLE|AGGREGATE"
    rb"|FORCE|DEFINER\s{0,4}=\s{0,4}\S{1,80}|SQL\s+SECURITY\s+\w+|ALGORITHM\s{0,4}=\s{0,4}\w+)\s+){0,6}"
    rb"(?P<what>TABLE|VIEW|TYPE|DOMAIN|FUNCTION|PROCEDURE|PROC|TRIGGER|EVENT|PACKAGE|SCHEMA|DATABASE|INDEX|SEQUENCE|ROLE|USER"
    rb"|EXTENSION|RULE|POLICY|SYNONYM|OPERATOR|AGGREGATE|LANGUAGE|SERVER|KEYSPACE)\s+"
    rb"(?:(?:BODY|CONCURRENTLY|ONLY|IF\s+(?:NOT\s+)?EXISTS)\s+){0,3}" + _NAME,
    re.I,
)
_ROWS = re.compile(rb"(?:(?:INSERT|REPLACE)\s+(?:\w+\s+){0,3}?INTO|COPY)\s+" + _NAME, re.I)
_COPY = re.compile(rb"COPY\s[^;]{0,4000}\sFROM\s+STDIN\b", re.I)
_END_OF_COPY = re.compile(rb"^\\\.[ \t\r]*$", re.M)
_END_OF_CONTROL = re.compile(rb"\s+(?:IF|LOOP|WHILE|REPEAT|FOR|TRY|CATCH)\b", re.I)
_TRANSACTION = re.compile(
    rb"\s*(?:;|TRAN|TRANSACTION\b|WORK\b|ISOLATION\b|READ\b|DEFERRED\b|IMMEDIATE\b|EXCLUSIVE\b)", re.I
)
_ROUTINES = frozenset({b"FUNCTION", b"PROCEDURE", b"PROC", b"TRIGGER", b"EVENT", b"PACKAGE", b"TYPE"})
_KINDS = {
    b"TABLE": Kind.STRUCT, b"VIEW": Kind.STRUCT, b"TYPE": Kind.TYPE, b"DOMAIN": Kind.TYPE,
    b"FUNCTION": Kind.FUNCTION, b"PROCEDURE": Kind.FUNCTION, b"PROC": Kind.FUNCTION, b"TRIGGER": Kind.FUNCTION,
    b"EVENT": Kind.FUNCTION, b"RULE": Kind.FUNCTION, b"OPERATOR": Kind.FUNCTION, b"AGGREGATE": Kind.FUNCTION,
    b"PACKAGE": Kind.MODULE, b"SCHEMA": Kind.MODULE, b"DATABASE": Kind.MODULE, b"KEYSPACE": Kind.MODULE,
}  # fmt: skip
_HEAD_BYTES = 600
_LEAST_SHARE = 1.5
_BACKSLASH = 92
_SPACE = re.compile(rb"\s*")


def sql_outline(source: Source, *, max_tokens: int, min_tokens: int) -> Outline:
    """Statements: what they create or alter is their symbol; comments belong to the statement below them.

    Definitions stand alone; indexes, changes and rows only where they are long.
    """
    least = min_tokens * _LEAST_SHARE
    return nested_outline(source, _statements(source), max_tokens=max_tokens, least_tokens=least, least_ink=LEAST_INK)


def _statements(source: Source) -> Iterator[Part]:
    data = source.data
    scan = _Scan(data)
    position = source.start
    while position < len(data):
        begin = _ink(data, position)
        if begin == len(data):
            return
        head = _after_comments(data, begin)
        # A statement on the line of the one before has no line to begin a chunk with.
        line = max(data.rfind(b"\n", 0, begin) + 1, source.start)
        if line >= position or not data[line:begin].strip():
            yield _named(data[head : head + _HEAD_BYTES], line)
        position = scan.end_of_statement(begin, head)


def _named(head: bytes, start: int) -> Part:
    made = _OBJECT.match(head)
    if made:
        what = made["what"].upper()
        kind = _KINDS.get(what, Kind.VARIABLE)
        return Part(start, 0, _name(made[2]), kind, minor=kind is Kind.VARIABLE or head[:5].upper() == b"ALTER")
    rows = _ROWS.match(head)
    return Part(start, 0, _name(rows[1]), Kind.BLOCK, minor=True) if rows else Part(start, 0)


def _name(raw: bytes) -> str:
    return "".join(re.sub(r"[\"`\[\]]", "", raw.decode("utf-8", "replace")).split())


def _ink(data: bytes, start: int) -> int:
    match = _SPACE.match(data, start)
    return match.end() if match else start


def _after_comments(data: bytes, start: int) -> int:
    """Where the words of a statement begin."""
    while data.startswith((b"--", b"/*", b"#"), start):
        block = data.startswith(b"/*", start)
        end = data.find(b"*/" if block else b"\n", start + 1)
        if end < 0:
            return len(data)
        start = _ink(data, end + (2 if block else 1))
    return start


class _Scan:
    """Finds the ends of statements, one after the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.delimiter = b";"
        # The first line at or behind the statement under way that sets another delimiter.
        self.next_change = _CHANGE.search(data)
        # Scripts of tools whose routines end with a line of their own: GO of T-SQL, the slash of Oracle.
        self.has_line_ends = _LINE_ENDS.search(data) is not None
        # Closing marks that no search found: a second search would not either.
        self.missing: set[bytes] = set()
        self.last_dollars = {match[0]: match.start() for match in _DOLLARS.finditer(data)}
        # Only MySQL writes backticks, and only there a backslash hides a quote.
        self.has_escapes = b"`" in data

    def end_of_statement(self, start: int, head: int) -> int:
        """The end of the statement that begins at `start`, whose words begin at `head`."""
        data, size = self.data, len(self.data)
        made = _OBJECT.match(data, head, min(head + _HEAD_BYTES, size))
        routine = made is not None and made["what"].upper() in _ROUTINES
        depth, position = 0, start
        while position < size:
            if self.delimiter != b";":
                return self._by_delimiter(start)
            match = _TOKEN.search(data, position)
            if match is None:
                return size
            token, position = match[0].strip(), match.end()
            if token == b";":
                if depth <= 0 and not (routine and self.has_line_ends):
                    return self._behind(head, position)
            elif match["delimiter"] is not None:
                self.delimiter = match["delimiter"]
                return position
            elif token.upper() in {b"GO", b"/"}:
                return position
            elif token in {b"/*", b"'", b'"', b"`"} or token[:1] == b"$":
                position = self._closed(b"*/" if token == b"/*" else token, position)
            elif routine and token[:1].isalpha():
                depth, position = self._block(token.upper(), depth, position)
        return size

    def _block(self, word: bytes, depth: int, position: int) -> tuple[int, int]:
        """Depth and position behind BEGIN, CASE or END in a routine."""
        data = self.data
        if word != b"END":
            return (depth if word == b"BEGIN" and _TRANSACTION.match(data, position) else depth + 1), position
        control = _END_OF_CONTROL.match(data, position)
        if control:
            return depth, control.end()
        closing_case = re.compile(rb"\s+CASE\b", re.I).match(data, position)
        return max(depth - 1, 0), closing_case.end() if closing_case else position

    def _closed(self, mark: bytes, position: int) -> int:
        """Behind the mark that closes what was opened before `position`; there, if nothing closes it."""
        if mark in self.missing or self.last_dollars.get(mark, position) < position:
            return position
        end = self.data.find(mark, position)
        while self.has_escapes and mark in {b"'", b'"'} and end > 0 and self._is_escaped(end, position):
            end = self.data.find(mark, end + 1)
        if end < 0:
            self.missing.add(mark)
            return position
        return end + len(mark)

    def _is_escaped(self, quote: int, start: int) -> bool:
        """Whether an odd number of backslashes is before a quote, back to `start`."""
        first = quote
        while first > start and self.data[first - 1] == _BACKSLASH:
            first -= 1
        return (quote - first) % 2 == 1

    def _by_delimiter(self, start: int) -> int:
        """The end of a statement between `DELIMITER //` and the next such line."""
        data = self.data
        if self.next_change is not None and self.next_change.start() < start:
            self.next_change = _CHANGE.search(data, start)
        change = self.next_change
        # Looking no further than the next change keeps many of them linear.
        end = data.find(self.delimiter, start, len(data) if change is None else change.start())
        if end >= 0:
            return end + len(self.delimiter)
        if change is None:
            return len(data)
        self.delimiter = change[1]
        return change.end()

    def _behind(self, head: int, position: int) -> int:
        """Behind a GO, or behind the rows of COPY ... FROM stdin, that follows a semicolon."""
        line_end = _LINE_ENDS.match(self.data, _ink(self.data, position)) if self.has_line_ends else None
        if line_end:
            return line_end.end()
        if _COPY.match(self.data, head, position):
            end = _END_OF_COPY.search(self.data, position)
            return end.end() if end else len(self.data)
        return position


_CHANGE = re.compile(rb"^[ \t]*DELIMITER[ \t]+(\S+)", re.M | re.I)
