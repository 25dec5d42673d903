"""What codechunk answers: one frozen value for each document of `--json`, the same for commands and library.

The attribute docstrings are the descriptions of the JSON Schemas in docs/schema/ (`scripts/make_schemas.py`). Names and
order of the fields are the keys of the JSON, and a contract: fields are added, never renamed. Pure values, no logic.

Each module is imported at the first use of one of its documents: to make a dataclass costs half a millisecond, and a
command needs few of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codechunk.documents.about import ConfigCheck, Setting, Versions
    from codechunk.documents.answers import Answer, ChunkLine, Matched, ShownFile, Span
    from codechunk.documents.health import Finding, FindingStatus
    from codechunk.documents.index import (
        ChunkChanges,
        Cost,
        DryRunDocument,
        EmbeddingFigures,
        EstimatedFiles,
        EstimateDocument,
        FileChanges,
        IndexChanges,
        IndexChunks,
        IndexDocument,
        IndexFiles,
        PathReason,
        PlannedChunks,
        PlannedCost,
        PlannedFiles,
        PlannedSecrets,
        PlannedTokens,
        Price,
        Saved,
        SecretFigures,
        SecretPlace,
        TextChanges,
        TokenFigures,
    )
    from codechunk.documents.json import IN_MEMORY_ONLY, to_json
    from codechunk.documents.queue import (
        BatchJob,
        FailedChunk,
        JobCancelled,
        JobChunks,
        JobDetails,
        JobDocument,
        KeptBatch,
        QueueFlush,
        QueueRetry,
        QueueStatus,
        QueueSync,
        RemoteBatch,
    )
    from codechunk.documents.upkeep import (
        Backup,
        CacheExported,
        CacheImported,
        CacheSpace,
        GarbageDocument,
        IndexEntry,
        KeptVectors,
        RefDetails,
        RepositoryDocument,
        RepositoryRemoved,
        UnfinishedJob,
    )

__all__ = [
    "IN_MEMORY_ONLY",
    "Answer",
    "Backup",
    "BatchJob",
    "CacheExported",
    "CacheImported",
    "CacheSpace",
    "ChunkChanges",
    "ChunkLine",
    "ConfigCheck",
    "Cost",
    "DryRunDocument",
    "EmbeddingFigures",
    "EstimateDocument",
    "EstimatedFiles",
    "FailedChunk",
    "FileChanges",
    "Finding",
    "FindingStatus",
    "GarbageDocument",
    "IndexChanges",
    "IndexChunks",
    "IndexDocument",
    "IndexEntry",
    "IndexFiles",
    "JobCancelled",
    "JobChunks",
    "JobDetails",
    "JobDocument",
    "KeptBatch",
    "KeptVectors",
    "Matched",
    "PathReason",
    "PlannedChunks",
    "PlannedCost",
    "PlannedFiles",
    "PlannedSecrets",
    "PlannedTokens",
    "Price",
    "QueueFlush",
    "QueueRetry",
    "QueueStatus",
    "QueueSync",
    "RefDetails",
    "RemoteBatch",
    "RepositoryDocument",
    "RepositoryRemoved",
    "Saved",
    "SecretFigures",
    "SecretPlace",
    "Setting",
    "ShownFile",
    "Span",
    "TextChanges",
    "TokenFigures",
    "UnfinishedJob",
    "Versions",
    "to_json",
]

_MODULES = {
    "about": "ConfigCheck Setting Versions",
    "answers": "Answer ChunkLine Matched ShownFile Span",
    "health": "Finding FindingStatus",
    "index": "ChunkChanges Cost DryRunDocument EmbeddingFigures EstimateDocument EstimatedFiles FileChanges "
    "IndexChanges IndexChunks IndexDocument IndexFiles PathReason PlannedChunks PlannedCost PlannedFiles "
    "PlannedSecrets PlannedTokens Price Saved SecretFigures SecretPlace TextChanges TokenFigures",
    "json": "IN_MEMORY_ONLY to_json",
    "queue": "BatchJob FailedChunk JobCancelled JobChunks JobDetails JobDocument KeptBatch QueueFlush QueueRetry "
    "QueueStatus QueueSync RemoteBatch",
    "upkeep": "Backup CacheExported CacheImported CacheSpace GarbageDocument IndexEntry KeptVectors RefDetails "
    "RepositoryDocument RepositoryRemoved UnfinishedJob",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'codechunk.documents' has no attribute {name!r}")
    return getattr(import_module(f"codechunk.documents.{_MODULE_OF[name]}"), name)
