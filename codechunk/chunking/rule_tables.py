"""The explicit rules of the most used languages: one table each. How to read one is in `rules.RuleTable`."""

import re
from functools import cache

from tree_sitter import Node

from codechunk.chunking.languages import load_language
from codechunk.chunking.rules import (
    Definition,
    Resolve,
    Rules,
    RuleTable,
    compile_rules,
    declared,
    define,
    enter_body,
    find_body,
    plain_name,
    text_of,
    unwrap,
)
from codechunk.chunks import Kind

_F, _M, _S = Kind.FUNCTION, Kind.METHOD, Kind.STRUCT
_I, _E, _T, _MOD, _V, _MAC = Kind.INTERFACE, Kind.ENUM, Kind.TYPE, Kind.MODULE, Kind.VARIABLE, Kind.MACRO


def _field(node: Node, name: str) -> str | None:
    return plain_name(text_of(node.child_by_field_name(name)))


def _first(node: Node) -> Node | None:
    """The first named child; `named_child` raises where there is none."""
    return node.named_child(0) if node.named_child_count else None


def _named(name: str) -> "Resolve":
    """A method whose name is a keyword: `init`, `constructor`."""
    return define(_M, name=lambda _: name)


# C and C++ -----------------------------------------------------------------------------------------------


def _c_name(node: Node) -> str | None:
    declarator = node.child_by_field_name("declarator")
    found = None if declarator is None else declared(declarator)
    if found is None:
        return None
    if found.type == "operator_cast":
        return "operator " + (_field(found, "type") or "")
    return plain_name(text_of(found))


def _c_function(node: Node, _: Rules) -> Definition | None:
    name = _c_name(node)
    return None if name is None else Definition(name, _M if "." in name else _F, node)


def _c_record(kind: Kind) -> Resolve:
    def resolve(node: Node, _: Rules) -> Definition | None:
        body = node.child_by_field_name("body")
        name = _field(node, "name")
        return None if body is None or name is None else Definition(name, kind, node, body)

    return resolve


_C_RECORDS = {
    "struct_specifier": _S,
    "union_specifier": _S,
    "enum_specifier": _E,
    "class_specifier": Kind.CLASS,
}


def _c_typedef(node: Node, _: Rules) -> Definition | None:
    name = _c_name(node)
    of = node.child_by_field_name("type")
    kind = _T if of is None else _C_RECORDS.get(of.type, _T)
    return None if name is None else Definition(name, kind, node)


def _c_declaration(node: Node, _: Rules) -> Definition | None:
    """A variable with its initializer, or a record with its body; prototypes are statements."""
    of = node.child_by_field_name("type")
    if of is not None and of.type in _C_RECORDS and of.child_by_field_name("body") is not None:
        name = _field(of, "name") or _c_name(node)
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
    name = _field(of, "name")
    return None if name is None else Definition(name, _C_RECORDS[of.type], node, body)


_C_ENTER = frozenset(
    {"preproc_if", "preproc_ifdef", "preproc_else", "preproc_elif", "preproc_elifdef", "declaration_list"}
)
_C = {
    "function_definition": _c_function,
    "struct_specifier": define(_S, name=lambda n: _field(n, "name") if n.child_by_field_name("body") else None),
    "union_specifier": define(_S, name=lambda n: _field(n, "name") if n.child_by_field_name("body") else None),
    "enum_specifier": define(_E, name=lambda n: _field(n, "name") if n.child_by_field_name("body") else None),
    "type_definition": _c_typedef,
    "preproc_function_def": define(_MAC),
    "linkage_specification": lambda node, rules: unwrap(node, rules) or enter_body(node, rules),
}
_C_VALUES = {"preproc_def": define(_MAC), "declaration": _c_declaration}
_CPP = {
    **_C,
    "struct_specifier": _c_record(_S),
    "class_specifier": _c_record(Kind.CLASS),
    "namespace_definition": lambda node, _: Definition(_field(node, "name"), _MOD, node, find_body(node)),
    "template_declaration": unwrap,
    "alias_declaration": define(_T),
    "concept_definition": define(_T),
    "inline_method_definition": _c_function,
    "friend_declaration": unwrap,
    "field_declaration": _cpp_field,
}

# JavaScript and TypeScript -------------------------------------------------------------------------------

_JS_FUNCTIONS = {"arrow_function", "function_expression", "function", "generator_function"}


