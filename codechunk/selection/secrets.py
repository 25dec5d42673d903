"""Secrets in files: where they are, and what stands in their place before a chunk is made, stored or sent.

Pure: bytes in, spans out. Prefixes, lengths and alphabets of tokens are in secret_rules.py. When in doubt
between a word and a random string, the word stays: a file that loses its words is of no use to a search.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from codechunk.selection.secret_rules import TOKENS

SecretsMode = Literal["redact", "skip", "fail", "off"]
"""What happens to secrets: a marker takes their place, their file is skipped, the run fails, or nothing."""

# Part of every index fingerprint: raise it whenever the same bytes can give other spans or other markers.
PATTERNS_VERSION = 1


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Bytes `[start, end)` of a file that hold a secret of this kind."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret is, without the secret. `line` is 1-based."""

    line: int
    kind: str


# --- tokens that a provider marks with a prefix -------------------------------------------------------------

# A token holds an unbroken run of at least this many letters, digits, "_" and "-" ...
_RUN_BYTES = 16
# ... and begins at most this many bytes before it.
_LEAD_BYTES = 6
_IN_RUN = np.zeros(256, np.bool_)
_IN_RUN[list(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-")] = True


def _by_first_letter(starts: Sequence[str]) -> str:
    """One pattern for all beginnings that looks at a letter once, not once for each of them."""
    rests: dict[str, list[str]] = {}
    for start in re.findall(r"(?:\((?:[^()])*\)|[^|()])+", "|".join(starts)):
        rests.setdefault(start[0], []).append(start[1:])
    return "|".join(f"{letter}(?:{'|'.join(dict.fromkeys(rest))})" for letter, rest in rests.items())


# The byte before counts as well: it must be no letter or digit, and searching for it is fast.
_BEGINNING = re.compile(f"[^A-Za-z0-9](?:{_by_first_letter([start for _, start, _ in TOKENS])})".encode())
_TOKEN = re.compile("|".join(f"((?:{start}){rest})" for _, start, rest in TOKENS).encode())

# --- what has another shape: (kind, text that must be there, pattern); a group 1 is the secret itself -------------

_OTHERS: Sequence[tuple[str, bytes, re.Pattern[bytes]]] = (
    ("slack-webhook", b"hooks.slack.com/", re.compile(rb"hooks\.slack\.com/\w{3,20}/([A-Za-z0-9+/_-]{20,})")),
    ("discord-webhook", b"/api/webhooks/", re.compile(rb"/api/webhooks/\d{15,22}/([\w-]{50,})")),
    ("azure-key", b"Key=", re.compile(rb"(?:Account|SharedAccess)Key=([A-Za-z0-9+/]{40,}={0,2})")),
    ("azure-sas", b"sig=", re.compile(rb"[?&;]sig=([A-Za-z0-9%+/]{40,}={0,2})")),
    ("azure-client-secret", b"Q~", re.compile(rb"(?<![\w~.])([\w~.]{3}\dQ~[\w~.-]{31,34})(?![\w~.-])")),
    ("terraform-token", b".atlasv1.", re.compile(rb"[A-Za-z0-9]{14}\.atlasv1\.[\w=-]{50,}")),
    ("telegram-token", b":AA", re.compile(rb"(?<!\w)\d{8,10}:AA[\w-]{32,34}(?![\w-])")),
    ("docker-auth", b'"auth"', re.compile(rb'"auth"\s{0,8}:\s{0,8}"([A-Za-z0-9+/]{16,}={0,2})"')),
)
_URL_PASSWORD = re.compile(rb"://[^\s:/?#@\"'<>`\\]{0,100}:([^\s/\"'<>`\\]{3,200})@[\w.\[$%{]")
_CURL_PASSWORD = re.compile(rb"curl[^\n]{0,200}?\s(?:-u|--user)[ =]?[\"']?[\w.@+-]{1,64}:([^\s\"'`]{3,100})")

# --- private keys -----------------------------------------------------------------------------------------------

_KEY_BEGIN = re.compile(rb"-----BEGIN (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END = re.compile(rb"-----END (?:[A-Z0-9]{2,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_BYTES = 32 * 1024
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/=_-]{16,}")
_INK = re.compile(rb"\S")
# A key whose end is missing goes on as long as there is nothing but lines of base64 and what holds strings together.
_KEY_BODY = re.compile(
    rb"(?:\\[nr]|[\s\"'`,;.#*|>(){}$\\]|(?:Proc-Type|DEK-Info|Version|Comment):[^\n\\]{0,80}"
    rb"|[A-Za-z0-9+/]{20,}={0,2}|[A-Za-z0-9+/]{2,19}={1,2}|\+)*+"
)
_PUTTY_KEY = re.compile(rb"Private-Lines: \d{1,3}\r?\n((?:[A-Za-z0-9+/=]{4,}(?:\r?\n|$)){1,200}+)")
_KEY_BYTE = re.compile(rb"\\[nrt]|[A-Za-z0-9+/=_:.-]")

# --- secrets by the name they are given to ------------------------------------------------------------------------

# A word in a name, and what it must follow to be one, if that matters.
_PASSWORD_WORDS = (b"pass", b"pwd")
_KEY_WORDS = (b"api", b"access", b"private", b"signing", b"encryption", b"auth", b"account", b"secret", b"master")
_KEY_OWNERS = tuple(word + join for word in _KEY_WORDS for join in (b"", b"_", b"-", b"."))
_LONGEST_OWNER = max(map(len, _KEY_OWNERS))
_AFTER_PASS = re.compile(rb"(?i:w(?:or)?d|phrase|code)?")

_QUOTED = re.compile(
    rb"[\w-]{0,40}\\?[\"'`]?\]?"
    rb"(?:\s{0,8}:\s{0,4}[A-Za-z_][\w.\[\]|? ]{0,40}?(?=\s{0,8}=))?"  # an annotation of its type
    rb"\s{0,8}(?:=>|:=|[!=]?={1,3}|:|(?<=[\"'`])(,))\s{0,8}\(?[bBrRuULf@]{0,2}\\?"
    rb"([\"'`])((?:(?!\2)\S){6,200})\2"
)
_UNQUOTED = re.compile(rb"[\w.-]{0,40}[ \t]{0,8}[=:][ \t]{0,8}([^\s\"'`#,;(){}\[\]<>$|&\\]{8,200})[ \t]*(?=[\r\n#]|\Z)")
_LINE_HEAD = re.compile(rb"[ \t]*(?:export +|set +|ENV +|ARG +|- +|# *|// *)?[^\s\"'`=(){}<>,;]*")
_LINE_BYTES = 200
_CONNECTION = re.compile(rb"[ \t]?=[ \t]?([^\s;&\"'<>(){}\[\],$%`\\]{4,64})(?=[;&\"'])")
_ELEMENT = re.compile(rb"[\w-]{0,20}>\s{0,4}([^<>\s]{6,100})\s{0,4}</")
_ATTRIBUTE = re.compile(rb"[\w-]{0,20}[\"'][ \t]{1,4}value=[\"']([^\"'\s<>]{6,100})[\"']")
_CREDENTIALS = re.compile(rb"(?i:bearer|basic|token)[ \t]+([A-Za-z0-9._~+/-]{12,}={0,2})")

_NO_SECRET = re.compile(
    rb"(?i)\$\{|\{\{|\}\}|^\$|^[#.\[@:%&*?/\\<{(^]|%[(sdvq]|://|\[a-z|\\[dwsbux0]|\(\?|\{\w{0,30}\}"
    rb"|example|placeholder|change[_-]?me|change[_-]?it|your|xxxx|\*\*\*|\.\.\.|dummy|redacted|process\.env|environ"
    rb"|getenv|secrets\.|vault:|^enc\[|^test|fake|sample|insert|replace"
)
_WEAK = frozenset(
    b"pass password passwd pwd secret token user username root admin test guest foo bar baz none null true false empty "
    b"pw p pass1 pass2 port host passw0rd hunter".split()
)
_TOKEN_TEXT = re.compile(rb"[A-Za-z0-9+/=_.~:-]+")
_CHANGE = re.compile(rb"(?<=[a-z])[0-9A-Z]|(?<=[A-Z])[0-9]|(?<=[0-9])[A-Za-z]")
_ODD_INSIDE = re.compile(rb"\w[!@#$%^&*+=~]+\w")
_DIGIT = re.compile(rb"\d")
_LETTER = re.compile(rb"[A-Za-z]")


def find(data: bytes) -> list[Span]:
    """The secrets in a file, in order, apart from each other; ends are ends of UTF-8 characters."""
    found = [*_private_keys(data), *_prefixed(data), *_of_other_shape(data), *_assigned(data, data.lower())]
    if not found:
        return found
    found.sort(key=lambda span: (span.start, -span.end))
    apart = [found[0]]
    for span in found[1:]:
        last = apart[-1]
        if span.start >= last.end:
            apart.append(span)
        elif span.end > last.end:
            apart[-1] = Span(last.start, span.end, last.kind)
    return [Span(span.start, _end_of_character(data, span.end), span.kind) for span in apart]


def places(data: bytes, spans: Sequence[Span]) -> list[Place]:
    """The line of each span."""
    lines = []
    line, counted = 1, 0
    for span in spans:
        line += data.count(b"\n", counted, span.start)
        counted = span.start
        lines.append(Place(line, span.kind))
    return lines


def mask(data: bytes, spans: Sequence[Span]) -> bytes:
    """The file with an X for every visible byte of the spans: same length, same lines, and it parses as before."""
    masked = bytearray(data)
    for start, end, kind in ((span.start, span.end, span.kind) for span in spans):
        what = _KEY_BYTE if kind == "private-key" else _INK
        masked[start:end] = what.sub(lambda found: b"X" if len(found[0]) == 1 else found[0], data[start:end])
    return bytes(masked)


def redact(masked: bytes, spans: Sequence[Span], start: int, end: int, *, encoding: str) -> str:
    """`masked[start:end]` decoded, with a marker in place of every span or part of one; its lines stay lines."""
    parts: list[str] = []
    at = start
    for span in spans:
        first, last = max(span.start, at), min(span.end, end)
        if first >= last:
            continue
        parts += (masked[at:first].decode(encoding), _marker(span.kind, masked[first:last]))
        at = last
    parts.append(masked[at:end].decode(encoding))
    return "".join(parts)


def fingerprint(mode: SecretsMode) -> str:
    """What the mode and the patterns do to chunks, as a word: equal words, equal chunks."""
    return mode if mode == "off" else f"{mode}-{PATTERNS_VERSION}"


def counts(found: Sequence[Place]) -> Mapping[str, int]:
    """How many of each kind, the most frequent first."""
    kinds = [place.kind for place in found]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds), key=lambda kind: (-kinds.count(kind), kind))}


def _marker(kind: str, covered: bytes) -> str:
    """The marker on the first line, the line ends of what it covers, and the marker on the last line again: text
    that ends with a line end would be taken for text with an empty line after it."""
    marker = f"[REDACTED:{kind}]"
    ends = re.findall(rb"\r\n|[\r\n]", covered)
    if not ends:
        return marker
    last = marker if covered.rstrip(b"\r\n") == covered else ""
    return marker + b"".join(ends).decode() + last


def _end_of_character(data: bytes, end: int) -> int:
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return end


def _prefixed(data: bytes) -> Iterator[Span]:
    """Tokens of providers: looked for only around long runs of letters and digits, which numpy finds fast."""
    if len(data) < _RUN_BYTES:
        return
    breaks = np.flatnonzero(~_IN_RUN[np.frombuffer(data, np.uint8)])
    edges = np.concatenate(([-1], breaks, [len(data)]))
    long = np.flatnonzero(np.diff(edges) > _RUN_BYTES)
    starts = np.maximum(edges[long] - _LEAD_BYTES, 0)
    runs = list(zip(starts.tolist(), edges[long + 1].tolist(), strict=True))
    # One search in all of them says for most files that there is nothing.
    if _BEGINNING.search(b" ".join([b"", *(data[start:end] for start, end in runs)])) is None:
        return
    token = _TOKEN.match(data)
    if token is not None:
        yield _token_span(token)
    done = 0 if token is None else token.end()
    for start, end in runs:
        at = max(start, done)
        while (begun := _BEGINNING.search(data, at, end)) is not None:
            token = _TOKEN.match(data, begun.start() + 1)
            if token is None:
                at = begun.start() + 1
                continue
            yield _token_span(token)
            at = done = token.end()


def _token_span(token: re.Match[bytes]) -> Span:
    return Span(token.start(), token.end(), TOKENS[(token.lastindex or 1) - 1][0])


def _of_other_shape(data: bytes) -> Iterator[Span]:
    for kind, needed, pattern in _OTHERS:
        if needed in data:
            for found in pattern.finditer(data):
                group = 1 if pattern.groups else 0
                yield Span(found.start(group), found.end(group), kind)
    for needed, pattern in ((b"://", _URL_PASSWORD), (b"curl", _CURL_PASSWORD)):
        if needed in data:
            for found in pattern.finditer(data):
                value = found[1]
                if value.lower() not in _WEAK and not _NO_SECRET.search(value):
                    yield Span(found.start(1), found.end(1), "url-password" if needed == b"://" else "password")


def _private_keys(data: bytes) -> Iterator[Span]:
    if b"PRIVATE KEY" in data:
        at = 0
        while (begin := _KEY_BEGIN.search(data, at)) is not None:
            at = begin.end()
            end = _KEY_END.search(data, at, at + _KEY_BYTES)
            if end is not None and _is_key(data[at : end.start()]):
                at = end.end()
            else:
                body = _KEY_BODY.match(data, at)
                if body is None or not _is_key(body[0]):
                    continue
                at += len(body[0].rstrip(b" \t\r\n\"'`,;(){}$|>#*."))
            yield Span(begin.start(), at, "private-key")
    if b"Private-Lines" in data:
        for found in _PUTTY_KEY.finditer(data):
            yield Span(found.start(1), found.start(1) + len(found[1].rstrip()), "private-key")


def _is_key(body: bytes) -> bool:
    """Whether it is mostly base64: code that only speaks of keys has the same first and last line."""
    ink = len(_INK.findall(body))
    return 32 <= ink <= 2 * sum(len(run) for run in _BASE64_RUN.findall(body))


def _assigned(data: bytes, lower: bytes) -> Iterator[Span]:
    """Values that are given to a name like password, secret, token or api_key, and look like one."""
    for word in _PASSWORD_WORDS:
        for at in _occurrences(lower, word):
            if word == b"pass":
                end = _AFTER_PASS.match(data, at)
                whole = end is not None and end.end() > at
                starts_word = data[at - 4 : at] == b"Pass" or not lower[at - 5 : at - 4].isalpha()
                if not whole and not starts_word:  # bypass, compass
                    continue
                at = end.end() if end is not None else at
            yield from _values(data, at, is_password=True, is_short=False)
    for at in _occurrences(lower, b"secret"):
        yield from _values(data, at, is_password=False, is_short=True)
    for at in _occurrences(lower, b"token"):
        yield from _values(data, at, is_password=False, is_short=False)
    for at in _occurrences(lower, b"credential"):
        yield from _values(data, at, is_password=False, is_short=False)
    for at in _occurrences(lower, b"key"):
        if lower.endswith(_KEY_OWNERS, max(0, at - 3 - _LONGEST_OWNER), at - 3):
            yield from _values(data, at, is_password=False, is_short=False)
    for word in (b"bearer ", b"authorization"):
        for at in _occurrences(lower, word):
            start = at - len(word) if word == b"bearer " else at
            found = _CREDENTIALS.search(data, start, start + 200)
            if found is not None and _is_random(found[1], least=12):
                yield Span(found.start(1), found.end(1), "token")


def _occurrences(lower: bytes, word: bytes) -> Iterator[int]:
    """Where each occurrence of the word ends."""
    at, size = lower.find(word), len(word)
    while at >= 0:
        yield at + size
        at = lower.find(word, at + size)


def _values(data: bytes, at: int, *, is_password: bool, is_short: bool) -> Iterator[Span]:
    """The value assigned to the name whose telling word ends at `at`, if it looks like a secret."""
    kind = "password" if is_password else "token"
    quoted = _QUOTED.match(data, at)
    if quoted is not None:
        value = quoted[3].removesuffix(b"\\")
        if is_password and quoted[1] is None:
            good = _is_password(value)
        else:  # after a comma it may as well be the next of a list of names
            good = _is_random(value, least=8 if is_password or is_short else 16, any_text=is_short)
        if good:
            yield Span(quoted.start(3), quoted.start(3) + len(value), kind)
        return
    for pattern in (_UNQUOTED, _CONNECTION, _ELEMENT, _ATTRIBUTE):
        found = pattern.match(data, at)
        if found is None:
            continue
        value = found[1]
        if pattern is _UNQUOTED:
            good = _begins_line(data, at) and _is_random(value, least=8 if is_password else 16)
        else:
            good = _is_password(value) if is_password else _is_random(value, least=16)
        if good:
            yield Span(found.start(1), found.end(1), kind)
            return


def _begins_line(data: bytes, at: int) -> bool:
    line = data.rfind(b"\n", max(0, at - _LINE_BYTES), at) + 1
    return _LINE_HEAD.fullmatch(data, line, at) is not None


def _is_password(value: bytes) -> bool:
    """Whether a literal is a password rather than a word, a field's name, a path or a place to fill in."""
    if _NO_SECRET.search(value) or value.lower() in _WEAK or len(set(value)) < 4:
        return False
    if _LETTER.search(value) is None:
        return False
    return _DIGIT.search(value) is not None or _ODD_INSIDE.search(value) is not None


def _is_random(value: bytes, *, least: int, any_text: bool = False) -> bool:
    """Whether letters and digits change often enough for a string that no person wrote."""
    if len(value) < least or _NO_SECRET.search(value) or not (any_text or _TOKEN_TEXT.fullmatch(value)):
        return False
    if _DIGIT.search(value) is None or _LETTER.search(value) is None:
        return False
    return len(_CHANGE.findall(value)) >= max(3, len(value) // 8)
