"""From a syntax tree to an outline: which definitions a file has, what attaches to them, and where it may be cut.

The walk enters scopes (files, classes, namespaces, preprocessor regions) and whatever is larger than a
chunk; nothing else. It is iterative and bounded in depth: a hostile tree costs time, never the stack.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache

from tree_sitter import Node, Parser, TreeCursor

from codechunk.chunking.languages import DATA, load_language
from codechunk.chunking.macros import LANGUAGES as HAVE_MACROS
from codechunk.chunking.macros import without_macros
from codechunk.chunking.rule_tables import grammar_rules
from codechunk.chunking.rules import LEAST_INK, LEAST_INK_OF_VALUES, Definition, InnerWords, Role, Rule, Rules, inside
from codechunk.chunking.source import Outline, Scope, Small, Source
from codechunk.text.chunks import Kind

SKIP, COMMENT, ENTER, DEFINE = Role
# A parser needs time and depth without bound for some one-line files (docs/design.md); real code has no such lines.
MAX_LINE_BYTES = 20_000
# Below this depth of nested nodes too large for a chunk, lines are as good a place to cut as nodes.
MAX_DEPTH = 200
# Definitions from this share of the limit on may have to be cut.
LARGE = 0.7
# Nodes with a child for every few bytes are data.
DENSE_BYTES = 24
# A definition with less ink is not even named.
_LEAST_NAMED_INK = 6
# No definition in fewer bytes is worth a look at its members.
_LEAST_SCOPE_BYTES = 80
_TYPES = frozenset({Kind.CLASS, Kind.STRUCT, Kind.INTERFACE, Kind.ENUM})
# By these names, as to look a member of an enumeration up takes longer than to call a function.
_FUNCTION, _METHOD, _MODULE, _VARIABLE = Kind.FUNCTION, Kind.METHOD, Kind.MODULE, Kind.VARIABLE
_MOST_MODIFIERS = 4
# Words, also macros with their arguments: `pub`, `LIB_EXPORT(1)`.
_MODIFIERS = re.compile(rb"(?:\s*+\w++(?:\([^()]*+\))?+)*+\s*+")
# How much of a line around a word tells whether it begins a definition.
_BEFORE_WORD, _BEHIND_WORD = 200, 4
_NEWLINE = 10


def too_hostile_to_parse(data: bytes) -> bool:
    """Whether the file has a line longer than any that people write (20,000 bytes)."""
    start = 0
    while len(data) - start > MAX_LINE_BYTES:
        # The last line break in reach: one search for many lines.
        start = data.rfind(b"\n", start, start + MAX_LINE_BYTES + 1) + 1
        if start == 0:
            return True
    return False


def syntax_outline(source: Source, *, max_tokens: int) -> Outline:
    """Parse the file and outline it. Raises LookupError when its language has no grammar."""
    data = without_macros(source.data, source.language) if source.language in HAVE_MACROS else source.data
    tree = Parser(load_language(source.language)).parse(data)
    walk = _Walk(source, grammar_rules(source.language), max_tokens)
    walk.run(tree.root_node)
    return walk.outline


class _Walk:
    """One walk over one tree, filling `outline`."""

    def __init__(self, source: Source, rules: Rules, max_tokens: int) -> None:
        self.source = source
        self.data = source.data
        self.rules = rules
        self.max_tokens = max_tokens
        self.outline = Outline()
        self.file = Scope(None, Kind.BLOCK, None, source.start, roomy=source.language not in DATA)
        self.outline.add(source.start, self.file, 0)
        self.cuts, self.parts = self.outline.cuts, self.outline.parts
        self.size = len(self.data)
        # Nodes that start before this are on a line that was looked at already: no cut can be there.
        self.next_line = 0
        # Inside what is too large, cuts nearer than this to one that is not deeper are of no use.
        self.stride = max_tokens // 4
        self.quiet_until, self.quiet_depth = 0, 0
        # Where the body begins that the definition before it has taken.
        self.tail = -1
        # End of the comment that the last cut of the outline begins with, or 0.
        self.comment_end = 0
        self.stack: list[tuple[Iterator[Node], Scope, int]] = []
        self.words = Words(self.data, rules.inner) if rules.inner else None
        # A statement of no more bytes is never gone into.
        self.most_closed = max_tokens if self.words is None else min(max_tokens, LEAST_INK)

    def run(self, root: Node) -> None:
        """Walk all nodes worth it, in file order."""
        stack, rule_of, most_closed = self.stack, self.rules.by_kind.get, self.most_closed
        stack.append((iter(root.children), self.file, 0))
        while stack:
            children, scope, depth = stack[-1]
            level = len(stack)
            for node in children:
                rule = rule_of(node.kind_id)
                role = None if rule is None or (depth and rule.is_value) else rule.role
                if role is SKIP:
                    continue
                start = node.start_byte
                if rule is None or role is None:
                    if start == self.tail:
                        continue
                    if start >= self.next_line and (depth < self.quiet_depth or start >= self.quiet_until):
                        self._cut(start, scope, depth)
                    if (end := node.end_byte) - start <= most_closed:
                        continue
                    self._open(node, start, end, scope, depth)
                elif role is DEFINE:
                    self._definition(node, rule, scope, depth)
                elif role is COMMENT:
                    if start >= self.next_line:
                        self._comment(start, node.end_byte, scope, depth)
                    continue
                else:
                    if start >= self.next_line:
                        self._cut(start, scope, depth)
                    self._push(node, scope, depth)
                if len(stack) != level:
                    break
            else:
                stack.pop()
                if stack and stack[-1][1] is not scope:
                    self.quiet_until = 0

    def _push(self, node: Node, scope: Scope, depth: int) -> None:
        if len(self.stack) < MAX_DEPTH:
            self.stack.append((iter(node.children), scope, depth))

    def _open(self, node: Node, start: int, end: int, scope: Scope, depth: int) -> None:
        """Go into a statement that holds definitions or will have to be cut."""
        size, words = end - start, self.words
        if (words is not None and size > LEAST_INK and words.within(start, end)) or (
            size > self.max_tokens and self._is_large(node, start, end)
        ):
            self._push(node, scope, depth + 1)

    def _is_large(self, node: Node, start: int, end: int) -> bool:
        # Tables of numbers have a node for every few bytes and nothing to say: their lines are as good.
        if end - start < DENSE_BYTES * node.child_count:
            return False
        return self.source.estimate.span(start, end) > self.max_tokens * LARGE

    def _definition(self, node: Node, rule: Rule, scope: Scope, depth: int) -> None:
        start, end, least_ink = node.start_byte, node.end_byte, rule.least_ink
        ink = self._ink(start, end, least_ink)
        if ink < least_ink and (rule.is_value or ink < _LEAST_NAMED_INK):
            self._cut(start, scope, depth)
            return
        found = rule.resolve(node, self.rules) if rule.resolve else None
        if found is not None and found.tail is not None:
            self.tail, end = found.tail.start_byte, found.tail.end_byte
            ink, node = self._ink(start, end, least_ink), found.tail
        if found is None or (
            found.kind is _VARIABLE and found.body is None and ink < LEAST_INK_OF_VALUES > end - start
        ):
            self._cut(start, scope, depth)
            if end - start > self.most_closed:
                self._open(node, start, end, scope, depth)
        elif found.name is None:
            self._cut(start, scope, depth)
            if found.body is not None:
                self._push(found.body, scope, depth)
        elif ink < least_ink:
            inner = self._scope(found, scope)
            if inner.findable:
                self._cut(start, inner, 0)
            else:
                self._cut(start, scope, depth, Small(inner.symbol or found.name, inner.kind, start, end))
        else:
            self._scoped(node, found, self._scope(found, scope), start, end)

    def _ink(self, start: int, end: int, least: int) -> int:
        """Ink of a definition as far as it matters: counted only where its size leaves open whether it has `least`."""
        size = end - start
        if size >= 2 * least:
            return least
        return size if 2 * _LEAST_NAMED_INK <= size < least else self.source.inked(start, end)

    def _scoped(self, node: Node, found: Definition, inner: Scope, start: int, end: int) -> None:
        """A definition that gets a chunk of its own, or several."""
        self._cut(start, inner, 0)
        if found.body is not None and end - start >= _LEAST_SCOPE_BYTES:
            inner.roomy = found.kind is _MODULE
            inner.signature_end = found.body.start_byte
            self._push(found.body, inner, 0)
        elif self.words and end - start > _LEAST_SCOPE_BYTES and self._holds_others(node, start, end):
            self._push(inside(node), inner, 1)
        elif end - start > self.max_tokens and self._is_large(node, node.start_byte, node.end_byte):
            if self.rules.closed_functions:
                self.outline.interiors[inner] = Interior(node, self.rules, self.data)
            else:
                self._push(inside(node), inner, 1)

    def _holds_others(self, node: Node, start: int, end: int) -> bool:
        """Whether a function may hold definitions: their words are in its body."""
        line_end = self.data.find(b"\n", start, end)
        if self.words is None or line_end < 0 or not self.words.within(line_end, end):
            return False
        body = inside(node).start_byte
        return body > start and self.words.within(body, end)

    def _scope(self, found: Definition, parent: Scope) -> Scope:
        kind = found.kind
        if kind is _FUNCTION and (parent.kind in _TYPES or (parent.kind is _MODULE and self.rules.methods_in_modules)):
            kind = _METHOD
        symbol = f"{parent.symbol}.{found.name}" if parent.symbol else found.name
        scope = Scope(symbol, kind, parent, found.node.start_byte)
        if found.reopens:
            scope.findable = False
        return scope

    def _comment(self, start: int, end: int, scope: Scope, depth: int) -> None:
        """Remember a comment; one that follows another without a blank line continues it."""
        if self.comment_end and self._touches(start):
            self.comment_end = end
            self.next_line = self.data.find(b"\n", start) + 1 or self.size
        elif self._cut(start, scope, depth):
            self.comment_end = end

    def _cut(self, start: int, scope: Scope, depth: int, small: Small | None = None) -> bool:
        """Add a cut at the line of `start`, or where the comment above it begins; False if the line is taken."""
        data, cuts = self.data, self.cuts
        last = cuts[-1]
        # Most nodes that get here begin their line.
        cut = start if start > last and data[start - 1] == _NEWLINE else data.rfind(b"\n", last, start) + 1
        self.next_line = data.find(b"\n", start) + 1 or self.size
        if cut <= last:
            # The same line again, but by a definition that begins with it: it knows better what this is.
            begins = (
                self._leads(data[last:start])
                or (self.comment_end and self._touches(start))
                or (scope.start >= start and self._is_statement(last, start))
            )
            if small is not None and begins and self.parts[-1] == (scope, depth, None):
                self.parts[-1] = (scope, depth, small)  # the first thing in the file
                return True
            if not begins or scope.start < start or self.parts[-1][0] is scope:
                return False
            cut = self.outline.drop_last()
        elif cut != start and not (lead := data[cut:start]).isspace():
            if scope.start < start or not self._leads(lead):
                return False
        elif self.comment_end and self._touches(start):
            cut = self.outline.drop_last()
        self.comment_end = 0
        self.quiet_depth = depth or MAX_DEPTH
        self.quiet_until = start + self.stride
        cuts.append(cut)
        self.parts.append((scope, depth, small))
        return True

    def _is_statement(self, last: int, start: int) -> bool:
        """Whether the last cut is that of a statement on the line of `start`: `each(function visit() {`."""
        scope, _, small = self.parts[-1]
        return small is None and not last <= scope.start <= start and b"\n" not in self.data[last:start]

    def _leads(self, lead: bytes) -> bool:
        """Whether what is before a definition on its line is nothing, or words: modifiers like `pub` of `pub fn`."""
        words = lead.split()
        return not words or (len(words) <= _MOST_MODIFIERS and _MODIFIERS.fullmatch(lead) is not None)

    def _touches(self, start: int) -> bool:
        return touches(self.data, self.comment_end, start)


class Words:
    """Where the words are that definitions begin with: all found ahead of the walk, judged when they are asked for."""

    __slots__ = ("asked", "begins", "data", "first", "line", "places", "sizes")

    def __init__(self, data: bytes, inner: InnerWords) -> None:
        """`inner`: what to look for."""
        self.data = data
        self.line = inner.line
        places: list[int] = []
        # Place of a word -> its length, where the line around it decides.
        self.sizes: dict[int, int] = {}
        # A pattern of one literal is found twice as fast as by `bytes.find`, several at once five times slower.
        for pattern, size in _literals(inner.words):
            found = [match.start() for match in pattern.finditer(data)]
            places += found
            if self.line is not None:
                self.sizes.update(dict.fromkeys(found, size))
        places.sort()
        # The size of the file ends the list: no span holds it.
        places.append(len(data))
        self.places = places
        # From `asked` on, no place before number `first` begins a definition.
        self.asked = self.first = 0
        # The place that was found to begin one last.
        self.begins = -1

    def within(self, start: int, end: int) -> bool:
        """Whether one of the words is in the span, on a line that may begin a definition."""
        places = self.places
        if self.line is None:
            return places[bisect_left(places, start)] < end
        first = self.first
        if start > places[first]:
            first = bisect_left(places, start, first)
        elif start < self.asked:
            # Back, but never far: a line or the head of a function. What was judged ahead stays judged.
            between = self._judged(bisect_left(places, start, 0, first), self.asked)
            first = between if places[between] < self.asked else first
        self.asked = start
        self.first = first = self._judged(first, end)
        return places[first] < end

    def _judged(self, number: int, end: int) -> int:
        """The first place from `number` on that begins a definition, or that is not before `end`."""
        data, places, line = self.data, self.places, self.line
        while (place := places[number]) < end and place != self.begins:
            begin = max(data.rfind(b"\n", max(place - _BEFORE_WORD, 0), place) + 1, place - _BEFORE_WORD)
            if line is None or line.search(data, begin, place + self.sizes[place] + _BEHIND_WORD):
                self.begins = place
                break
            number += 1
        return number


@cache
def _literals(words: tuple[bytes, ...]) -> list[tuple[re.Pattern[bytes], int]]:
    """Patterns for the words and their lengths; one for those that differ in the last byte only (`impl `, `impl<`)."""
    ends: dict[bytes, bytes] = {}
    for word in words:
        ends[word[:-1]] = ends.get(word[:-1], b"") + word[-1:]
    found = []
    for stem, last in ends.items():
        # A set of one byte would not count as part of the literal.
        any_last = re.escape(last) if len(last) == 1 else b"[" + re.escape(last) + b"]"
        found.append((re.compile(re.escape(stem) + any_last), len(stem) + 1))
    return found


class Interior:
    """The inside of a large definition that holds no others: searched for cuts only where one is needed.

    Half of all nodes of C code are in functions too large for a chunk; visiting them all would cost more than
    everything else here.
    """

    __slots__ = ("data", "node", "rules")

    def __init__(self, node: Node, rules: Rules, data: bytes) -> None:
        self.node = node
        self.rules = rules
        self.data = data

    def cut(self, least: int, aim: int, most: int) -> int | None:
        """The line in (least, most] where the shallowest node next to `aim` begins; None if there is none."""
        node = self.node
        for _ in range(MAX_DEPTH):
            cursor = node.walk()
            if cursor.goto_first_child_for_byte(aim) is None or (child := cursor.node) is None:
                return None
            start, end = child.start_byte, child.end_byte
            if least < start <= most and (cut := self._line(cursor, start, least)) is not None:
                return cut
            if end <= most and cursor.goto_next_sibling() and (after := cursor.node) is not None:
                start = after.start_byte
                if start <= most and (cut := self._line(cursor, start, least)) is not None:
                    return cut
            if start > most or end - child.start_byte < DENSE_BYTES * child.child_count:
                return None
            node = child
        return None

    def _line(self, cursor: TreeCursor, start: int, least: int) -> int | None:
        """The start of the line that the cursor's node begins, or of the comment on top of it."""
        node = cursor.node
        rule = None if node is None else self.rules.by_kind.get(node.kind_id)
        cut = self.data.rfind(b"\n", 0, start) + 1
        if cut <= least or (rule is not None and rule.role is SKIP) or self.data[cut:start].strip():
            return None
        while cursor.goto_previous_sibling() and (above := cursor.node) is not None:
            rule = self.rules.by_kind.get(above.kind_id)
            if rule is None or rule.role is not COMMENT or not touches(self.data, above.end_byte, start):
                break
            start = above.start_byte
            line = self.data.rfind(b"\n", 0, start) + 1
            if line <= least or self.data[line:start].strip():
                break
            cut = line
        return cut


def touches(data: bytes, comment_end: int, start: int) -> bool:
    """Whether only white space without a blank line is between the end of a comment and `start`."""
    # Some grammars count the line break as part of the comment: begin with the byte before.
    gap = data[comment_end - 1 : start]
    return gap.count(b"\n") <= 1 and not gap[1:].strip()
