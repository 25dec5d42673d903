"""A provider in a page, as another package would bring it: vectors of the letters of a text, batch jobs in memory."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from codechunk.errors import Denied, Missing, Rejected
from codechunk.providers import BatchLimits, BatchResult, ClientSettings, Embedded, Model, Provider
from codechunk.providers.batch_words import RemoteFile, RemoteJob
from codechunk.providers.pricing import Price
from codechunk.providers.vector import BadVector, unit_vector

DIMENSIONS = 64
REFUSED = "REFUSE-ME"
PRICE = Price(direct=2.0, batch=1.0, as_of=date(2026, 1, 1))


class Tiny:
    title = "Tiny"

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._files: dict[str, bytes] = {}
        self._jobs: dict[str, RemoteJob] = {}

    def embed(self, texts: Sequence[str]) -> Embedded:
        if self._settings.api_key != "tiny-key":
            raise Denied("Tiny refused the key; check TINY_API_KEY.")
        if not 0 < len(texts) <= PROVIDER.texts_per_call:
            raise ValueError(f"1 to {PROVIDER.texts_per_call} texts a call, not {len(texts)}")
        if any(REFUSED in text for text in texts):
            raise Rejected("Tiny does not take one of the texts.")
        return Embedded(vectors=np.stack([self._vector(text) for text in texts]), tokens=sum(map(len, texts)))

    def embed_query(self, text: str) -> np.ndarray:
        return self.embed([text]).vectors[0]

    def close(self) -> None:
        pass

    def _vector(self, text: str) -> np.ndarray:
        """How often each pair of letters occurs, in 64 places."""
        data = text.lower().encode("utf-8", "surrogatepass") + b"\n"
        places = [(31 * first + second) % DIMENSIONS for first, second in zip(data, data[1:] + b" ", strict=True)]
        return unit_vector(np.bincount(places, minlength=DIMENSIONS), DIMENSIONS)

    # ---- batch jobs

    def write_line(self, key: str, text: str) -> bytes:
        return json.dumps([key, text]).encode() + b"\n"

    def upload(self, path: Path, *, display_name: str) -> RemoteFile:
        self._files[f"file-{display_name}"] = path.read_bytes()
        return self.files_named(display_name)[0]

    def files_named(self, display_name: str) -> list[RemoteFile]:
        data = self._files.get(name := f"file-{display_name}")
        sha = hashlib.sha256(data or b"").hexdigest()
        found = RemoteFile(name=name, display_name=display_name, size_bytes=len(data or b""), sha256=sha,
                           expires_at=None, active=True)  # fmt: skip
        return [] if data is None else [found]

    def delete_file(self, name: str) -> None:
        self._files.pop(name, None)

    def create_batch(self, file_name: str, *, display_name: str, priority: int = 0) -> RemoteJob:
        if file_name not in self._files:
            raise Missing(f"Tiny has no file {file_name}.")
        results = f"results-{display_name}"
        self._files[results] = b"".join(map(self._answer, self._files[file_name].splitlines()))
        name = f"job-{len(self._jobs)}"
        self._jobs[name] = RemoteJob(
            name=name, display_name=display_name, model="tiny-1", state="running", state_name="RUNNING",
            result_file=results, error=None, created_at=time.time(), age_s=0.0,
        )  # fmt: skip
        return self._jobs[name]

    def _answer(self, line: bytes) -> bytes:
        key, text = json.loads(line)
        row = {"error": "refused"} if REFUSED in text else {"vector": self._vector(text).tolist(), "tokens": len(text)}
        return json.dumps({"key": key, **row}).encode() + b"\n"

    def batch(self, name: str) -> RemoteJob:
        if name not in self._jobs:
            raise Missing(f"Tiny has no job {name}.")
        if self._jobs[name].state == "running":  # looked at once, it has ended
            self._end(name, "succeeded")
        return self._jobs[name]

    def _end(self, name: str, state: str) -> None:
        job = self._jobs[name]
        fields = {slot: getattr(job, slot) for slot in RemoteJob.__slots__}
        self._jobs[name] = RemoteJob(**{**fields, "state": state, "state_name": state.upper()})

    def batches(self) -> Iterator[RemoteJob]:
        yield from list(self._jobs.values())

    def cancel_batch(self, name: str) -> None:
        if name not in self._jobs:
            raise Missing(f"Tiny has no job {name}.")
        if not self._jobs[name].ended:
            self._end(name, "cancelled")

    def delete_batch(self, name: str) -> None:
        self._jobs.pop(name, None)

    def download(self, file_name: str, target: Path) -> None:
        if file_name not in self._files:
            raise Missing(f"Tiny has no file {file_name}.")
        target.write_bytes(self._files[file_name])

    def read_results(self, path: Path) -> Iterator[BatchResult]:
        for line in filter(bytes.strip, path.read_bytes().splitlines()):
            yield self._row(line)

    def _row(self, line: bytes) -> BatchResult:
        try:
            row = json.loads(line)
            key = str(row["key"])
        except (ValueError, TypeError, KeyError):
            return BatchResult(key=None, error="the line is no result")
        try:
            vector = unit_vector(row.get("vector") or (), DIMENSIONS)
        except BadVector as exc:
            return BatchResult(key=key, error=row.get("error") or str(exc))
        return BatchResult(key=key, vector=vector, tokens=row.get("tokens"))


PROVIDER = Provider(
    name="tiny",
    title="Tiny",
    open=Tiny,
    operator="Tiny Corp",
    key_variables=("TINY_API_KEY",),
    fixed_model="tiny-1",
    models={"tiny-1": Model(input_tokens=4096, dimensions=DIMENSIONS, price=PRICE)},
    texts_per_call=16,
    batch=BatchLimits(texts=100),
)
