"""A web server that answers as it is told, and a Gemini edge that talks to it."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from codechunk.providers.gemini.client import Gemini
from codechunk.providers.gemini.form import Form

KEY = "sk-test-0123456789abcdef"


@dataclass
class Reply:
    """One answer. `cut`: so many bytes fewer than promised; `trickle_s`: wait after each of the first ten bytes."""

    status: int = 200
    body: bytes | str | dict[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    stall_s: float = 0.0
    trickle_s: float = 0.0
    cut: int = 0

    @property
    def bytes(self) -> bytes:
        if isinstance(self.body, dict):
            return json.dumps(self.body).encode()
        return self.body.encode() if isinstance(self.body, str) else self.body


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Http(ThreadingHTTPServer):
    request_queue_size = 128  # of five, the default, some of 64 connections at once are reset on a busy machine
    daemon_threads = True


class Server:
    """Answers with the replies it was given, in their order; the last one again and again."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [Reply()]
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.serve(self, Request(self.command, self.path, headers, body))

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_: object) -> None: ...

        self._http = _Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def forget(self) -> None:
        """As new, for the next test; an answer that is still on its way goes nowhere."""
        self.replies, self.requests = [Reply()], []

    def answers(self, *replies: Reply) -> None:
        self.replies = list(replies)

    def serve(self, handler: BaseHTTPRequestHandler, request: Request) -> None:
        with self._lock:
            self.requests.append(request)
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        self._closing.wait(reply.stall_s)
        if reply.hang_up:
            handler.close_connection = True
            return
        body = reply.bytes
        sent = {"Content-Type": "application/json", "Content-Length": str(len(body)), **reply.headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        head = f"HTTP/1.1 {reply.status} Whatever\r\n{lines}\r\n".encode()
        body = body[: len(body) - reply.cut]
        pieces = [head + body] if not reply.trickle_s else [head, *(bytes([byte]) for byte in body[:10])]
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
            self._closing.wait(reply.trickle_s)
        handler.close_connection = bool(reply.cut or reply.trickle_s)

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def serving() -> Iterator[tuple[Server, Gemini]]:
    """A server and an edge that talks to it: one pair a module, as the SDK's client takes longer than most tests."""
    server = Server()
    with gemini_at(server.url) as gemini:
        yield server, gemini
    server.close()


def gemini_at(url: str, *, model: str = "gemini-embedding-001", dimensions: int = 3, **rest: Any) -> Gemini:
    return Gemini(api_key=KEY, form=Form(model, dimensions), base_url=url, **{"timeout_s": 5.0, **rest})


def refusal(code: int, status: str, message: str = "No.", details: object = None, **headers: str) -> Reply:
    error = {"code": code, "status": status, "message": message, "details": details or []}
    return Reply(code, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})
