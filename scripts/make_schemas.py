"""Write docs/schema/*.json: a JSON Schema for each document of `--json`, from the dataclasses in codechunk/documents/.

    python scripts/make_schemas.py

Titles are the classes' names, descriptions their docstrings and the strings below their fields. A test holds the files
that are committed against what this makes.
"""

import ast
import inspect
import json
import sys
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from codechunk import documents

FOLDER = Path(__file__).parent.parent / "docs" / "schema"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
# What each command writes: one document, a list of them, or one a line.
COMMANDS: dict[str, tuple[type, Literal["one", "list", "lines"], str]] = {
    "index": (documents.IndexDocument, "one", "index --json, jobs resume --json"),
    "index-dry-run": (documents.DryRunDocument, "one", "index --dry-run --json"),
    "estimate": (documents.EstimateDocument, "one", "estimate --json"),
    "search": (documents.Answer, "list", "search --json, similar --json"),
    "show": (documents.ShownFile, "one", "show --json"),
    "chunk": (documents.ChunkLine, "lines", "chunk --json, each line"),
    "queue-status": (documents.QueueStatus, "one", "queue status --json"),
    "queue-flush": (documents.QueueFlush, "one", "queue flush --json"),
    "queue-sync": (documents.QueueSync, "one", "queue sync --json"),
    "queue-retry": (documents.QueueRetry, "one", "queue retry --json"),
    "queue-remote": (documents.RemoteBatch, "list", "queue remote --json"),
    "jobs-list": (documents.JobDocument, "list", "jobs list --json"),
    "jobs-show": (documents.JobDetails, "one", "jobs show --json"),
    "jobs-cancel": (documents.JobCancelled, "one", "jobs cancel --json"),
    "repos-list": (documents.IndexEntry, "list", "repos list --json"),
    "repos-show": (documents.RepositoryDocument, "one", "repos show --json"),
    "repos-remove": (documents.RepositoryRemoved, "one", "repos remove --json"),
    "cache-export": (documents.CacheExported, "one", "cache export --json"),
    "cache-import": (documents.CacheImported, "one", "cache import --json"),
    "gc": (documents.GarbageDocument, "one", "gc --json"),
    "doctor": (documents.Finding, "list", "doctor --json"),
    "config-show": (documents.Setting, "list", "config show --json"),
    "config-check": (documents.ConfigCheck, "one", "config check --json"),
    "version": (documents.Versions, "one", "version --json"),
}
PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def schemas() -> dict[str, str]:
    """File name -> text of every schema."""
    return {f"{name}.json": _text(name) for name in COMMANDS}


def _text(name: str) -> str:
    of, form, command = COMMANDS[name]
    parts: dict[str, Any] = {}
    body = _of_class(of, parts)
    parts.pop(of.__name__, None)
    head = {"$schema": DRAFT, "title": f"codechunk {command}"}
    if form == "list":
        whole: dict[str, Any] = {**head, "type": "array", "items": body}
    else:
        whole = {**head, **body}
    if parts:
        whole["$defs"] = dict(sorted(parts.items()))
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def _of_class(of: type, parts: dict[str, Any]) -> dict[str, Any]:
    """The schema of a dataclass; those that it refers to are put into `parts`."""
    hints, told = get_type_hints(of), field_docs(of)
    shown = [item.name for item in fields(of) if item.metadata.get("json", True)]
    return {
        "description": inspect.cleandoc(of.__doc__ or ""),
        "type": "object",
        "properties": {name: {**_of_type(hints[name], parts), "description": told[name]} for name in shown},
        "required": shown,
        "additionalProperties": False,
    }


def _of_type(hint: Any, parts: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return {"type": PLAIN[hint]}
    if is_dataclass(hint) and isinstance(hint, type):
        if hint.__name__ not in parts:
            parts[hint.__name__] = {}
            parts[hint.__name__] = _of_class(hint, parts)
        return {"$ref": f"#/$defs/{hint.__name__}"}
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin in {typing.Union, types.UnionType}:
        if all(part in PLAIN for part in arguments):
            return {"type": [PLAIN[part] for part in arguments]}
        return {"anyOf": [_of_type(part, parts) for part in arguments]}
    if origin is Sequence:
        return {"type": "array", "items": _of_type(arguments[0], parts)}
    if origin is tuple and len(set(arguments)) == 1:
        length = len(arguments)
        return {"type": "array", "items": _of_type(arguments[0], parts), "minItems": length, "maxItems": length}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _of_type(arguments[1], parts)}
    raise TypeError(f"documents may not hold {hint}")


def field_docs(of: type) -> dict[str, str]:
    """The string below each field of a dataclass and of those that it extends; a field without one is not in it."""
    found: dict[str, str] = {}
    for one in reversed([base for base in of.__mro__ if is_dataclass(base)]):
        [body] = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                found[field.target.id] = inspect.cleandoc(str(below.value.value))
    return found


def main() -> None:
    """Write every file, and remove those of documents that are not there any more."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = schemas()
    for path in FOLDER.glob("*.json"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(made)} schemas are in {FOLDER}\n")


if __name__ == "__main__":
    main()
