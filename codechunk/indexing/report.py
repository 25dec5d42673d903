"""The ledger of one run as the document of `index --json`. Pure; its keys are a contract (docs/design.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from codechunk.errors import CodechunkError
from codechunk.state.compare import Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """What one run sent and paid: direct calls, texts with their repetitions, batch jobs, jobs that fell back.

    `texts_out` wait or are in batch jobs: they are counted as sent, and paid, when they come back.

    Money in USD; None where no price of the model is known.
    """

    requests: int = 0
    texts_sent: int = 0
    texts_out: int = 0
    batches: int = 0
    fallbacks: int = 0
    estimated_usd: float | None = 0.0
    spent_usd: float | None = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What is true of the indexed commit, read from the rows of the state database."""

    discovered: int
    files: Mapping[tuple[str, str | None], int]
    unchanged: int
    deleted_files: int
    chunks: Mapping[str, int]
    changes: Changes
    bought: Bought
    failed_files: list[tuple[str, str]] = field(default_factory=list)
    secrets: tuple[int, int] = (0, 0)
    """Secrets found in the files that were read, and how many files hold them."""

    @property
    def total(self) -> int:
        """All chunks."""
        return sum(self.chunks[name] for name in ("pending", "processing", "ready", "failed"))

    def count(self, status: str) -> int:
        """Files with this status."""
        return sum(number for (name, _), number in self.files.items() if name == status)

    def skipped_by_reason(self) -> dict[str, int]:
        """Skipped files per reason, the most frequent first."""
        found = {reason or "": number for (name, reason), number in self.files.items() if name == "skipped"}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def balance(self) -> None:
        """Nothing lost: discovered = indexed + skipped + failed, and no chunk without a state.

        Raises:
            CodechunkError: when it does not balance, which is a bug, but one the user must hear of.
        """
        accounted = self.count("indexed") + self.count("skipped") + self.count("failed")
        if accounted != self.discovered or self.count("planned"):
            raise CodechunkError(
                f"the ledger does not balance: {self.discovered} files discovered, {accounted} accounted "
                f"for; nothing was published, please report this"
            )
        if self.chunks["unstored"]:
            raise CodechunkError(
                f"{self.chunks['unstored']} chunks have a vector that did not reach the vector index; "
                f"nothing was published, run the same command again"
            )

    @property
    def status(self) -> str:
        """`succeeded`, or `partial` when a file or a chunk failed, or `embedding` while chunks wait."""
        if self.chunks["pending"] or self.chunks["processing"]:
            return "embedding"
        return "partial" if self.chunks["failed"] or self.count("failed") else "succeeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """What embedding everything anew would have cost more; None where tokens or prices are not known."""

    tokens: int | None
    usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Token figures: chunks counted exactly, the total, and whether that total is an estimate.

    `total` is None when nothing was counted and nothing can be extrapolated from.
    """

    mode: str
    counted: int
    total: int | None
    estimated: bool


def extrapolate(mode: str, sums: tuple[int, int, int, int, int]) -> Tokens:
    """The token total from what was counted.

    Args:
        sums: all chunks, counted chunks, their tokens, characters of all chunks, characters of the counted.
            What was not counted is taken to have as many tokens per character as what was.
    """
    chunks, counted, tokens, characters, counted_characters = sums
    if counted == chunks:
        return Tokens(mode=mode, counted=counted, total=tokens, estimated=False)
    if mode == "on_demand" or not counted_characters:
        return Tokens(mode=mode, counted=counted, total=None, estimated=False)
    return Tokens(mode=mode, counted=counted, total=round(tokens * characters / counted_characters), estimated=True)


