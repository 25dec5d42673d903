"""Expected failures, in words for the person who reads them.

Anything raised here reaches the terminal as one sentence; everything else is a bug and exits 70.
"""

from typing import Literal

Kind = Literal["usage", "not_found", "busy", "provider", "damaged", "environment", "bug"]
"""What went wrong, for a program that decides what to do:

- usage: wrong words or settings; the same call fails again.
- not_found: nothing of that name is here.
- busy: another process works on it; the same call works later.
- provider: the provider of embeddings refused, or was not there.
- damaged: what was stored cannot be used as it is.
- environment: disk, network, git or a server stood in the way.
- bug: codechunk found itself wrong. So is every exception that is no CodechunkError.
"""


class CodechunkError(Exception):
    """An expected failure: the message says what happened and what to do. Exit code 1."""

    exit_code = 1
    kind: Kind = "environment"

    def __init__(self, message: str = "", *, kind: Kind | None = None) -> None:
        """`kind`: where it is another one than most errors of the class have."""
        super().__init__(message)
        if kind is not None:
            self.kind = kind


class UsageError(CodechunkError):
    """Wrong words on the command line or in the configuration. Exit code 2."""

    exit_code = 2
    kind: Kind = "usage"


class NotFound(UsageError):
    """There is no repository, index or run of that name here. Exit code 2."""

    kind: Kind = "not_found"


class LedgerError(CodechunkError):
    """What was read and what was stored do not balance: a bug, told before anything is published."""

    kind: Kind = "bug"


class GitError(CodechunkError):
    """The repository could not be read: wrong URL, missing ref, no access, disk full, git killed."""

    kind: Kind = "environment"


class StateError(CodechunkError):
    """The state database cannot be used: damaged, newer than this program, read-only, locked."""

    kind: Kind = "damaged"


class IndexBusy(CodechunkError):
    """Another process owns the embedded Chroma directory."""

    kind: Kind = "busy"


class Overtaken(IndexBusy):
    """The run lost its index to another process while it worked; what that process did stands."""


class VectorStoreError(CodechunkError):
    """The vector store refused or is unreachable."""

    kind: Kind = "environment"


class ProviderError(CodechunkError):
    """The provider of embeddings answered with an error, or not as it should."""

    kind: Kind = "provider"


class Denied(ProviderError):
    """401 or 403: the key is missing, wrong, not allowed to, or its account does not pay. Repeating is useless."""


class RateLimited(ProviderError):
    """429: nothing was done, and nothing will be for a while.

    `retry_after_s` is the wait in seconds the provider asked for (RetryInfo); None when it named none, which for a
    new batch job means that the quota of enqueued tokens is full.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejected(ProviderError):
    """400 and the like: the request itself is refused, and would be refused again."""


class Missing(ProviderError):
    """404, or 403 for a file: the remote job or file does not exist, or not any more."""


class Unavailable(ProviderError):
    """408, 5xx, the network, a time-out, a hang-up or an unreadable answer: repeating may help.

    `sent` is False when the request surely never reached the provider (no address, connection refused); otherwise it
    may have taken effect although nobody heard of it.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class Stopped(BaseException):
    """Somebody asked the work to stop (`Stop.ask`); what is done is kept, and the same call goes on from there.

    Not an Exception, so that no `except Exception` and no retry takes it for a failure. Not a KeyboardInterrupt,
    because an event loop ends altogether when a task raises that one, while whoever stopped a thread may want to go on.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
