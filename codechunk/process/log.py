"""Logging: lines for people or JSON on stderr, all of it in a rotating file, secrets in neither.

Callers use `logging.getLogger(__name__)` and `log.info("Submitted batch", extra={"batch_id": ...})`; only
this file knows handlers and formats. All it writes goes through `mask_secrets`, tracebacks included.
"""

import base64
import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal, TextIO
from urllib.parse import quote

from codechunk.errors import CodechunkError

MASK = "***"
_FILE_BYTES = 5_000_000
_FILE_BACKUPS = 3
# A shorter value would blank out ordinary words wherever they stand.
_SHORTEST_SECRET = 6

# One pass each, on the finished line. The header patterns stop at a quote or the end of the line.
_PATTERNS = (
    (re.compile(r"AIza[0-9A-Za-z_\-]{10,}"), MASK),
    (
        re.compile(r"(?i)(authorization[\"']?\s*[:=,]\s*(?:b?[\"'])?(?:(?:basic|bearer|token)\s+)?)[^\s\"',}]+"),
        r"\1" + MASK,
    ),
    (re.compile(r"(?i)(x-goog-api-key[\"']?\s*[:=,]\s*(?:b?[\"'])?)[^\s\"',}]+"), r"\1" + MASK),
    (re.compile(r"(://)[^\s/@:\"']*(?::[^\s/@\"']*)?@"), r"\1" + MASK + "@"),
)
# What a LogRecord has by itself; whatever else it carries came in `extra` and is shown as a field.
_RECORD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")

_known_secrets: set[str] = set()
_handlers: list[logging.Handler] = []


def remember_secrets(values: Iterable[str]) -> None:
    """From now on these exact values are masked, also URL-encoded and as the base64 of a Basic header."""
    for value in values:
        if len(value) < _SHORTEST_SECRET:
            continue
        _known_secrets.update({value, quote(value, safe="")})
        for user in ("", "x-access-token:", "oauth2:", "git:"):
            _known_secrets.add(base64.b64encode(f"{user}{value}".encode()).decode())


def mask_secrets(text: str) -> str:
    """The text with known secrets, Google keys, authorization headers and URL passwords replaced by `***`."""
    for secret in sorted(_known_secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def storable(text: str) -> str:
    """Foreign text without what no database takes: zero bytes, and surrogates without their partner."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


def setup(
    *,
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["text", "json"] = "text",
    file: Path | None = None,
    secrets: Iterable[str] = (),
) -> None:
    """Send codechunk's log to stderr from `level` on, and everything to `file` when one is given.

    The file is always written at debug level as JSON lines, readable by its owner only, and rotated at
    5 MB (three old ones kept). Libraries are heard from warning on. Calling it again replaces the former
    setup. Raises CodechunkError when the file cannot be written.
    """
    remember_secrets(secrets)
    for handler in _handlers:
        logging.getLogger().removeHandler(handler)
        handler.close()
    _handlers.clear()
    screen = _StderrHandler()
    screen.setLevel(level.upper())
    screen.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    _handlers.append(screen)
    if file is not None:
        _handlers.append(_open_file(file))
    root = logging.getLogger()
    root.setLevel(logging.WARNING)
    for handler in _handlers:
        root.addHandler(handler)
    logging.getLogger("codechunk").setLevel(logging.DEBUG if file is not None else level.upper())


class TextFormatter(logging.Formatter):
    """`12:30:05 info  Submitted batch  batch_id=7 rows=500`: one line, control characters made visible."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the traceback when there is one."""
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = " ".join(f"{key}={_plain(value)}" for key, value in _fields(record).items())
        line = f"{clock} {record.levelname.lower():<7} {record.getMessage()}" + (f"  {fields}" if fields else "")
        # File names of strange repositories end up here: they must not move the cursor or fake a line.
        line = _CONTROL.sub(lambda match: repr(match.group())[1:-1], line)
        trace = _traceback(self, record)
        return mask_secrets(f"{line}\n{trace}" if trace else line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: the fields, then time (UTC), level, logger, message and traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a field that JSON cannot hold is written as its `str`."""
        entry: dict[str, Any] = {key: _jsonable(value) for key, value in _fields(record).items()}
        entry["time"] = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry["level"] = record.levelname.lower()
        entry["logger"] = record.name
        entry["message"] = mask_secrets(record.getMessage())
        trace = _traceback(self, record)
        if trace:
            entry["exception"] = mask_secrets(trace)
        return json.dumps(entry, ensure_ascii=False)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at that moment: progress bars put a proxy there to keep lines apart."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line to the stderr of now."""
        self.stream = sys.stderr
        super().emit(record)


class _PrivateFileHandler(RotatingFileHandler):
    """A rotating file that only its owner can read, and that gives up with one sentence on a full disk."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.fchmod(descriptor, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        """Stop writing the file after an operating system error; a bug in a log call still shows itself."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logging.getLogger().removeHandler(self)
        sys.stderr.write(f"codechunk: the log file {self.baseFilename} cannot be written any more: {error.strerror}\n")


def _open_file(file: Path) -> logging.Handler:
    try:
        file.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        handler = _PrivateFileHandler(file, maxBytes=_FILE_BYTES, backupCount=_FILE_BACKUPS)
    except OSError as exc:
        raise CodechunkError(
            f"The log file {file} cannot be written ({exc.strerror}): "
            "make room on the disk or choose another --data-dir."
        ) from exc
    handler.setLevel(logging.DEBUG)
    handler.setFormatter(JsonFormatter())
    return handler


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _RECORD_ATTRIBUTES}


def _plain(value: object) -> str:
    # Masked before quoting changes how a secret looks.
    text = mask_secrets(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r"[\s\"=]", text) else text


def _jsonable(value: object) -> Any:
    """The value for JSON, strings in it masked before quoting changes how a secret looks."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item) for item in value]
    return mask_secrets(str(value))


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)
