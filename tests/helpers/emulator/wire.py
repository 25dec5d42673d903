"""The shapes on the wire: replies, errors, times, and the strict reading of an EmbedContentRequest.

Strict on purpose: a field the service does not know is a 400 there, and would otherwise go unnoticed here.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from emulator.values import FULL_DIMENSIONS, MODELS

Json = dict[str, Any]

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
TASKS = {
    "TASK_TYPE_UNSPECIFIED",
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
}
QUOTA_WORDS = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this "
    "error, head to: the documentation on rate limits."
)


@dataclass
class Reply:
    """One reply. `file`, when set, is the body instead of `body`; `sold` are the direct texts in it."""

    status: int = 200
    body: bytes = b"{}\n"
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json; charset=UTF-8"
    file: Path | None = None
    sold: list[str] = field(default_factory=list)


class ApiError(Exception):
    """An error reply in the shape of google.rpc.Status."""

    def __init__(
        self, status: int, message: str, *, name: str | None = None, details: list[Json] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        error: Json = {"code": status, "message": message, "status": name or STATUS_NAMES[status]}
        if details:
            error["details"] = details
        self.body = {"error": error}

    def reply(self, headers: dict[str, str] | None = None) -> Reply:
        """The same as a reply."""
        return Reply(self.status, encode(self.body), headers or {})


def refuse(message: str) -> NoReturn:
    """400 INVALID_ARGUMENT."""
    raise ApiError(400, message)


def encode(value: Json) -> bytes:
    """JSON as the service prints it, in UTF-8 with a newline at the end."""
    return json.dumps(value, ensure_ascii=False, indent=2).encode() + b"\n"


def reply(value: Json, headers: dict[str, str] | None = None) -> Reply:
    """A 200 with JSON."""
    return Reply(200, encode(value), headers or {})


def html(status: int, words: str) -> Reply:
    """What a proxy in front of the service answers."""
    page = f"<!DOCTYPE html>\n<html lang=en><title>Error {status} ({words})!!1</title><p><b>{status}.</b> {words}\n"
    return Reply(status, page.encode(), content_type="text/html; charset=UTF-8")


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with nanoseconds, of which the last three are made up."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "678Z"


def double_hash(sha256_hex: str) -> str:
    """base64 of the hex digits, which is how the file service shows a sha256."""
    return base64.b64encode(sha256_hex.encode()).decode()


def identifier(seed: str, length: int) -> str:
    """A made-up id of `length` characters out of [a-z0-9]."""
    digits = base64.b32encode(hashlib.sha512(seed.encode()).digest()).decode().lower()
    return digits.rstrip("=")[:length]


def rate_limited(delay: str) -> ApiError:
    """429 of a quota per minute: says when to come again."""
    return ApiError(
        429,
        QUOTA_WORDS,
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [
                    {
                        "quotaMetric": "generativelanguage.googleapis.com/embed_content_paid_tier_requests",
                        "quotaId": "EmbedContentPaidTierRequestsPerMinutePerProjectPerModel",
                        "quotaDimensions": {"location": "global", "model": "gemini-embedding-1.0"},
                        "quotaValue": "3000",
                    }
                ],
            },
            {
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [{"description": "Learn more about Gemini API quotas", "url": "about:rate-limits"}],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
        ],
    )


def quota_full() -> ApiError:
    """429 of a full queue, or of an account without quota: does not say when to come again."""
    links = [{"description": "Learn more about Gemini API quotas", "url": "about:rate-limits"}]
    return ApiError(429, QUOTA_WORDS, details=[{"@type": "type.googleapis.com/google.rpc.Help", "links": links}])


def bad_key() -> ApiError:
    """400, not 401: how the service refuses a key it does not know."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    return ApiError(400, "API key not valid. Please pass a valid API key.", details=[info])


def no_key() -> ApiError:
    """403: no key at all."""
    return ApiError(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or "
        "other form of API consumer identity to call this API.",
    )


def no_file(name: str) -> ApiError:
    """403, not 404: the file service does not tell missing from foreign."""
    identity = name.removeprefix("files/")
    return ApiError(403, f"You do not have permission to access the File {identity} or it may not exist.")


class Row(NamedTuple):
    """One text to embed. `key` is None for direct calls and inlined jobs; `tokens` is its count."""

    key: str | None
    text: str
    dimensions: int
    tokens: int = 0