def _js_value(name: str | None, value: Node | None, node: Node, kind: Kind) -> Definition | None:
    """What `name = value` defines: a function, a class, an object with methods, or a value."""
    if value is None:
        return None
    if value.type in _JS_FUNCTIONS:
        return None if name is None else Definition(name, kind, node)
    if value.type == "class":
        return Definition(name, Kind.CLASS, node, find_body(value))
    if value.type == "object":
        return Definition(name, _V, node, value if _js_has_methods(value) else None)
    return None if name is None else Definition(name, _V, node)


def _js_has_methods(node: Node) -> bool:
    return any(
        child.type == "method_definition" or (child.type == "pair" and _js_function(child.child_by_field_name("value")))
        for child in node.named_children
    )


def _js_function(node: Node | None) -> bool:
    return node is not None and node.type in _JS_FUNCTIONS


def _js_declaration(node: Node, _: Rules) -> Definition | None:
    declarators = [child for child in node.named_children if child.type == "variable_declarator"]
    if len(declarators) != 1:
        return None
    return _js_value(_field(declarators[0], "name"), declarators[0].child_by_field_name("value"), node, _F)


def _js_expression(node: Node, rules: Rules) -> Definition | None:
    inner = _first(node)
    if inner is None:
        return None
    if inner.type != "assignment_expression":
        return rules.define(inner) if inner.type in {"internal_module", "class", "function_expression"} else None
    left = text_of(inner.child_by_field_name("left")) or ""
    is_method = ".prototype." in left
    name = re.sub(r"^(?:module\.exports|exports|this|window|global|globalThis)(?:\.|$)", "", left)
    name = name.replace(".prototype.", ".").removesuffix(".prototype")
    value = inner.child_by_field_name("right")
    if not _js_function(value) and (value is None or value.type not in {"class", "object"}):
        return None
    return _js_value(plain_name(name), value, node, _M if is_method else _F)


def _js_export(node: Node, rules: Rules) -> Definition | None:
    value = node.child_by_field_name("value")
    if value is None:
        return unwrap(node, rules)
    return _js_value("default" if value.type != "object" else None, value, node, _F)


def _js_member(key: str) -> Resolve:
    """A field or pair that holds a function is a method; one that holds an object with methods is a scope."""

    def resolve(node: Node, _: Rules) -> Definition | None:
        value = node.child_by_field_name("value")
        if _js_function(value) or (value is not None and value.type == "object" and _js_has_methods(value)):
            return _js_value(_field(node, key), value, node, _M)
        return None

    return resolve


_JS = {
    "function_declaration": define(_F),
    "generator_function_declaration": define(_F),
    "function_expression": define(_F),
    "class_declaration": define(Kind.CLASS, scope=True),
    "class": define(Kind.CLASS, scope=True),
    "method_definition": define(_M),
    "lexical_declaration": _js_declaration,
    "variable_declaration": _js_declaration,
    "expression_statement": _js_expression,
    "export_statement": _js_export,
    "pair": _js_member("key"),
    "field_definition": _js_member("property"),
}
_TS = {
    **_JS,
    "abstract_class_declaration": define(Kind.CLASS, scope=True),
    "interface_declaration": define(_I),
    "type_alias_declaration": define(_T),
    "enum_declaration": define(_E),
    "internal_module": define(_MOD, scope=True),
    "module": define(_MOD, scope=True),
    "ambient_declaration": lambda node, rules: unwrap(node, rules) or enter_body(node, rules),
    "function_signature": define(_F),
    "method_signature": define(_M),
    "abstract_method_signature": define(_M),
    "public_field_definition": _js_member("name"),
}
_JS_COMMENTS = frozenset({"comment", "decorator", "hash_bang_line"})

# Go and Rust ---------------------------------------------------------------------------------------------

_GO_TYPES = {"struct_type": _S, "interface_type": _I}


def _go_type(node: Node, _: Rules) -> Definition | None:
    of = node.child_by_field_name("type")
    name = _field(node, "name")
    return None if name is None else Definition(name, _GO_TYPES.get(of.type, _T) if of else _T, node)


def _go_group(node: Node, rules: Rules) -> Definition | None:
    """`type ( ... )` and `var ( ... )` are entered, a single one is what it declares."""
    specs = [child for child in node.named_children if child.type != "comment"]
    if len(specs) == 1 and not specs[0].type.endswith("_list"):
        found = rules.define(specs[0])
        return None if found is None else Definition(found.name, found.kind, node)
    return Definition(None, Kind.BLOCK, node, specs[0] if len(specs) == 1 else node)


