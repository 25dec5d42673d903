"""HTTP in front of the service: routes, keys, and the faults of requests and replies."""

import contextlib
import json
import re
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from emulator.faults import BEFORE, LOST
from emulator.service import Service
from emulator.wire import ApiError, Reply, bad_key, html, no_key, quota_full, rate_limited
from emulator.wire import reply as json_reply

_BLOCK = 1 << 20
_PATH = re.compile(r"(?P<prefix>.*?)(?P<area>/upload|/download)?/(?P<version>v1|v1beta|v1alpha)/(?P<rest>[^?]*)")
# Method and the path after the version -> kind of request. `name` is what it is about.
_ROUTES = [
    ("POST", re.compile(r"models/(?P<name>[^/:]+):batchEmbedContents"), "embed"),
    ("POST", re.compile(r"models/(?P<name>[^/:]+):embedContent"), "embed_one"),
    ("POST", re.compile(r"models/(?P<name>[^/:]+):asyncBatchEmbedContent"), "create"),
    ("POST", re.compile(r"models/(?P<name>[^/:]+):countTokens"), "count_tokens"),
    ("GET", re.compile(r"(?P<name>files/[^/:]+):download"), "download"),
    ("GET", re.compile(r"(?P<name>files/[^/:]+)"), "get_file"),
    ("GET", re.compile(r"(?P<name>files)"), "list_files"),
    ("DELETE", re.compile(r"(?P<name>files/[^/:]+)"), "delete_file"),
    ("POST", re.compile(r"(?P<name>batches/[^/:]+):cancel"), "cancel"),
    ("GET", re.compile(r"(?P<name>batches/[^/:]+)"), "get_batch"),
    ("GET", re.compile(r"(?P<name>batches)"), "list_batches"),
    ("DELETE", re.compile(r"(?P<name>batches/[^/:]+)"), "delete_batch"),
]
# Kinds that share a counter and the faults aimed at it.
_COUNTED_AS = {"embed_one": "embed"}
_COSTLY = {"embed", "embed_one", "create", "count_tokens"}


class Target(NamedTuple):
    """What a request is about."""

    kind: str
    name: str = ""
    version: str = ""
    prefix: str = ""


class Exchange(NamedTuple):
    """A request as it came (header names in lower case; body None when it was streamed) and the status it got.

    `status` is 0 when there was no reply.
    """

    kind: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    status: int


def target_of(method: str, path: str, query: dict[str, str]) -> Target:
    """Which request this is; kind "unknown" for what the service does not have."""
    found = _PATH.fullmatch(path)
    if found is None:
        return Target("unknown")
    version, prefix, rest, area = found["version"], found["prefix"], found["rest"], found["area"] or ""
    if area == "/upload":
        if (method, rest) != ("POST", "files"):
            return Target("unknown")
        if "upload_id" in query:
            return Target("upload_chunk", query["upload_id"], version, prefix)
        return Target("upload_start", "", version, prefix)
    for wanted, pattern, kind in _ROUTES:
        match = pattern.fullmatch(rest) if wanted == method else None
        if match is not None and (area == "" or kind == "download"):
            return Target(kind, match["name"], version, prefix)
    return Target("unknown")


