"""What the nodes of a grammar mean to the chunker: definitions with their names and kinds, scopes to enter, comments.

Languages with an entry in `rule_tables` are read as written there; all other grammars by the names of their
node types. Adding a language is one entry there and a snapshot.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache

from tree_sitter import Language, Node

from codechunk.text.chunks import Kind

# Definitions with less ink (bytes that are not white) than this are joined with their neighbours.
LEAST_INK = 50
# The same for constants and variables, whose symbol matters less.
LEAST_INK_OF_VALUES = 150
_NAME_CHARS = 200
# What symbols are written without: type arguments, an index; and the signs that become `.` in them.
_ARGUMENTS = re.compile(r"\s*<[^<>]*>|\s*\[[^\[\]]*\]$")
_JOINTS = re.compile(r"\s*(?:::|->|\\)\s*")

_IDENTIFIER = re.compile(
    r"(?:^|_)(?:identifier|name|word|symbol|constant|path|designator|variable|atom|ident|id|sym_lit|type)$"
)
_DECLARED = re.compile(r"declarator$|identifier$|_name$")
_UNNAMED_DECLARATORS = {"parenthesized_declarator", "reference_declarator", "attributed_declarator"}
_MAX_DECLARATORS = 50
_WRAPPED = ("definition", "declaration", "value", "right")
_MAX_WRAPPERS = 4
_BODY = re.compile(r"(?:^|_)(?:body|block|declaration_list|members|member_list|compound_statement|statements|items)$")


class Role(IntEnum):
    """What the walk does at a node."""

    SKIP = 0  # a keyword or bracket: never the start of anything
    COMMENT = 1  # belongs to what follows without a blank line
    ENTER = 2  # its children belong to the scope around it
    DEFINE = 3  # perhaps a definition: ask `resolve`


@dataclass(slots=True)
class Definition:
    """What a node defines. A body is walked as a scope of its own; a body without name belongs to the scope around.

    `reopens`: the thing itself is defined elsewhere (Rust's `impl`, extensions).
    `tail`: the sibling that holds the body, in grammars where it is no child.
    """

    name: str | None
    kind: Kind
    node: Node
    body: Node | None = None
    tail: Node | None = None
    reopens: bool = False


Resolve = Callable[[Node, "Rules"], Definition | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """The role of one node type; for DEFINE how the definition is found and how much ink it needs."""

    role: Role
    resolve: Resolve | None = None
    least_ink: int = LEAST_INK
    is_value: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one grammar by node kind id; kinds without a rule are statements."""

    by_kind: dict[int, Rule]
    methods_in_modules: bool = False
    closed_functions: bool = False
    inner: "InnerWords | None" = None

    def define(self, node: Node) -> Definition | None:
        """What `node` defines by its own rule, or None."""
        rule = self.by_kind.get(node.kind_id)
        if rule is None or rule.resolve is None:
            return None
        return rule.resolve(node, self)


def text_of(node: Node | None) -> str | None:
    """The node's text on one line, at most 200 characters, or None when there is no text."""
    raw = None if node is None else node.text
    if not raw:
        return None
    if len(raw) <= _NAME_CHARS and ((name := raw.decode("utf-8", "replace")).isidentifier() or raw.isalnum()):
        return name
    return " ".join(raw[: 4 * _NAME_CHARS].decode("utf-8", "replace").split())[:_NAME_CHARS] or None


def plain_name(text: str | None) -> str | None:
    """A name as symbols are written: without type arguments, `.` between its parts, no quotes or `\\`."""
    if text is None or text.isidentifier():
        return text
    if "operator" not in text:
        while (shorter := _ARGUMENTS.sub("", text)) != text:
            text = shorter
        text = text.partition("<")[0] or text
    return _JOINTS.sub(".", text).strip("\"'`&*.: ") or None


def field_text(node: Node, name: str) -> str | None:
    """The text of a field, as symbols are written."""
    return plain_name(text_of(node.child_by_field_name(name)))


def first_child(node: Node) -> Node | None:
    """The first named child; `named_child` raises where there is none."""
    return node.named_child(0) if node.named_child_count else None


def child_of_type(node: Node, *types: str) -> Node | None:
    """The first named child of one of these types."""
    return next((child for child in node.named_children if child.type in types), None)


def find_name(node: Node) -> Node | None:
    """The node that names a definition: field `name`, a declarator, else the first child that looks like a name."""
    named = node.child_by_field_name("name")
    if named is not None:
        return named
    declarator = node.child_by_field_name("declarator")
    if declarator is not None:
        return declared(declarator)
    for child in node.named_children[:8]:
        if _IDENTIFIER.search(child.type):
            return child
    return None


def find_body(node: Node) -> Node | None:
    """The child that holds the members of a scope."""
    body = node.child_by_field_name("body")
    if body is not None:
        return body
    for child in reversed(node.named_children):
        if _BODY.search(child.type):
            return child
    return None


def declared(declarator: Node) -> Node | None:
    """The name inside a C declarator: through pointers, references, arrays, functions and parentheses."""
    node = declarator
    for _ in range(_MAX_DECLARATORS):
        if not node.child_count or node.type == "operator_cast":
            return node
        inner = node.child_by_field_name("declarator")
        if inner is None and node.type in _UNNAMED_DECLARATORS:
            inner = next((child for child in node.named_children if _DECLARED.search(child.type)), None)
        if inner is None:
            return node
        node = inner
    return None


def define(kind: Kind, *, scope: bool = False, name: Callable[[Node], str | None] | None = None) -> Resolve:
    """A definition of that kind; with `scope`, its members are walked. Without a name it is a mere statement."""

    def resolve(node: Node, _: Rules) -> Definition | None:
        found = name(node) if name else plain_name(text_of(find_name(node)))
        if found is None:
            return None
        return Definition(found, kind, node, find_body(node) if scope else None)

    return resolve


def inside(node: Node) -> Node:
    """The body of a function, also of one that is decorated, exported or assigned; else the node itself."""
    inner: Node | None = node
    for _ in range(_MAX_WRAPPERS):
        if inner is None:
            break
        body = inner.child_by_field_name("body")
        if body is not None:
            return body
        wrapped = inner
        inner = next((found for name in _WRAPPED if (found := wrapped.child_by_field_name(name))), None)
        if inner is None and wrapped.named_child_count:
            inner = wrapped.named_child(wrapped.named_child_count - 1)
    return node


def unwrap(node: Node, rules: Rules) -> Definition | None:
    """What a wrapper (decorated, exported, templated) defines: its first child that defines something."""
    for child in node.named_children:
        definition = rules.define(child)
        if definition is not None:
            return definition
    return None


def enter_body(node: Node, _: Rules) -> Definition | None:
    """No definition of its own: the members belong to the scope around."""
    body = find_body(node)
    return None if body is None else Definition(None, Kind.BLOCK, node, body)


_COMMENT = re.compile(r"comment|^(?:doc|documentation|shebang)$")
_ATTRIBUTE = re.compile(r"^(?:attribute|attribute_item|decorator|annotation|marker_annotation|attribute_list|pragma)$")
# Nodes that only hold the declarations of a file or scope.
_HOLDER = re.compile(
    r"^(?:declarations|decls|definitions|implementation_definition|top_level_declarations|statements)$"
)
_KINDS = {
    "constructor": Kind.METHOD, "method": Kind.METHOD, "function": Kind.FUNCTION, "func": Kind.FUNCTION,
    "fun": Kind.FUNCTION, "fn": Kind.FUNCTION, "procedure": Kind.FUNCTION, "proc": Kind.FUNCTION,
    "subroutine": Kind.FUNCTION, "subprogram": Kind.FUNCTION, "sub": Kind.FUNCTION, "macro": Kind.MACRO,
    "interface": Kind.INTERFACE, "protocol": Kind.INTERFACE, "trait": Kind.INTERFACE, "service": Kind.INTERFACE,
    "class": Kind.CLASS, "contract": Kind.CLASS, "object": Kind.CLASS, "impl": Kind.CLASS, "instance": Kind.CLASS,
    "component": Kind.CLASS, "entity": Kind.CLASS, "actor": Kind.CLASS, "struct": Kind.STRUCT,
    "structure": Kind.STRUCT, "record": Kind.STRUCT, "union": Kind.STRUCT, "message": Kind.STRUCT,
    "enum": Kind.ENUM, "enumeration": Kind.ENUM, "typealias": Kind.TYPE, "alias": Kind.TYPE, "typedef": Kind.TYPE,
    "type": Kind.TYPE, "data": Kind.TYPE, "newtype": Kind.TYPE, "namespace": Kind.MODULE, "module": Kind.MODULE,
    "library": Kind.MODULE, "package": Kind.MODULE, "modport": Kind.MODULE, "architecture": Kind.MODULE,
    "rule": Kind.FUNCTION, "modifier": Kind.FUNCTION, "task": Kind.FUNCTION, "event": Kind.TYPE,
    "model": Kind.STRUCT, "recipe": Kind.FUNCTION, "section": Kind.SECTION, "signature": Kind.TYPE,
}  # fmt: skip
_SCOPES = frozenset({Kind.CLASS, Kind.INTERFACE, Kind.MODULE, Kind.STRUCT, Kind.ENUM, Kind.SECTION})
_DEFINING = re.compile(
    r"^(?:\w+_)?("
    + "|".join(_KINDS)
    + r")(?:_\w+)?_(?:definition|declaration|item|def|decl|defn|statement|spec|block|bind)$"
    r"|^(" + "|".join(_KINDS) + r")$|^(data)_type$"
)
_NOT_DEFINING = re.compile(
    r"call|expression|parameter|argument|reference|specifier|import|include|require|use_|using|open_|access|forward"
    r"|literal|annotation|return|instantiation|type_declaration_list|pattern|end_|header|_name|_body|inherit|extends"
)


def generic_rule(node_type: str) -> Rule | None:
    """What a node type of a grammar without table means, by its name."""
    if _COMMENT.search(node_type) or _ATTRIBUTE.search(node_type):
        return Rule(Role.COMMENT)
    if _HOLDER.match(node_type):
        return Rule(Role.ENTER)
    match = _DEFINING.match(node_type)
    if match is None or _NOT_DEFINING.search(node_type):
        return None
    kind = _KINDS[match[1] or match[2] or match[3]]
    return Rule(Role.DEFINE, define(kind, scope=kind in _SCOPES))


@dataclass(frozen=True, slots=True)
class InnerWords:
    """Words of which each definition inside a function has one; `line`, if any, must match around the word."""

    words: tuple[bytes, ...]
    line: re.Pattern[bytes] | None = None


@dataclass(frozen=True, slots=True)
class RuleTable:
    """The explicit rules of one language.

    define, values: node type -> how the definition is found (`values` need more ink to stand alone).
    enter: node types whose children belong to the scope around. comments: what attaches to what follows.
    methods_in_modules: functions in a module are methods. closed_functions: there are no definitions in functions.
    inner: words that every definition inside a function or statement has; without, the walk does not go in there.
    """

    define: dict[str, Resolve]
    values: dict[str, Resolve]
    enter: frozenset[str] = frozenset()
    comments: frozenset[str] = frozenset({"comment", "line_comment", "block_comment"})
    methods_in_modules: bool = False
    closed_functions: bool = False
    inner: InnerWords | None = None

    def rule(self, node_type: str) -> Rule | None:
        """The rule of one node type."""
        if node_type in self.comments:
            return Rule(Role.COMMENT)
        if node_type in self.enter:
            return Rule(Role.ENTER)
        if node_type in self.define:
            return Rule(Role.DEFINE, self.define[node_type])
        if node_type in self.values:
            return Rule(Role.DEFINE, self.values[node_type], LEAST_INK_OF_VALUES, is_value=True)
        return None


def compile_rules(language: Language, table: RuleTable | None) -> Rules:
    """The rules of a grammar by kind id, from its table or else by the names of its node types."""
    rule_for = cache(table.rule if table else generic_rule)
    by_kind = {}
    for kind in range(language.node_kind_count):
        name = language.node_kind_for_id(kind)
        rule = None
        if not language.node_kind_is_named(kind):
            rule = _SKIP
        elif name is not None:
            rule = rule_for(name)
        if rule is not None:
            by_kind[kind] = rule
    if table is None:
        return Rules(by_kind)
    return Rules(by_kind, table.methods_in_modules, table.closed_functions, table.inner)


_SKIP = Rule(Role.SKIP)
