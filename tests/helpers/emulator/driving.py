"""Driving the emulator in its own tests: through the real SDK, and raw where the SDK drops fields."""

import json
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from gemini_emulator import GeminiEmulator
from google import genai
from google.genai import types

from emulator.values import vector_of

ONE, TWO = "gemini-embedding-001", "gemini-embedding-2"
DIMENSIONS = 16


def client_of(emulator: GeminiEmulator, **options: Any) -> genai.Client:
    http_options = types.HttpOptions(base_url=emulator.url, timeout=options.pop("timeout", 10_000), **options)
    return genai.Client(api_key=emulator.key, http_options=http_options)


def raw(
    emulator: GeminiEmulator, path: str, body: Any = None, *, method: str | None = None, key: str = "test-key"
) -> Any:
    """The JSON of a reply without the SDK; raises HTTPError for all but 200."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{emulator.url}/{path}", data, {"x-goog-api-key": key}, method=method)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.loads(reply.read())


def refusal(error: pytest.ExceptionInfo[urllib.error.HTTPError]) -> dict[str, Any]:
    """The `error` of the body of a refusal."""
    with error.value as reply:
        found: dict[str, Any] = json.loads(reply.read())["error"]
    return found


def line(key: str, text: str, **fields: Any) -> str:
    request = {"content": {"parts": [{"text": text}]}, "outputDimensionality": DIMENSIONS, **fields}
    return json.dumps({"key": key, "request": request}) + "\n"


def upload(client: genai.Client, path: Path, lines: list[str], name: str = "in") -> types.File:
    path.write_text("".join(lines))
    return client.files.upload(file=path, config={"display_name": name, "mime_type": "application/jsonl"})


def submit(client: genai.Client, tmp_path: Path, texts: list[str], name: str = "job") -> str:
    """Make a job of these texts, with keys k0, k1 ...; its name."""
    file = upload(client, tmp_path / "in.jsonl", [line(f"k{n}", text) for n, text in enumerate(texts)])
    made = client.batches.create_embeddings(model=ONE, src={"file_name": file.name}, config={"display_name": name})
    assert made.name
    return made.name


def vectors_in(result: bytes, texts: list[str]) -> Counter[str]:
    """What a careful reader gets out of a result file: each text of which a good vector came under its key."""
    keys = {f"k{n}": text for n, text in enumerate(texts)}
    found: set[str] = set()
    for data in result.splitlines():
        try:
            row = json.loads(data)
        except ValueError:
            continue
        values = row.get("response", {}).get("embedding", {}).get("values")
        key = row.get("key")
        if key in keys and values == vector_of(keys[key], DIMENSIONS):
            found.add(key)
    return Counter(keys[key] for key in found)
