"""Functions with a documentation comment, and the source without these comments.

It asks tree-sitter with a small table of its own and knows nothing of codechunk's rules for chunks, so that the
bench does not measure codechunk with its own ruler.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

from tree_sitter import Node, Query, QueryCursor
from tree_sitter_language_pack import get_language, get_parser


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of the new text that had a documentation comment in the old one."""

    name: str
    comment: str  # as it stood in the source, with its markers
    start_line: int  # in the new text, 1-based: the signature's first line
    end_line: int  # inclusive


@dataclass(frozen=True)
class Undocumented:
    """A text without the documentation comments of its functions, and these functions in the order of the file."""

    data: bytes
    functions: tuple[Function, ...]


@dataclass(frozen=True, kw_only=True)
class _Rules:
    functions: tuple[str, ...]
    comments: tuple[str, ...] = ("comment",)
    # What may stand between the comment and the function.
    attributes: tuple[str, ...] = ()
    # Nodes around a function that begin with it: what the comment stands above.
    wrappers: frozenset[str] = frozenset()
    # An assignment, a property or the like is a function when its value is one of these.
    values: frozenset[str] = frozenset()
    documents: Literal["above", "docstring"] = "above"
    # A comment counts only if it begins like this.
    starts: re.Pattern[str] = field(default_factory=lambda: re.compile(""))


_C_FUNCTIONS = ("function_definition", "declaration", "field_declaration")
_SCRIPT = _Rules(
    functions=(
        "function_declaration", "generator_function_declaration", "method_definition", "variable_declarator",
        "field_definition", "assignment_expression", "pair",
    ),
    attributes=("decorator",),
    wrappers=frozenset(("export_statement", "lexical_declaration", "variable_declaration", "expression_statement")),
    values=frozenset(("function_expression", "arrow_function", "generator_function")),
)  # fmt: skip
_TYPED = _Rules(
    functions=(
        *(kind for kind in _SCRIPT.functions if kind != "field_definition"),
        "public_field_definition", "function_signature", "method_signature", "abstract_method_signature",
    ),
    attributes=_SCRIPT.attributes,
    wrappers=_SCRIPT.wrappers | {"ambient_declaration"},
    values=_SCRIPT.values,
)  # fmt: skip

_RULES = {
    "python": _Rules(functions=("function_definition",), documents="docstring"),
    "go": _Rules(functions=("function_declaration", "method_declaration", "method_elem")),
    "rust": _Rules(
        functions=("function_item", "function_signature_item"),
        comments=("line_comment", "block_comment"),
        attributes=("attribute_item",),
        starts=re.compile(r"///(?!/)|/\*\*(?!\*)"),
    ),
    "java": _Rules(
        functions=("method_declaration", "constructor_declaration", "compact_constructor_declaration"),
        comments=("line_comment", "block_comment"),
    ),
    "javascript": _SCRIPT,
    "typescript": _TYPED,
    "tsx": _TYPED,
    "c": _Rules(functions=_C_FUNCTIONS),
    "cpp": _Rules(functions=_C_FUNCTIONS, wrappers=frozenset(("template_declaration",))),
    "ruby": _Rules(functions=("method", "singleton_method"), wrappers=frozenset(("argument_list", "call"))),
}
_SUFFIXES = {
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), "javascript"),
    **dict.fromkeys((".ts", ".mts", ".cts"), "typescript"),
    **dict.fromkeys((".cc", ".cpp", ".cxx", ".hpp", ".hh"), "cpp"),
    ".py": "python", ".go": "go", ".rs": "rust", ".java": "java", ".tsx": "tsx", ".c": "c", ".rb": "ruby",
}  # fmt: skip


def language_of(path: str, repository_language: str) -> str | None:
    """The language of a file by its suffix, None when it has no rules here. A `.h` is C++ in a C++ repository."""
    suffix = path[path.rfind(".") :].lower()
    if suffix == ".h":
        return "cpp" if repository_language == "cpp" else "c"
    return _SUFFIXES.get(suffix)


