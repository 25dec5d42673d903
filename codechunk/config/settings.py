"""The settings: every key with its type, default and limits, and how its value is written.

Pure values. Where they come from is the business of `config.py`.
"""

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast
from urllib.parse import urlsplit

import platformdirs
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from codechunk import providers
from codechunk.providers import Provider
from codechunk.providers.pricing import PriceMode
from codechunk.vectors import BACKENDS

# cl100k only estimates the provider's count: a chunk may fill this share of the limit in cl100k tokens.
ESTIMATE_SAFETY = 0.75

_DURATION_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE_BYTES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "kib": 2**10,
    "mb": 10**6,
    "mib": 2**20,
    "gb": 10**9,
    "gib": 2**30,
}
_LONGEST = timedelta(days=366)


def parse_duration(value: object) -> timedelta:
    """`30s`, `5m`, `1h30m`, `500ms`, `2d` as a timedelta. Raises ValueError with a sentence."""
    if isinstance(value, timedelta):
        return value
    parts = re.fullmatch(r"(?:\d{1,9}(?:\.\d{1,6})?(?:ms|s|m|h|d)\s*)+", value) if isinstance(value, str) else None
    if parts is None:
        raise ValueError("a duration needs a number and a unit, like 30s, 5m, 1h or 1h30m")
    seconds = sum(float(n) * _DURATION_SECONDS[u] for n, u in re.findall(r"([\d.]+)(ms|s|m|h|d)", parts.group()))
    if seconds > _LONGEST.total_seconds():
        raise ValueError("a duration is at most one year")
    return timedelta(seconds=seconds)


def parse_size(value: object) -> int:
    """`1MiB`, `500kB`, `4096` as bytes. Raises ValueError with a sentence."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    parts = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([A-Za-z]*)", value) if isinstance(value, str) else None
    if parts is None or parts[2].lower() not in _SIZE_BYTES:
        raise ValueError("a size needs a number and a unit, like 500kB, 1MiB or 4096 (bytes)")
    return int(float(parts[1]) * _SIZE_BYTES[parts[2].lower()])


def _no_bool(value: object) -> object:
    # `retries: yes` is a boolean in YAML, and a boolean is an integer in Python.
    if isinstance(value, bool):
        raise ValueError("a number is needed, not yes or no")
    return value


def _off(value: object) -> object:
    # `off` is a boolean in YAML.
    return "off" if value is False else value


def _http_url(value: str, *, path_allowed: bool) -> str:
    """The URL without a trailing slash. Raises ValueError with a sentence."""
    try:
        url = urlsplit(value)
        good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("an http:// or https:// address with a host is needed, like http://localhost:8000")
    if "@" in url.netloc:
        raise ValueError("an address must not carry a user name or password")
    if url.query or url.fragment or (not path_allowed and url.path.strip("/")):
        raise ValueError("only http(s)://host:port is expected, with nothing after it")
    return value.rstrip("/")


def _default_data_dir() -> Path:
    return platformdirs.user_data_path("codechunk", appauthor=False)


def _data_dir(value: object) -> object:
    """None is the platform's folder; `~` is the home folder; a relative path starts in the current folder."""
    if value is None:
        return _default_data_dir()
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise ValueError("the path of a folder is needed")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as exc:
        raise ValueError("the home folder that ~ stands for is not known; write the whole path") from exc


