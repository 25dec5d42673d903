"""The HTTP client below Gemini's SDK: many threads, no endless answers, and the key goes to one address only."""

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2

KEY_HEADER = "x-goog-api-key"
MOST_THREADS = 64
# httpx counts its time-out anew for each read. An answer that comes slower than this once the time-out has passed is
# given up: a claim must not outlive its lease because somebody sends one byte a second.
SLOWEST_BYTES_PER_S = 16_000


def open_client(base_url: str, timeout_s: float) -> httpx2.Client:
    """A client for up to 64 threads at once. Proxies and certificates are those of the environment."""
    home = urlsplit(base_url)

    def keep_key_at_home(request: httpx2.Request) -> None:
        # On a redirect to another host httpx drops `Authorization`, but knows nothing of Google's own header.
        if (request.url.scheme, request.url.host, request.url.port) != (home.scheme, home.hostname, home.port):
            request.headers.pop(KEY_HEADER, None)

    def limit(response: httpx2.Response) -> None:
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Limited(response.stream, timeout_s, response.request)

    return httpx2.Client(
        timeout=timeout_s,
        follow_redirects=True,
        limits=httpx2.Limits(max_connections=MOST_THREADS, max_keepalive_connections=MOST_THREADS),
        event_hooks={"request": [keep_key_at_home], "response": [limit]},
    )


class _Limited(httpx2.SyncByteStream):
    """An answer's body, given up when it comes too slowly."""

    def __init__(self, inner: httpx2.SyncByteStream, timeout_s: float, request: httpx2.Request) -> None:
        self._inner = inner
        self._timeout_s = timeout_s
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        started = time.monotonic()
        received = 0
        for some in self._inner:
            received += len(some)
            if time.monotonic() - started > self._timeout_s + received / SLOWEST_BYTES_PER_S:
                raise httpx2.ReadTimeout(f"only {received} bytes came", request=self._request)
            yield some

    def close(self) -> None:
        self._inner.close()
