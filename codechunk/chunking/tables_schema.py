"""The explicit rules of schema and configuration languages. How to read a table is in `rules.RuleTable`."""

from tree_sitter import Node

from codechunk.chunking.rules import Definition, Rules, RuleTable, child_of_type, define, plain_name, text_of
from codechunk.text.chunks import Kind

_F, _M, _S = Kind.FUNCTION, Kind.METHOD, Kind.STRUCT
_I, _E, _T, _MOD = Kind.INTERFACE, Kind.ENUM, Kind.TYPE, Kind.MODULE

_PROTO = {
    "message": define(_S, scope=True),
    "enum": define(_E),
    "service": lambda node, _: Definition(text_of(child_of_type(node, "service_name")), _I, node, node),
    "rpc": define(_M),
    "extend": define(_S),
}

_GRAPHQL = {
    "object_type_definition": define(_S),
    "input_object_type_definition": define(_S),
    "interface_type_definition": define(_I),
    "enum_type_definition": define(_E),
    "union_type_definition": define(_T),
    "scalar_type_definition": define(_T),
    "object_type_extension": define(_S),
    "directive_definition": define(_F),
    "operation_definition": define(_F, name=lambda node: text_of(child_of_type(node, "name"))),
    "fragment_definition": define(_F),
    "schema_definition": define(_MOD, name=lambda _: "schema"),
}
_GRAPHQL_ENTER = frozenset(
    {
        "document",
        "definition",
        "type_system_definition",
        "type_definition",
        "executable_definition",
        "type_system_extension",
        "type_extension",
    }
)


def _hcl_block(node: Node, _: Rules) -> Definition | None:
    """`resource "aws_s3_bucket" "logs" {` is `resource.aws_s3_bucket.logs`; blocks inside are part of it."""
    parts = [text_of(child) for child in node.named_children if child.type in {"identifier", "string_lit"}]
    name = ".".join(plain_name(part) or "" for part in parts if part)
    return Definition(name, Kind.STRUCT, node) if name else None


_HCL = RuleTable({"block": _hcl_block}, {}, frozenset({"body"}))

TABLES: dict[str, RuleTable] = {
    "proto": RuleTable(_PROTO, {}, frozenset({"message_body"})),
    "graphql": RuleTable(_GRAPHQL, {}, _GRAPHQL_ENTER, frozenset({"comment", "description"})),
    "terraform": _HCL,
    "hcl": _HCL,
}
