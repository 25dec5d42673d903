"""The ledger of one run, and what it becomes: the document of `index`, and what is kept of it with the run. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from codechunk.documents import (
    ChunkChanges,
    Cost,
    EmbeddingFigures,
    FileChanges,
    IndexChanges,
    IndexChunks,
    IndexDocument,
    IndexFiles,
    Saved,
    SecretFigures,
    TextChanges,
    TokenFigures,
)
from codechunk.errors import CodechunkError, LedgerError
from codechunk.indexing.mode import Choice
from codechunk.state import IndexRow
from codechunk.state.compare import Changes
from codechunk.text.money import rounded_usd
from codechunk.workspace.run_plan import Outcome

STATES = ("pending", "processing", "ready", "failed", "unstored")


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
            LedgerError: files are missing, which is a bug, but one the user must hear of.
            CodechunkError: vectors are missing in the vector index.
        """
        accounted = self.count("indexed") + self.count("skipped") + self.count("failed")
        if accounted != self.discovered or self.count("planned"):
            raise LedgerError(
                f"the ledger does not balance: {self.discovered} files discovered, {accounted} accounted "
                f"for; nothing was published, please report this"
            )
        if self.chunks["unstored"]:
            raise CodechunkError(
                f"{self.chunks['unstored']} chunks have a vector that did not reach the vector index; "
                f"nothing was published, run the same command again",
                kind="damaged",
            )

    @property
    def status(self) -> Literal["succeeded", "partial", "embedding"]:
        """`succeeded`, or `partial` when a file or a chunk failed, or `embedding` while chunks wait."""
        if self.chunks["pending"] or self.chunks["processing"]:
            return "embedding"
        return "partial" if self.chunks["failed"] or self.count("failed") else "succeeded"


def extrapolate(mode: str, sums: tuple[int, int, int, int, int]) -> TokenFigures:
    """The token total from what was counted.

    Args:
        sums: all chunks, counted chunks, their tokens, characters of all chunks, characters of the counted.
            What was not counted is taken to have as many tokens per character as what was.
    """
    chunks, counted, tokens, characters, counted_characters = sums
    if counted == chunks:
        return TokenFigures(mode=mode, counted=counted, total=tokens, estimated=False)
    if mode == "on_demand" or not counted_characters:
        return TokenFigures(mode=mode, counted=counted, total=None, estimated=False)
    return TokenFigures(
        mode=mode, counted=counted, total=round(tokens * characters / counted_characters), estimated=True
    )


def document(
    *,
    job_id: str,
    index: IndexRow,
    commit: str,
    mode: Choice,
    ledger: Ledger,
    tokens: TokenFigures,
    saved: Saved,
    published: bool,
    secrets_mode: str,
    seconds: float,
) -> IndexDocument:
    """What came of a run, from its ledger."""
    bought = ledger.bought
    return IndexDocument(
        job_id=job_id,
        repository=index.repository,
        url=index.url,
        ref=index.ref,
        commit=commit,
        status=ledger.status,
        published=published,
        mode=mode.mode,
        mode_reason=mode.reason,
        files=_files(ledger),
        chunks=_chunks(ledger),
        changes=_changes(ledger, saved),
        tokens=tokens,
        embedding=EmbeddingFigures(
            provider=index.space.provider,
            model=index.space.model,
            dimensions=index.space.dimensions,
            requests=bought.requests,
            texts_sent=bought.texts_sent,
            batches=bought.batches,
            fallbacks=bought.fallbacks,
        ),
        secrets=SecretFigures(mode=secrets_mode, found=ledger.secrets[0], files=ledger.secrets[1]),
        cost=Cost(currency="USD", estimated=rounded_usd(bought.estimated_usd), spent=rounded_usd(bought.spent_usd)),
        seconds=round(max(0.0, seconds), 3),
    )


def outcome(ledger: Ledger, tokens: TokenFigures) -> Outcome:
    """What the next run and `jobs` need to know of this one."""
    chunks = _chunks(ledger)
    return Outcome(
        discovered=ledger.discovered,
        files=[(status, reason, count) for (status, reason), count in ledger.files.items()],
        chunks={**{item.name: getattr(chunks, item.name) for item in fields(chunks)}, **ledger.chunks},
        counted=tokens.counted,
        tokens=tokens.total,
        estimated=tokens.estimated,
        secrets=ledger.secrets,
        spent_usd=ledger.bought.spent_usd,
    )


def as_it_was(outcome: Outcome, token_mode: str) -> tuple[Ledger, TokenFigures]:
    """The ledger and the tokens of a run that found nothing to do, from the outcome of the one before it."""
    ledger = Ledger(
        discovered=outcome.discovered,
        files={(status, reason): count for status, reason, count in outcome.files},
        unchanged=outcome.discovered,
        deleted_files=0,
        chunks={state: outcome.chunks.get(state, 0) for state in STATES},
        changes=Changes(),
        bought=Bought(),
        secrets=outcome.secrets,
    )
    tokens = TokenFigures(mode=token_mode, counted=outcome.counted, total=outcome.tokens, estimated=outcome.estimated)
    return ledger, tokens


def _files(ledger: Ledger) -> IndexFiles:
    return IndexFiles(
        discovered=ledger.discovered,
        indexed=ledger.count("indexed"),
        unchanged=ledger.unchanged,
        skipped=ledger.count("skipped"),
        failed=ledger.count("failed"),
        deleted=ledger.deleted_files,
        skipped_by_reason=ledger.skipped_by_reason(),
    )


def _changes(ledger: Ledger, saved: Saved) -> IndexChanges:
    """What the run found different; `unchanged` files and `reused` chunks are those that are as they were."""
    changes, bought = ledger.changes, ledger.bought
    usable = ledger.total - ledger.chunks["failed"]
    other_files = changes.files_added + changes.files_changed + changes.files_moved
    other_chunks = changes.chunks_added + changes.chunks_changed + changes.chunks_moved
    return IndexChanges(
        files=FileChanges(
            added=changes.files_added,
            changed=changes.files_changed,
            moved=changes.files_moved,
            deleted=changes.files_deleted,
            unchanged=ledger.discovered - other_files,
        ),
        chunks=ChunkChanges(
            added=changes.chunks_added,
            changed=changes.chunks_changed,
            moved=changes.chunks_moved,
            deleted=changes.chunks_deleted,
            reused=ledger.total - other_chunks,
        ),
        texts=TextChanges(
            sent=bought.texts_sent,
            out=bought.texts_out,
            reused=max(0, usable - bought.texts_sent - bought.texts_out),
        ),
        saved=saved,
    )


def _chunks(ledger: Ledger) -> IndexChunks:
    states, total = ledger.chunks, ledger.total
    return IndexChunks(
        total=total,
        new=ledger.changes.ids_new,
        reused=total - ledger.changes.ids_new,
        deleted=ledger.changes.ids_gone,
        ready=states["ready"],
        pending=states["pending"],
        processing=states["processing"],
        failed=states["failed"],
    )