def remove_comments(data: bytes, language: str) -> Undocumented:
    """`data` without the documentation comments of its functions.

    Lines that hold nothing but such a comment go as a whole. A Python docstring that is the whole body becomes `...`.
    """
    rules = _RULES[language]
    found = _captures(data, language, rules)
    if rules.documents == "docstring":
        documented = [
            (node, node, (edit,)) for node in found["function"] if (edit := _docstring(node, data)) is not None
        ]
    else:
        documented = _commented(found, rules, data)
    edits: dict[int, _Edit] = {edit.start: edit for _, _, comments in documented for edit in comments}
    text = _Edited(data, [edits[start] for start in sorted(edits)])
    functions = []
    for node, statement, comments in documented:
        name = _name(node)
        if name is not None:
            functions.append(
                Function(
                    name=name,
                    comment="\n".join(edit.comment for edit in comments),
                    start_line=text.line(statement.start_byte),
                    end_line=text.line(_end_byte(statement, name)),
                )
            )
    return Undocumented(text.data, tuple(functions))


@dataclass(frozen=True)
class _Edit:
    """Bytes [start, end) go and `instead` comes."""

    start: int
    end: int
    comment: str
    instead: bytes = b""


class _Edited:
    """A text after its edits, which are disjoint and in order; finds old positions in it."""

    def __init__(self, data: bytes, edits: Sequence[_Edit]) -> None:
        parts = []
        at = 0
        self._edits = edits
        for edit in edits:
            parts += [data[at : edit.start], edit.instead]
            at = edit.end
        self.data = b"".join([*parts, data[at:]])
        self._grown = list(accumulate((len(edit.instead) - (edit.end - edit.start) for edit in edits), initial=0))

    def line(self, old: int) -> int:
        """The 1-based line in the new text of an old byte position that no edit has inside it."""
        before = sum(edit.end <= old for edit in self._edits)
        return self.data.count(b"\n", 0, max(old + self._grown[before], 0)) + 1


def _captures(data: bytes, language: str, rules: _Rules) -> dict[str, list[Node]]:
    sorts = {"function": rules.functions, "comment": rules.comments, "attribute": rules.attributes}
    pattern = "\n".join(f"({kind}) @{sort}" for sort, kinds in sorts.items() for kind in kinds)
    captures = QueryCursor(Query(get_language(language), pattern)).captures(get_parser(language).parse(data).root_node)
    return {sort: sorted(captures.get(sort, []), key=lambda node: (node.start_byte, -node.end_byte)) for sort in sorts}


# --- comments above ------------------------------------------------------------------------------------


def _commented(found: dict[str, list[Node]], rules: _Rules, data: bytes) -> list[tuple[Node, Node, tuple[_Edit, ...]]]:
    """(function, the statement that it is, its comments) of every function below a comment."""
    above = {}
    for node in found["comment"]:
        edit = _whole_lines(node, data)
        above[_last_row(node, data)] = (node, edit)
    attributes = {node.end_point.row: node for node in found["attribute"]}
    documented = []
    taken: set[int] = set()
    for node in found["function"]:
        if not _is_function(node, rules):
            continue
        statement = _statement(node, rules)
        comments = _comments_above(statement, above, attributes, rules)
        # An arrow function in a declaration is met twice, the outer node first.
        if comments and comments[0].start not in taken:
            taken.add(comments[0].start)
            documented.append((node, statement, comments))
    return documented


def _comments_above(
    statement: Node, above: dict[int, tuple[Node, "_Edit | None"]], attributes: dict[int, Node], rules: _Rules
) -> tuple[_Edit, ...]:
    edits: list[_Edit] = []
    block = None
    row = statement.start_point.row - 1
    while True:
        comment, edit = above.get(row, (None, None))
        if comment is not None and edit is not None and rules.starts.match(edit.comment):
            is_block = edit.comment.startswith(("/*", "=begin"))
            # Lines of one comment, or one block; a banner above it is another comment.
            if block is not None and (block or is_block):
                break
            block = is_block
            edits.insert(0, edit)
            row = comment.start_point.row - 1
        elif row in attributes and attributes[row].start_byte < statement.start_byte:
            row = attributes[row].start_point.row - 1
        else:
            return tuple(edits)
    return tuple(edits)


def _last_row(node: Node, data: bytes) -> int:
    """The row of the node's last character; a Rust line comment holds its line's end too."""
    return node.start_point.row + data[node.start_byte : node.end_byte].rstrip().count(b"\n")


