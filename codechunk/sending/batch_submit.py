"""From an intent to a remote job: write the file, upload it, create the job, record its name.

An unclear answer to a create is never followed by another create, but by a look at the provider's list.
"""

import hashlib
import logging
import time
from contextlib import suppress
from pathlib import Path

from codechunk.errors import CodechunkError, Denied, Missing, ProviderError, RateLimited, Rejected, Unavailable
from codechunk.process.crash import crash
from codechunk.providers.batch_words import RemoteFile, RemoteJob
from codechunk.sending.batch_shared import BatchContext, StepResult
from codechunk.sending.retry import backoff_s, jittered_s, poll_wait_s
from codechunk.state import BatchRow

log = logging.getLogger(__name__)

# A file that expires sooner than this is not used for another job.
FILE_MARGIN_S = 3600.0
FILE_LIFE_S = 47 * 3600.0


class Submit:
    """Moves one claimed batch job towards a recorded remote job."""

    def __init__(self, context: BatchContext) -> None:
        self._context = context

    def __call__(self, batch: BatchRow, /) -> StepResult:
        """One step towards a recorded remote job, and the claim is given back. Raises Denied, CodechunkError."""
        settings = self._context.settings
        batch = self._context.state.batches.record(batch, state="submitting")
        try:
            if batch.create_began_at is not None:
                return self._reconcile(batch)
            uploaded = self._uploaded(batch)
            return StepResult() if uploaded is None else self._create(uploaded)
        except Denied:
            self._context.later(self._context.now(batch), 0.0, "the provider refuses the key")
            raise
        except RateLimited as exc:
            return self._turned_away(self._context.now(batch), exc)
        except Missing as exc:
            return self._without_file(self._context.now(batch), exc)
        except Rejected as exc:
            return self._context.end_badly(
                self._context.now(batch), f"the provider rejected the job: {exc}", final=True
            )
        except Unavailable as exc:
            # If this was the create, the job may exist now: the list decides, asked at once and after the grace time.
            self._context.later(self._context.now(batch), settings.submitter_poll_s, str(exc))
            return StepResult(unreachable=[str(exc)])
        except OSError as exc:
            self._context.later(self._context.now(batch), settings.submitter_poll_s, str(exc))
            raise CodechunkError(
                f"the file of batch job {batch.id[:12]} cannot be written in {self._context.directory} "
                f"({exc.strerror}); nothing was sent: make space and run the same command again"
            ) from exc

    def _uploaded(self, batch: BatchRow) -> BatchRow | None:
        """The batch job with an input file at the provider; None when no text is left to send.

        A file of an earlier attempt that is still valid is used again; one whose upload had no clear end is looked
        for by its name and taken when its content is right.
        """
        usable = batch.file_expires_at is not None and batch.file_expires_at > time.time() + FILE_MARGIN_S
        if batch.file_name is not None and usable:
            return batch
        path = self._context.directory / f"{batch.id}.jsonl"
        written = self._write_input(batch, path)
        if written is None:
            self._context.give_up(batch, "cancelled", "no text is left to send", fall_back=False)
            return None
        batch, sha = written
        self._within_limit(path)
        found = None
        if batch.upload_began_at is not None:
            found = self._found_upload(batch, sha, path.stat().st_size)
        if found is None:
            batch = self._context.state.batches.record(batch, upload_began_at=time.time(), file_sha=sha)
            crash("upload intent recorded")
            found = self._context.provider.upload(path, display_name=batch.file_display_name)
            crash("uploaded")
        batch = self._context.state.batches.record(
            batch,
            file_name=found.name,
            file_sha=sha,
            file_expires_at=found.expires_at or time.time() + FILE_LIFE_S,
        )
        crash("upload recorded")
        path.unlink(missing_ok=True)
        return batch

    def _found_upload(self, batch: BatchRow, sha: str, size_bytes: int) -> RemoteFile | None:
        for file in self._context.provider.files_named(batch.file_display_name):
            fresh = file.expires_at is None or file.expires_at > time.time() + FILE_MARGIN_S
            if file.active and fresh and file.sha256 == sha and file.size_bytes in {None, size_bytes}:
                return file
        return None

    def _within_limit(self, path: Path) -> None:
        size, most = path.stat().st_size, self._context.settings.max_bytes
        if most is not None and size > most:
            raise Rejected(f"its input file has {size:,} bytes, and the provider takes {most:,}")

    def _write_input(self, batch: BatchRow, path: Path) -> tuple[BatchRow, str] | None:
        """Write the JSONL of the batch job as a stream. None when nothing is left to send, else its sha256 too."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256()
        unwanted: list[int] = []
        count = tokens = 0
        with path.open("wb") as file:
            for member in self._context.state.batches.members(batch):
                if member.text is None:
                    unwanted.append(member.embedding_id)
                    continue
                reason = self._context.calibrator.check(member.text, member.tokens)
                if reason is not None:
                    self._context.state.queue.fail(member.embedding_id, reason)
                    continue
                line = self._context.provider.write_line(member.key, member.text)
                digest.update(line)
                file.write(line)
                count += 1
                tokens += member.tokens
        path.chmod(0o600)
        if unwanted:
            self._context.state.batches.drop_members(batch, unwanted)
        if not count:
            path.unlink()
            return None
        return self._context.state.batches.record(batch, texts=count, tokens=tokens), digest.hexdigest()

    def _create(self, batch: BatchRow) -> StepResult:
        file_name = batch.file_name
        if file_name is None:
            raise AssertionError("a job is created from a file")
        batch = self._context.state.batches.record(batch, create_began_at=time.time())
        crash("create intent recorded")
        self._context.state.batches.still_mine(batch, lease_s=self._context.settings.lease_s)
        try:
            job = self._context.provider.create_batch(
                file_name, display_name=batch.display_name, priority=batch.priority
            )
        except ProviderError as exc:
            # A clear no, or nobody heard us. Else the grace time begins now: it may have been done until now.
            no_effect = not isinstance(exc, Unavailable) or not exc.sent
            self._context.state.batches.record(batch, create_began_at=None if no_effect else time.time())
            raise
        crash("created")
        self._recorded(batch, job)
        return StepResult(submitted=1)

    def _recorded(self, batch: BatchRow, job: RemoteJob) -> None:
        """Record which remote job carries the batch; the intent has come true."""
        self._context.state.batches.record(
            batch,
            release=True,
            state="processing",
            remote_name=job.name,
            remote_state=job.state_name,
            submitted_at=time.time(),
            submissions=0,
            error=None,
            next_at=time.time() + poll_wait_s(batch.texts, 0.0, interval_s=self._context.settings.poller_interval_s),
        )
        self._context.state.queue.end_throttle()
        crash("remote name recorded")
        log.info(
            "Submitted batch",
            extra={"action": "batch_submitted", "batch_id": batch.id, "remote": job.name, "texts": batch.texts},
        )

    def _reconcile(self, batch: BatchRow) -> StepResult:
        """After an unclear answer or a crash around a create: adopt the remote job when there is one.

        Only when the list does not show it after the grace time was it never made, and may be created.
        """
        began = batch.create_began_at or 0.0
        if began > time.time():  # the clock was set back
            began = time.time()
            batch = self._context.state.batches.record(batch, create_began_at=began)
        try:
            keep = self._only_twin(batch)
        except (RateLimited, Rejected, Missing) as exc:  # of the list, not of the create: that is still unclear
            raise Unavailable(str(exc)) from exc
        crash("listed")
        if keep is not None:
            self._recorded(batch, keep)
            return StepResult(submitted=1)
        left = began + self._context.settings.grace_s - time.time()
        if left > 0:
            self._context.later(batch, min(left, self._context.settings.grace_s), batch.error)
            return StepResult()
        if batch.cancelled_by_user:
            self._context.give_up(batch, "cancelled", "cancelled by a person", fall_back=False)
            return StepResult()
        batch = self._context.state.batches.record(batch, create_began_at=None)
        uploaded = self._uploaded(batch)
        return StepResult() if uploaded is None else self._create(uploaded)

    def _only_twin(self, batch: BatchRow) -> RemoteJob | None:
        """The remote job of this batch; when there are several, the best of them after the others were cancelled."""
        found = [job for job in self._context.provider.batches() if job.display_name == batch.display_name]
        if not found:
            return None
        keep, *extras = sorted(found, key=_worth)
        for job in extras:
            log.warning(
                "Cancelled a second remote job of one batch",
                extra={"action": "batch_extra_cancelled", "batch_id": batch.id, "remote": job.name},
            )
            if not job.ended:
                self._context.provider.cancel_batch(job.name)
            with suppress(Missing, Rejected):
                self._context.provider.delete_batch(job.name)
        return keep

    def _without_file(self, batch: BatchRow, exc: Missing) -> StepResult:
        """The uploaded file is gone: upload it again. Or the model is not there, which is refused in the same way."""
        settings = self._context.settings
        submissions = batch.submissions + 1
        if submissions >= settings.max_submissions:
            return self._context.end_badly(batch, f"refused {submissions} times: {exc}", final=True)
        forget = {"file_name": None, "upload_began_at": None, "submissions": submissions}
        self._context.later(batch, settings.submitter_poll_s, str(exc), **forget)
        return StepResult()

    def _turned_away(self, batch: BatchRow, exc: RateLimited) -> StepResult:
        """429: everybody waits. Without a time, the quota of enqueued tokens is full until an active job ends."""
        settings = self._context.settings
        quota = exc.retry_after_s is None

        def wait_s(step: int) -> float:
            own = backoff_s(step, initial_s=settings.submission_initial_s, most_s=settings.submission_max_s)
            return own if exc.retry_after_s is None else jittered_s(exc.retry_after_s)

        throttle = self._context.state.queue.raise_throttle(wait_s=wait_s, reason=str(exc), quota=quota)
        # Waiting for our own jobs to end is no failed attempt: it ends with them.
        waits_for_ours = quota and self._context.state.batches.active(self._context.space_id) > 0
        submissions = batch.submissions + (0 if waits_for_ours else 1)
        log.warning(
            "Submission turned away",
            extra={
                "action": "submission_throttled",
                "batch_id": batch.id,
                "wait_s": round(throttle.until - time.time()),
                "step": throttle.step,
                "quota": quota,
            },
        )
        if submissions >= settings.max_submissions:
            return self._context.end_badly(batch, f"turned away {submissions} times: {exc}", final=True)
        self._context.state.batches.record(
            batch,
            release=True,
            state="pending_submission",
            submissions=submissions,
            error=str(exc),
            next_at=time.time(),
        )
        return StepResult()


def _worth(job: RemoteJob) -> tuple[int, float]:
    """Which of several remote jobs of one batch to keep: one with results, then a live one, the oldest of them."""
    order = {"succeeded": 0, "partially_succeeded": 1, "running": 2, "pending": 3, "unknown": 4}
    return order.get(job.state, 5), job.created_at or 0.0