def format_value(value: object) -> str:
    """The value as a person would write it in the YAML file."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        for unit, length in (("h", 3600), ("m", 60)):
            if seconds >= length and seconds % length == 0:
                return f"{seconds / length:g}{unit}"
        return f"{seconds:.6g}s"
    if isinstance(value, list | tuple):
        return json.dumps(list(value), ensure_ascii=False, default=str)
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_size(size_bytes: int) -> str:
    """The size in the largest unit that divides it: `1MiB`, `500kB`, `1001`."""
    for unit in ("GiB", "MiB", "KiB", "GB", "MB", "kB"):
        if size_bytes % _SIZE_BYTES[unit.lower()] == 0:
            return f"{size_bytes // _SIZE_BYTES[unit.lower()]}{unit}"
    return str(size_bytes)


Duration = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0))]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Positive = Annotated[int, BeforeValidator(_no_bool), Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GitConfig(_Section):
    """`git`: which files of a commit are read, and how long git may take."""

    timeout: Duration = timedelta(minutes=10)
    max_file_size: Size = 2**20
    include: tuple[Name, ...] = ()
    exclude: tuple[Name, ...] = ()
    skip_generated: bool = True
    skip_vendored: bool = True


class ChunkingConfig(_Section):
    """`chunking`: sizes in cl100k tokens; `max_tokens` covers the header and the text."""

    max_tokens: Annotated[int, BeforeValidator(_no_bool), Field(ge=16)] = 512
    min_tokens: Annotated[int, BeforeValidator(_no_bool), Field(ge=0)] = 48
    context_header: bool = True


class EmbeddingConfig(_Section):
    """`embedding`: who makes the vectors, and how direct calls are made."""

    provider: Name = "gemini"
    model: Name = "gemini-embedding-001"
    dimensions: Annotated[int, BeforeValidator(_no_bool), Field(ge=128, le=3072)] = 768
    base_url: str | None = None
    api_version: Annotated[str, Field(pattern=r"^v\d+[a-z0-9]*$")] | None = None
    timeout: Duration = timedelta(seconds=120)
    direct_concurrency: Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=64)] = 4
    direct_batch: Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=100)] = 1

    @field_validator("provider", mode="before")
    @classmethod
    def _no_vertex(cls, value: object) -> object:
        if isinstance(value, str) and value.lower().startswith("vertex"):
            raise ValueError("Vertex AI is not supported; use gemini, the Gemini Developer API")
        return value

    @field_validator("provider")
    @classmethod
    def _known(cls, value: str) -> str:
        if not providers.is_known(value):
            raise ValueError(f"there is no such provider; {providers.hint(value)}")
        return value

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value, path_allowed=True)


class QueueLimits(_Section):
    """`batch_processing.queue_limits`: when a waiting queue is full or has waited long enough."""

    max_queue_size: Positive = 10000
    max_wait_time: Duration = timedelta(minutes=30)


class BatchConfig(_Section):
    """`batch_processing`: when the Batch API is used, how jobs are cut, retried and polled."""

    enabled: bool = True
    threshold_chunks: Positive = 50
    max_batch_size: Positive = 500
    max_batch_tokens: Positive | None = None
    fallback_to_sequential: bool = True
    use_test_embeddings: bool = False
    initial_backoff: Duration = timedelta(seconds=30)
    max_backoff: Duration = timedelta(minutes=5)
    max_retries: Annotated[int, BeforeValidator(_no_bool), Field(ge=0)] = 3
    submitter_poll_interval: Duration = timedelta(seconds=5)
    max_concurrent_submissions: Positive = 1
    submission_initial_backoff: Duration = timedelta(minutes=1)
    submission_max_backoff: Duration = timedelta(minutes=30)
    max_submission_attempts: Positive = 10
    poller_interval: Duration = timedelta(seconds=30)
    max_concurrent_polls: Positive = 5
    max_job_age: Duration = timedelta(hours=48)
    reconcile_grace: Duration = timedelta(minutes=3)
    lease: Duration = timedelta(minutes=5)
    display_name_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "codechunk"
    priority: Annotated[int, BeforeValidator(_no_bool), Field(ge=-1000, le=1000)] = 0
    queue_limits: QueueLimits = QueueLimits()

    @field_validator("max_batch_size")
    @classmethod
    def _job_limit(cls, value: int) -> int:
        if value > 500:
            raise ValueError(
                "one Batch API job of codechunk carries at most 500 chunks, so that a job that fails or "
                "expires puts few paid chunks at risk; more are split into several jobs, so write 500 or less"
            )
        return value


class TokenCountingConfig(_Section):
    """`token_counting`: which chunks get an exact cl100k count; `max_tokens_per_chunk` None: the model's."""

    enabled: bool = True
    mode: Literal["all", "sample", "on_demand"] = "all"
    sample_percent: Annotated[float, BeforeValidator(_no_bool), Field(gt=0, le=100)] = 10
    max_tokens_per_chunk: Positive | None = None


class VectorsConfig(_Section):
    """`vectors`: the store that is searched, one of `codechunk.vectors.BACKENDS`.

    `url` None: embedded in the data directory; `exact` needs none.
    """

    backend: str = "chroma"
    url: str | None = None

    @field_validator("backend")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in BACKENDS:
            close = get_close_matches(value, BACKENDS, n=1, cutoff=0.0)
            raise ValueError(f"the vector stores are {', '.join(BACKENDS)}; did you mean {close[0]}?")
        return value

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        return None if value is None else _http_url(value, path_allowed=False)


