"""The explicit rules of C, C++ and Objective-C. How to read a table is in `rules.RuleTable`."""

import re

from tree_sitter import Node

from codechunk.chunking.rules import (
    Definition,
    InnerWords,
    Resolve,
    Rules,
    RuleTable,
    declared,
    define,
    enter_body,
    field_text,
    find_body,
    first_child,
    plain_name,
    text_of,
    unwrap,
)
from codechunk.text.chunks import Kind

_F, _M, _S = Kind.FUNCTION, Kind.METHOD, Kind.STRUCT
_I, _E, _T, _MOD, _V, _MAC = Kind.INTERFACE, Kind.ENUM, Kind.TYPE, Kind.MODULE, Kind.VARIABLE, Kind.MACRO

_CALL_LIKE = re.compile(r"[\w.:]+")


def _c_name(node: Node) -> str | None:
    declarator = node.child_by_field_name("declarator")
    found = None if declarator is None else declared(declarator)
    if found is None:
        return None
    if found.type == "operator_cast":
        return (text_of(found) or "").partition("(")[0].strip()
    return plain_name(text_of(found))


def _c_function(node: Node, _: Rules) -> Definition | None:
    """A function; what macros make look like one to the grammar: a class, a namespace, or a test case."""
    declarator = node.child_by_field_name("declarator")
    if declarator is not None and declarator.type in {"identifier", "parenthesized_declarator"}:
        of, name, body = node.child_by_field_name("type"), _c_name(node), node.child_by_field_name("body")
        if of is not None and of.type in _C_RECORDS and name:
            return Definition(name, _C_RECORDS[of.type], node, body)  # class LIB_API Name {
        if declarator.type == "parenthesized_declarator" and name:
            return Definition(name, _F, node)  # TEST(name) {
        return Definition(None, Kind.BLOCK, node, body)  # LIB_BEGIN namespace lib {
    name = _c_name(node)
    in_class = node.parent is not None and node.parent.type == "field_declaration_list"  # DB(const Options& from) {
    untyped = declarator is not None and node.child_by_field_name("type") is None
    if name is not None and name.isupper() and declarator is not None and untyped and not in_class:
        name = _arguments(declarator.child_by_field_name("parameters")) or name  # TEST(Suite, name) {
        return Definition(name, _F, node)
    return None if name is None else Definition(name, _M if "." in name else _F, node)


def _arguments(node: Node | None) -> str | None:
    """`(Suite, name)` as a symbol: `Suite.name`."""
    return ".".join(_CALL_LIKE.findall(text_of(node) or "")) or None


def _c_test(node: Node, _: Rules) -> Definition | None:
    """`TEST(Suite, name) { ... }`: a call and a block, to the grammar."""
    before = node.prev_named_sibling
    if before is None or before.type != "expression_statement":
        return None
    call = first_child(before)
    if call is None or call.type != "call_expression" or call.end_byte != before.end_byte:
        return None
    name = _arguments(call.child_by_field_name("arguments"))
    return None if name is None else Definition(name, _F, node)


def _c_record(kind: Kind) -> Resolve:
    def resolve(node: Node, _: Rules) -> Definition | None:
        body = node.child_by_field_name("body")
        name = field_text(node, "name")
        return None if body is None or name is None else Definition(name, kind, node, body)

    return resolve


_C_RECORDS = {
    "struct_specifier": _S,
    "union_specifier": _S,
    "enum_specifier": _E,
    "class_specifier": Kind.CLASS,
}


def _c_typedef(node: Node, _: Rules) -> Definition | None:
    """`typedef struct tag { ... } name` is the struct `tag`; without tag or body, the type `name`."""
    of = node.child_by_field_name("type")
    kind = _T if of is None else _C_RECORDS.get(of.type, _T)
    tag = None if of is None or of.child_by_field_name("body") is None else field_text(of, "name")
    name = tag or _c_name(node)
    return None if name is None else Definition(name, kind, node)


