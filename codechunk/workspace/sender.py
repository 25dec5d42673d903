"""Builds what sends texts to a provider: the worker of one vector space, with its machines, limits and pace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from codechunk.config.settings import Config
from codechunk.progress import BatchView, Reporter
from codechunk.sending.batch import BatchSettings, Machine
from codechunk.sending.batch_view import batch_views
from codechunk.sending.direct import Direct
from codechunk.sending.owner import new_owner
from codechunk.sending.worker import Pace, Worker
from codechunk.state import Space
from codechunk.workspace.workspace import Workspace, form_of


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
    config, state, batch = workspace.config, workspace.state, workspace.config.batch_processing
    owner = new_owner()
    with workspace.gemini(space) as gemini:

        def machine(space: Space, space_id: int) -> Machine:
            return Machine(
                state=state,
                provider=gemini,
                form=form_of(space),
                fit=workspace.estimates.fit(space_id, space.model, gemini),
                space_id=space_id,
                settings=_batch_settings(config),
                directory=config.data_dir / "batches",
                owner=owner,
            )

        def others() -> list[Machine]:
            out = [other for other in state.batches.spaces_out() if other != space_id]
            return [machine(state.catalog.space(other), other) for other in out]

        direct = Direct(
            state=state,
            provider=gemini,
            space_id=space_id,
            owner=owner,
            fit=workspace.estimates.fit(space_id, space.model, gemini),
            concurrency=config.embedding.direct_concurrency,
            texts_per_call=config.embedding.direct_batch,
            lease_s=batch.lease.total_seconds(),
            on_saved=reporter.advance,
        )
        yield Worker(
            state=state,
            space_id=space_id,
            owner=owner,
            machine=machine(space, space_id),
            others=others,
            direct=direct,
            pace=_pace(config),
            settle=settle,
            watch=lambda: reporter.batches(_views(workspace, job_id)),
        )


def _pace(config: Config) -> Pace:
    batch = config.batch_processing
    return Pace(
        batches=batch.enabled,
        min_queue_size=config.worker.min_queue_size,
        max_queue_size=batch.queue_limits.max_queue_size,
        max_wait_s=batch.queue_limits.max_wait_time.total_seconds(),
        poller_interval_s=batch.poller_interval.total_seconds(),
        lease_s=batch.lease.total_seconds(),
    )


def _batch_settings(config: Config) -> BatchSettings:
    batch = config.batch_processing
    return BatchSettings(
        prefix=batch.display_name_prefix,
        priority=batch.priority,
        max_texts=batch.max_batch_size,
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
    )


def _views(workspace: Workspace, job_id: str | None) -> list[BatchView]:
    """The batch jobs as they are shown: those of a run of index, or all that are open; the oldest first."""
    rows = workspace.state.batches.rows(open_only=job_id is None, job_id=job_id)
    rows = rows[::-1]
    return batch_views(workspace.state, rows, workspace.estimates.of_batches(rows))
