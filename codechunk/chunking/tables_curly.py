"""The explicit rules of more languages with braces: Dart, Groovy, Perl, PowerShell, Solidity, Zig."""

import re

from tree_sitter import Node

from codechunk.chunking.rules import (
    Definition,
    Resolve,
    Rules,
    RuleTable,
    child_of_type,
    define,
    field_text,
    find_body,
    first_child,
    plain_name,
    text_of,
)
from codechunk.text.chunks import Kind

_F, _M, _S, _C = Kind.FUNCTION, Kind.METHOD, Kind.STRUCT, Kind.CLASS
_I, _E, _T, _MOD, _V, _MAC = Kind.INTERFACE, Kind.ENUM, Kind.TYPE, Kind.MODULE, Kind.VARIABLE, Kind.MACRO

# Dart: a body is the sibling of its signature ------------------------------------------------------------


def _dart_name(node: Node) -> str | None:
    """`area`, `operator ==`, of the constructor `A.named` the `named`; a method's signature holds another."""
    inner = node
    while inner.type in {"method_signature", "declaration"} and (found := first_child(inner)) is not None:
        inner = found
        if not inner.type.endswith("_signature"):
            return None
    if inner.type == "operator_signature":
        found = child_of_type(inner, "binary_operator") or inner.named_child(inner.named_child_count - 2)
        return "operator " + (text_of(found) or "")
    names = [text_of(child) or "" for child in inner.named_children if child.type == "identifier"]
    return names[-1] if names else None


def _dart_function(kind: Kind) -> Resolve:
    def resolve(node: Node, _: Rules) -> Definition | None:
        name = _dart_name(node)
        body = node.next_named_sibling
        tail = body if body is not None and body.type == "function_body" else None
        return None if name is None else Definition(name, kind, node, tail=tail)

    return resolve


_DART = {
    "class_definition": define(_C, scope=True),
    "mixin_declaration": lambda node, _: Definition(
        text_of(child_of_type(node, "identifier")), _C, node, child_of_type(node, "class_body")
    ),
    "extension_declaration": lambda node, _: Definition(
        text_of(child_of_type(node, "identifier", "type_identifier")), _C, node, find_body(node)
    ),
    "enum_declaration": define(_E),
    "type_alias": define(_T, name=lambda node: text_of(child_of_type(node, "type_identifier"))),
    "function_signature": _dart_function(_F),
    "getter_signature": _dart_function(_F),
    "setter_signature": _dart_function(_F),
    "method_signature": _dart_function(_M),
}
_DART_COMMENTS = frozenset({"comment", "documentation_comment", "annotation", "marker_annotation"})

# Groovy: its grammar knows commands and blocks only ------------------------------------------------------

_GROOVY_TYPE = re.compile(r"(?:^|\s)(class|interface|trait|enum)\s+(\w+)")
_GROOVY_FUNCTION = re.compile(r"^(?:@\w+\s+)*(?:[\w<>\[\].,]+\s+)+(\w+|\"[^\"]*\"|'[^']*')\s*\([^)]*\)[^={]*\{")
_GROOVY_KINDS = {"class": _C, "interface": _I, "trait": _I, "enum": _E}
_GROOVY_NOT = frozenset({"if", "for", "while", "switch", "catch", "return", "new", "else"})


def _groovy_command(node: Node, _: Rules) -> Definition | None:
    text = text_of(node) or ""
    block = next((child for child in reversed(node.named_children) if child.type == "block"), None)
    if block is None:
        return None
    found = _GROOVY_TYPE.search(text.partition("{")[0])
    if found:
        return Definition(found[2], _GROOVY_KINDS[found[1]], node, block)
    task = re.match(r"task\s+(\w+)", text)
    called = task or _GROOVY_FUNCTION.match(text)
    if called is None or text.split(maxsplit=1)[0] in _GROOVY_NOT or called[1] in _GROOVY_NOT:
        return None
    return Definition(plain_name(called[1]), _F, node)


# Perl, PowerShell, Solidity, Zig -------------------------------------------------------------------------


