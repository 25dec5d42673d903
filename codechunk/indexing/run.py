"""One run of `index` over one commit: the order of its steps (docs/design.md, 5)."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from codechunk import providers
from codechunk.documents import IndexDocument, TokenFigures, to_json
from codechunk.errors import CodechunkError, Overtaken, Stopped, UsageError
from codechunk.git.repository import OpenedRepository
from codechunk.indexing import report
from codechunk.indexing.cut import Comparison, Indexing
from codechunk.indexing.mode import Choice, Mode, choose
from codechunk.indexing.publish import BUSY_PATIENCE_S, Publication, saved, tokens_of
from codechunk.pool.cut_settings import changed_settings, fingerprint
from codechunk.process.locks import Lock
from codechunk.progress import Reporter
from codechunk.sending.owner import is_gone
from codechunk.state import Generation, IndexRow, JobRow, SizedSource, State
from codechunk.state.compare import Changes
from codechunk.text.money import usd
from codechunk.workspace import wanted_texts
from codechunk.workspace.commit_rules import cut_settings, files_identity, read_attributes, skip_rules
from codechunk.workspace.run_plan import RunPlan
from codechunk.workspace.sender import open_sender
from codechunk.workspace.vector_session import VectorSession
from codechunk.workspace.workspace import Workspace

log = logging.getLogger(__name__)

# Before there were several operators, the fact that its users were told had no name in it.
FIRST_OPERATOR = "Google"
# The status and reason of files that a filter leaves out.
EXCLUDED = ("skipped", "excluded")
# What happens to secrets in the code, for the sentence before the first text is sent.
SECRETS_SENTENCE = {
    "redact": "Secrets found in it are replaced by [REDACTED:...] first.",
    "skip": "Files with secrets are left out.",
    "fail": "A secret in it stops the run before anything is sent.",
    "off": "Secrets in it are sent too (secrets: off).",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a person asked of one run: processes that cut, how texts are sent, whether to wait, the most to spend."""

    jobs: int
    mode: Mode = "auto"
    wait: bool = True
    max_cost_usd: float | None = None
    publish_partial: bool = False
    """Switch searches before all vectors have come."""


