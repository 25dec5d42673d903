"""The explicit rules of functional languages, Lisps, Julia and R. How to read a table is in `rules.RuleTable`."""

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
_I, _T, _MOD, _V, _MAC = Kind.INTERFACE, Kind.TYPE, Kind.MODULE, Kind.VARIABLE, Kind.MACRO

# Haskell: a signature belongs to the function below it ---------------------------------------------------


def _child_or_field(node: Node, name: str) -> Node | None:
    """The field, else the child of that type."""
    return node.child_by_field_name(name) or child_of_type(node, name)


def _haskell_function(node: Node) -> str | None:
    infix = child_of_type(node, "infix")
    return text_of(_child_or_field(infix, "operator") if infix else node.child_by_field_name("name"))


def _haskell_instance(node: Node, _: Rules) -> Definition | None:
    """`instance Show Shape` is the class `Show.Shape`."""
    name, of = field_text(node, "name"), text_of(child_of_type(node, "type_patterns"))
    body = child_of_type(node, "instance_declarations")
    found = ".".join(word for word in (name, of) if word)
    return Definition(found, _C, node, body, reopens=True) if found else None


_HASKELL = {
    "function": define(_F, name=_haskell_function),
    "data_type": define(_T),
    "newtype": define(_T),
    "type_synomym": define(_T),
    "type_family": define(_T),
    "class": lambda node, _: Definition(field_text(node, "name"), _I, node, child_of_type(node, "class_declarations")),
    "instance": _haskell_instance,
}
_HASKELL_COMMENTS = frozenset({"comment", "haddock", "signature", "pragma"})

# OCaml: `let ... and ...` is one definition, by its first name -------------------------------------------


def _ocaml_value(node: Node, _: Rules) -> Definition | None:
    binding = child_of_type(node, "let_binding")
    if binding is None:
        return None
    name = text_of(first_child(binding))
    takes = child_of_type(binding, "parameter") or child_of_type(binding, "function_expression", "fun_expression")
    return None if name in {None, "()"} else Definition(_unbracketed(name), _F if takes else _V, node)


def _unbracketed(name: str | None) -> str | None:
    return None if name is None else name.removeprefix("(").removesuffix(")").strip()


def _ocaml_binding(kind: Kind, *bodies: str) -> Resolve:
    """A module, type or class: the first child of its binding is its name."""

    def resolve(node: Node, _: Rules) -> Definition | None:
        binding = next((child for child in node.named_children if child.type.endswith("_binding")), node)
        name = next((child for child in binding.named_children if child.type not in {"type_variable"}), None)
        return None if name is None else Definition(text_of(name), kind, node, child_of_type(binding, *bodies))

    return resolve


_OCAML = {
    "module_definition": _ocaml_binding(_MOD, "structure"),
    "module_type_definition": _ocaml_binding(_I, "signature"),
    "value_definition": _ocaml_value,
    "type_definition": _ocaml_binding(_T),
    "class_definition": _ocaml_binding(_C, "object_expression"),
    "class_type_definition": _ocaml_binding(_I),
    "method_definition": define(_M, name=lambda node: text_of(child_of_type(node, "method_name"))),
    "exception_definition": lambda node, _: Definition(text_of(first_child(first_child(node) or node)), _T, node),
    "external": define(_F),
    "value_specification": define(_F),
}


# F# ------------------------------------------------------------------------------------------------------


def _fsharp_function(node: Node) -> str | None:
    left = first_child(node)
    return None if left is None else plain_name(text_of(first_child(left) or left))


def _fsharp_type(node: Node, _: Rules) -> Definition | None:
    inner = first_child(node)
    name = None if inner is None else text_of(child_of_type(inner, "type_name"))
    kind = _S if inner is not None and inner.type == "record_type_defn" else _T
    return None if name is None else Definition(name.partition("(")[0], kind, node)


_FSHARP = {
    "function_or_value_defn": define(_F, name=_fsharp_function),
    "declaration_expression": lambda node, rules: (
        found if (inner := child_of_type(node, "function_or_value_defn")) and (found := rules.define(inner)) else None
    ),
    "type_definition": _fsharp_type,
}
_FSHARP_ENTER = frozenset({"named_module", "namespace", "module_defn"})

# Elixir: definitions are calls of `def`, `defmodule` and their like --------------------------------------

