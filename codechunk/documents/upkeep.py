"""What `repos`, `cache` and `gc` answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedJob:
    """The newest run of an index, when it is not over."""

    id: str
    """Id of the run."""
    status: str | None
    """Its status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexEntry:
    """One index: a repository at a ref, for one model."""

    repository: str
    """Name of the repository."""
    ref: str
    """Branch, tag or commit as it was named."""
    url: str
    """Where the repository is."""
    commit: str | None
    """Id of the commit that searches use; null before the first."""
    updated_at: str | None
    """When it was published last (ISO 8601, UTC); null before the first time."""
    age_s: float | None
    """Seconds since then."""
    files: int
    """Files in it."""
    chunks: int
    """Chunks in it."""
    provider: str
    """Who makes its vectors."""
    model: str
    """The model."""
    dimensions: int
    """Numbers in one vector."""
    job: UnfinishedJob | None
    """Its newest run, when that is not over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefDetails(IndexEntry):
    """One index with what it is made of."""

    languages: Mapping[str, int]
    """Chunks for each language, the largest first."""
    kinds: Mapping[str, int]
    """Chunks for each kind, the largest first."""
    files_left_out: Mapping[str, int]
    """Files that were skipped or failed for each reason, the largest first."""
    shared_chunks: int
    """Chunks that another ref of the repository holds too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryDocument:
    """One repository with its indexes."""

    repository: str
    """Its name."""
    url: str
    """Where it is."""
    mirror_bytes: int | None
    """Size of its git mirror; null when there is none."""
    refs: Sequence[RefDetails]
    """Its indexes, by ref."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRemoved:
    """What went with a repository or a ref, and what stays."""

    repository: str
    """Its name."""
    url: str
    """Where it is."""
    refs: Sequence[str]
    """Refs that were removed."""
    files: int
    """File rows that went."""
    contents: int
    """Contents that only it had."""
    chunks: int
    """Chunks of those contents."""
    texts: int
    """Texts without a vector that no chunk has any more."""
    vectors_kept: int
    """Vectors of its texts that stay: indexing it again does not buy them."""
    texts_without_vector: int
    """Texts of it that had no vector yet."""
    texts_out: int
    """Texts of it that are being embedded; what comes back is kept."""
    jobs_ended: Sequence[str | None]
    """Ids of its unfinished runs, which ended with it."""
    collections_left: Sequence[str]
    """Collections of the vector index that could not be removed now; `gc` removes them."""
    mirror_bytes: int | None
    """Size of its git mirror, which went; null when it stays or there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpace:
    """Vectors of one model in a cache file."""

    provider: str
    """Who made them."""
    model: str
    """The model."""
    dimensions: int
    """Numbers in one vector."""
    vectors: int
    """How many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheExported:
    """A cache file that was written."""

    file: str
    """The file as it was named."""
    bytes: int
    """Its size."""
    vectors: int
    """Vectors in it."""
    spaces: Sequence[CacheSpace]
    """Its vectors by model."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheImported(CacheExported):
    """A cache file that was taken in."""

    new: int
    """Vectors that were not here before."""
    known: int
    """Vectors that were here already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup of the state database from before an update."""

    file: str
    """Its path."""
    bytes: int
    """Its size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptVectors:
    """What nothing refers to and is kept all the same."""

    vectors: int
    """Vectors that no chunk uses: they were paid for."""
    tokens: int
    """Tokens that were paid for them."""
    backups: Sequence[Backup]
    """Backups, to be removed by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageDocument:
    """What `gc` removed, or with --dry-run would remove."""

    dry_run: bool
    """Whether it was only counted."""
    indexes: int
    """Indexes that were never finished."""
    files: int
    """File rows of generations that are over."""
    contents: int
    """Contents that no file refers to."""
    chunks: int
    """Chunks of those contents."""
    texts: int
    """Texts that no chunk has any more and that have no vector."""
    vectors: int
    """Vectors that no chunk uses; only with --drop-cache."""
    collections: int
    """Collections of the vector index that no index names."""
    copies: int
    """Records of what vector stores held that are not used here any more, one for each index."""
    mirrors: int
    """Git mirrors of repositories that are not there."""
    leftovers: int
    """Files of batch jobs that are over, and of killed processes."""
    tokens: int
    """Tokens that were paid for the vectors that went."""
    bytes_freed: int
    """Disk space that is free again."""
    kept: KeptVectors
    """What is kept."""
    skipped: Sequence[str]
    """What could not be looked at or removed now, in sentences."""
