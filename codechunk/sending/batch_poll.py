"""From a remote job to vectors: look at it, download its results, take them by key, deal with the rest."""

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from codechunk.errors import CodechunkError, Denied, Missing, ProviderError, RateLimited, Rejected, Unavailable
from codechunk.process.crash import crash
from codechunk.providers.batch_words import RemoteJob
from codechunk.sending.batch_shared import BatchContext, StepResult
from codechunk.sending.retry import jittered_s, poll_wait_s
from codechunk.state import BatchRow, Member
from codechunk.state.batch_words import RequestKey
from codechunk.state.embeddings import Vectors

log = logging.getLogger(__name__)

SAVE_VECTORS = 100


@dataclass(slots=True)
class _Ingested:
    """What a result file held for the texts that were waited for."""

    open: dict[RequestKey, Member] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    taken: int = 0
    ignored: int = 0

    @property
    def nothing(self) -> bool:
        """Whether the file had no line at all."""
        return not (self.taken or self.errors or self.ignored)


class Poll:
    """Looks at one claimed batch job's remote job."""

    def __init__(self, context: BatchContext) -> None:
        self._context = context

    def __call__(self, batch: BatchRow, /) -> StepResult:
        """One look at its remote job, with all that follows; the claim is given back. Raises Denied, CodechunkError."""
        settings = self._context.settings
        try:
            job = self._context.provider.batch(batch.remote_name or "")
            crash("asked for its state")
            batch = self._context.state.batches.record(batch, remote_state=job.state_name, result_file=job.result_file)
            if not job.ended:
                return self._wait_on(batch, job)
            return self._take_results(batch, job)
        except Denied:
            self._context.later(batch, 0.0, "the provider refuses the key")
            raise
        except Missing as exc:
            return self._vanished(batch, exc)
        except RateLimited as exc:
            self._context.later(batch, jittered_s(exc.retry_after_s or settings.poller_interval_s), str(exc))
            return StepResult(polled=1)
        except (Unavailable, Rejected) as exc:
            self._context.later(batch, jittered_s(settings.poller_interval_s), str(exc))
            return StepResult(unreachable=[str(exc)])
        except CodechunkError:
            self._context.now(batch)  # without the claim it was no full disk: the new owner took the file away
            raise
        except OSError as exc:
            self._context.later(batch, settings.poller_interval_s, str(exc))
            raise CodechunkError(
                f"the results of batch job {batch.id[:12]} cannot be saved in {self._context.directory} "
                f"({exc.strerror}); they stay at the provider for two days: make space and run the same command again"
            ) from exc

    def _wait_on(self, batch: BatchRow, job: RemoteJob) -> StepResult:
        """Pending, running or in an unknown state: wait, but not for ever."""
        settings, now = self._context.settings, time.time()
        age_s = job.age_s if job.age_s is not None else now - (batch.submitted_at or now)
        if batch.cancel_began_at is None and age_s > settings.max_age_s:
            batch = self._context.state.batches.record(batch, cancel_began_at=now)
            crash("cancel intent recorded")
            self._context.provider.cancel_batch(job.name)
            log.warning(
                "Cancelled a batch job that is too old",
                extra={"action": "batch_too_old", "batch_id": batch.id, "age_s": round(age_s)},
            )
        elif batch.cancel_began_at is not None and 0 <= now - batch.cancel_began_at < settings.grace_s:
            # Asked again: the one who meant to may have been killed before, or the job not have been known yet.
            self._context.provider.cancel_batch(job.name)
        elif batch.cancel_began_at is not None:
            with suppress(ProviderError):  # it may end and be forgotten by the provider itself
                self._context.provider.cancel_batch(job.name)
                self._context.provider.delete_batch(job.name)
            return self._context.end_badly(
                batch, f"still {job.state_name} after {age_s / 3600:.0f} hours, and not to be cancelled"
            )
        wait_s = poll_wait_s(batch.texts, age_s, interval_s=settings.poller_interval_s)
        self._context.later(batch, min(wait_s, settings.grace_s) if batch.cancel_began_at else wait_s, batch.error)
        return StepResult(polled=1)

    def _vanished(self, batch: BatchRow, exc: Missing) -> StepResult:
        """The provider does not know the job (any more)."""
        young_s = time.time() - (batch.submitted_at or 0.0)
        if 0 <= young_s < self._context.settings.grace_s or self._is_listed(batch):
            self._context.later(batch, self._context.settings.poller_interval_s, str(exc))
            return StepResult(polled=1)
        return self._context.end_badly(batch, f"the remote job is gone: {exc}")

    def _is_listed(self, batch: BatchRow) -> bool:
        """Whether the provider's list has the job, or does not tell: one 404 is not worth the price of a job."""
        try:
            return any(job.name == batch.remote_name for job in self._context.provider.batches())
        except (Missing, RateLimited, Rejected, Unavailable):
            return True

    def _take_results(self, batch: BatchRow, job: RemoteJob) -> StepResult:
        """The remote job has ended: take every good vector first, then decide about the rest."""
        ingested = _Ingested()
        path = self._context.directory / f"{batch.id}-{batch.failures}.results.jsonl"
        if job.result_file is not None:
            if not path.exists():
                try:
                    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self._context.provider.download(job.result_file, path)
                except Missing as exc:
                    return self._without_results(batch, f"its results are gone: {exc}")
                except ProviderError:
                    raise
                except CodechunkError:
                    self._context.now(batch)  # raises when another process has taken over, and with it our file
                    raise
                crash("downloaded")
            ingested = self._ingest(batch, path)
            if ingested.nothing and job.rows_succeeded:
                path.unlink()
                return self._without_results(
                    batch, f"its result file is empty, and {job.rows_succeeded} rows succeeded"
                )
        done = StepResult(polled=1, texts_ready=ingested.taken)
        # Without a file nothing says of any text that it was tried: sent again, it must count as a failure of the job.
        succeeded = job.state in {"succeeded", "partially_succeeded"} and job.result_file is not None
        # Taken now, or before a kill: then their rows are here again and belong to no open text.
        some = ingested.taken or (batch.rows_ok and ingested.ignored)
        if succeeded and (some or not ingested.errors):
            done.add(self._complete(batch, ingested))
        else:
            without = "" if job.result_file else " without results"
            why = (
                f"every row failed, the first with: {next(iter(ingested.errors.values()))}"
                if succeeded
                else (job.error or f"the provider ended it as {job.state_name}{without}")
            )
            done.add(self._context.end_badly(self._context.now(batch), why))
        path.unlink(missing_ok=True)
        self._context.state.queue.end_throttle(only_quota=True)
        return done

    def _without_results(self, batch: BatchRow, why: str) -> StepResult:
        """The results cannot be found. Look twice before the job is given up: its texts would be bought again."""
        if batch.error == why:
            return self._context.end_badly(batch, why)
        self._context.later(batch, self._context.settings.poller_interval_s, why)
        return StepResult(polled=1)

    def _ingest(self, batch: BatchRow, path: Path) -> "_Ingested":
        """Take the good vectors of a result file by their keys, a hundred at a time."""
        members = {member.key: member for member in self._context.state.batches.members(batch)}
        ingested = _Ingested(open=dict(members))
        page: list[tuple[Member, Vectors, int | None]] = []
        for row in self._context.provider.read_results(path):
            member = ingested.open.get(RequestKey(row.key)) if row.key is not None else None
            if member is None:
                ingested.ignored += 1
                continue
            if row.vector is None:
                ingested.errors.setdefault(member.embedding_id, row.error or "no reason given")
                continue
            del ingested.open[member.key]
            ingested.errors.pop(member.embedding_id, None)
            page.append((member, row.vector, row.tokens))
            if len(page) == SAVE_VECTORS:
                self._take(batch, page)
                ingested.taken += len(page)
                page = []
        self._take(batch, page)
        ingested.taken += len(page)
        self._context.calibrator.save()
        return ingested

    def _take(self, batch: BatchRow, page: Sequence[tuple[Member, Vectors, int | None]]) -> None:
        if not page:
            return
        import numpy as np  # with the first results: commands that only look need not wait for it

        self._context.state.batches.take_vectors(
            batch,
            [member.embedding_id for member, _, _ in page],
            np.stack([vector for _, vector, _ in page]),
            [tokens for _, _, tokens in page],
        )
        for member, _, tokens in page:
            if tokens is not None and member.counted:
                self._context.calibrator.learn(member.tokens, tokens)
        crash("vectors saved")

    def _complete(self, batch: BatchRow, ingested: "_Ingested") -> StepResult:
        """Rows with errors and missing keys wait for a new job, or have failed; the batch job is done."""
        settings = self._context.settings
        errors = {member.embedding_id: "the results have no row for it" for member in ingested.open.values()}
        errors |= ingested.errors
        failed = 0
        if errors:
            retry_at = time.time() + jittered_s(settings.initial_backoff_s)
            failed = self._context.state.batches.take_errors(
                batch, errors, most_attempts=settings.max_retries + 1, next_at=retry_at
            )
            crash("errors recorded")
        self._context.state.batches.complete(batch, ignored=ingested.ignored)
        crash("batch completed")
        if batch.file_name is not None:
            with suppress(ProviderError):  # it expires by itself
                self._context.provider.delete_file(batch.file_name)
        log.debug(
            "Ingested batch",
            extra={
                "action": "batch_completed",
                "batch_id": batch.id,
                "texts": batch.texts,
                "errors": len(errors),
                "ignored": ingested.ignored,
            },
        )
        return StepResult(completed=1, texts_failed=failed)