def _go_method(node: Node, _: Rules) -> Definition | None:
    receiver = text_of(node.child_by_field_name("receiver")) or ""
    found = re.search(r"(\w+)\s*(?:\[.*\])?\s*,?\s*\)$", receiver)
    name = _field(node, "name")
    return None if name is None else Definition(f"{found[1]}.{name}" if found else name, _M, node)


_GO = {
    "function_declaration": define(_F),
    "method_declaration": _go_method,
    "type_declaration": _go_group,
    "type_spec": _go_type,
    "type_alias": define(_T),
}
_GO_VALUES = {
    "var_declaration": _go_group,
    "const_declaration": _go_group,
    "var_spec": define(_V),
    "const_spec": define(_V),
}

_RUST = {
    "function_item": define(_F),
    "function_signature_item": define(_F),
    "struct_item": define(_S),
    "union_item": define(_S),
    "enum_item": define(_E),
    "trait_item": define(_I, scope=True),
    "impl_item": define(Kind.CLASS, scope=True, name=lambda node: _field(node, "type")),
    "mod_item": define(_MOD, scope=True),
    "type_item": define(_T),
    "macro_definition": define(_MAC),
    "foreign_mod_item": enter_body,
}
_RUST_VALUES = {"const_item": define(_V), "static_item": define(_V)}
_RUST_COMMENTS = frozenset({"line_comment", "block_comment", "attribute_item"})

# Java, C#, Kotlin, Swift, Scala --------------------------------------------------------------------------

_JAVA = {
    "class_declaration": define(Kind.CLASS, scope=True),
    "interface_declaration": define(_I, scope=True),
    "annotation_type_declaration": define(_I, scope=True),
    "enum_declaration": define(_E, scope=True),
    "record_declaration": define(Kind.CLASS, scope=True),
    "module_declaration": define(_MOD),
    "method_declaration": define(_M),
    "constructor_declaration": define(_M),
    "compact_constructor_declaration": define(_M),
    "annotation_type_element_declaration": define(_M),
}

_CSHARP = {
    "namespace_declaration": define(_MOD, scope=True),
    "class_declaration": define(Kind.CLASS, scope=True),
    "struct_declaration": define(_S, scope=True),
    "record_declaration": define(Kind.CLASS, scope=True),
    "record_struct_declaration": define(_S, scope=True),
    "interface_declaration": define(_I, scope=True),
    "enum_declaration": define(_E),
    "delegate_declaration": define(_T),
    "method_declaration": define(_M),
    "constructor_declaration": define(_M),
    "destructor_declaration": define(_M, name=lambda node: "~" + (_field(node, "name") or "")),
    "operator_declaration": define(
        _M, name=lambda node: "operator" + (text_of(node.child_by_field_name("operator")) or "")
    ),
    "conversion_operator_declaration": define(_M, name=lambda node: "operator " + (_field(node, "type") or "")),
    "indexer_declaration": _named("this[]"),
    "local_function_statement": define(_F),
    "global_statement": unwrap,
}
_CSHARP_VALUES = {"property_declaration": define(_V), "event_declaration": define(_V)}


def _kotlin_class(node: Node, _: Rules) -> Definition | None:
    words = {child.type for child in node.children if not child.is_named}
    modifiers = text_of(_first(node)) or ""
    kind = _I if "interface" in words else _E if "enum" in words or re.search(r"\benum$", modifiers) else Kind.CLASS
    return define(kind, scope=True)(node, Rules({}))


def _kotlin_function(node: Node) -> str | None:
    name = next((child for child in node.children if child.type == "simple_identifier"), None)
    receiver = plain_name(text_of(node.child_by_field_name("receiver")))
    found = plain_name(text_of(name))
    return f"{receiver}.{found}" if receiver and found else found


def _kotlin_property(node: Node) -> str | None:
    declaration = next((child for child in node.named_children if child.type == "variable_declaration"), None)
    return None if declaration is None else plain_name(text_of(_first(declaration)))


_KOTLIN = {
    "class_declaration": _kotlin_class,
    "object_declaration": define(Kind.CLASS, scope=True),
    "companion_object": lambda node, _: Definition(
        next((plain_name(text_of(c)) for c in node.named_children if c.type == "type_identifier"), None) or "Companion",
        Kind.CLASS,
        node,
        find_body(node),
    ),
    "function_declaration": define(_F, name=_kotlin_function),
    "secondary_constructor": _named("constructor"),
    "type_alias": define(_T),
}
_KOTLIN_COMMENTS = frozenset({"line_comment", "multiline_comment", "comment"})


