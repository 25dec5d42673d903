"""What Gemini's replies mean: jobs, files and refusals, from JSON to our words. Pure; no SDK, no network."""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, get_args

from codechunk.errors import Denied, Missing, ProviderError, RateLimited, Rejected, Unavailable
from codechunk.process.log import mask_secrets, storable
from codechunk.providers.batch_words import REMOTE_ENDS, RemoteFile, RemoteJob, RemoteState
from codechunk.providers.gemini.facts import KEY_VARIABLES

# How much of the provider's own words goes into a message, in characters.
MOST_WORDS = 300

_STATES: Mapping[str, RemoteState] = {state: state for state in get_args(RemoteState) if state != "unknown"}
# Codes of google.rpc in the `error` of an operation that ended.
_CANCELLED_CODE = 1
# 4xx that say nothing about the request itself: it timed out, came too early, or a hop on the way gave up.
_REPEATABLE_4XX = frozenset({408, 425, 499})
_KEY_REASONS = re.compile(r"API_KEY_|SERVICE_DISABLED|CONSUMER_|BILLING_|ACCESS_TOKEN_")
_KEY_WORDS = re.compile(r"(?i)API key (not valid|expired|not found)")
# Refusals with status FAILED_PRECONDITION: of an account, and of a file that is still being taken in.
_ACCOUNT_WORDS = re.compile(r"(?i)\b(billing|location|region|country|free tier)\b")
_NOT_YET_WORDS = re.compile(r"(?i)not in an ACTIVE state")
# 403 is also how a file that is gone, or somebody else's, is refused.
_NO_FILE_WORDS = re.compile(r"(?i)access the file|may not exist")


class UnreadableReply(ValueError):
    """A reply that is JSON but not what it should be; the message says why, in one clause."""


def words(text: object) -> str:
    """The provider's own words for a message: one line, at most 300 characters, no secrets."""
    line = mask_secrets(storable(" ".join(str(text).split())))
    return line if len(line) <= MOST_WORDS else f"{line[: MOST_WORDS - 1]}…"


# ---------------------------------------------------------------------- jobs and files


def remote_job(operation: Mapping[str, Any], headers: Mapping[str, str]) -> RemoteJob:
    """A long-running operation as a job. `headers` of the reply, names in lower case, tell the provider's time.

    Raises:
        UnreadableReply: when it has no name, or a field is of another type than it should be.
    """
    metadata = _object(operation, "metadata")
    name = _text(operation, "name") or _text(metadata, "name")
    if name is None:
        raise UnreadableReply("the job has no name")
    error, stats = _object(operation, "error"), _object(metadata, "batchStats")
    state_name = _text(metadata, "state") or ""
    created = _seconds(_text(metadata, "createTime"))
    now = _date(headers.get("date"))
    model = _text(metadata, "model")
    return RemoteJob(
        name=name,
        display_name=_text(metadata, "displayName"),
        model=None if model is None else model.removeprefix("models/"),
        state=_state(state_name, operation, error),
        state_name=state_name,
        result_file=_text(_object(metadata, "output"), "responsesFile")
        or _text(_object(operation, "response"), "responsesFile"),
        error=words(f"{error.get('message') or 'no reason given'} (code {error.get('code')})") if error else None,
        created_at=created,
        age_s=None if created is None or now is None else max(0.0, now - created),
        rows=_count(stats, "requestCount") if stats else None,
        rows_succeeded=_count(stats, "successfulRequestCount") if stats else None,
        rows_failed=_count(stats, "failedRequestCount") if stats else None,
    )


def remote_file(file: Mapping[str, Any]) -> RemoteFile:
    """A file of the provider's store. Raises UnreadableReply as `remote_job` does."""
    name = _text(file, "name")
    if name is None:
        raise UnreadableReply("the file has no name")
    return RemoteFile(
        name=name,
        display_name=_text(file, "displayName"),
        size_bytes=_count(file, "sizeBytes") if file.get("sizeBytes") is not None else None,
        sha256=_sha256(_text(file, "sha256Hash")),
        expires_at=_seconds(_text(file, "expirationTime")),
        active=_text(file, "state") == "ACTIVE",
    )


def _state(state_name: str, operation: Mapping[str, Any], error: Mapping[str, Any]) -> RemoteState:
    name = state_name.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_").lower()
    state = _STATES.get(name)
    if state in REMOTE_ENDS or (state is None and name not in {"", "unspecified"}):
        return state or "unknown"
    # Where the state is missing, or behind, the operation itself says whether it is over.
    if error:
        return "cancelled" if error.get("code") == _CANCELLED_CODE else "failed"
    if operation.get("done") is True:
        return "succeeded"
    return state or "unknown"


