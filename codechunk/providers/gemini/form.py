"""The form of requests to Gemini's embedding models: what is sent to each of them, and the vector that comes back.

Pure. Task, dimensions and normalisation are decided here, once, for direct calls, batch files and queries.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codechunk.providers.contract import DOCUMENT_TASK, QUERY_TASK
from codechunk.providers.vector import unit_vector

# These are told the task in a parameter. All later ones refuse it ("You cannot use the task_type field for
# gemini-embedding-2"): they read the task in front of the text, which no model refuses.
_TASK_IS_PARAMETER = frozenset({"gemini-embedding-001"})
_TASK_IN_TEXT = {DOCUMENT_TASK: "title: none | text: {}", QUERY_TASK: "task: code retrieval | query: {}"}

_SURROGATE = re.compile("[\ud800-\udfff]")


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
        """The vector of a reply, see `unit_vector`. Raises BadVector.

        gemini-embedding-001 normalises only at 3072 dimensions, later models always.
        """
        return unit_vector(values, self.dimensions)
