"""The result file of a job: one line per row, and all that can be wrong with it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emulator.faults import Chance, Faults
from emulator.values import INPUT_TOKENS, rendered
from emulator.wire import Row

_BAD_VECTORS = {"nan", "infinite", "zero", "wrong_dimension", "empty_vector"}
_ROW_FAULTS = {"row_errors", "row_errors_nested", "keys_swapped", "keys_missing", "rows_dropped", "rows_duplicated"}


@dataclass
class Result:
    """What was written, and what of it was sold: each text once per row that has its good vector."""

    path: Path
    size_bytes: int = 0
    sha256: str = ""
    sold: list[str] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0


@dataclass(frozen=True)
class _Plan:
    """Which rows are hit by what, by place."""

    fault: str | None
    hit: set[int]
    order: list[int]
    refused: dict[int, str]
    swapped: dict[int, int]


def _plan(rows: list[Row], model: str, fault: str | None, faults: Faults, chance: Chance) -> _Plan:
    refused = {}
    for place, row in enumerate(rows):
        if any(word in row.text for word in faults.poison):
            refused[place] = "Request contains an invalid argument."
        elif faults.reject_overlong and row.tokens > INPUT_TOKENS[model]:
            refused[place] = "The input token count exceeds the maximum number of tokens allowed."
    places = [place for place in range(len(rows)) if place not in refused]
    hit: set[int] = set()
    if fault in _BAD_VECTORS | _ROW_FAULTS or fault == "partially_succeeded":
        hit = chance.some(places, faults.row_share)
    elif fault == "all_rows_failed":
        hit = set(places)
    order = list(range(len(rows)))
    if fault == "rows_shuffled":
        order = chance.shuffled(order)
    swapped = {}
    if fault == "keys_swapped":
        # At least two, in a ring.
        ring = sorted(hit | set(places[:2])) if len(hit) < 2 else sorted(hit)
        swapped = dict(zip(ring, ring[1:] + ring[:1], strict=True)) if len(ring) > 1 else {}
    elif faults.late_rows_key_swap:
        late = places[len(places) // 2 :]
        swapped = dict(zip(late, late[1:] + late[:1], strict=True)) if len(late) > 1 else {}
    return _Plan(fault, hit, order, refused, swapped)


def _values(row: Row, model: str, spoilt: str | None, place: int) -> str:
    numbers = rendered(row.text, row.dimensions, model)
    if spoilt is None:
        return numbers
    _, _, rest = numbers.partition(",")
    if spoilt == "nan":
        # Both spellings are in the world: of Python and JavaScript, and of proto3.
        return f"NaN,{rest}" if place % 2 else f'"NaN",{rest}'
    if spoilt == "infinite":
        return f"Infinity,{rest}" if place % 2 else f'"-Infinity",{rest}'
    if spoilt == "zero":
        return ",".join(["0"] * row.dimensions)
    return rest if spoilt == "wrong_dimension" else ""


def _error_line(row: Row, code: int, message: str, *, nested: bool) -> bytes:
    error = {"code": code, "message": message}
    body: dict[str, object] = {"response": {"error": error}} if nested else {"error": error}
    return json.dumps({"key": row.key, **body} if row.key is not None else body).encode() + b"\n"


def _good_line(key: str | None, tokens: int, values: str, *, key_first: bool) -> bytes:
    response = f'"response":{{"tokenCount":"{tokens}","embedding":{{"values":[{values}]}}}}'
    if key is None:
        return f"{{{response}}}\n".encode()
    named = f'"key":{json.dumps(key)}'
    return (f"{{{named},{response}}}\n" if key_first else f"{{{response},{named}}}\n").encode()


def _lines(rows: list[Row], model: str, plan: _Plan, result: Result) -> Iterator[bytes]:
    """The lines in order; notes in `result` what was sold."""
    spoilt = plan.fault if plan.fault in _BAD_VECTORS else None
    fault = plan.fault
    for place in plan.order:
        row = rows[place]
        is_hit = place in plan.hit
        if place in plan.refused:
            result.failed += 1
            yield _error_line(row, 3, plan.refused[place], nested=False)
            continue
        if is_hit and fault in {"row_errors", "row_errors_nested", "all_rows_failed"}:
            result.failed += 1
            code, message = (3, "Request contains an invalid argument.") if place % 4 == 3 else (13, "Internal error.")
            yield _error_line(row, code, message, nested=fault == "row_errors_nested")
            continue
        if is_hit and fault == "partially_succeeded":
            result.failed += 1
            continue
        # The service believes in these, so its statistics count them.
        result.succeeded += 1
        if is_hit and fault == "rows_dropped":
            continue
        key = rows[plan.swapped[place]].key if place in plan.swapped else row.key
        if is_hit and fault == "keys_missing":
            key = None
        values = _values(row, model, spoilt if is_hit else None, place)
        tokens = min(row.tokens, INPUT_TOKENS[model])
        line = _good_line(key, tokens, values, key_first=place % 3 == 1)
        if place not in plan.swapped and not (is_hit and fault in _BAD_VECTORS | {"keys_missing"}):
            result.sold.append(row.text)
        yield line
        if is_hit and fault == "rows_duplicated":
            yield line
        if fault == "blank_lines":
            yield b"\n"
        elif fault == "garbage_lines" and place % 3 == 0:
            yield b'{"response": {"tokenCou\n' if place % 2 else b"\x00\xff not JSON\n"


def _extra_lines(rows: list[Row], model: str, fault: str | None) -> Iterator[bytes]:
    if fault != "unknown_keys":
        return
    for number in range(max(1, len(rows) // 10)):
        values = rendered(f"foreign {number}", rows[0].dimensions, model)
        yield _good_line(f"chunk_{number:032x}", 7, values, key_first=True)
    yield _good_line("somebody else's", 7, rendered("foreign", rows[0].dimensions, model), key_first=False)


def write_result(
    path: Path, rows: list[Row], model: str, fault: str | None, *, faults: Faults, chance: Chance
) -> Result:
    """Write the file as one stream and tell what it sells. `fault`: what is wrong with this job, None: nothing."""
    result = Result(path)
    plan = _plan(rows, model, fault, faults, chance)
    digest = hashlib.sha256()
    held, held_from, sold = b"", 0, 0
    with path.open("wb", buffering=1 << 20) as file:

        def put(data: bytes) -> None:
            file.write(data)
            digest.update(data)
            result.size_bytes += len(data)

        for line in _extra_lines(rows, model, fault):
            put(line)
        # One line is held back, because the last one may be cut.
        for line in _lines(rows, model, plan, result):
            put(held)
            held, held_from, sold = line, sold, len(result.sold)
        if fault == "truncated_line":
            held = held[: len(held) * 2 // 3]
            del result.sold[held_from:]
        put(held)
    result.sha256 = digest.hexdigest()
    return result