def _sha256(encoded: str | None) -> str | None:
    """Plain hex. The wire has the base64 of the hex digits; the base64 of the hash itself is understood too."""
    try:
        decoded = base64.b64decode(encoded or "", validate=True)
    except binascii.Error:
        return None
    if re.fullmatch(rb"[0-9a-fA-F]{64}", decoded):
        return decoded.decode().lower()
    return decoded.hex() if len(decoded) == 32 else None


def _object(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableReply(f"its {key} is not an object")
    return value


def _text(holder: Mapping[str, Any], key: str) -> str | None:
    value = holder.get(key)
    if value is not None and not isinstance(value, str):
        raise UnreadableReply(f"its {key} is not a text")
    return storable(value) if value else None


def _count(holder: Mapping[str, Any], key: str) -> int:
    """A number that is a text on the wire, and left out when it is 0."""
    value = holder.get(key, 0)
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as exc:
        raise UnreadableReply(f"its {key} is not a number") from exc


def _seconds(timestamp: str | None) -> float | None:
    """RFC 3339 as seconds since 1970; None when it is missing or cannot be read, which costs only an age."""
    try:
        return None if timestamp is None else datetime.fromisoformat(timestamp).timestamp()
    except ValueError:
        return None


def _date(header: str | None) -> float | None:
    try:
        return None if header is None else parsedate_to_datetime(header).timestamp()
    except ValueError:
        return None


# ---------------------------------------------------------------------- refusals


def refusal(code: int, body: object, headers: Mapping[str, str], doing: str) -> ProviderError:
    """The error for a reply whose status is not 200.

    Args:
        body: the JSON of the reply; for another body the SDK makes `{"message": ..., "status": ...}` of it.
        headers: of the reply, names in lower case.
        doing: what was tried, like "embedding 3 texts".
    """
    error = body if isinstance(body, dict) else {}
    if isinstance(error.get("error"), dict):
        error = error["error"]
    status, message = str(error.get("status") or ""), str(error.get("message") or "")
    details = [detail for detail in _list(error.get("details")) if isinstance(detail, dict)]
    said = words(f"{code} {status}".strip() + (f": {message}" if message else ""))
    if code == 429:
        return RateLimited(
            f"Gemini refused for now, a quota is used up: {doing} ({said}).",
            retry_after_s=_retry_after(details, headers),
        )
    if code in _REPEATABLE_4XX or not 400 <= code < 500:
        return Unavailable(f"Gemini failed when {doing} ({said}).")
    if code == 407:
        return Denied(f"A proxy on the way to Gemini wants a password ({said}); check HTTPS_PROXY.")
    if code == 403 and _NO_FILE_WORDS.search(message):
        return Missing(f"Gemini does not have the file, or not for this key: {doing} ({said}).")
    if code in {401, 403} or _is_about_the_key(message, details):
        return Denied(f"Gemini refused the key when {doing} ({said}); check {KEY_VARIABLES[0]}.")
    if code == 404:
        return Missing(f"Gemini does not know it: {doing} ({said}).")
    if status == "FAILED_PRECONDITION" and _ACCOUNT_WORDS.search(message):
        return Denied(
            f"Gemini does not serve this account when {doing} ({said}); check its billing and {KEY_VARIABLES[0]}."
        )
    if _NOT_YET_WORDS.search(message):
        return Unavailable(f"Gemini is not ready for {doing} ({said}).")
    return Rejected(f"Gemini refused the request: {doing} ({said}).")


def _is_about_the_key(message: str, details: list[dict[str, Any]]) -> bool:
    reasons = (str(detail.get("reason") or "") for detail in details)
    return bool(_KEY_WORDS.search(message)) or any(_KEY_REASONS.match(reason) for reason in reasons)


def _retry_after(details: list[dict[str, Any]], headers: Mapping[str, str]) -> float | None:
    """Seconds: of RetryInfo, else of the header Retry-After (seconds, or a date by the provider's clock)."""
    for delay in _delays(details):
        return delay
    header = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}", header):
        return float(header)
    then, now = _date(header or None), _date(headers.get("date"))
    return None if then is None or now is None else max(0.0, then - now)


def _delays(details: list[dict[str, Any]]) -> Iterator[float]:
    for detail in details:
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and (found := re.fullmatch(r"(\d{1,9}(?:\.\d+)?)s", delay)):
            yield float(found[1])


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
