"""Globs that come from an indexed repository (.codechunkignore, .gitattributes), in time linear in the path.

They are written by strangers, and the usual translation to a regular expression backtracks: `*a*a*a*a*b` in
an ignore file and one long file name would hold the indexer for hours. Here every wildcard takes the leftmost
match and keeps it (atomic groups); as each run of fixed text or folders between two wildcards has nothing to
gain from a later place, nothing is missed. The user's own globs go through pathspec.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

_MAX_LINES = 1000
_MAX_LENGTH = 1000


class IgnoreFile:
    """A .gitignore-like text: what it matches is left out, later lines win, `!` brings back."""

    def __init__(self, text: str) -> None:
        """Lines that are no pattern match nothing, as in git; at most 1,000 patterns are read."""
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for raw in text.removeprefix("\ufeff").splitlines():
            line = re.sub(r"(?<!\\)[ \t]+$", "", raw)
            if not line or line.startswith("#") or len(line) > _MAX_LENGTH:
                continue
            keep = line.startswith("!")
            pattern = _compile(line[1:] if keep else line, folders=True)
            if pattern is not None and len(self._rules) < _MAX_LINES:
                self._rules.append((not keep, pattern))
        self._folders: dict[str, bool] = {}

    def matches(self, path: str) -> bool:
        """Whether the file at `path` is left out, by itself or with one of the folders it is in.

        As in git, nothing in a folder that is left out can be brought back.
        """
        end = path.find("/") + 1
        while end > 0:
            folder = path[:end]
            left_out = self._folders.get(folder)
            if left_out is None:
                left_out = self._folders[folder] = self._last_rule(folder)
            if left_out:
                return True
            end = path.find("/", end) + 1
        return self._last_rule(path)

    def _last_rule(self, path: str) -> bool:
        for ignore, pattern in reversed(self._rules):
            if pattern.fullmatch(path):
                return ignore
        return False


class Attributes:
    """Boolean attributes of paths, as the .gitattributes files of a commit set them."""

    def __init__(self, files: Mapping[str, str], names: Sequence[str]) -> None:
        """`files`: folder ("" for the root) -> text; `names`: the attributes that will be asked for."""
        self._rules: dict[str, list[tuple[str, re.Pattern[str], bool | None]]] = {name: [] for name in names}
        # Nearer files win over farther ones, later lines over earlier ones: deepest folder last.
        for folder in sorted(files, key=lambda name: name.count("/") if name else -1):
            prefix = f"{folder.rstrip('/')}/" if folder else ""
            for pattern, attributes in _attribute_lines(files[folder]):
                for name, value in attributes:
                    rules = self._rules.get(name)
                    if rules is None or len(rules) >= _MAX_LINES:
                        continue
                    compiled = _compile(pattern, folders=False)
                    if compiled is not None:
                        rules.append((prefix, compiled, value))

    def value(self, name: str, path: str) -> bool | None:
        """True or False where the repository says so, None where it says nothing."""
        for prefix, pattern, value in reversed(self._rules[name]):
            if path.startswith(prefix) and pattern.fullmatch(path, len(prefix)):
                return value
        return None


def _attribute_lines(text: str) -> Iterable[tuple[str, list[tuple[str, bool | None]]]]:
    """(pattern, [(attribute, value)]) of each line; macros and negative patterns are no patterns here."""
    for line in text.removeprefix("\ufeff").splitlines():
        line = line.strip()
        quoted = re.match(r'"((?:[^"\\]|\\.)*)"\s+(.*)', line)
        if quoted:
            pattern, rest = re.sub(r"\\(.)", r"\1", quoted[1]), quoted[2]
        else:
            pattern, _, rest = line.replace("\t", " ").partition(" ")
        if not rest or len(line) > _MAX_LENGTH or pattern.startswith(("#", "!", "[attr]")):
            continue
        yield pattern, [_attribute(word) for word in rest.split()]


def _attribute(word: str) -> tuple[str, bool | None]:
    if word.startswith("!"):
        return word[1:], None
    if word.startswith("-"):
        return word[1:], False
    name, _, value = word.partition("=")
    return name, value.lower() not in ("false", "0", "no", "off")


def _compile(pattern: str, *, folders: bool) -> re.Pattern[str] | None:
    """The pattern as a regular expression over a whole path; None when it can match nothing.

    `folders`: paths of folders, which end with a slash, are asked about too; else only those of files.
    """
    folders_only = pattern.endswith("/")
    if folders_only and not folders:
        return None
    parts = pattern.rstrip("/").split("/")
    if len(parts) == 1:
        parts = ["**", *parts]
    elif parts[0] == "":
        parts = parts[1:]  # a leading slash only anchors
    end = "/" if folders_only else "/?" if folders else ""
    source = ""
    in_group = False
    for at, part in enumerate(parts):
        last = at == len(parts) - 1
        if part == "**" and last:
            source += (")" if in_group else "") + ".+"
            in_group = False
        elif part == "**":
            # The leftmost place where all parts up to the next `**` fit.
            source += (")" if in_group else "") + "(?>(?:[^/]*/)*?"
            in_group = True
        else:
            component = _component(part)
            if component is None:
                return None
            source += component + (rf"(?={end}\Z)" if last else "/")
    return re.compile(source + (")" if in_group else "") + end, re.DOTALL)


def _component(glob: str) -> str | None:
    """One path component's glob as a regular expression that never backtracks; None when it is malformed."""
    if not glob:
        return None
    pieces: list[list[str]] = [[]]
    at = 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "*":
            pieces.append([])
        elif char == "?":
            pieces[-1].append("[^/]")
        elif char == "\\":
            if at == len(glob):
                return None  # a trailing backslash is an invalid pattern to git
            pieces[-1].append(re.escape(glob[at]))
            at += 1
        elif char == "[":
            end = _class_end(glob, at)
            if end is None:
                return None
            pieces[-1].append(_char_class(glob[at:end]))
            at = end + 1
        else:
            pieces[-1].append(re.escape(char))
    first, *others = ["".join(piece) for piece in pieces]
    if not others:
        return first
    *middle, final = others
    if not any((first, *others)):
        return "[^/]+"  # a folder's name is never empty, though a star may match nothing
    # The last piece stands at the component's end: everything before it is free, so it needs no search.
    return first + "".join(f"(?>[^/]*?{piece})" for piece in middle if piece) + f"(?>[^/]*?{final}(?=/|\\Z))"


def _class_end(glob: str, at: int) -> int | None:
    """Index of the bracket that closes the class whose content starts at `at`."""
    start = at
    if glob[at : at + 1] in ("!", "^"):
        at += 1
        start += 1
    while at < len(glob):
        if glob[at] == "\\":
            at += 2
            continue
        if glob[at] == "]" and at > start:
            return at
        at += 1
    return None


def _char_class(content: str) -> str:
    negated = content[0] in "!^"
    body = content[1:] if negated else content
    items = re.findall(r"\\.|.", body, re.DOTALL)
    safe = []
    at = 0
    while at < len(items):
        char = items[at][-1]
        if at + 2 < len(items) and items[at + 1] == "-":
            high = items[at + 2][-1]
            if char <= high:
                safe.append(f"{re.escape(char)}-{re.escape(high)}")
            at += 3
            continue
        safe.append(re.escape(char))
        at += 1
    if not safe:
        return "[^/]" if negated else r"(?!)"
    return f"(?!/)[{'^' if negated else ''}{''.join(safe)}]"