class Body:
    """The body of a request, read once: whole, in blocks, or thrown away."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._left = size_bytes

    def blocks(self) -> Iterator[bytes]:
        """What is left of it, in pieces; raises ConnectionError when the client stops early."""
        while self._left:
            block = self._stream.read(min(_BLOCK, self._left))
            if not block:
                raise ConnectionAbortedError("the client stopped within the body")
            self._left -= len(block)
            yield block

    def whole(self) -> bytes:
        """All of it."""
        return b"".join(self.blocks())

    def drain(self) -> None:
        """Read the rest, so that the connection can serve another request."""
        for _ in self.blocks():
            pass


class Server(ThreadingHTTPServer):
    """Serves one Service on a port of 127.0.0.1; `note` is called with each exchange."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, service: Service, port: int, note: Callable[[Exchange], None]) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.service = service
        self.note = note
        self.stopping = threading.Event()
        self.crashes: list[str] = []
        self.admin: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            self.crashes.append(traceback.format_exc())

    def hang_up_all(self) -> None:
        """Close what clients keep open, so that no thread outlives the server for long."""
        self.stopping.set()
        with self._lock:
            for request in self._open:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_PUT = do_PATCH = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """The emulator keeps its own log."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = Body(self.rfile, int(headers.get("content-length") or 0))
        if url.path.startswith("/__emulator__/"):
            self._administrate(url.path.removeprefix("/__emulator__/"), body)
            return
        target = target_of(self.command, url.path, query)
        kind = _COUNTED_AS.get(target.kind, target.kind)
        data = None if kind == "upload_chunk" else body.whole()
        service = self.server.service
        fault = service.chance.draw(service.faults, kind)
        if fault in BEFORE:
            body.drain()
            reply = self._spoilt_before(fault)
        else:
            reply = self._spoilt_after(self._answer(target, headers, query, body, data, fault), fault)
        # Noted before it is sent: whoever has the reply finds it in the log.
        self.server.note(Exchange(kind, self.command, self.path, headers, data, reply.status if reply else 0))
        if reply is not None:
            self._deliver(reply, fault)
        elif fault == "hang_up":
            self._reset()
        else:
            self.close_connection = True

    # ---- what to answer ----

    def _answer(
        self,
        target: Target,
        headers: dict[str, str],
        query: dict[str, str],
        body: Body,
        data: bytes | None,
        fault: str | None,
    ) -> Reply:
        service = self.server.service
        try:
            if target.kind == "upload_chunk":
                hide_file = fault == "no_file"
                return service.files.chunk(target.name, headers, body.blocks(), hide_file=hide_file)
            self._check_key(headers.get("x-goog-api-key") or query.get("key"))
            if service.faults.quota_exhausted and target.kind in _COSTLY:
                raise quota_full()
            return self._dispatch(target, headers, query, data or b"", fault)
        except ApiError as exc:
            # Without a status the SDK would send a refused chunk again and again.
            return exc.reply({"X-Goog-Upload-Status": "final"} if target.kind == "upload_chunk" else None)
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001 - a bug of the emulator: told when it stops
            self.server.crashes.append(traceback.format_exc())
            return ApiError(500, "The emulator failed; see its crashes.").reply()
        finally:
            body.drain()

    def _check_key(self, given: str | None) -> None:
        if not given:
            raise no_key()
        if given != self.server.service.key:
            raise bad_key()
        if self.server.service.faults.deny:
            raise ApiError(403, "Your project has been denied access. Please contact support.")

    def _dispatch(
        self, target: Target, headers: dict[str, str], query: dict[str, str], data: bytes, fault: str | None
    ) -> Reply:
        service, name, version = self.server.service, target.name, target.version
        calls: dict[str, Callable[[], Reply]] = {
            "embed": lambda: service.embed(name, version, data, fault),
            "embed_one": lambda: service.embed_one(name, version, data, fault),
            "count_tokens": lambda: service.count_tokens(name, version, data),
            "create": lambda: service.create(name, version, data),
            "get_batch": lambda: service.get_batch(name),
            "list_batches": lambda: service.list_batches(query),
            "cancel": lambda: service.cancel(name),
            "delete_batch": lambda: service.delete_batch(name),
            "upload_start": lambda: service.files.start(data, headers, target.prefix, version),
            "get_file": lambda: _file(service, name),
            "list_files": lambda: service.list_files(query),
            "delete_file": lambda: service.files.delete(name),
            "download": lambda: service.files.download(name),
        }
        call = calls.get(target.kind)
        return call() if call else html(404, "Not Found")

    def _spoilt_before(self, fault: str) -> Reply | None:
        """What is answered instead of doing anything; None: nothing."""
        faults = self.server.service.faults
        if fault in {"lost_before", "hang_up"}:
            return None
        replies: dict[str, Callable[[], Reply]] = {
            "rate_limited": lambda: rate_limited(faults.retry_delay).reply(),
            "quota_full": lambda: quota_full().reply(),
            "unavailable": lambda: _unavailable(),
            "internal_empty": lambda: Reply(500, b""),
            "bad_gateway": lambda: html(502, "Bad Gateway"),
            "request_timeout": lambda: html(408, "Request Timeout"),
            "not_found": lambda: ApiError(404, "Requested entity was not found.").reply(),
            "denied": lambda: ApiError(403, "The caller does not have permission").reply(),
        }
        return replies[fault]()

    def _spoilt_after(self, reply: Reply, fault: str | None) -> Reply | None:
        """What is answered after all was done; None: nothing."""
        if fault in LOST:
            self.server.service.book_lost(reply.sold)
        if fault == "lost_after":
            return None
        if fault == "unavailable_after":
            return _unavailable()
        if fault == "garbage":
            return Reply(200, b'{"name": "batches/', reply.headers)
        if fault == "empty_reply":
            return Reply(200, b"", reply.headers)
        return reply

    # ---- how to answer ----

    def _deliver(self, reply: Reply, fault: str | None) -> None:
        service = self.server.service
        if fault == "stall":
            self.server.stopping.wait(service.faults.stall_s)
        try:
            self._send(reply, fault)
        except ConnectionError:
            # The client is gone: for it this reply was lost.
            self.close_connection = True
            service.book_lost(reply.sold)

    def _send(self, reply: Reply, fault: str | None) -> None:
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(reply.file.open("rb")) if reply.file else None
            except FileNotFoundError:
                reply, file = ApiError(403, "The file expired.").reply(), None
            size = reply.file.stat().st_size if file and reply.file else len(reply.body)
            head = self._head(reply, size)
            share = size // 2 if fault == "cut" else size
            if file is None and fault != "trickle":
                self.connection.sendall(head + reply.body[:share])
            else:
                self.connection.sendall(head)
                if fault == "trickle":
                    self._trickle(file.read() if file else reply.body)
                elif file is not None and share:
                    self.connection.sendfile(file, count=share)
        if fault == "cut":
            self.close_connection = True

    def _trickle(self, body: bytes) -> None:
        step = max(1, len(body) // 20)
        pause = self.server.service.faults.trickle_s / max(1, len(body) // step)
        for start in range(0, len(body), step):
            self.connection.sendall(body[start : start + step])
            self.server.stopping.wait(pause)

    def _head(self, reply: Reply, size_bytes: int) -> bytes:
        lines = [
            f"HTTP/1.1 {reply.status} {self.responses.get(reply.status, ('Unknown', ''))[0]}",
            f"Content-Type: {reply.content_type}",
            f"Date: {formatdate(self.server.service.now(), usegmt=True)}",
            "Server: scaffolding on HTTPServer2",
            f"Content-Length: {size_bytes}",
            *(f"{name}: {value}" for name, value in reply.headers.items()),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _reset(self) -> None:
        """Stop within the headers. A client that is gone already needs no reset."""
        self.close_connection = True
        with contextlib.suppress(ConnectionError):
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Ty")
        # Lingering for no time makes the kernel send a reset instead of an end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _administrate(self, name: str, body: Body) -> None:
        data = body.whole()
        action = self.server.admin.get(f"{self.command} {name}")
        if action is None:
            answer = html(404, "Not Found")
        else:
            try:
                answer = Reply(200, json.dumps(action(json.loads(data or b"{}"))).encode())
            except (ValueError, TypeError, KeyError) as exc:
                answer = ApiError(400, str(exc)).reply()
        self._send(answer, None)


def _unavailable() -> Reply:
    return ApiError(503, "The model is overloaded. Please try again later.").reply()


def _file(service: Service, name: str) -> Reply:
    return json_reply(service.files.get(name).resource(service.files.url))