def _perl_package(node: Node, _: Rules) -> Definition | None:
    """`package Name { ... }`; without a block it is a statement."""
    body = child_of_type(node, "block")
    return None if body is None else Definition(field_text(node, "name") or _perl_name(node), _MOD, node, body)


def _perl_name(node: Node) -> str | None:
    return plain_name(text_of(child_of_type(node, "package")))


def _perl_bareword(node: Node) -> str | None:
    return plain_name(text_of(child_of_type(node, "bareword")))


def _perl_statement(node: Node, _: Rules) -> Definition | None:
    """`my $name = sub { ... }` is a function."""
    inner = first_child(node)
    if inner is None or inner.type != "assignment_expression" or inner.named_child_count < 2:
        return None
    value, name = inner.named_child(1), re.search(r"[\w:]+$", text_of(first_child(inner)) or "")
    return Definition(name[0], _F, node) if value and name and value.type == "anonymous_subroutine_expression" else None


_PERL = {
    "package_statement": _perl_package,
    "class_statement": _perl_package,
    "subroutine_declaration_statement": define(_F, name=_perl_bareword),
    "method_declaration_statement": define(_M, name=_perl_bareword),
    "expression_statement": _perl_statement,
}

_POWERSHELL = {
    "function_statement": define(_F),
    "class_statement": lambda node, _: Definition(text_of(child_of_type(node, "simple_name")), _C, node, node),
    "class_method_definition": define(_M),
    "enum_statement": define(_E),
}

_SOLIDITY = {
    "contract_declaration": define(_C, scope=True),
    "interface_declaration": define(_I, scope=True),
    "library_declaration": define(_MOD, scope=True),
    "struct_declaration": define(_S),
    "enum_declaration": define(_E),
    "event_definition": define(_T),
    "error_declaration": define(_T),
    "user_defined_type_definition": define(_T),
    "function_definition": define(_F),
    "modifier_definition": define(_F),
    "constructor_definition": define(_M, name=lambda _: "constructor"),
    "fallback_receive_definition": define(
        _M, name=lambda node: "receive" if (text_of(node) or "").startswith("receive") else "fallback"
    ),
}

_ZIG_TYPES = {"struct": _S, "union": _S, "enum": _E, "opaque": _T}


def _zig_declaration(node: Node, _: Rules) -> Definition | None:
    """`fn name`, `const Name = struct { ... }` or `const name = ...`."""
    inner = first_child(node)
    if inner is None:
        return None
    name = inner.child_by_field_name("function")
    if name is not None:
        return Definition(text_of(name), _F, node)
    found = field_text(inner, "variable_type_function")
    if inner.type != "VarDecl" or found is None:
        return None
    container = _zig_container(inner)
    if container is None:
        return Definition(found, _V, node)
    word = re.search(r"struct|union|enum|opaque", text_of(first_child(container)) or "")
    return Definition(found, _ZIG_TYPES[word[0]] if word else _S, node, container)


def _zig_container(node: Node) -> Node | None:
    """The `struct { ... }` that is the whole value of a declaration."""
    value: Node | None = node.named_child(node.named_child_count - 1)
    while value is not None and value.type in {"ErrorUnionExpr", "SuffixExpr"} and value.named_child_count == 1:
        value = first_child(value)
    return value if value is not None and value.type == "ContainerDecl" else None


def _zig_test(node: Node) -> str | None:
    return plain_name(text_of(first_child(node)))


TABLES: dict[str, RuleTable] = {
    "dart": RuleTable(_DART, {}, comments=_DART_COMMENTS),
    "groovy": RuleTable({"command": _groovy_command}, {}, comments=frozenset({"comment", "groovy_doc", "annotation"})),
    "perl": RuleTable(_PERL, {}, comments=frozenset({"comment", "pod"})),
    "powershell": RuleTable(_POWERSHELL, {}, frozenset({"statement_list"})),
    "solidity": RuleTable(_SOLIDITY, {"state_variable_declaration": define(_V)}),
    "zig": RuleTable(
        {"Decl": _zig_declaration, "TestDecl": define(_F, name=_zig_test)},
        {},
        comments=frozenset({"line_comment", "doc_comment", "container_doc_comment"}),
    ),
}