def parse_object(body: bytes) -> Json:
    """The JSON object of a request."""
    try:
        value = json.loads(body.decode()) if body.strip() else {}
    except ValueError as exc:
        refuse(f"Invalid JSON payload received. {exc}")
    if not isinstance(value, dict):
        refuse("Invalid JSON payload received. Root element must be a message.")
    return value


def pick(value: Json, *names: str, where: str = "") -> Json:
    """The fields of a message under their camelCase names; a field it does not have is refused."""
    found: Json = {}
    allowed = _spellings(names)
    for given, content in value.items():
        if given not in allowed:
            place = f" at '{where}'" if where else ""
            refuse(f'Invalid JSON payload received. Unknown name "{given}"{place}: Cannot find field.')
        if content is not None:
            found[allowed[given]] = content
    return found


@lru_cache(maxsize=64)
def _spellings(names: tuple[str, ...]) -> dict[str, str]:
    return {_snake(name): name for name in names} | {name: name for name in names}


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def text_of(content: object, where: str) -> str:
    """The text of a Content: its parts, joined."""
    if not isinstance(content, dict):
        refuse(f"Invalid value at '{where}' (type.googleapis.com/google.ai.generativelanguage.Content)")
    parts = pick(content, "parts", "role", where=where).get("parts", [])
    if not isinstance(parts, list) or not parts:
        refuse(f"* {where}: contents is not specified")
    texts = []
    for place, part in enumerate(parts):
        text = pick(part, "text", where=f"{where}.parts[{place}]").get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            refuse(f"* {where}.parts[{place}].data: required oneof field 'data' must have one initialized field")
        texts.append(text)
    joined = "".join(texts)
    if not joined:
        refuse(f"* {where}: content is empty")
    try:
        joined.encode()
    except UnicodeEncodeError:
        refuse(f"Invalid JSON payload received. A lone surrogate is not a character, at '{where}'")
    return joined


def embed_request(value: object, model: str, where: str, *, key: str | None = None) -> Row:
    """An EmbedContentRequest, checked as the service does."""
    if not isinstance(value, dict):
        refuse(f"Invalid value at '{where}' (type.googleapis.com/google.ai.generativelanguage.EmbedContentRequest)")
    fields = pick(value, "content", "taskType", "title", "outputDimensionality", "model", where=where)
    if fields.get("model", f"models/{model}").removeprefix("models/") != model:
        refuse(f"* {where}.model: must be the model of the URL, models/{model}")
    task = fields.get("taskType")
    if task is not None and task not in TASKS:
        refuse(f"Invalid value at '{where}.task_type' ({task!r})")
    # Google's page: "You cannot use the task_type field for gemini-embedding-2."
    if task is not None and model != MODELS[0]:
        refuse(f"* {where}.task_type: not supported by models/{model}")
    if "title" in fields and task != "RETRIEVAL_DOCUMENT":
        refuse(f"* {where}.title: only for the task RETRIEVAL_DOCUMENT")
    dimensions = fields.get("outputDimensionality", FULL_DIMENSIONS)
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= FULL_DIMENSIONS:
        refuse(f"* {where}.output_dimensionality: must be between 1 and {FULL_DIMENSIONS}")
    return Row(key, text_of(fields.get("content"), f"{where}.content"), dimensions)


def batch_lines(path: Path, model: str) -> list[Row]:
    """The rows of an uploaded JSONL file; the first bad line refuses the whole file."""
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line.decode())
            except UnicodeDecodeError:
                refuse(f"Error on line {number}: invalid UTF-8")
            except ValueError as exc:
                column = getattr(exc, "colno", 1)
                refuse(f"Error on line {number}: invalid JSON, near column {column}: unexpected character")
            try:
                rows.append(_batch_line(value, model))
            except ApiError as exc:
                refuse(f"Error on line {number}: {exc}")
    if not rows:
        refuse("The input file has no requests.")
    return rows


def _batch_line(value: object, model: str) -> Row:
    if not isinstance(value, dict):
        refuse("not an object")
    fields = pick(value, "key", "request")
    key = fields.get("key")
    if key is not None and not isinstance(key, str):
        refuse("key is not a string")
    return embed_request(fields.get("request"), model, "request", key=key)
