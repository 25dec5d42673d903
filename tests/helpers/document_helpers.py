"""Documents made from JSON values, and the files in docs/schema that outputs are held against."""

import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).parent.parent.parent / "docs" / "schema"
T = TypeVar("T")


def built(of: type[T], values: Mapping[str, Any]) -> T:
    """The document of which `to_json` gives these values; every field must be there, and no other."""
    hints = get_type_hints(of)
    names = [item.name for item in fields(of) if item.metadata.get("json", True)]  # type: ignore[arg-type]
    assert list(values) == names
    return of(**{name: _value(hints[name], values[name]) for name in names})


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(hint) in {typing.Union, types.UnionType}:
        hint = next(part for part in get_args(hint) if part is not type(None))
    if is_dataclass(hint) and isinstance(hint, type):
        return built(hint, value)
    if get_origin(hint) is Sequence:
        return [_value(get_args(hint)[0], item) for item in value]
    return value


def check(name: str, document: object) -> None:
    """Hold what a command wrote against its schema. Raises the first thing that is wrong."""
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)
