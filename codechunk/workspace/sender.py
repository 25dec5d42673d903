"""Builds what sends texts to a provider: the worker of one vector space, with its batch jobs, limits and settings."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache

from codechunk import providers
from codechunk.config.settings import Config
from codechunk.errors import UsageError
from codechunk.progress import BatchView, Reporter
from codechunk.providers import BatchClient, BatchLimits, Client, Provider
from codechunk.sending.batch import BatchJobs, BatchSettings, NoBatchJobs
from codechunk.sending.batch_view import batch_views
from codechunk.sending.direct import Direct
from codechunk.sending.owner import new_owner
from codechunk.sending.worker import BATCHES_ARE_OFF, Worker, WorkerSettings
from codechunk.state import Space
from codechunk.workspace.workspace import Workspace

log = logging.getLogger(__name__)


@contextmanager
def open_sender(
    workspace: Workspace,
    *,
    space: Space,
    space_id: int,
    reporter: Reporter,
    job_id: str | None = None,
    settle: Callable[[], int] = lambda: 0,
) -> Iterator[Worker]:
    """What sends the texts of a vector space that wait for its provider.

    Args:
        job_id: show only batch jobs of this run of index.
        settle: finishes index runs whose vectors have come.
    """
    config, state = workspace.config, workspace.state
    owner, provider = new_owner(), providers.get(space.provider)
    with ExitStack() as opened:
        client = opened.enter_context(closing(workspace.client(space)))

        @cache
        def other(space_id: int) -> BatchJobs | None:
            return _other_batch_jobs(workspace, space_id, owner, opened)

        def others() -> list[BatchJobs]:
            out = [other(id_) for id_ in state.batches.spaces_out() if id_ != space_id]
            return [jobs for jobs in out if jobs is not None]

        direct = Direct(
            state=state,
            provider=client,
            space_id=space_id,
            owner=owner,
            calibrator=workspace.estimates.calibrator(space_id, space, client),
            concurrency=0 if provider.in_process else config.embedding.direct_concurrency,
            texts_per_call=_texts_per_call(config, provider),
            lease_s=config.batch_processing.lease.total_seconds(),
            free=provider.free,
            on_saved=reporter.advance,
        )
        yield Worker(
            state=state,
            space_id=space_id,
            owner=owner,
            batch_jobs=_batch_jobs(workspace, space, space_id, client, owner) or NoBatchJobs(provider.title),
            others=others,
            direct=direct,
            settings=_worker_settings(config, provider),
            settle=settle,
            watch=lambda: reporter.batches(_views(workspace, job_id)),
        )


def _batch_jobs(workspace: Workspace, space: Space, space_id: int, client: Client, owner: str) -> BatchJobs | None:
    """The batch jobs of a vector space; None when its provider has none."""
    provider = providers.get(space.provider)
    if provider.batch is None or not isinstance(client, BatchClient):
        return None
    return BatchJobs(
        state=workspace.state,
        provider=client,
        calibrator=workspace.estimates.calibrator(space_id, space, client),
        space_id=space_id,
        settings=_batch_settings(workspace.config, provider.batch),
        directory=workspace.config.data_dir / "batches",
        owner=owner,
    )


def _other_batch_jobs(workspace: Workspace, space_id: int, owner: str, opened: ExitStack) -> BatchJobs | None:
    """The batch jobs of a space that is not the configured one any more; None while its provider cannot be used."""
    space = workspace.state.catalog.space(space_id)
    try:
        client = opened.enter_context(closing(workspace.client(space)))
    except UsageError as exc:
        log.warning(
            f"Batch jobs of {space.model} are not looked at",
            extra={"action": "space_left_alone", "space": space_id, "why": str(exc)},
        )
        return None
    return _batch_jobs(workspace, space, space_id, client, owner)


def _texts_per_call(config: Config, provider: Provider) -> int:
    most = provider.texts_per_call
    return most if provider.in_process else min(config.embedding.direct_batch, most)


def _worker_settings(config: Config, provider: Provider) -> WorkerSettings:
    batch = config.batch_processing
    return WorkerSettings(
        batches=batch.enabled and provider.batch is not None,
        why_direct=provider.why_direct or BATCHES_ARE_OFF,
        min_queue_size=config.worker.min_queue_size,
        max_queue_size=batch.queue_limits.max_queue_size,
        max_wait_s=batch.queue_limits.max_wait_time.total_seconds(),
        poller_interval_s=batch.poller_interval.total_seconds(),
        lease_s=batch.lease.total_seconds(),
    )


def _batch_settings(config: Config, limits: BatchLimits) -> BatchSettings:
    batch = config.batch_processing
    return BatchSettings(
        prefix=batch.display_name_prefix,
        priority=batch.priority,
        max_texts=min(batch.max_batch_size, limits.texts or batch.max_batch_size),
        max_tokens=batch.max_batch_tokens,
        fall_back=batch.fallback_to_sequential,
        initial_backoff_s=batch.initial_backoff.total_seconds(),
        max_backoff_s=batch.max_backoff.total_seconds(),
        max_retries=batch.max_retries,
        submitter_poll_s=batch.submitter_poll_interval.total_seconds(),
        submission_initial_s=batch.submission_initial_backoff.total_seconds(),
        submission_max_s=batch.submission_max_backoff.total_seconds(),
        max_submissions=batch.max_submission_attempts,
        concurrent_submissions=batch.max_concurrent_submissions,
        poller_interval_s=batch.poller_interval.total_seconds(),
        concurrent_polls=batch.max_concurrent_polls,
        max_age_s=batch.max_job_age.total_seconds(),
        grace_s=batch.reconcile_grace.total_seconds(),
        lease_s=batch.lease.total_seconds(),
        max_bytes=limits.bytes,
    )


def _views(workspace: Workspace, job_id: str | None) -> list[BatchView]:
    """The batch jobs as they are shown: those of a run of index, or all that are open; the oldest first."""
    rows = workspace.state.batches.rows(open_only=job_id is None, job_id=job_id)
    rows = rows[::-1]
    return batch_views(workspace.state, rows, workspace.estimates.of_batches(rows))
