"""What a provider of vectors is: one value with its facts, and the client that it opens. No code of any provider.

A new provider is a `Provider` value and a class with the three methods of `Client`; batch jobs and token counts are
Protocols of their own, for those that have them. Failures leave a client as the errors of `errors.py`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from codechunk.providers.batch_words import RemoteFile, RemoteJob
from codechunk.providers.pricing import Price

if TYPE_CHECKING:  # facts must be cheap: numpy comes with the first vectors
    import numpy as np
    from numpy.typing import NDArray

# What vectors are for, as it is written in the state database: it is part of a vector space.
DOCUMENT_TASK = "RETRIEVAL_DOCUMENT"
QUERY_TASK = "CODE_RETRIEVAL_QUERY"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """What a client is opened with: the vector space, and how the provider is reached.

    `task` is DOCUMENT_TASK: what `embed` makes; `embed_query` makes the vectors that are compared with those.
    `api_key` is the value of one of the provider's `key_variables`, None when it has none. `base_url` is that of a
    gateway or an emulator, None for the provider's own. `timeout_s`: seconds, for each wait for bytes.
    """

    model: str
    dimensions: int
    task: str = DOCUMENT_TASK
    api_key: str | None = None
    base_url: str | None = None
    api_version: str | None = None
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """Vectors of one direct call, a row for each text in its order; `tokens` were counted by the provider, or None.

    `vectors` is float32 of shape (texts, dimensions), each row of L2 norm 1.
    """

    vectors: "NDArray[np.float32]"
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """One row of a result file: the vector of a text, or an error in one clause.

    `key` is None when not even that can be read. `vector` is float32 of shape (dimensions,) and L2 norm 1.
    """

    key: str | None
    vector: "NDArray[np.float32] | None" = None
    tokens: int | None = None
    error: str | None = None


class Client(Protocol):
    """A provider opened for one vector space. Used by several threads at once, unless it is `in_process`."""

    @property
    def title(self) -> str:
        """The provider's name in sentences."""

    def embed(self, texts: Sequence[str]) -> Embedded:
        """The vectors of 1 to `texts_per_call` chunk texts, in one call.

        Raises:
            Rejected: one of the texts is refused, and with it the call.
            Denied, RateLimited, Unavailable: see `errors.py`.
            ValueError: no text, or too many.
        """

    def embed_query(self, text: str) -> "NDArray[np.float32]":
        """The vector of a search query, shape (dimensions,), comparable with those of `embed`."""

    def close(self) -> None:
        """Close connections."""


@runtime_checkable
class TokenCounter(Protocol):
    """A client whose provider counts the tokens of a text without embedding it."""

    def count_tokens(self, text: str) -> int:
        """Tokens of a chunk's text as it would be sent. Raises Rejected or Missing when its model is not counted."""


@runtime_checkable
class BatchClient(Protocol):
    """The batch part of a client: files of requests go up, jobs run for hours, files of results come down.

    All of it raises the errors of `errors.py`; Missing when the provider does not know the name.
    """

    def write_line(self, key: str, text: str) -> bytes:
        """One request as a line of the input file of a batch job, with its newline."""

    def read_results(self, path: Path) -> Iterator[BatchResult]:
        """Every row of a downloaded result file, in the order it has; rows come in any order, twice or not at all."""

    def upload(self, path: Path, *, display_name: str) -> RemoteFile:
        """Store a file."""

    def files_named(self, display_name: str) -> list[RemoteFile]:
        """Stored files of this name."""

    def delete_file(self, name: str) -> None:
        """Delete a file; a missing one is fine."""

    def create_batch(self, file_name: str, *, display_name: str, priority: int = 0) -> RemoteJob:
        """Create a job from a stored file. Costs money and must not be repeated blindly."""

    def batch(self, name: str) -> RemoteJob:
        """A job as it is now."""

    def batches(self) -> Iterator[RemoteJob]:
        """All jobs."""

    def cancel_batch(self, name: str) -> None:
        """Ask for the end of a job; one that has ended is fine."""

    def delete_batch(self, name: str) -> None:
        """Forget a job; a missing one is fine."""

    def download(self, file_name: str, target: Path) -> None:
        """Save a stored file, whole or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is known of one model.

    `input_tokens`: the most tokens of one text, by the provider's count; None: any text fits. `price`: its list price,
    None when nothing is known of it. `dimensions`: the only number of dimensions it makes; None: the number asked for.
    """

    input_tokens: int | None = None
    price: Price | None = None
    dimensions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """What one batch job may carry: texts, and bytes of its input file; None: no limit."""

    texts: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Who makes vectors: everything that is known before anything is opened, and how to open it."""

    name: str
    """Its name in `embedding.provider` and in the state database; never changes."""
    title: str
    """Its name in sentences."""
    open: Callable[[ClientSettings], Client]
    """Makes a client. Connects to nothing yet; raises Denied when the key cannot be one."""
    models: Mapping[str, Model] = field(default_factory=dict)
    """The models that are known. Another one may be used when the settings say its input limit."""
    fixed_model: str | None = None
    """The only model there is; None: `embedding.model` says which."""
    operator: str | None = None
    """Whom the text of chunks is sent to; None: it stays on this machine."""
    key_variables: tuple[str, ...] = ()
    """Environment variables that may hold the key, the first one first; none: no key is needed."""
    free: bool = False
    """Whether vectors cost nothing. Then no price is asked for, and a run takes the vector store's lock at once."""
    in_process: bool = False
    """Whether a call is a computation in this process: calls are large, and made one after the other."""
    texts_per_call: int = 1
    """The most texts of one direct call."""
    batch: BatchLimits | None = None
    """The limits of its batch jobs; None: its client is no BatchClient."""
    stands_for: str | None = None
    """The provider whose model it stands for in tests: chunks are cut for that one, and prices told are its own."""

    def input_tokens(self, model: str) -> int | None:
        """The most tokens of one text; None when there is no limit, or nothing is known of the model."""
        known = self.models.get(model)
        return None if known is None else known.input_tokens

    @property
    def prices(self) -> dict[str, Price]:
        """List prices by model."""
        return {name: model.price for name, model in self.models.items() if model.price is not None}

    @property
    def why_direct(self) -> str | None:
        """Why texts cannot go in batch jobs; None: they can."""
        if self.in_process:
            return f"{self.name} vectors are made here"
        return None if self.batch is not None else f"{self.title} has no batch jobs"