def _swift_class(node: Node, _: Rules) -> Definition | None:
    word = text_of(node.child_by_field_name("declaration_kind"))
    kind = {"struct": _S, "enum": _E}.get(word or "", Kind.CLASS)
    return define(kind, scope=True)(node, Rules({}))


_SWIFT = {
    "class_declaration": _swift_class,
    "protocol_declaration": define(_I, scope=True),
    "function_declaration": define(_F),
    "protocol_function_declaration": define(_M),
    "init_declaration": _named("init"),
    "deinit_declaration": _named("deinit"),
    "subscript_declaration": _named("subscript"),
    "typealias_declaration": define(_T),
    "macro_declaration": define(_MAC),
}
_SWIFT_COMMENTS = frozenset({"comment", "multiline_comment"})

_SCALA = {
    "object_definition": define(Kind.CLASS, scope=True),
    "class_definition": define(Kind.CLASS, scope=True),
    "trait_definition": define(_I, scope=True),
    "enum_definition": define(_E, scope=True),
    "package_object": define(_MOD, scope=True),
    "package_clause": lambda node, _: (
        Definition(_field(node, "name"), _MOD, node, body) if (body := find_body(node)) else None
    ),
    "function_definition": define(_F),
    "function_declaration": define(_F),
    "type_definition": define(_T),
    "given_definition": define(_V, scope=True),
    "extension_definition": lambda node, rules: enter_body(node, rules),
}
_SCALA_VALUES = {
    "val_definition": define(_V, name=lambda node: _field(node, "pattern")),
    "var_definition": define(_V, name=lambda node: _field(node, "pattern")),
}

# Python, Ruby, PHP, Bash, Lua ----------------------------------------------------------------------------


def _py_assignment(node: Node, _: Rules) -> Definition | None:
    inner = _first(node)
    if inner is None or inner.type != "assignment":
        return None
    left = inner.child_by_field_name("left")
    return None if left is None or left.type != "identifier" else Definition(plain_name(text_of(left)), _V, node)


_PYTHON = {
    "function_definition": define(_F),
    "class_definition": define(Kind.CLASS, scope=True),
    "decorated_definition": unwrap,
    "type_alias_statement": define(_T, name=lambda node: _field(node, "left")),
}


def _ruby_assignment(node: Node, _: Rules) -> Definition | None:
    """`X = Struct.new(...) do ... end` is a class; other constants are values."""
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    if left is None or right is None or left.type != "constant":
        return None
    block = right.child_by_field_name("block") if right.type == "call" else None
    called = text_of(right.child_by_field_name("method")) if block else None
    if block is not None and called in {"new", "define"}:
        return Definition(text_of(left), Kind.CLASS, node, find_body(block))
    return Definition(text_of(left), _V, node)


def _ruby_call(node: Node, rules: Rules) -> Definition | None:
    """`private def name` defines what its argument defines."""
    arguments = node.child_by_field_name("arguments")
    first = None if arguments is None else _first(arguments)
    return rules.define(first) if first is not None and first.type in {"method", "singleton_method"} else None


_RUBY = {
    "module": define(_MOD, scope=True),
    "class": define(Kind.CLASS, scope=True),
    "singleton_class": enter_body,
    "method": define(_F),
    "singleton_method": define(_F),
    "call": _ruby_call,
    "assignment": _ruby_assignment,
}


def _php_expression(node: Node, _: Rules) -> Definition | None:
    inner = _first(node)
    if inner is None or inner.type != "assignment_expression":
        return None
    right = inner.child_by_field_name("right")
    if right is None or right.type not in {
        "anonymous_function",
        "anonymous_function_creation_expression",
        "arrow_function",
    }:
        return None
    return Definition(_field(inner, "left"), _F, node)


_PHP = {
    "namespace_definition": lambda node, _: (
        Definition(_field(node, "name"), _MOD, node, body) if (body := find_body(node)) else None
    ),
    "class_declaration": define(Kind.CLASS, scope=True),
    "interface_declaration": define(_I, scope=True),
    "trait_declaration": define(Kind.CLASS, scope=True),
    "enum_declaration": define(_E, scope=True),
    "function_definition": define(_F),
    "method_declaration": define(_M),
    "expression_statement": _php_expression,
}


def _lua_function(node: Node) -> str | None:
    name = text_of(node.child_by_field_name("name"))
    return None if name is None else plain_name(name.replace(":", "."))


