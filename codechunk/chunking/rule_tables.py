"""The explicit rules of the most used languages: one table each. How to read one is in `rules.RuleTable`."""

import re
from functools import cache

from tree_sitter import Node

from codechunk.chunking import tables_c, tables_curly, tables_functional, tables_schema
from codechunk.chunking.languages import load_language
from codechunk.chunking.rules import (
    Definition,
    InnerWords,
    Resolve,
    Rules,
    RuleTable,
    compile_rules,
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


def _named(name: str) -> "Resolve":
    """A method whose name is a keyword: `init`, `constructor`."""
    return define(_M, name=lambda _: name)


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
    return _js_value(field_text(declarators[0], "name"), declarators[0].child_by_field_name("value"), node, _F)


def _js_expression(node: Node, rules: Rules) -> Definition | None:
    inner = first_child(node)
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
            return _js_value(field_text(node, key), value, node, _M)
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
# Each part begins with a literal (what is before it is looked at behind it): found in a quarter of the time.
_JS_LINE = (
    rb"function(?<=\bfunction)\*? ?\w|=(?<=\w =)(?:.*\()? (?:async )?function|class(?<=\bclass) \w"
    rb"|interface(?<=\binterface) \w|enum(?<=\benum) \w|= (?:async )?(?:\w+|\(.*\).*) =>"
)
_JS_INNER = InnerWords((b"function", b"class ", b"=>"), re.compile(_JS_LINE))
_TS_INNER = InnerWords((*_JS_INNER.words, b"interface ", b"enum "), re.compile(_JS_LINE))
_JS_COMMENTS = frozenset({"comment", "decorator", "hash_bang_line"})

# Go and Rust ---------------------------------------------------------------------------------------------

_GO_TYPES = {"struct_type": _S, "interface_type": _I}


def _go_type(node: Node, _: Rules) -> Definition | None:
    of = node.child_by_field_name("type")
    name = field_text(node, "name")
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
    name = field_text(node, "name")
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


def _rust_impl(node: Node, _: Rules) -> Definition | None:
    name = field_text(node, "type")
    return None if name is None else Definition(name, Kind.CLASS, node, find_body(node), reopens=True)


_RUST = {
    "function_item": define(_F),
    "function_signature_item": define(_F),
    "struct_item": define(_S),
    "union_item": define(_S),
    "enum_item": define(_E),
    "trait_item": define(_I, scope=True),
    "impl_item": _rust_impl,
    "mod_item": define(_MOD, scope=True),
    "type_item": define(_T),
    "macro_definition": define(_MAC),
    "foreign_mod_item": enter_body,
}
_RUST_VALUES = {"const_item": define(_V), "static_item": define(_V)}
_RUST_INNER = InnerWords((b"fn ", b"struct ", b"enum ", b"impl ", b"impl<", b"trait "))
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
    "destructor_declaration": define(_M, name=lambda node: "~" + (field_text(node, "name") or "")),
    "operator_declaration": define(
        _M, name=lambda node: "operator" + (text_of(node.child_by_field_name("operator")) or "")
    ),
    "conversion_operator_declaration": define(_M, name=lambda node: "operator " + (field_text(node, "type") or "")),
    "indexer_declaration": _named("this[]"),
    "local_function_statement": define(_F),
    "global_statement": unwrap,
}
_CSHARP_VALUES = {"property_declaration": define(_V), "event_declaration": define(_V)}


def _kotlin_class(node: Node, _: Rules) -> Definition | None:
    words = {child.type for child in node.children if not child.is_named}
    modifiers = text_of(first_child(node)) or ""
    kind = _I if "interface" in words else _E if "enum" in words or re.search(r"\benum$", modifiers) else Kind.CLASS
    return define(kind, scope=True)(node, Rules({}))


def _kotlin_function(node: Node) -> str | None:
    name = next((child for child in node.children if child.type == "simple_identifier"), None)
    receiver = plain_name(text_of(node.child_by_field_name("receiver")))
    found = plain_name(text_of(name))
    return f"{receiver}.{found}" if receiver and found else found


