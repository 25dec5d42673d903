"""Gemini's Developer API through the official SDK: embeddings, files, batch jobs. Nobody else imports the SDK.

Nothing is tried twice here, and every failure leaves as one of the errors in `errors.py`. What the SDK would hide is
read from the raw replies: its own job type drops the error and the row counts, and fails on structured details.
"""

import json
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
from numpy.typing import NDArray

from codechunk.errors import CodechunkError, Denied, Missing, ProviderError, Rejected, Unavailable
from codechunk.process.closing import Closing
from codechunk.process.log import remember_secrets
from codechunk.providers.batch_words import RemoteFile, RemoteJob
from codechunk.providers.contract import BatchResult, Embedded
from codechunk.providers.gemini.facts import KEY_VARIABLES, MOST_TEXTS
from codechunk.providers.gemini.form import Form
from codechunk.providers.gemini.replies import UnreadableReply, refusal, remote_file, remote_job, words
from codechunk.providers.gemini.result_file import read_rows
from codechunk.providers.vector import BadVector

if TYPE_CHECKING:  # imported late: the SDK takes one to three seconds
    import httpx2
    from google import genai

# Written out, so that neither GOOGLE_GEMINI_BASE_URL nor a new version of the SDK sends code somewhere else.
ADDRESS = "https://generativelanguage.googleapis.com"
PAGE_SIZE = 100
JSONL = "application/jsonl"
Vectors = NDArray[np.float32]


