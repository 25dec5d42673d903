"""What the service does, without HTTP: embeds, makes jobs, ends them, and keeps the ledger of what was sold."""

import base64
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from emulator.faults import ENDINGS, JOB, Chance, Faults
from emulator.files import Files
from emulator.jobs import ERRORS, Job
from emulator.results import write_result
from emulator.values import INPUT_TOKENS, MODELS, rendered, tokens_of
from emulator.wire import (
    ApiError,
    Json,
    Reply,
    Row,
    batch_lines,
    embed_request,
    identifier,
    no_file,
    parse_object,
    pick,
    quota_full,
    rate_limited,
    refuse,
    reply,
    text_of,
)

T = TypeVar("T")
MAX_REQUESTS = 100
MAX_INLINE_BYTES = 20 * 1024**2


class Service:
    """The state of the emulated service. Every method may be called by many threads.

    A job's lock may be held while the ledger's is taken, never the other way round; nobody sleeps under either.
    """

    def __init__(self, folder: Path, *, key: str, seed: int, faults: Faults) -> None:
        self.key = key
        self.faults = faults
        self.chance = Chance(seed)
        self.files = Files(folder, self.now)
        self.jobs: dict[str, Job] = {}
        self.paid: Counter[str] = Counter()
        self.paid_by: dict[str, list[str]] = {}
        self.lost: Counter[str] = Counter()
        self.lock = threading.Lock()
        self._seed = seed
        self._numbers = itertools.count(1)
        self._items: deque[tuple[float, int]] = deque()

    def now(self) -> float:
        """Seconds since 1970 by the emulator's own clock."""
        return time.time() + self.faults.clock_offset_s

    # ---- direct ----

    def _model(self, name: str, version: str, method: str) -> str:
        if name not in MODELS:
            raise ApiError(
                404, f"models/{name} is not found for API version {version}, or is not supported for {method}."
            )
        return name

    def _meter(self, items: int) -> None:
        """The quota per minute counts texts, not calls."""
        most = self.faults.items_per_minute
        if most is None:
            return
        now = time.monotonic()
        with self.lock:
            while self._items and self._items[0][0] <= now - self.faults.minute_s:
                self._items.popleft()
            if sum(count for _, count in self._items) + items > most:
                oldest = self._items[0][0] if self._items else now
                raise rate_limited(f"{max(0.001, oldest + self.faults.minute_s - now):.3f}s")
            self._items.append((now, items))

    def embed(self, name: str, version: str, body: bytes, fault: str | None) -> Reply:
        """batchEmbedContents: vectors in the order of the requests; all or nothing."""
        model = self._model(name, version, "batchEmbedContents")
        requests = pick(parse_object(body), "requests").get("requests", [])
        if len(requests) > MAX_REQUESTS:
            refuse("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch")
        rows = [embed_request(value, model, f"requests[{place}]") for place, value in enumerate(requests)]
        if not rows:
            refuse("* BatchEmbedContentsRequest.requests: must not be empty")
        values = self._sell(rows, model, fault)
        tokens = sum(min(tokens_of(row.text), INPUT_TOKENS[model]) for row in rows)
        usage = f'{{"promptTokenCount":{tokens},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{tokens}}}]}}'
        vectors = ",".join(f'{{"values":[{numbers}]}}' for numbers in values)
        text = f'{{"embeddings":[{vectors}],"usageMetadata":{usage}}}\n'
        return Reply(body=text.encode(), sold=[] if fault in _SPOILS else [row.text for row in rows])

    def embed_one(self, name: str, version: str, body: bytes, fault: str | None) -> Reply:
        """embedContent: one text."""
        model = self._model(name, version, "embedContent")
        row = embed_request(parse_object(body), model, "request")
        [numbers, *_] = self._sell([row], model, fault) or [""]
        text = f'{{"embedding":{{"values":[{numbers}]}}}}\n'
        return Reply(body=text.encode(), sold=[] if fault in _SPOILS else [row.text])

    def _sell(self, rows: Sequence[Row], model: str, fault: str | None) -> list[str]:
        self._meter(len(rows))
        for row in rows:
            if any(word in row.text for word in self.faults.poison):
                refuse("Request contains an invalid argument.")
            if self.faults.reject_overlong and tokens_of(row.text) > INPUT_TOKENS[model]:
                refuse("The input token count exceeds the maximum number of tokens allowed.")
        values = [rendered(row.text, row.dimensions, model) for row in rows]
        if fault not in _SPOILS:
            self._book([row.text for row in rows], "direct")
            return values
        last = values[-1]
        spoilt = {
            "bad_vectors": "NaN," + last.partition(",")[2],
            "zero_vector": ",".join(["0"] * rows[-1].dimensions),
            "wrong_dimension": last.partition(",")[2],
        }
        return values[:-1] if fault == "wrong_count" else [*values[:-1], spoilt[str(fault)]]

    def count_tokens(self, name: str, version: str, body: bytes) -> Reply:
        """countTokens."""
        self._model(name, version, "countTokens")
        contents = pick(parse_object(body), "contents").get("contents", [])
        total = sum(tokens_of(text_of(content, f"contents[{place}]")) for place, content in enumerate(contents))
        return reply({"totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}]})

    def _book(self, texts: Sequence[str], seller: str) -> None:
        with self.lock:
            self.paid.update(texts)
            for text in texts:
                self.paid_by.setdefault(text, []).append(seller)

    def book_lost(self, texts: Sequence[str]) -> None:
        """Note that these were sold directly and the client could not hear of it."""
        with self.lock:
            self.lost.update(texts)

    # ---- jobs ----

    def create(self, name: str, version: str, body: bytes) -> Reply:
        """asyncBatchEmbedContent. Not idempotent: the same request makes another job."""
        model = self._model(name, version, "asyncBatchEmbedContent")
        batch = pick(parse_object(body), "batch").get("batch", {})
        batch = pick(batch, "inputConfig", "displayName", "priority", "model", "name", where="batch")
        source = pick(batch.get("inputConfig", {}), "fileName", "requests", where="batch.input_config")
        if len(source) != 1:
            refuse("* EmbedContentBatch.input_config: exactly one of file_name and requests must be set")
        input_file = source.get("fileName")
        rows = self._rows_of_file(input_file, model) if input_file else self._inlined(source, model, len(body))
        rows = [row._replace(tokens=tokens_of(row.text)) for row in rows]
        self.end_due()
        with self.lock:
            self._check_queue(sum(row.tokens for row in rows))
            number = next(self._numbers)
            job = Job(
                name=f"batches/{identifier(f'job {self._seed} {number}', 36)}",
                model=model,
                display_name=batch.get("displayName"),
                rows=rows,
                created=self.now(),
                number=number,
                input_file=input_file,
                priority=int(batch.get("priority", 0)),
            )
            self.jobs[job.name] = job
        job.refresh(self.faults)
        return reply(job.resource())

    def _rows_of_file(self, name: str, model: str) -> list[Row]:
        try:
            return batch_lines(self.files.get(name).path, model)
        except (FileNotFoundError, ApiError) as exc:
            if isinstance(exc, ApiError) and exc.status != 403:
                raise
            words = str(no_file(name))
            raise ApiError(self.faults.missing_input_status, words) from exc

    def _inlined(self, source: Json, model: str, size_bytes: int) -> list[Row]:
        if size_bytes > MAX_INLINE_BYTES:
            refuse("Request payload size exceeds the limit: 20971520 bytes.")
        requests = source["requests"].get("requests", [])
        if not requests:
            refuse("* EmbedContentBatch.input_config.requests: must not be empty")
        return [
            embed_request(pick(value, "request", "metadata").get("request"), model, f"requests[{place}].request")
            for place, value in enumerate(requests)
        ]

    def _check_queue(self, tokens: int) -> None:
        live = [job for job in self.jobs.values() if job.live]
        cap = self.faults.enqueued_token_cap
        if cap is not None and tokens + sum(job.tokens for job in live) > cap:
            raise quota_full()
        if self.faults.active_job_cap is not None and len(live) >= self.faults.active_job_cap:
            raise quota_full()

    def end_due(self) -> None:
        """End the jobs whose time has come."""
        with self.lock:
            jobs = list(self.jobs.values())
        for job in jobs:
            self._advance(job, polled=False)

    def _advance(self, job: Job, *, polled: bool) -> None:
        with job.lock:
            if job.is_due(self.faults, polled=polled):
                self.end(job)
            job.refresh(self.faults)

    def end(self, job: Job, state: str | None = None, error: Json | None = None) -> None:
        """End a live job: as chance wants it, or in the given state. What it delivers is sold here, once."""
        with job.lock:
            if not job.live:
                return
            fault = self.chance.draw(self.faults, JOB) if state is None else _FAULT_OF.get(state)
            if fault == "vanished":
                job.vanished = True
                job.ended_at = self.now()
                return
            job.state = state or ENDINGS.get(fault or "", "BATCH_STATE_SUCCEEDED")
            job.error = error or ERRORS.get(job.state)
            if job.error:
                job.failed = len(job.rows) if job.state == "BATCH_STATE_FAILED" else 0
            else:
                self._deliver(job, fault)
            job.ended_at = self.now()

    def _deliver(self, job: Job, fault: str | None) -> None:
        result = write_result(
            self.files.next_path(), job.rows, job.model, fault, faults=self.faults, chance=self.chance
        )
        job.succeeded, job.failed = result.succeeded, result.failed
        if job.input_file is None:
            job.inline_result = result.path
        else:
            job.result_file = f"files/batch-{job.name.removeprefix('batches/')}"
            if fault == "no_result_file":
                result.path.unlink()
                return
            self.files.keep_result(job.result_file, result.path, result.size_bytes, result.sha256)
        self._book(result.sold, job.name)

    def _find(self, name: str) -> Job:
        with self.lock:
            job = self.jobs.get(name)
        if job is None or job.deleted or job.vanished:
            raise ApiError(404, "Requested entity was not found.")
        return job

    def get_batch(self, name: str) -> Reply:
        """A job by name; without a duration (job_seconds 0) asking ends it."""
        job = self._find(name)
        self._advance(job, polled=True)
        self._find(name)
        return reply(job.resource())

    def list_batches(self, query: dict[str, str]) -> Reply:
        """Jobs, newest first, without inlined results; the newest may not be there yet."""
        self.end_due()
        seen_until = self.now() - self.faults.list_lag_s
        with self.lock:
            shown = [job for job in self.jobs.values() if not job.deleted and not job.vanished]
        shown = sorted((job for job in shown if job.created <= seen_until), key=lambda job: -job.number)
        page, token = self._page([(job.number, job) for job in shown], query, 100)
        found: Json = {"operations": [job.resource(with_inlined=False) for job in page]} if page else {}
        return reply({**found, "nextPageToken": token} if token else found)

    def list_files(self, query: dict[str, str]) -> Reply:
        """Files, newest first."""
        shown = [(file.number, file) for file in self.files.newest_first()]
        page, token = self._page(shown, query, 10)
        found: Json = {"files": [file.resource(self.files.url) for file in page]} if page else {}
        return reply({**found, "nextPageToken": token} if token else found)

    def _page(self, shown: list[tuple[int, T]], query: dict[str, str], usual: int) -> tuple[list[T], str]:
        """One page after the token, which names the last number seen, so that new arrivals do not shift the pages."""
        size = int(query.get("pageSize") or usual)
        if size < 0:
            refuse("page_size must not be negative")
        size = min(size or usual, 1000, self.faults.page_size_max or 1000)
        if query.get("pageToken"):
            try:
                last = int(base64.b64decode(query["pageToken"]).decode())
            except ValueError:
                refuse("Invalid page token")
            shown = [(number, item) for number, item in shown if number < last]
        page = shown[:size]
        token = base64.b64encode(str(page[-1][0]).encode()).decode() if len(shown) > size else ""
        return [item for _, item in page], token

    def cancel(self, name: str) -> Reply:
        """Best effort: a job that ended cannot be cancelled, and one may go on all the same."""
        job = self._find(name)
        with job.lock:
            self._advance(job, polled=False)
            if job.ended:
                raise ApiError(400, "Operation is already done and cannot be cancelled.", name="FAILED_PRECONDITION")
            if not self.faults.cancel_ignored:
                self.end(job, "BATCH_STATE_CANCELLED")
        return reply({})

    def delete_batch(self, name: str) -> Reply:
        """Takes the job out of sight. Does not cancel it: a live one goes on, and is sold."""
        job = self._find(name)
        with job.lock:
            job.deleted = True
            if self.faults.job_seconds <= 0 and not self.faults.stuck:
                self.end(job)
        return reply({})


_SPOILS = {"bad_vectors", "zero_vector", "wrong_dimension", "wrong_count"}
_FAULT_OF = {"BATCH_STATE_PARTIALLY_SUCCEEDED": "partially_succeeded"}