_ELIXIR_WORDS = {
    "defmodule": _MOD, "defprotocol": _I, "defimpl": _C, "def": _F, "defp": _F, "defmacro": _MAC,
    "defmacrop": _MAC, "defguard": _MAC, "defguardp": _MAC, "defdelegate": _F, "describe": _MOD, "test": _F,
}  # fmt: skip
_ELIXIR_SCOPES = frozenset({_MOD, _I, _C})


def _elixir_call(node: Node, _: Rules) -> Definition | None:
    word = text_of(node.child_by_field_name("target")) or ""
    kind = _ELIXIR_WORDS.get(word)
    arguments = None if kind is None else child_of_type(node, "arguments")
    name = None if arguments is None else first_child(arguments)
    while name is not None and name.type in {"binary_operator", "call"}:
        name = name.child_by_field_name("left" if name.type == "binary_operator" else "target")
    found = plain_name(text_of(name)) if name is not None else None
    if kind is None or found is None:
        return None
    # `defimpl Size, for: Cart`: both names tell which.
    of = re.search(r"for:\s*([\w.]+)", text_of(arguments) or "") if word == "defimpl" else None
    found = f"{found}.{of[1]}" if of else found
    return Definition(found, kind, node, find_body(node) if kind in _ELIXIR_SCOPES else None)


# Erlang: a spec belongs to the function below it ---------------------------------------------------------


def _erlang_name(node: Node) -> str | None:
    inner = first_child(node)
    return None if inner is None else text_of(first_child(inner) or inner)


_ERLANG = {
    "fun_decl": define(_F, name=_erlang_name),
    "record_decl": define(_S, name=lambda node: text_of(first_child(node))),
    "type_alias": define(_T, name=_erlang_name),
    "opaque": define(_T, name=_erlang_name),
    "pp_define": define(_MAC, name=_erlang_name),
}

# Lisps: definitions are lists that begin with a word -----------------------------------------------------

_LISP_WORDS = {
    "defn": _F, "defn-": _F, "defmulti": _F, "defmethod": _F, "defmacro": _MAC, "def": _V, "defonce": _V,
    "defprotocol": _I, "definterface": _I, "defrecord": _S, "deftype": _S, "deftest": _F, "defspec": _F,
    "defun": _F, "defsubst": _F, "cl-defun": _F, "cl-defmacro": _MAC, "cl-defmethod": _M, "cl-defgeneric": _F,
    "cl-defstruct": _S, "define-minor-mode": _F, "define-derived-mode": _F, "ert-deftest": _F, "defalias": _F,
    "defgeneric": _F, "defclass": _C, "defstruct": _S, "define-condition": _C, "defvar": _V, "defconst": _V,
    "defparameter": _V, "defconstant": _V, "defcustom": _V, "defgroup": _V, "deftheme": _V, "defpackage": _MOD,
    "define": _F, "define*": _F, "define-syntax": _MAC, "define-syntax-rule": _MAC, "define-record-type": _S,
    "define-public": _F, "define/contract": _F, "define-macro": _MAC, "struct": _S, "define-struct": _S,
    "s/defn": _F, "module": _MOD, "fn": _F, "local": _V, "var": _V, "macro": _MAC,
}  # fmt: skip


def _lisp_list(node: Node, _: Rules) -> Definition | None:
    """`(define (name x) ...)`, `(defun name ...)`, `(defclass name ...)`."""
    children = [child for child in node.named_children[:8] if "meta" not in child.type and "comment" not in child.type]
    if len(children) < 2 or (kind := _LISP_WORDS.get(text_of(children[0]) or "")) is None:
        return None
    name = children[1]
    if "list" in name.type:  # (define (name x) ...)
        inner = first_child(name)
        return None if inner is None else Definition(text_of(inner), kind, node)
    if text_of(children[0]) == "define" and not any("list" in child.type for child in children[2:3]):
        kind = _V
    while name.named_child_count and name.type == "sym_lit":  # Clojure's ^{:doc "..."} name
        meta = name.named_child(name.named_child_count - 1)
        if meta is None or meta.type != "sym_name":
            break
        name = meta
    found = text_of(name)
    return None if not found or found.startswith("(") else Definition(found.strip("'"), kind, node)