class Run:
    """One run of `index` with everything it needs at hand."""

    def __init__(
        self,
        workspace: Workspace,
        session: VectorSession,
        opened: OpenedRepository,
        index: IndexRow,
        job: JobRow,
        reporter: Reporter,
        started_at: float,
        lock: Lock,
    ) -> None:
        self._workspace, self._state, self._session, self._opened = workspace, workspace.state, session, opened
        self._index, self._job, self._reporter, self._started_at = index, job, reporter, started_at
        self._lock = lock
        self._changes = Changes()
        self._provider = providers.get(index.space.provider)

    def go(self, options: RunOptions) -> IndexDocument:
        """Index the commit, or find that nothing is to do."""
        workspace, opened, state = self._workspace, self._opened, self._state
        token_mode = cut_settings(workspace.config, options.jobs, {}).token_mode
        current = self._current(token_mode)
        if current is not None:
            return self._unchanged(*current)
        workspace.vector_backend.prepare()
        attributes = read_attributes(opened)
        settings = cut_settings(workspace.config, options.jobs, attributes)
        identity = f"{fingerprint(settings)} files={files_identity(workspace.config)}"
        indexing = Indexing(
            state=state,
            repository=opened.repository,
            index=self._index,
            settings=settings,
            rules=skip_rules(workspace.config, opened, attributes),
            reporter=self._reporter,
        )
        with indexing:
            entries = opened.repository.list_tree(opened.commit)
            comparison = indexing.plan(entries, redo=self._must_redo(identity))
            self._look_at_filters(indexing.generation)
            indexing.cut()
            indexing.count_missing()
        self._changes = state.comparisons.between(self._index.published, indexing.generation)
        return self._embed(indexing, comparison, identity, settings.token_mode, options)

    def _look_at_filters(self, generation: Generation) -> None:
        """Say that a filter leaves out most of what searches had; refuse one that leaves nothing of it."""
        index, contents = self._index, self._state.contents
        before = contents.file_counts(index.published) if index.published.number else {}
        had = before.get(("indexed", None), 0)
        now = contents.file_counts(generation)
        left_out = now.get(EXCLUDED, 0) - before.get(EXCLUDED, 0)
        if 2 * left_out <= had or not left_out:
            return
        name = f"{index.repository}@{index.ref}"
        filters = "The filters (--include, --exclude, git.include, git.exclude, .codechunkignore)"
        if sum(count for (status, _), count in now.items() if status in {"indexed", "planned"}):
            if had:
                self._reporter.say(
                    f"{filters} leave out {left_out:,} of the {had:,} files of {name} that searches had. Index it "
                    f"without them to have these back; they are not paid again."
                )
        elif had:
            raise UsageError(
                f"{filters} leave nothing of {name}: the index stays as it is. Mend the pattern, or remove the index: "
                f"`codechunk repos remove {name}`."
            )
        else:
            self._reporter.say(f"{filters} leave nothing of {name}.")

    # ------------------------------------------------------------------ vectors

    def _embed(
        self, indexing: Indexing, comparison: Comparison, identity: str, token_mode: str, options: RunOptions
    ) -> IndexDocument:
        """Ask for vectors, choose how, tell what it costs, send directly or in batch jobs, and publish."""
        state, job, provider, generation = self._state, self._job, self._provider, indexing.generation
        batch = self._workspace.config.batch_processing
        if provider.free:  # what a killed run had claimed is counted as not made yet
            state.queue.free_abandoned(is_gone, lease_s=batch.lease.total_seconds())
        # Before any text waits: from then on a worker beside this run may buy it, whatever --max-cost says.
        unsettled = self._session.unsettled(self._index, generation)
        texts, tokens = wanted_texts.missing(state, self._index, unsettled)
        choice = choose(batch, texts, options.mode, why_direct=provider.why_direct)
        estimates = self._workspace.estimates
        estimate = estimates.estimate_usd(self._index, tokens, choice.mode)
        if not provider.free:
            self._tell_changed_space(texts, estimate)
            _within(options.max_cost_usd, estimate, texts, self._index.space.model)
        self._request(unsettled)
        waited_for, all_tokens = self._wanted()
        if waited_for > texts:
            out = estimates.estimate_usd(self._index, max(0, all_tokens - tokens), "batch")
            estimate = None if estimate is None or out is None else estimate + out
        if not texts and waited_for and provider.batch is not None:
            choice = Choice(mode="batch", reason=f"{waited_for:,} texts are in batch jobs already")
        log.debug("Chose how to embed", extra={"action": "mode_chosen", "mode": choice.mode, "why": choice.reason})
        outline = self._outline(indexing, comparison, identity, token_mode, choice, estimate, max(tokens, all_tokens))
        state.catalog.plan_job(job.id, outline.dump())
        publication = self._publication(outline)
        self._tell_who_reads(texts)
        made = 0
        if self._still_open(generation):
            if options.publish_partial and not provider.free:
                publication.publish_early(self._session)
            made, left = self._send(choice.mode, options, generation=generation, texts=waited_for)
            if left:
                return publication.waiting(self._session)
        return publication.publish(self._session, made=made if provider.free else None)

    def _wanted(self) -> tuple[int, int]:
        """Texts that the run waits for, with what an earlier attempt has sent, and their tokens by our count.

        Nobody needs the tokens of free vectors: to add them up takes as long as to read every chunk.
        """
        queue = self._state.queue
        return (queue.still_open(self._job.id), 0) if self._provider.free else queue.wanted(self._job.id)

    def _tell_who_reads(self, texts: int) -> None:
        """Say once, before the first text leaves this machine, whom it is sent to."""
        operator = self._provider.operator
        if operator is None or not texts:
            return
        notice = "code_is_sent" if operator == FIRST_OPERATOR else f"code_is_sent:{operator}"
        if self._state.queue.first_time(notice):
            self._reporter.say(
                f"From here on the text of chunks is sent to {operator} ({self._index.space.model}) to be embedded. "
                f"{SECRETS_SENTENCE[self._workspace.config.secrets]} This is said once."
            )

    def _send(self, mode: str, options: RunOptions, *, generation: Generation, texts: int) -> tuple[int, int]:
        """Get vectors for every text of the run.

        Returns how many came directly, and how many texts are still open when it was not to wait for them.
        """
        state, job, index = self._state, self._job, self._index

        def still_open() -> int:
            waiting = self._still_open(generation)
            self._reporter.reach(max(0, texts - waiting), total=texts)
            return waiting

        made = 0
        self._reporter.stage("Embedding", texts, "texts")
        with open_sender(
            self._workspace, space=index.space, space_id=index.space_id, reporter=self._reporter, job_id=job.id
        ) as worker:
            if mode == "sequential":
                made = worker.send_directly(job.id)
            else:
                worker.plan(job.id)
                if not options.wait:
                    worker.submit()
            if not options.wait:  # texts may be out in batch jobs of other runs, also when this one sent directly
                return made, still_open()
            if still_open():
                state.catalog.wait_job(job.id)
                price = partial(self._price, options.max_cost_usd)
                made += worker.wait_for(job.id, still_open=still_open, batches=mode == "batch", price=price).texts_ready
        return made, 0

    def _price(self, max_cost_usd: float | None) -> None:
        """Say what the texts cost whose batch jobs ended badly; stop when that is more than a person allowed."""
        state, job, index = self._state, self._job, self._index
        count, tokens = state.queue.wanted(job.id, fallen_back=True)
        estimates = self._workspace.estimates
        spent = estimates.spent_usd(index, state.queue.bought(job.id)) or 0.0
        more = estimates.estimate_usd(index, tokens, "sequential")
        self._reporter.say(
            f"{count:,} texts whose batch jobs ended badly are sent directly"
            + (f" (about {usd(more)})." if more is not None else ".")
        )
        _within(max_cost_usd, None if more is None else spent + more, count, index.space.model)

    def _still_open(self, generation: Generation) -> int:
        """How many texts of the run, or chunks of the generation, are still out or waiting."""
        waiting = self._state.queue.still_open(self._job.id)
        if waiting:
            return waiting
        counts = self._session.ledger(self._index, generation)
        waiting = counts["pending"] + counts["processing"]
        if waiting:
            # Another run has asked for them since, or they came back: of any file, also one that did not change.
            self._request(self._state.contents.new_sources(generation, all_files=True))
        return waiting

    def _request(self, sources: Sequence[SizedSource]) -> None:
        wanted_texts.request(state=self._state, index=self._index, sources=sources, job_id=self._job.id)

    def _tell_changed_space(self, texts: int, estimate: float | None) -> None:
        """Say what a change of model or dimensions means, when this is the first index in a new vector space."""
        index = self._index
        others = [
            other
            for other in self._state.catalog.indexes()
            if (other.repository_id, other.ref) == (index.repository_id, index.ref) and other.id != index.id
        ]
        if index.published.number or not others:
            return
        old, new = others[0].space, index.space
        price = "" if estimate is None else f", about {usd(estimate)}"
        self._reporter.say(
            f"{index.repository}@{index.ref} was indexed with {old.model} at {old.dimensions} dimensions and is now "
            f"with {new.model} at {new.dimensions}: a new collection is made, {texts:,} texts are embedded{price}; "
            f"the old one stays."
        )

    # ------------------------------------------------------------------ what is there already

    def _current(self, token_mode: str) -> tuple[report.Ledger, TokenFigures] | None:
        """How the index stands, if the last run indexed this commit with these settings to its end and nobody touched
        the vectors since."""
        index = self._index
        last = self._state.catalog.last_finished_job(index.id)
        if last is None or last.status != "succeeded" or index.fingerprint is None:
            return None
        # The same commit has the same attributes, so they are not read for this.
        settings = cut_settings(self._workspace.config, 1, {})
        identity = f"{fingerprint(settings)} files={files_identity(self._workspace.config)}"
        as_it_was = (
            self._job.attempts == 1
            and not self._job.redo
            and not changed_settings(index.fingerprint, identity, ignore=("attributes",))
            and index.commit == last.commit == self._opened.commit
            and index.whole
            and not self._state.contents.has_rubbish(index.published)
            and not self._state.contents.has_next(index.published)
        )
        standing = self._standing(RunPlan.load(last.plan), token_mode) if as_it_was else None
        if standing is None:
            return None
        # Last, because it may have to store vectors.
        here = self._session.is_current(index) or self._session.follows(
            index, self._reporter, patience_s=BUSY_PATIENCE_S
        )
        return standing if here else None

    def _standing(self, last: RunPlan | None, token_mode: str) -> tuple[report.Ledger, TokenFigures] | None:
        """What the last run wrote down of the index, or what the rows say where it wrote nothing (older versions, or a
        value that cannot be read). None when tokens must be counted in another way than they were."""
        if last is not None and last.token_mode != token_mode:
            return None
        if last is not None and last.outcome is not None:
            return report.as_it_was(last.outcome, token_mode)
        index, contents = self._index, self._state.contents
        tokens = tokens_of(self._state, index.published, token_mode)
        counted = token_mode == "on_demand" or (
            token_mode == "all" and tokens.total is not None and not tokens.estimated
        )
        if last is None and not counted:
            return None
        files = contents.file_counts(index.published)
        ledger = report.Ledger(
            discovered=sum(files.values()),
            files=files,
            unchanged=sum(files.values()),
            deleted_files=0,
            chunks=self._session.ledger(index, index.published),
            changes=Changes(),
            bought=report.Bought(),
            secrets=contents.secrets(index.published),
        )
        return ledger, tokens

    def _must_redo(self, identity: str) -> bool:
        old = self._index.fingerprint
        if self._job.redo or old is None:
            return self._job.redo
        changed = changed_settings(old, identity, ignore=("files",))
        if changed:
            self._reporter.say(
                f"Settings that change chunks are different now ({changed}): all files are cut again; texts that "
                f"were embedded before are not embedded again."
            )
        return bool(changed)

    def _unchanged(self, ledger: report.Ledger, tokens: TokenFigures) -> IndexDocument:
        """The document of a run that has nothing to do: nothing is read for it but what the last one wrote."""
        index, choice = self._index, Choice(mode="sequential", reason="nothing changed")
        document = report.document(
            job_id=self._job.id,
            index=index,
            commit=self._opened.commit,
            mode=choice,
            ledger=ledger,
            tokens=tokens,
            saved=saved(self._workspace, index, tokens.total, 0, ledger.total),
            published=True,
            secrets_mode=self._workspace.config.secrets,
            seconds=time.time() - self._started_at,
        )
        outline = RunPlan(
            generation=index.published.number,
            commit=self._opened.commit,
            identity=index.fingerprint or "",
            token_mode=tokens.mode,
            discovered=ledger.discovered,
            unchanged=ledger.unchanged,
            deleted_files=0,
            mode=choice.mode,
            mode_reason=choice.reason,
            estimated_usd=0.0,
            started_at=self._started_at,
            changes=Changes().dump(),
            tokens_to_send=0,
            outcome=report.outcome(ledger, tokens),
        )
        self._state.catalog.finish_job(
            self._job.id, status=document.status, report=to_json(document), plan=outline.dump()
        )
        self._session.finish([index.id])
        return document

    # ------------------------------------------------------------------ parts of the above

    def _outline(
        self,
        indexing: Indexing,
        comparison: Comparison,
        identity: str,
        token_mode: str,
        choice: Choice,
        estimated_usd: float | None,
        tokens_to_send: int,
    ) -> RunPlan:
        return RunPlan(
            generation=indexing.generation.number,
            commit=self._opened.commit,
            identity=identity,
            token_mode=token_mode,
            discovered=comparison.discovered,
            unchanged=comparison.unchanged,
            deleted_files=len(comparison.gone),
            mode=choice.mode,
            mode_reason=choice.reason,
            estimated_usd=estimated_usd,
            started_at=self._started_at,
            changes=self._changes.dump(),
            tokens_to_send=tokens_to_send,
        )

    def _publication(self, outline: RunPlan) -> Publication:
        return Publication(self._workspace, self._index, self._job, outline, self._reporter, self._lock)


