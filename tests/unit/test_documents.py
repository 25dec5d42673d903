"""The documents of `--json`: what they become as JSON, and the schemas that are made from them."""

import importlib.util
import json
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from types import ModuleType

import pytest
from document_helpers import SCHEMAS

from codechunk import documents
from codechunk.documents import Answer, Matched, QueueFlush, to_json

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "make_schemas.py"
ANSWER = Answer(
    score=0.5,
    repository="r",
    ref="main",
    commit="c",
    path="a.py",
    language="python",
    kind="function",
    symbol=None,
    start_line=1,
    end_line=9,
    text="def f(): ...",
    chunk_ids=["1", "2"],
    hit_lines=(3, 4),
    file_rank=1,
    content="code",
    matched=Matched(words=["f"], symbol=False, meaning=None),
    url=None,
    absolute_path=None,
    spans=(),
)


def maker() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("make_schemas", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_keys_of_the_json_are_the_fields_in_their_order_without_those_for_python_only() -> None:
    assert list(to_json(ANSWER)) == [item.name for item in fields(Answer)]
    flush = QueueFlush(batches=1, texts=2, waiting=0, reason=None, submitted=1, unreachable=(), batch_ids=["x"])
    assert json.dumps(to_json([flush])) == (
        '[{"batches": 1, "texts": 2, "waiting": 0, "reason": null, "submitted": 1, "unreachable": []}]'
    )


def test_a_document_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        ANSWER.path = "b.py"  # type: ignore[misc]


def test_every_document_and_every_field_of_one_says_what_it_means() -> None:
    made = maker()
    for name in documents.__all__:
        document = getattr(documents, name)
        if isinstance(document, type) and is_dataclass(document):
            assert not (document.__doc__ or f"{name}(").startswith(f"{name}("), "what dataclasses write by themselves"
            assert set(made.field_docs(document)) == {item.name for item in fields(document)}, name


def test_the_schemas_that_are_committed_are_those_that_the_documents_make() -> None:
    made = maker().schemas()
    assert {path.name for path in SCHEMAS.iterdir()} == set(made), "run scripts/make_schemas.py"
    assert {name: (SCHEMAS / name).read_text() for name in made} == made, "run scripts/make_schemas.py"