def _lisp_defun(node: Node, _: Rules) -> Definition | None:
    """Common Lisp's grammar has a node for `defun`, `defmacro`, `defmethod` and `defgeneric`."""
    defun = child_of_type(node, "defun")
    header = None if defun is None else child_of_type(defun, "defun_header")
    if header is None:
        return _lisp_list(node, _)
    kind = _LISP_WORDS.get(text_of(child_of_type(header, "defun_keyword")) or "", _F)
    name = field_text(header, "function_name") or text_of(child_of_type(header, "sym_lit"))
    return None if name is None else Definition(name, kind, node)


_LISP_COMMENTS = frozenset({"comment", "block_comment", "dis_expr"})

# Julia ---------------------------------------------------------------------------------------------------


def _julia_name(node: Node) -> str | None:
    head = child_of_type(node, "signature", "type_head", "call_expression") or node.child_by_field_name("name")
    text = re.match(r"[^({\s<:]+(?::[^({\s<:]+)?", text_of(head) or "")
    return plain_name(text[0]) if text else None


def _julia_assignment(node: Node, _: Rules) -> Definition | None:
    """`f(x) = ...` is a function."""
    left = first_child(node)
    if left is None or left.type != "call_expression":
        return None
    name = _julia_name(node)
    return None if name is None else Definition(name, _F, node)


_JULIA = {
    "module_definition": define(_MOD, scope=True),
    "struct_definition": define(_S, name=_julia_name),
    "abstract_definition": define(_T, name=_julia_name),
    "function_definition": define(_F, name=_julia_name),
    "macro_definition": define(_MAC, name=_julia_name),
    "assignment": _julia_assignment,
}

# R: functions are assigned; classes are made by calls ----------------------------------------------------

_R_CLASSES = {"R6Class", "setRefClass", "setClass"}
_R_CALLS = {"setClass": _C, "setRefClass": _C, "setGeneric": _F, "setMethod": _M, "setValidity": _M, "test_that": _F}


def _r_assignment(node: Node, _: Rules) -> Definition | None:
    name, value = first_child(node), node.named_child(1) if node.named_child_count > 1 else None
    if name is None or value is None or text_of(node.child(1)) not in {"<-", "<<-", "=", ":="}:
        return None
    found = plain_name(text_of(name))
    if value.type == "function_definition":
        return Definition(found, _F, node)
    if value.type == "call" and text_of(first_child(value)) in _R_CLASSES:
        return Definition(found, _C, node)
    return Definition(found, _V, node) if name.type == "identifier" else None


def _r_call(node: Node, _: Rules) -> Definition | None:
    kind = _R_CALLS.get(text_of(first_child(node)) or "")
    arguments = None if kind is None else child_of_type(node, "arguments")
    name = None if arguments is None else plain_name(text_of(first_child(arguments)))
    return None if kind is None or name is None else Definition(name, kind, node)


TABLES: dict[str, RuleTable] = {
    "haskell": RuleTable(
        _HASKELL,
        {"bind": define(_V)},
        frozenset({"declarations", "imports", "class_declarations", "instance_declarations"}),
        _HASKELL_COMMENTS,
    ),
    "ocaml": RuleTable(_OCAML, {}),
    "ocaml_interface": RuleTable(_OCAML, {}),
    "fsharp": RuleTable(_FSHARP, {}, _FSHARP_ENTER),
    "elixir": RuleTable({"call": _elixir_call}, {}, methods_in_modules=True),
    "erlang": RuleTable(_ERLANG, {}, comments=frozenset({"comment", "spec"})),
    "clojure": RuleTable({"list_lit": _lisp_list}, {}, comments=_LISP_COMMENTS),
    "commonlisp": RuleTable({"list_lit": _lisp_defun}, {}, comments=_LISP_COMMENTS),
    "elisp": RuleTable(
        {
            "function_definition": define(_F, name=lambda node: text_of(child_of_type(node, "symbol"))),
            "macro_definition": define(_MAC, name=lambda node: text_of(child_of_type(node, "symbol"))),
            "list": _lisp_list,
        },
        {"special_form": define(_V, name=lambda node: text_of(child_of_type(node, "symbol")))},
        comments=_LISP_COMMENTS,
    ),
    "scheme": RuleTable({"list": _lisp_list}, {}, comments=_LISP_COMMENTS),
    "racket": RuleTable({"list": _lisp_list}, {}, comments=_LISP_COMMENTS),
    "julia": RuleTable(_JULIA, {}, comments=frozenset({"line_comment", "block_comment", "string_literal"})),
    "r": RuleTable({"binary_operator": _r_assignment, "call": _r_call}, {}),
}