def _c_declaration(node: Node, _: Rules) -> Definition | None:
    """A variable with its initializer, or a record with its body; prototypes are statements."""
    of = node.child_by_field_name("type")
    if of is not None and of.type in _C_RECORDS and of.child_by_field_name("body") is not None:
        name = field_text(of, "name") or _c_name(node)
        return None if name is None else Definition(name, _C_RECORDS[of.type], node)
    declarator = node.child_by_field_name("declarator")
    if declarator is None or declarator.type != "init_declarator":
        return None
    name = _c_name(node)
    return None if name is None else Definition(name, _V, node)


def _cpp_field(node: Node, _: Rules) -> Definition | None:
    """A nested class, struct or enum; fields and prototypes are statements."""
    of = node.child_by_field_name("type")
    if of is None or of.type not in _C_RECORDS or (body := of.child_by_field_name("body")) is None:
        return None
    name = field_text(of, "name")
    return None if name is None else Definition(name, _C_RECORDS[of.type], node, body)


_C_ENTER = frozenset(
    {"preproc_if", "preproc_ifdef", "preproc_else", "preproc_elif", "preproc_elifdef", "declaration_list"}
)
_C = {
    "function_definition": _c_function,
    "compound_statement": _c_test,
    "struct_specifier": define(_S, name=lambda n: field_text(n, "name") if n.child_by_field_name("body") else None),
    "union_specifier": define(_S, name=lambda n: field_text(n, "name") if n.child_by_field_name("body") else None),
    "enum_specifier": define(_E, name=lambda n: field_text(n, "name") if n.child_by_field_name("body") else None),
    "type_definition": _c_typedef,
    "preproc_function_def": define(_MAC),
    "linkage_specification": lambda node, rules: unwrap(node, rules) or enter_body(node, rules),
}
_C_VALUES = {"preproc_def": define(_MAC), "declaration": _c_declaration}
_CPP = {
    **_C,
    "struct_specifier": _c_record(_S),
    "union_specifier": _c_record(_S),
    "class_specifier": _c_record(Kind.CLASS),
    "namespace_definition": lambda node, _: Definition(field_text(node, "name"), _MOD, node, find_body(node)),
    "template_declaration": unwrap,
    "alias_declaration": define(_T),
    "concept_definition": define(_T),
    "inline_method_definition": _c_function,
    "friend_declaration": unwrap,
    "field_declaration": _cpp_field,
}

# Classes inside of functions.
_CPP_INNER = InnerWords((b"struct ", b"class "), re.compile(rb"(?m:^)[ \t]+(?:struct|class) \w+ *(?:[:{\n]|fi|$)"))

# Objective-C --------------------------------------------------------------------------------------------


def _objc_method(node: Node) -> str | None:
    """A method by its selector: `bar:with:`."""
    parts = [text_of(child) or "" for child in node.named_children if child.type == "identifier"]
    takes = any(child.type == "method_parameter" for child in node.named_children)
    return ":".join(parts) + (":" if takes else "") or None


def _objc_type(kind: Kind) -> Resolve:
    """Members are children of the type itself. A category is part of its class."""

    def resolve(node: Node, _: Rules) -> Definition | None:
        names = [text_of(child) for child in node.named_children[:2] if child.type == "identifier"]
        return Definition(names[0], kind, node, node) if names else None

    return resolve


_OBJC = {
    **_C,
    "class_interface": _objc_type(Kind.CLASS),
    "class_implementation": _objc_type(Kind.CLASS),
    "protocol_declaration": _objc_type(_I),
    "method_definition": define(_M, name=_objc_method),
}

_CPP_TABLE = RuleTable(_CPP, _C_VALUES, _C_ENTER, closed_functions=True, inner=_CPP_INNER)
TABLES: dict[str, RuleTable] = {
    "c": RuleTable(_C, _C_VALUES, _C_ENTER, closed_functions=True),
    "cpp": _CPP_TABLE,
    "cuda": _CPP_TABLE,
    "arduino": _CPP_TABLE,
    "objc": RuleTable(_OBJC, _C_VALUES, _C_ENTER | {"implementation_definition"}, closed_functions=True),
}