def _within(max_cost_usd: float | None, estimate_usd: float | None, texts: int, model: str) -> None:
    """Stop before more is spent than a person allowed.

    Raises:
        CodechunkError: the estimate is over the limit; nothing was sent.
        UsageError: nobody knows the price of the model.
    """
    if max_cost_usd is None or not texts:
        return
    if estimate_usd is None:
        raise UsageError(f"--max-cost needs a price, and none is known of {model}; set it under `pricing`.")
    if estimate_usd > max_cost_usd:
        raise CodechunkError(
            f"embedding {texts:,} texts would cost about {usd(estimate_usd)}, more than --max-cost ${max_cost_usd:g}; "
            f"nothing of it was sent. The chunks are kept: the same command with a higher limit goes on from here.",
            kind="usage",
        )


@contextmanager
def recorded(state: State, job: JobRow) -> Iterator[None]:
    """Write down how a job ended when it did not end well."""
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        # What is out at the provider comes back, and a worker may finish the job when it does.
        found = state.catalog.job(job.id)
        planned = found is not None and found[0].plan is not None
        status = "embedding" if planned and state.queue.still_open(job.id) else "cancelled"
        state.catalog.finish_job(job.id, status=status, error="interrupted by the user")
        raise
    except Overtaken as exc:
        state.catalog.lose_job(job, str(exc))
        raise
    except CodechunkError as exc:
        state.catalog.finish_job(job.id, status="failed", error=str(exc))
        raise
    except Exception as exc:  # raised again: a bug, or a program's own `on_progress`, whose way to end a call it is
        state.catalog.finish_job(job.id, status="failed", error=f"{type(exc).__name__}: {exc}")
        raise
