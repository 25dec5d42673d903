"""The embedding models: what one call sends to each of them, what comes back, and what to do with it.

Pure. Task, dimensions and normalisation are decided here, once, for direct calls, batch files and queries.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Input tokens the provider takes per text, from its model pages (gemini-embedding-001 is not 8,192).
INPUT_TOKENS: Mapping[str, int] = {"gemini-embedding-001": 2048, "gemini-embedding-2": 8192}
MODELS = tuple(INPUT_TOKENS)

DOCUMENT_TASK = "RETRIEVAL_DOCUMENT"
QUERY_TASK = "CODE_RETRIEVAL_QUERY"
# These are told the task in a parameter. All later ones refuse it ("You cannot use the task_type field for
# gemini-embedding-2"): they read the task in front of the text, which no model refuses.
_TASK_IS_PARAMETER = frozenset({"gemini-embedding-001"})
_TASK_IN_TEXT = {DOCUMENT_TASK: "title: none | text: {}", QUERY_TASK: "task: code retrieval | query: {}"}

_SURROGATE = re.compile("[\ud800-\udfff]")
# Below this length (L2 norm) a vector has no direction worth keeping; real ones are between 0.5 and 1.
_SHORTEST = 1e-9


class BadVector(ValueError):
    """What the provider sent is not the vector that was asked for; the message says why, in one clause."""


def input_limit(model: str) -> int | None:
    """How many tokens (the model's own) one text may have; None for a model that is not known here."""
    return INPUT_TOKENS.get(model)


@dataclass(frozen=True, slots=True)
class Form:
    """How texts are embedded: by which model, into how many dimensions, for which task.

    `task` is DOCUMENT_TASK for what is stored and QUERY_TASK for what is asked (see `for_queries`).
    """

    model: str
    dimensions: int
    task: str = DOCUMENT_TASK

    def for_queries(self) -> "Form":
        """The form of a query whose vector is compared with the vectors of this form."""
        return replace(self, task=QUERY_TASK)

    @property
    def task_parameter(self) -> str | None:
        """The value of `taskType` on the wire; None when the task is part of the text."""
        return self.task if self.model in _TASK_IS_PARAMETER else None

    def sent(self, text: str) -> str:
        """Exactly the text that goes over the wire.

        A surrogate without its partner cannot be written in UTF-8, and JSON parsers reject it or each reads it
        differently; it is sent as U+FFFD, the sign for a character that could not be read.
        """
        if not text.isascii():
            text = _SURROGATE.sub("\ufffd", text)
        if self.task_parameter is not None:
            return text
        return _TASK_IN_TEXT[self.task].format(text)

    def request(self, text: str) -> dict[str, Any]:
        """The EmbedContentRequest for a text, as REST spells it."""
        request: dict[str, Any] = {"content": {"parts": [{"text": self.sent(text)}]}}
        if self.task_parameter is not None:
            request["taskType"] = self.task_parameter
        request["outputDimensionality"] = self.dimensions
        return request

    def line(self, key: str, text: str) -> bytes:
        """One line of a batch job's input file, with its newline.

        Pure ASCII: whatever a reader takes for the end of a line (U+2028, U+0085), it finds only ours.
        """
        return json.dumps({"key": key, "request": self.request(text)}, separators=(",", ":")).encode() + b"\n"

    def vector(self, values: Sequence[float]) -> NDArray[np.float32]:
        """The vector of a reply, checked, with L2 norm 1: float32, shape `(dimensions,)`.

        gemini-embedding-001 normalises only at 3072 dimensions, later models always; scaling what is of unit
        length already changes nothing, so the model is not asked.

        Raises:
            BadVector: the count of values is wrong, or they are not finite numbers, or all zero.
        """
        try:
            vector = np.array(values, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as exc:
            raise BadVector("it holds something that is not a number") from exc
        if vector.shape != (self.dimensions,):
            count = len(values) if vector.ndim == 1 else "nested"
            raise BadVector(f"it has {count} values instead of {self.dimensions}")
        # One product tells all: NaN and infinity spoil it, and only zeros make it zero.
        with np.errstate(over="ignore"):
            norm = math.sqrt(np.dot(vector, vector))
        if not math.isfinite(norm):
            raise BadVector("it holds values that are not finite numbers")
        if norm < _SHORTEST:
            raise BadVector("all its values are zero")
        return (vector / norm).astype(np.float32)