def document(
    *,
    job_id: str,
    repository: str,
    url: str,
    ref: str,
    commit: str,
    mode: str,
    mode_reason: str,
    ledger: Ledger,
    tokens: Tokens,
    saved: Saved,
    published: bool,
    provider: str,
    model: str,
    dimensions: int,
    secrets_mode: str,
    seconds: float,
) -> dict[str, Any]:
    """The JSON document of `index --json`."""
    return {
        "job_id": job_id,
        "repository": repository,
        "url": url,
        "ref": ref,
        "commit": commit,
        "status": ledger.status,
        "published": published,
        "mode": mode,
        "mode_reason": mode_reason,
        "files": _files(ledger),
        "chunks": _chunks(ledger),
        "changes": _changes(ledger, saved),
        "tokens": {
            "mode": tokens.mode,
            "counted": tokens.counted,
            "total": tokens.total,
            "estimated": tokens.estimated,
        },
        "embedding": {
            "provider": provider,
            "model": model,
            "dimensions": dimensions,
            "requests": ledger.bought.requests,
            "texts_sent": ledger.bought.texts_sent,
            "batches": ledger.bought.batches,
            "fallbacks": ledger.bought.fallbacks,
        },
        "secrets": secrets_document(secrets_mode, *ledger.secrets),
        "cost": {
            "currency": "USD",
            "estimated": _rounded(ledger.bought.estimated_usd),
            "spent": _rounded(ledger.bought.spent_usd),
        },
        "seconds": round(seconds, 3),
    }


def unchanged(previous: Mapping[str, Any], *, job_id: str, seconds: float, saved: Saved) -> dict[str, Any]:
    """The document of a run that found nothing to do, from that of the run before it."""
    files, chunks = previous["files"], previous["chunks"]
    return {
        **previous,
        "job_id": job_id,
        "mode": "sequential",
        "mode_reason": "nothing changed",
        "files": {**files, "unchanged": files["discovered"], "deleted": 0},
        "chunks": {**chunks, "new": 0, "reused": chunks["total"], "deleted": 0},
        "changes": _changes_document(Changes(), files["discovered"], chunks["total"], Bought(), chunks["ready"], saved),
        "embedding": {**previous["embedding"], "requests": 0, "texts_sent": 0, "batches": 0, "fallbacks": 0},
        "cost": {"currency": "USD", "estimated": 0.0, "spent": 0.0},
        "seconds": round(seconds, 3),
    }


def secrets_document(mode: str, found: int, files: int) -> dict[str, Any]:
    """What became of secrets: the configured `mode`, and how many were found in how many files."""
    return {"mode": mode, "found": found, "files": files}


def _rounded(usd: float | None) -> float | None:
    """Money to a ten-thousandth of a cent: single texts cost less than a cent."""
    return None if usd is None else round(usd, 6)


def _files(ledger: Ledger) -> dict[str, Any]:
    return {
        "discovered": ledger.discovered,
        "indexed": ledger.count("indexed"),
        "unchanged": ledger.unchanged,
        "skipped": ledger.count("skipped"),
        "failed": ledger.count("failed"),
        "deleted": ledger.deleted_files,
        "skipped_by_reason": ledger.skipped_by_reason(),
    }


def _changes(ledger: Ledger, saved: Saved) -> dict[str, Any]:
    usable = ledger.total - ledger.chunks["failed"]
    reused = max(0, usable - ledger.bought.texts_sent - ledger.bought.texts_out)
    return _changes_document(ledger.changes, ledger.discovered, ledger.total, ledger.bought, reused, saved)


def _changes_document(
    changes: Changes, files: int, chunks: int, bought: Bought, reused: int, saved: Saved
) -> dict[str, Any]:
    """What the run found different; `unchanged` files and `reused` chunks are those that are as they were."""
    return {
        "files": {
            "added": changes.files_added,
            "changed": changes.files_changed,
            "moved": changes.files_moved,
            "deleted": changes.files_deleted,
            "unchanged": files - changes.files_added - changes.files_changed - changes.files_moved,
        },
        "chunks": {
            "added": changes.chunks_added,
            "changed": changes.chunks_changed,
            "moved": changes.chunks_moved,
            "deleted": changes.chunks_deleted,
            "reused": chunks - changes.chunks_added - changes.chunks_changed - changes.chunks_moved,
        },
        "texts": {
            "sent": bought.texts_sent,
            "out": bought.texts_out,
            "reused": reused,
        },
        "saved": {"tokens": saved.tokens, "usd": _rounded(saved.usd)},
    }


def _chunks(ledger: Ledger) -> dict[str, int]:
    states, total = ledger.chunks, ledger.total
    return {
        "total": total,
        "new": ledger.changes.ids_new,
        "reused": total - ledger.changes.ids_new,
        "deleted": ledger.changes.ids_gone,
        "ready": states["ready"],
        "pending": states["pending"],
        "processing": states["processing"],
        "failed": states["failed"],
    }