class Gemini(Closing):
    """One account at one address. May be used by up to 64 threads at once; close it, or use it in a `with`.

    Every call raises the errors of `errors.py`: Denied, RateLimited, Rejected, Missing or Unavailable.
    """

    title = "Gemini"

    def __init__(
        self,
        *,
        api_key: str,
        form: Form,
        base_url: str | None = None,
        api_version: str | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        """Connects to nothing yet.

        Args:
            form: model, dimensions and task of what `embed` and `create_batch` make.
            base_url: of a gateway or an emulator; None is Google's. With a path in it, the gateway must answer
                with upload addresses (`x-goog-upload-url`) that have the path too.
            api_version: like `v1beta`; None is the SDK's choice.
            timeout_s: for connecting, and for each wait for bytes; see `gemini_http`.

        Raises:
            Denied: when the key cannot be a key.
        """
        # Such a key would fail in the header, where it is quoted in the message.
        if not re.fullmatch(r"[!-~]+", api_key) or api_key.startswith("auth_tokens/"):
            raise Denied(f"The Gemini key has characters that no key has; check {KEY_VARIABLES[0]}.")
        remember_secrets([api_key])
        self._api_key = api_key
        self._form = form
        self._base_url = base_url
        self._api_version = api_version
        self._timeout_s = timeout_s
        self._opening = threading.Lock()
        self._opened: tuple[genai.Client, httpx2.Client] | None = None

    def __repr__(self) -> str:
        return f"Gemini({self._form.model!r}, {self._base_url or ADDRESS!r})"

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            for client in opened:
                client.close()

    # ------------------------------------------------------------------ texts

    def embed(self, texts: Sequence[str]) -> Embedded:
        """Vectors of up to 100 texts, in one request.

        Raises:
            Rejected: one of the texts is refused, and with it all of them.
            Unavailable: also when the answer holds fewer vectors, or others, than were asked for.
        """
        return self._embed(texts, self._form)

    def embed_query(self, text: str) -> Vectors:
        """The vector of a search query, shape (dimensions,)."""
        vector: Vectors = self._embed([text], self._form.for_queries()).vectors[0]
        return vector

    def count_tokens(self, text: str) -> int:
        """The model's own count of the tokens of a chunk's text, as it would be sent."""
        doing = "counting tokens"
        with self._calling(doing) as client:
            counted = client.models.count_tokens(model=self._form.model, contents=self._form.sent(text))
        if counted.total_tokens is None:
            raise _unreadable(doing, "it holds no count")
        return counted.total_tokens

    def _embed(self, texts: Sequence[str], form: Form) -> Embedded:
        if not 0 < len(texts) <= MOST_TEXTS:
            raise ValueError(f"1 to {MOST_TEXTS} texts a call, not {len(texts)}")
        from google.genai import types

        doing = f"embedding {len(texts)} text{'s' if len(texts) > 1 else ''}"
        # A Content each: a list of plain strings becomes one single vector with gemini-embedding-2.
        contents = [types.Content(parts=[types.Part(text=form.sent(text))]) for text in texts]
        config = types.EmbedContentConfig(task_type=form.task_parameter, output_dimensionality=form.dimensions)
        with self._calling(doing) as client:
            reply = client.models.embed_content(model=form.model, contents=contents, config=config)
        found = reply.embeddings or []
        if len(found) != len(texts):
            raise _unreadable(doing, f"it holds {len(found)} vectors instead of {len(texts)}")
        vectors = np.empty((len(texts), form.dimensions), dtype=np.float32)
        for number, embedding in enumerate(found):
            try:
                vectors[number] = form.vector(embedding.values or [])
            except BadVector as exc:
                raise _unreadable(doing, f"vector {number + 1} of {len(texts)} is unusable: {exc}") from exc
        usage = reply.usage_metadata
        return Embedded(vectors=vectors, tokens=None if usage is None else usage.prompt_token_count)

    # ------------------------------------------------------------------ files

    def upload(self, path: Path, *, display_name: str) -> RemoteFile:
        """Upload the input file of a batch job. The provider keeps it for 48 hours."""
        from google.genai import types

        doing = f"uploading {display_name}"
        # The second request goes to the address that the first one's reply names. Only when the base URL is repeated
        # here does the SDK put our host into it. An open file, not its path: no file name is sent.
        options = None if self._base_url is None else types.HttpOptions(base_url=self._base_url)
        config = types.UploadFileConfig(display_name=display_name, mime_type=JSONL, http_options=options)
        with path.open("rb") as file, self._calling(doing) as client:
            made = client.files.upload(file=file, config=config)
            described = made.model_dump(mode="json", by_alias=True, exclude_none=True)
        with _reading(doing):
            return remote_file(described)

    def files_named(self, display_name: str) -> list[RemoteFile]:
        """All files in the provider's store with this display name."""
        doing = "listing files"
        items = [item for item, _ in self._pages("files", "files", doing) if item.get("displayName") == display_name]
        with _reading(doing):
            return [remote_file(item) for item in items]

    def delete_file(self, name: str) -> None:
        """Delete a file. One that is gone is fine, and so is a result file, which only the provider can delete."""
        try:
            self._call("delete", _name("files", name), f"deleting {name}")
        except Missing:
            return
        except Rejected:
            # The provider's own names of result files are longer than the 40 characters its delete call takes
            # (python-genai issue 1759). They expire by themselves.
            if len(name.removeprefix("files/")) <= 40:
                raise

    def download(self, file_name: str, target: Path) -> None:
        """Save a result file at `target`, which is there either whole or not at all.

        Raises:
            Unavailable: also when the stream was cut; nothing is left.
            CodechunkError: the file cannot be written: no room on the disk, no permission.
        """
        name = _name("files", file_name)
        # A name of its own: two processes that write one file would make a whole-looking mixture of it. What a killed
        # process left goes; if its owner lives after all, it has lost its claim and fails when it renames.
        part = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            for left in target.parent.glob(f"{target.name}.*.part"):
                left.unlink(missing_ok=True)
            with part.open("wb") as file:
                with self._calling(f"downloading {file_name}") as client:
                    client.files.download(file=name, destination=file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except OSError as exc:
            raise CodechunkError(
                f"The result {file_name} cannot be saved at {target}: {exc.strerror or exc}; "
                f"it stays at the provider: make room, and the next run fetches it."
            ) from exc
        finally:
            part.unlink(missing_ok=True)

    # ------------------------------------------------------------------ batch jobs

    def write_line(self, key: str, text: str) -> bytes:
        """One request as a line of the input file of a batch job."""
        return self._form.line(key, text)

    def read_results(self, path: Path) -> Iterator[BatchResult]:
        """Every row of a downloaded result file; a vector that was not asked for is an error of its row."""
        for row in read_rows(path):
            if row.values is None:
                yield BatchResult(key=row.key, error=row.error)
                continue
            try:
                vector = self._form.vector(row.values)
            except BadVector as exc:
                yield BatchResult(key=row.key, error=f"not the vector asked for: {exc}")
            else:
                yield BatchResult(key=row.key, vector=vector, tokens=row.tokens)

    def create_batch(self, file_name: str, *, display_name: str, priority: int = 0) -> RemoteJob:
        """Begin a batch job over an uploaded file. `priority`: higher first, among the jobs of the account.

        Not idempotent: after Unavailable with `sent` the job may exist, and is found by its display name.
        """
        batch: dict[str, Any] = {"displayName": display_name, "inputConfig": {"fileName": _name("files", file_name)}}
        if priority:
            batch["priority"] = str(priority)
        path = f"models/{quote(self._form.model, safe='')}:asyncBatchEmbedContent"
        doing = f"creating the batch job {display_name}"
        # Raw: the SDK's method warns at every call, and reads the reply with types that reject what they do not know.
        reply, headers = self._answer("post", path, doing, {"batch": batch})
        with _reading(doing):
            return remote_job(reply, headers)

    def batch(self, name: str) -> RemoteJob:
        """The job as it stands now. Raises Missing when it does not exist any more."""
        doing = f"looking at {name}"
        reply, headers = self._answer("get", _name("batches", name), doing)
        with _reading(doing):
            return remote_job(reply, headers)

    def batches(self) -> Iterator[RemoteJob]:
        """All jobs of the account, newest first; pages are fetched as they are needed."""
        doing = "listing batch jobs"
        for item, headers in self._pages("batches", "operations", doing):
            with _reading(doing):
                job = remote_job(item, headers)
            yield job

    def cancel_batch(self, name: str) -> None:
        """Ask for a job to stop; it may still finish. One that has ended already is fine."""
        try:
            self._call("post", f"{_name('batches', name)}:cancel", f"cancelling {name}")
        except Rejected as exc:
            if getattr(exc.__cause__, "status", None) != "FAILED_PRECONDITION":
                raise

    def delete_batch(self, name: str) -> None:
        """Remove a job from the provider's list, which does not stop it. One that is gone is fine."""
        try:
            self._call("delete", _name("batches", name), f"deleting {name}")
        except Missing:
            return

    # ------------------------------------------------------------------ calls

    def _call(
        self, method: str, path: str, doing: str, body: dict[str, Any] | None = None
    ) -> tuple[str, Mapping[str, str]]:
        """Body and headers of the reply to one request; headers are found by their lower-case names."""
        with self._calling(doing) as client:
            # The SDK's own request, below its types. It is not public: a test pins what is used of it.
            reply = client._api_client.request(method, path, dict(body or {}), None)
        return reply.body or "", _lower(reply.headers or {})

    def _answer(
        self, method: str, path: str, doing: str, body: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], Mapping[str, str]]:
        """The JSON object of the reply, and its headers. An empty reply is refused: it would pass for an empty list."""
        text, headers = self._call(method, path, doing, body)
        try:
            reply = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise _unreadable(doing, "it is not JSON") from exc
        if not isinstance(reply, dict):
            raise _unreadable(doing, "it is not a JSON object")
        return reply, headers

    def _pages(self, path: str, items: str, doing: str) -> Iterator[tuple[dict[str, Any], Mapping[str, str]]]:
        """Every item of a list over all its pages, each with the headers of its page."""
        token = ""
        seen = {token}
        while True:
            query = urlencode({"pageSize": PAGE_SIZE, **({"pageToken": token} if token else {})})
            reply, headers = self._answer("get", f"{path}?{query}", doing)
            found = reply.get(items, [])
            if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
                raise _unreadable(doing, f"its {items} are not a list of objects")
            for item in found:
                yield item, headers
            token = reply.get("nextPageToken") or ""
            if not token:
                return
            if not isinstance(token, str) or token in seen:
                raise _unreadable(doing, "its pages go round in a circle")
            seen.add(token)

    @contextmanager
    def _calling(self, doing: str) -> Iterator["genai.Client"]:
        """The SDK's client for one call; what the SDK raises becomes one of our errors."""
        client = self._client()
        import httpx2
        from google.genai import errors

        try:
            yield client
        except errors.APIError as exc:
            headers = {} if exc.response is None else exc.response.headers
            raise refusal(exc.code, exc.details, _lower(headers), doing) from exc
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as exc:
            where = urlsplit(self._base_url or ADDRESS).netloc
            raise Unavailable(
                f"Gemini cannot be reached at {where}, {doing} ({_cause(exc)}); check the network and its proxy.",
                sent=False,
            ) from exc
        except httpx2.TimeoutException as exc:
            raise Unavailable(f"Gemini did not answer in {self._timeout_s:g} s when {doing} ({_cause(exc)}).") from exc
        except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
            raise Unavailable(f"The connection to Gemini broke when {doing} ({_cause(exc)}).") from exc
        # How the SDK says that a reply with status 200 is not what it expects: no JSON, no object, no `file` in it,
        # an upload that never ends, a field of another type.
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise _unreadable(doing, _cause(exc)) from exc

    def _client(self) -> "genai.Client":
        with self._opening:
            if self._opened is None:
                self._opened = self._open()
            return self._opened[0]

    def _open(self) -> tuple["genai.Client", "httpx2.Client"]:
        from google import genai
        from google.genai import types

        from codechunk.providers.gemini.http import open_client

        address = self._base_url or ADDRESS
        try:
            http = open_client(address, self._timeout_s)
            client = genai.Client(
                # Written out: the environment could turn it into a client of Vertex AI.
                vertexai=False,
                api_key=self._api_key,
                http_options=types.HttpOptions(
                    base_url=address,
                    api_version=self._api_version,
                    timeout=max(1, round(self._timeout_s * 1000)),
                    # The SDK's own retries make a second batch job when the first one's reply is lost, and know
                    # nothing of the wait that a refusal asks for.
                    retry_options=types.HttpRetryOptions(attempts=1),
                    httpx_client=http,
                ),
            )
        except (OSError, ValueError) as exc:
            raise ProviderError(
                f"The connection to Gemini cannot be set up ({_cause(exc)}); "
                f"check HTTPS_PROXY, SSL_CERT_FILE and embedding.base_url."
            ) from exc
        return client, http


@contextmanager
def _reading(doing: str) -> Iterator[None]:
    try:
        yield
    except UnreadableReply as exc:
        raise _unreadable(doing, str(exc)) from exc


def _unreadable(doing: str, why: str) -> Unavailable:
    return Unavailable(f"Gemini's answer when {doing} cannot be used: {words(why)}.")


def _cause(exc: Exception) -> str:
    return words(f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _name(kind: str, name: str) -> str:
    """The name, safe in a path. Raises Rejected when it is none: it may have been typed by a person."""
    if not re.fullmatch(rf"{kind}/[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise Rejected(f"{name!r} is not a name at Gemini, which looks like {kind}/abc123.")
    return name
