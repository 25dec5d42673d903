"""From a syntax tree to an outline: which definitions a file has, what attaches to them, and where it may be cut.

The walk enters scopes (files, classes, namespaces, preprocessor regions) and whatever is larger than a
chunk; nothing else. It is iterative and bounded in depth: a hostile tree costs time, never the stack.
"""

import re
from collections.abc import Iterator

import numpy as np
from tree_sitter import Node, Parser

from codechunk.chunking.languages import load_language
from codechunk.chunking.rule_tables import grammar_rules
from codechunk.chunking.rules import LEAST_INK_OF_VALUES, Definition, Role, Rule, Rules
from codechunk.chunking.source import Outline, Scope, Small, Source
from codechunk.chunks import Kind

# A parser needs time and depth without bound for some one-line files (docs/design.md); real code has no such lines.
MAX_LINE_BYTES = 20_000
# Below this depth of nested nodes too large for a chunk, lines are as good a place to cut as nodes.
MAX_DEPTH = 200
# No definition in fewer bytes is worth a look at its members.
_LEAST_SCOPE_BYTES = 120
_LEAST_SCOPE_OF_CLASSES = frozenset({Kind.CLASS, Kind.STRUCT, Kind.INTERFACE, Kind.ENUM})
_INK = re.compile(rb"\S")


def too_hostile_to_parse(data: bytes) -> bool:
    """Whether the file has a line longer than any that people write (20,000 bytes)."""
    if len(data) <= MAX_LINE_BYTES:
        return False
    breaks = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    edges = np.concatenate(([-1], breaks, [len(data)]))
    return bool(np.diff(edges).max() > MAX_LINE_BYTES)


def syntax_outline(source: Source, *, max_tokens: int) -> Outline:
    """Parse the file and outline it. Raises LookupError when its language has no grammar."""
    tree = Parser(load_language(source.language)).parse(source.data)
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
        self.file = Scope(None, Kind.BLOCK, start=source.start, roomy=True)
        self.outline.add(source.start, self.file, 0)
        # End of the comment that the last cut of the outline begins with, or 0.
        self.comment_end = 0
        self.stack: list[tuple[Iterator[Node], Scope, int]] = []

    def run(self, root: Node) -> None:
        """Walk all nodes worth it, in file order."""
        stack = self.stack
        stack.append((iter(root.children), self.file, 0))
        by_kind = self.rules.by_kind
        while stack:
            children, scope, depth = stack[-1]
            pushed = len(stack)
            for node in children:
                rule = by_kind.get(node.kind_id)
                if rule is None:
                    self._statement(node, scope, depth)
                elif rule.role is Role.DEFINE:
                    self._definition(node, rule, scope, depth)
                elif rule.role is Role.COMMENT:
                    self._comment(node, scope, depth)
                elif rule.role is Role.ENTER:
                    self._cut(node.start_byte, scope, depth)
                    self._push(node, scope, depth)
                if len(stack) != pushed:
                    break
            else:
                stack.pop()

    def _push(self, node: Node, scope: Scope, depth: int) -> None:
        if len(self.stack) < MAX_DEPTH:
            self.stack.append((iter(node.children), scope, depth))

    def _statement(self, node: Node, scope: Scope, depth: int) -> None:
        start, end = node.start_byte, node.end_byte
        self._cut(start, scope, depth)
        self._open_if_large(node, start, end, scope, depth)

    def _open_if_large(self, node: Node, start: int, end: int, scope: Scope, depth: int) -> None:
        if end - start > self.max_tokens and self.source.estimate.span(start, end) > self.max_tokens * 0.6:
            self._push(node, scope, depth + 1)

    def _definition(self, node: Node, rule: Rule, scope: Scope, depth: int) -> None:
        assert rule.resolve is not None  # noqa: S101 - by construction of the rules
        start, end = node.start_byte, node.end_byte
        small = end - start < 4 * LEAST_INK_OF_VALUES and self.source.inked(start, end)
        if small and small < 12:
            self._cut(start, scope, depth)
            return
        found = rule.resolve(node, self.rules)
        if found is None:
            self._statement(node, scope, depth)
            return
        if found.name is None:
            self._cut(start, scope, depth)
            if found.body is not None:
                self._push(found.body, scope, depth)
            return
        least = LEAST_INK_OF_VALUES if found.kind is Kind.VARIABLE and found.body is None else rule.least_ink
        inner = self._scope(found, scope)
        if small and small < least:
            self._cut(start, scope, depth, Small(inner.symbol or found.name, inner.kind, start, end))
            return
        self._cut(start, inner, 0)
        if found.body is not None and end - start >= _LEAST_SCOPE_BYTES:
            inner.roomy = found.kind is Kind.MODULE
            inner.signature_end = found.body.start_byte
            self._push(found.body, inner, 0)
        else:
            self._open_if_large(node, start, end, inner, 0)

    def _scope(self, found: Definition, parent: Scope) -> Scope:
        kind = found.kind
        if kind is Kind.FUNCTION and (
            parent.kind in _LEAST_SCOPE_OF_CLASSES
            or (parent.kind is Kind.MODULE and self.rules.methods_in_modules)
        ):
            kind = Kind.METHOD
        symbol = f"{parent.symbol}.{found.name}" if parent.symbol else found.name
        return Scope(symbol, kind, parent=parent, start=found.node.start_byte)

    def _comment(self, node: Node, scope: Scope, depth: int) -> None:
        """Remember a comment; one that follows another without a blank line continues it."""
        start, end = node.start_byte, node.end_byte
        if self.comment_end and self._touches(start):
            self.comment_end = end
            return
        if self._cut(start, scope, depth):
            self.comment_end = end

    def _cut(self, start: int, scope: Scope, depth: int, small: Small | None = None) -> bool:
        """Add a cut at the line of `start`, or where the comment above it begins; False if the line is taken."""
        outline = self.outline
        last = outline.cuts[-1]
        cut = self.data.rfind(b"\n", last, start) + 1
        if cut <= last:
            if start < last or outline.scopes[-1] is scope or _INK.search(self.data, last, start):
                return False
            # The same place again, but by a definition: it knows better what begins here.
            if scope.parent is not None and scope.start == start or last == self.source.start:
                outline.drop_last()
                cut = last
            else:
                return False
        elif cut != start and not self.data[cut:start].isspace():
            return False
        elif self.comment_end and self._touches(start):
            cut = outline.drop_last()
        self.comment_end = 0
        outline.add(cut, scope, depth, small)
        return True

    def _touches(self, start: int) -> bool:
        """Whether only white space without a blank line is between the last comment and `start`."""
        end = self.comment_end
        gap = self.data[end - 1 : start]
        return gap.count(b"\n") <= 1 and not gap[1:].strip()
