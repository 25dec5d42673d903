"""How a document becomes JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

IN_MEMORY_ONLY = {"json": False}
"""Metadata of a field that is not part of the JSON."""


def to_json(document: object) -> Any:
    """The document as JSON values: dictionaries with the keys in order, lists, strings, numbers, true, false, null."""
    if is_dataclass(document) and not isinstance(document, type):
        shown = [item.name for item in fields(document) if item.metadata.get("json", True)]
        return {name: to_json(getattr(document, name)) for name in shown}
    if isinstance(document, Mapping):
        return {name: to_json(value) for name, value in document.items()}
    if isinstance(document, Sequence) and not isinstance(document, str | bytes):
        return [to_json(item) for item in document]
    return document
