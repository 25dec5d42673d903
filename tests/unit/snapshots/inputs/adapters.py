"""Adapters send requests over one transport each."""

import os
import socket
from dataclasses import dataclass

DEFAULT_POOL = 10
RETRIES = {
    "connect": 3, "read": 2, "status": (429, 500, 502, 503, 504), "backoff": 0.5,
    "methods": ("GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "PUT"), "jitter": True,
}


def tiny():
    return 1


# Joins the parts of a URL; the caller has already
# checked that both are text.
def join(base: str, path: str) -> str:
    """Return base and path with exactly one slash between them."""
    return base.rstrip("/") + "/" + path.lstrip("/")


@dataclass(frozen=True)
class Settings:
    """How the adapter behaves."""

    pool: int = DEFAULT_POOL
    timeout: float = 30.0
    verify: bool = True

    @property
    def patient(self) -> bool:
        """Whether we wait longer than a person would."""
        return self.timeout > 60


class Adapter(Base):
    """Sends one request and returns its response."""

    scheme = "https"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._sockets: list[socket.socket] = []

    @classmethod
    def from_environment(cls) -> "Adapter":
        # Environment variables win over defaults.
        return cls(Settings(pool=int(os.environ.get("POOL", "10"))))

    def send(self, request):
        def attempt(number):
            return self._sockets[number].send(request)

        for number in range(self.settings.pool):
            try:
                return attempt(number)
            except OSError:
                continue
        raise ConnectionError("no socket is left")

    class Closed(Exception):
        """Raised when the adapter is used after close()."""

        def __str__(self) -> str:
            return "the adapter is closed, make a new one"


if __name__ == "__main__":
    print(Adapter.from_environment().send(b"hello"))