def _whole_lines(node: Node, data: bytes) -> _Edit | None:
    """The edit that deletes a comment's lines, None when there is something else on them."""
    comment = data[node.start_byte : node.end_byte].rstrip()
    line = data.rfind(b"\n", 0, node.start_byte) + 1
    end = node.start_byte + len(comment)
    newline = data.find(b"\n", end)
    newline = len(data) if newline < 0 else newline + 1
    if data[line : node.start_byte].strip() or data[end:newline].strip():
        return None
    return _Edit(line, newline, comment.decode(errors="replace"))


def _is_function(node: Node, rules: _Rules) -> bool:
    if node.type in ("declaration", "field_declaration"):
        return _function_declarator(node) is not None
    if node.type in ("variable_declarator", "field_definition", "public_field_definition", "pair"):
        value = node.child_by_field_name("value")
        return value is not None and value.type in rules.values
    if node.type == "assignment_expression":
        value = node.child_by_field_name("right")
        return value is not None and value.type in rules.values
    return True


def _statement(node: Node, rules: _Rules) -> Node:
    """The node that the function's comment stands above."""
    parent = node.parent
    while parent is not None and parent.type in rules.wrappers and parent.start_point.row == node.start_point.row:
        node, parent = parent, parent.parent
    if parent is not None and parent.type == "template_declaration":
        return parent if parent.parent is None or parent.parent.type != "template_declaration" else parent.parent
    return node


def _end_byte(statement: Node, name: str) -> int:
    """Where the function ends; overloads in TypeScript end with the function that they belong to."""
    last = statement
    while _unwrapped(last).type == "function_signature":
        following = last.next_named_sibling
        while following is not None and following.type == "comment":
            following = following.next_named_sibling
        if following is None or _name(_unwrapped(following)) != name:
            break
        last = following
    return last.end_byte


def _unwrapped(statement: Node) -> Node:
    if statement.type == "export_statement":
        return statement.child_by_field_name("declaration") or statement
    return statement


# --- docstrings ----------------------------------------------------------------------------------------


def _docstring(function: Node, data: bytes) -> _Edit | None:
    body = function.child_by_field_name("body")
    if body is None:
        return None
    statements = [child for child in body.named_children if child.type != "comment"]
    if not statements:
        return None
    text = statements[0]
    if text.type == "expression_statement" and text.named_child_count == 1:
        text = text.named_children[0]
    if text.type != "string":
        return None
    edit = _whole_lines(text, data)
    comment = data[text.start_byte : text.end_byte].decode(errors="replace")
    if len(statements) == 1 or edit is None:
        return _Edit(text.start_byte, text.end_byte, comment, b"...")
    return edit


# --- names ---------------------------------------------------------------------------------------------

_NAMES = frozenset(
    ("identifier", "field_identifier", "operator_name", "destructor_name", "type_identifier", "operator_cast")
)


def _function_declarator(node: Node) -> Node | None:
    """The declarator of C or C++ that declares a function and not a pointer to one."""
    declarator = node.child_by_field_name("declarator")
    while declarator is not None and declarator.type in ("pointer_declarator", "reference_declarator"):
        declarator = _inner_declarator(declarator)
    if declarator is None or declarator.type != "function_declarator":
        return None
    inner = declarator.child_by_field_name("declarator")
    return None if inner is None or inner.type == "parenthesized_declarator" else declarator


def _inner_declarator(declarator: Node) -> Node | None:
    # The grammar of C++ gives the part behind a `&` no field name.
    named = declarator.child_by_field_name("declarator")
    return named if named is not None else next(iter(declarator.named_children[::-1]), None)


def _name(node: Node) -> str | None:
    """The function's bare name, None when it has none."""
    if (
        node.type in ("function_definition", "declaration", "field_declaration")
        and node.child_by_field_name("name") is None
    ):
        declarator = _function_declarator(node)
        named = declarator.child_by_field_name("declarator") if declarator is not None else None
        while named is not None and named.type not in _NAMES:
            named = named.child_by_field_name("name") or named.child_by_field_name("declarator")
    elif node.type == "assignment_expression":
        named = node.child_by_field_name("left")
        if named is not None and named.type == "member_expression":
            named = named.child_by_field_name("property")
    else:
        named = (
            node.child_by_field_name("name") or node.child_by_field_name("key") or node.child_by_field_name("property")
        )
    if named is None or named.text is None:
        return None
    return named.text.decode(errors="replace")