def _lua_assignment(node: Node, _: Rules) -> Definition | None:
    inner = node if node.type == "assignment_statement" else _first(node)
    if inner is None or inner.named_child_count != 2:
        return None
    name, values = _first(inner), inner.named_child(1)
    value = None if values is None else _first(values)
    found = plain_name((text_of(name) or "").replace(":", "."))
    if found is None or value is None or "," in found:
        return None
    return Definition(found, _F if value.type == "function_definition" else _V, node)


_LUA = {"function_declaration": define(_F, name=_lua_function)}
_LUA_ASSIGNMENTS: dict[str, Resolve] = {
    "variable_declaration": _lua_assignment,
    "assignment_statement": _lua_assignment,
}


def _zig_declaration(node: Node, _: Rules) -> Definition | None:
    """`fn name` or `const name = ...`."""
    inner = _first(node)
    if inner is None:
        return None
    name = inner.child_by_field_name("function")
    if name is not None:
        return Definition(text_of(name), _F, node)
    return Definition(_field(inner, "variable_type_function"), _V, node) if inner.type == "VarDecl" else None


_ELIXIR_WORDS = {
    "defmodule": _MOD, "defprotocol": _I, "defimpl": Kind.CLASS, "def": _F, "defp": _F, "defmacro": _MAC,
    "defmacrop": _MAC, "defguard": _MAC, "defdelegate": _F,
}  # fmt: skip


def _elixir_call(node: Node, _: Rules) -> Definition | None:
    """In Elixir definitions are calls of `def`, `defmodule` and their like."""
    kind = _ELIXIR_WORDS.get(text_of(node.child_by_field_name("target")) or "")
    arguments = next((child for child in node.named_children if child.type == "arguments"), None)
    name = None if kind is None or arguments is None else _first(arguments)
    while name is not None and name.type in {"binary_operator", "call"}:
        name = name.child_by_field_name("left" if name.type == "binary_operator" else "target")
    if kind is None or name is None:
        return None
    return Definition(text_of(name), kind, node, find_body(node) if kind in {_MOD, _I, Kind.CLASS} else None)


TABLES: dict[str, RuleTable] = {
    "c": RuleTable(_C, _C_VALUES, _C_ENTER, closed_functions=True),
    "cpp": RuleTable(_CPP, _C_VALUES, _C_ENTER, closed_functions=True),
    "cuda": RuleTable(_CPP, _C_VALUES, _C_ENTER, closed_functions=True),
    "arduino": RuleTable(_CPP, _C_VALUES, _C_ENTER, closed_functions=True),
    "javascript": RuleTable(_JS, {}, comments=_JS_COMMENTS),
    "typescript": RuleTable(_TS, {}, comments=_JS_COMMENTS),
    "tsx": RuleTable(_TS, {}, comments=_JS_COMMENTS),
    "go": RuleTable(_GO, _GO_VALUES, closed_functions=True),
    "rust": RuleTable(_RUST, _RUST_VALUES, comments=_RUST_COMMENTS),
    "java": RuleTable(_JAVA, {}, frozenset({"enum_body_declarations"})),
    "csharp": RuleTable(
        _CSHARP,
        _CSHARP_VALUES,
        frozenset({"preproc_if", "preproc_else", "preproc_elif", "preproc_region", "declaration_list"}),
    ),
    "kotlin": RuleTable(
        _KOTLIN, {"property_declaration": define(_V, name=_kotlin_property)}, comments=_KOTLIN_COMMENTS
    ),
    "swift": RuleTable(_SWIFT, {"property_declaration": define(_V)}, comments=_SWIFT_COMMENTS),
    "scala": RuleTable(_SCALA, _SCALA_VALUES),
    "python": RuleTable(_PYTHON, {"expression_statement": _py_assignment}),
    "ruby": RuleTable(_RUBY, {}, methods_in_modules=True),
    "php": RuleTable(_PHP, {"const_declaration": define(_V)}),
    "bash": RuleTable({"function_definition": define(_F)}, {"variable_assignment": define(_V)}),
    "elixir": RuleTable({"call": _elixir_call}, {}, methods_in_modules=True),
    "zig": RuleTable({"Decl": _zig_declaration}, {}, comments=frozenset({"line_comment", "doc_comment"})),
    "lua": RuleTable({**_LUA, **_LUA_ASSIGNMENTS}, {}),
}


@cache
def grammar_rules(language: str) -> Rules:
    """The rules of that grammar. Raises LookupError when there is no such grammar."""
    return compile_rules(load_language(language), TABLES.get(language))
