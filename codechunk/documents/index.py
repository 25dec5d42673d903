"""What `index`, `index --dry-run` and `estimate` answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFiles:
    """Files of the commit: discovered = indexed + skipped + failed."""

    discovered: int
    """Entries of the commit's tree."""
    indexed: int
    """Files that are in the index."""
    unchanged: int
    """Files, skipped ones included, whose state is what it was in the published index; 0 with --full."""
    skipped: int
    """Files left out on purpose."""
    failed: int
    """Files that could not be cut."""
    deleted: int
    """Files of the published index that this commit does not have."""
    skipped_by_reason: Mapping[str, int]
    """Skipped files for each reason, the most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChunks:
    """Chunks of the commit: total = ready + pending + processing + failed."""

    total: int
    """All chunks."""
    new: int
    """Chunks whose id the published index did not have."""
    reused: int
    """Chunks whose id it had."""
    deleted: int
    """Chunk ids of the published index that are gone."""
    ready: int
    """Chunks that have their vector."""
    pending: int
    """Chunks whose text waits to be sent."""
    processing: int
    """Chunks whose text is being embedded."""
    failed: int
    """Chunks whose text failed for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChanges:
    """Files compared with what was published before, told apart by path and content."""

    added: int
    """New path, new content."""
    changed: int
    """Same path, other content."""
    moved: int
    """Same content at another path."""
    deleted: int
    """Path and content are gone."""
    unchanged: int
    """Same path, same content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkChanges:
    """Chunks compared with what was published before, told apart by path, symbol and text."""

    added: int
    """New texts."""
    changed: int
    """Another text under the same symbol."""
    moved: int
    """The same text on other lines, under another symbol or in another file."""
    deleted: int
    """Texts that are gone."""
    reused: int
    """Chunks as they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextChanges:
    """What became of the texts of the chunks."""

    sent: int
    """Texts that were embedded by this run, repetitions included."""
    out: int
    """Texts that are sent, or wait, and have not come back yet."""
    reused: int
    """Chunks whose text had its vector already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What embedding everything again would have cost more."""

    tokens: int | None
    """Tokens of all chunks less those sent; null when tokens are not known."""
    usd: float | None
    """Their price in USD; null when it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexChanges:
    """What is different from what was published before."""

    files: FileChanges
    """Files that changed."""
    chunks: ChunkChanges
    """Chunks that changed."""
    texts: TextChanges
    """Texts that were sent or not."""
    saved: Saved
    """What was not sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFigures:
    """Tokens by our own count (cl100k)."""

    mode: str
    """Which chunks were counted: all, sample or on_demand."""
    counted: int
    """Chunks with an exact count."""
    total: int | None
    """Tokens of all chunks; null when nothing was counted."""
    estimated: bool
    """Whether the total is extrapolated from the counted chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingFigures:
    """How the texts were embedded."""

    provider: str
    """Who makes the vectors."""
    model: str
    """The model."""
    dimensions: int
    """Numbers in one vector."""
    requests: int
    """Direct calls."""
    texts_sent: int
    """Texts that were embedded, repetitions included."""
    batches: int
    """Batch jobs."""
    fallbacks: int
    """Batch jobs whose texts were sent directly in the end, at twice the price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFigures:
    """Keys and passwords found in the code."""

    mode: str
    """What is done with them: redact, skip, fail or off."""
    found: int
    """How many were found."""
    files: int
    """Files that hold them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Money; null where no price of the model is known."""

    currency: str
    """USD."""
    estimated: float | None
    """What this run was expected to cost before anything was sent."""
    spent: float | None
    """What was billed so far, by the provider's token counts where it tells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexDocument:
    """What came of one run of `index`."""

    job_id: str
    """Id of the run, for `jobs show`."""
    repository: str
    """Name of the repository, for `search --repo`."""
    url: str
    """Where it is: a URL without credentials, or the absolute path of a local one."""
    ref: str
    """Branch, tag or commit as it was named."""
    commit: str
    """Id of the commit that was indexed."""
    status: Literal["succeeded", "partial", "embedding", "failed", "cancelled"]
    """embedding: texts are at the provider and not back yet; partial: some chunks or files failed for good."""
    published: bool
    """Whether searches use this commit now."""
    mode: Literal["batch", "sequential"]
    """How the provider was called."""
    mode_reason: str
    """Why so, in a few words."""
    files: IndexFiles
    """The files of the commit."""
    chunks: IndexChunks
    """The chunks of the commit."""
    changes: IndexChanges
    """What is different from what was published before."""
    tokens: TokenFigures
    """Tokens of the chunks."""
    embedding: EmbeddingFigures
    """How the texts were embedded."""
    secrets: SecretFigures
    """Secrets found in the files that were read."""
    cost: Cost
    """What this run cost."""
    seconds: float
    """Duration of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathReason:
    """A file, and why it is left out or fails."""

    path: str
    """Path inside the repository."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFiles:
    """Files of the commit: discovered = indexed + skipped + failed."""

    discovered: int
    """Entries of the commit's tree."""
    indexed: int
    """Files that would be in the index."""
    skipped: int
    """Files that would be left out."""
    failed: int
    """Files that cannot be cut."""
    skipped_by_reason: Mapping[str, int]
    """Skipped files for each reason, the most frequent first."""
    by_language: Mapping[str, int]
    """Files to index for each language, the most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretPlace:
    """Where a secret is."""

    path: str
    """Path inside the repository."""
    line: int
    """Line, from 1."""
    kind: str
    """What kind of secret it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSecrets(SecretFigures):
    """Keys and passwords found in the code, with their places."""

    by_kind: Mapping[str, int]
    """How many of each kind, the most frequent first."""
    places: Sequence[SecretPlace]
    """Every place, by path and line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChunks:
    """Chunks of the commit and their texts."""

    total: int
    """All chunks."""
    texts: int
    """Distinct texts of them."""
    texts_to_embed: int
    """Texts that have no vector and are not on their way."""
    texts_out: int
    """Texts that are being embedded now."""
    texts_failed: int
    """Texts that failed for good before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTokens:
    """Tokens by our own count (cl100k)."""

    total: int
    """Tokens of all chunks."""
    to_embed: int
    """Tokens of the texts to embed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCost:
    """What a run would cost: the same estimate that `--max-cost` is held against. Null where no price is known."""

    currency: str
    """USD."""
    model: str
    """The model whose prices these are."""
    direct: float | None
    """Price when everything is sent directly (mode sequential)."""
    batch: float | None
    """Price when everything goes through batch jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunDocument:
    """What a run of `index` would do."""

    dry_run: Literal[True] = True
    """Marks this document."""
    repository: str
    """Name of the repository."""
    url: str
    """Where it is."""
    ref: str
    """Branch, tag or commit as it was named."""
    commit: str
    """Id of the commit."""
    files: PlannedFiles
    """The files of the commit."""
    secrets: PlannedSecrets
    """Secrets found in what is not skipped."""
    chunks: PlannedChunks
    """The chunks of the commit."""
    tokens: PlannedTokens
    """Tokens of the chunks."""
    cost: PlannedCost
    """What it would cost."""
    skipped: Sequence[PathReason]
    """Every file that would be left out, by path."""
    failed: Sequence[PathReason]
    """Every file that cannot be cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedFiles:
    """Files of the commit: discovered = indexed + skipped + failed."""

    discovered: int
    """Entries of the commit's tree."""
    indexed: int
    """Files that would be in the index."""
    skipped: int
    """Files that would be left out."""
    failed: int
    """Files that cannot be cut."""
    skipped_by_reason: Mapping[str, int]
    """Skipped files for each reason, the most frequent first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What the texts to embed would cost; null where no price is known."""

    currency: str
    """USD."""
    direct: float | None
    """When everything is sent directly (mode sequential)."""
    batch: float | None
    """When everything goes through batch jobs."""
    as_of: str | None
    """Day of the list prices used (ISO 8601); null when the prices are configured or not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateDocument:
    """What indexing a repository would cost."""

    repository: str
    """Name of the repository."""
    url: str
    """Where it is."""
    ref: str
    """Branch, tag or commit as it was named."""
    commit: str
    """Id of the commit."""
    files: EstimatedFiles
    """The files of the commit."""
    chunks: int
    """All chunks."""
    tokens: int
    """Tokens of all chunks by our own count (cl100k)."""
    texts: int
    """Distinct texts of the chunks."""
    duplicates: int
    """Chunks whose text occurs before."""
    texts_to_embed: int
    """Texts that have no vector and are not on their way."""
    tokens_to_embed: int
    """Their tokens."""
    model: str
    """The model whose prices these are."""
    mode: Literal["batch", "sequential"]
    """What `--mode auto` would choose."""
    price: Price
    """What it would cost."""