class StateConfig(_Section):
    """`state`: the database that is the truth. `url` None: SQLite in the data directory."""

    url: str | None = None

    @field_validator("url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"(postgresql(\+psycopg)?://[^\s/]|sqlite:///.)", value):
            raise ValueError("postgresql://user@host/database is needed, or null for SQLite in the data directory")
        return value


class WorkerConfig(_Section):
    """`worker`: the loop of `codechunk worker start`."""

    interval: Duration = timedelta(seconds=60)
    min_queue_size: Positive = 100


class LogConfig(_Section):
    """`log`: what stderr shows."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class Config(BaseSettings):
    """Every setting, checked. `Config()` is the defaults: it never reads the environment or files itself."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=True)

    data_dir: Annotated[Path, BeforeValidator(_data_dir)] = Field(default_factory=_default_data_dir)
    git: GitConfig = GitConfig()
    secrets: Annotated[Literal["redact", "skip", "fail", "off"], BeforeValidator(_off)] = "redact"
    chunking: ChunkingConfig = ChunkingConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    batch_processing: BatchConfig = BatchConfig()
    token_counting: TokenCountingConfig = TokenCountingConfig()
    vectors: VectorsConfig = VectorsConfig()
    state: StateConfig = StateConfig()
    worker: WorkerConfig = WorkerConfig()
    pricing: dict[str, dict[PriceMode, NonNegativeFloat]] = Field(default_factory=dict)
    log: LogConfig = LogConfig()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by our own, which knows origins
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The layers that `load_config` hands over, strongest first; without them only the keywords given."""
        given = cast(InitSettingsSource, init_settings).init_kwargs
        layers: Sequence[dict[str, Any]] = given.pop("layers", ())
        return (init_settings, *(InitSettingsSource(settings_cls, layer) for layer in layers))

    @property
    def provider(self) -> Provider:
        """Who makes the vectors: `embedding.provider`, or the synthetic one where test embeddings are asked for."""
        test = self.batch_processing.use_test_embeddings
        return providers.get(providers.SYNTHETIC if test else self.embedding.provider)

    @property
    def model(self) -> str:
        """The model of the vectors: `embedding.model`, unless the provider has only one."""
        return self.provider.fixed_model or self.embedding.model

    @property
    def priced_provider(self) -> Provider:
        """The provider that chunks are cut for and prices are told of: what synthetic vectors stand for."""
        provider = providers.get(self.embedding.provider)
        return provider if provider.stands_for is None else providers.get(provider.stands_for)

    @property
    def priced_model(self) -> str:
        """Its model."""
        return self.priced_provider.fixed_model or self.embedding.model

    @property
    def input_tokens(self) -> int | None:
        """How many tokens one text may have: the setting, else the model's own limit, else None."""
        return self.token_counting.max_tokens_per_chunk or self.priced_provider.input_tokens(self.priced_model)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for problem in (self._token_problem(), self._waiting_problem(), self._store_problem()):
            if problem is not None:
                key, reason = problem
                raise PydanticCustomError("does_not_fit", "{reason}", {"key": key, "reason": reason})
        return self

    def _store_problem(self) -> tuple[str, str] | None:
        if self.vectors.backend == "exact" and self.vectors.url is not None:
            return "vectors.url", "vectors.backend is exact, which has no server; remove one of the two"
        return None

    def _token_problem(self) -> tuple[str, str] | None:
        model, models = self.priced_model, self.priced_provider.models
        chunking, batch = self.chunking, self.batch_processing
        limit, own = self.input_tokens, self.priced_provider.input_tokens(model)
        if limit is None and model not in models:
            known = ", ".join(models)
            reason = f"the input limit of this model is not known (known: {known})"
            return (
                "embedding.model",
                f"{reason}; set token_counting.max_tokens_per_chunk to its limit to use it",
            )
        if own is not None and limit is not None and limit > own:
            return "token_counting.max_tokens_per_chunk", f"{model} takes at most {own} tokens per text"
        if limit is not None and chunking.max_tokens > limit * ESTIMATE_SAFETY:
            most = int(limit * ESTIMATE_SAFETY)
            reason = f"a text may have {limit} tokens and the estimate needs a quarter in reserve"
            return "chunking.max_tokens", f"{model} allows at most {most} here, because {reason}"
        if chunking.min_tokens >= chunking.max_tokens:
            return "chunking.min_tokens", f"it must be less than chunking.max_tokens ({chunking.max_tokens})"
        if batch.max_batch_tokens is not None and batch.max_batch_tokens < chunking.max_tokens:
            reason = f"no batch could hold a chunk of chunking.max_tokens ({chunking.max_tokens})"
            return "batch_processing.max_batch_tokens", reason
        return None

    def _waiting_problem(self) -> tuple[str, str] | None:
        batch = self.batch_processing
        if batch.max_backoff < batch.initial_backoff:
            first = format_value(batch.initial_backoff)
            return "batch_processing.max_backoff", f"it must not be less than initial_backoff ({first})"
        if batch.submission_max_backoff < batch.submission_initial_backoff:
            first = format_value(batch.submission_initial_backoff)
            reason = f"it must not be less than submission_initial_backoff ({first})"
            return "batch_processing.submission_max_backoff", reason
        if batch.lease <= self.embedding.timeout:
            reason = f"it must be longer than embedding.timeout ({format_value(self.embedding.timeout)})"
            return "batch_processing.lease", f"{reason}, or a slow call would lose its claim while it is under way"
        if self.worker.min_queue_size > batch.queue_limits.max_queue_size:
            most = batch.queue_limits.max_queue_size
            return "worker.min_queue_size", f"the queue never holds more than max_queue_size ({most})"
        return None