def _kotlin_property(node: Node) -> str | None:
    declaration = next((child for child in node.named_children if child.type == "variable_declaration"), None)
    return None if declaration is None else plain_name(text_of(first_child(declaration)))


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
        Definition(field_text(node, "name"), _MOD, node, body) if (body := find_body(node)) else None
    ),
    "function_definition": define(_F),
    "function_declaration": define(_F),
    "type_definition": define(_T),
    "given_definition": define(_V, scope=True),
    "extension_definition": lambda node, rules: enter_body(node, rules),
}
_SCALA_VALUES = {
    "val_definition": define(_V, name=lambda node: field_text(node, "pattern")),
    "var_definition": define(_V, name=lambda node: field_text(node, "pattern")),
}

# Python, Ruby, PHP, Bash, Lua ----------------------------------------------------------------------------


def _py_assignment(node: Node, _: Rules) -> Definition | None:
    inner = first_child(node)
    if inner is None or inner.type != "assignment":
        return None
    left = inner.child_by_field_name("left")
    return None if left is None or left.type != "identifier" else Definition(plain_name(text_of(left)), _V, node)


_PYTHON = {
    "function_definition": define(_F),
    "class_definition": define(Kind.CLASS, scope=True),
    "decorated_definition": unwrap,
    "type_alias_statement": define(_T, name=lambda node: field_text(node, "left")),
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
    first = None if arguments is None else first_child(arguments)
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
    inner = first_child(node)
    if inner is None or inner.type != "assignment_expression":
        return None
    right = inner.child_by_field_name("right")
    if right is None or right.type not in {
        "anonymous_function",
        "anonymous_function_creation_expression",
        "arrow_function",
    }:
        return None
    return Definition((field_text(inner, "left") or "").lstrip("$") or None, _F, node)


_PHP = {
    "namespace_definition": lambda node, _: (
        Definition(field_text(node, "name"), _MOD, node, body) if (body := find_body(node)) else None
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
    inner = node if node.type == "assignment_statement" else first_child(node)
    if inner is None or inner.named_child_count != 2:
        return None
    name, values = first_child(inner), inner.named_child(1)
    value = None if values is None else first_child(values)
    found = plain_name((text_of(name) or "").replace(":", "."))
    if found is None or value is None or "," in found:
        return None
    return Definition(found, _F if value.type == "function_definition" else _V, node)


_LUA = {"function_declaration": define(_F, name=_lua_function)}
_LUA_ASSIGNMENTS: dict[str, Resolve] = {
    "variable_declaration": _lua_assignment,
    "assignment_statement": _lua_assignment,
}


TABLES: dict[str, RuleTable] = {
    **tables_c.TABLES,
    **tables_functional.TABLES,
    **tables_curly.TABLES,
    **tables_schema.TABLES,
    "javascript": RuleTable(_JS, {}, comments=_JS_COMMENTS, inner=_JS_INNER),
    "typescript": RuleTable(_TS, {}, comments=_JS_COMMENTS, inner=_TS_INNER),
    "tsx": RuleTable(_TS, {}, comments=_JS_COMMENTS, inner=_TS_INNER),
    "go": RuleTable(_GO, _GO_VALUES, closed_functions=True),
    "rust": RuleTable(_RUST, _RUST_VALUES, comments=_RUST_COMMENTS, inner=_RUST_INNER),
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
    "python": RuleTable(_PYTHON, {"expression_statement": _py_assignment}, inner=InnerWords((b"def ", b"class "))),
    "ruby": RuleTable(_RUBY, {}, methods_in_modules=True),
    "php": RuleTable(_PHP, {"const_declaration": define(_V)}),
    "bash": RuleTable({"function_definition": define(_F)}, {"variable_assignment": define(_V)}),
    "lua": RuleTable({**_LUA, **_LUA_ASSIGNMENTS}, {}),
}


@cache
def grammar_rules(language: str) -> Rules:
    """The rules of that grammar. Raises LookupError when there is no such grammar."""
    return compile_rules(load_language(language), TABLES.get(language))
