"""Workflow: what `index` would do. Reads git and cuts files like it, writes nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, tee

from codechunk.documents import (
    DryRunDocument,
    EstimatedFiles,
    EstimateDocument,
    PathReason,
    PlannedChunks,
    PlannedCost,
    PlannedFiles,
    PlannedSecrets,
    PlannedTokens,
    Price,
    SecretPlace,
)
from codechunk.git.repository import Repository, TreeEntry
from codechunk.indexing.mode import Chosen
from codechunk.pool.cut_settings import CutSettings, fingerprint
from codechunk.pool.pool import ChunkPool, ParseTask
from codechunk.progress import Reporter
from codechunk.selection.secrets import Place, counts
from codechunk.selection.skip import SkipReason, SkipRules, decode
from codechunk.state import Space, State
from codechunk.state.contents import text_sha
from codechunk.state.embeddings import CAREFUL_BYTES_PER_TOKEN
from codechunk.text.chunks import Chunk
from codechunk.text.sampling import SEED, is_sampled
from codechunk.workspace.estimates import Prices

KNOWN_AT_ONCE = 500


@dataclass(slots=True, kw_only=True)
class DryRun:
    """What a run would find. `texts` are distinct; `texts_to_embed` those that were not sent yet; `secrets` are
    the files and places of all secrets found in what is not skipped."""

    head: Mapping[str, str]
    discovered: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    secrets: list[tuple[str, Place]] = field(default_factory=list)
    languages: Counter[str] = field(default_factory=Counter)
    chunks: int = 0
    tokens: int = 0
    texts: int = 0
    texts_to_embed: int = 0
    texts_out: int = 0
    texts_failed: int = 0
    tokens_to_embed: int = 0
    tokens_to_price: int = 0
    """Of the same texts, as a run counts them in its token mode: `--max-cost` is held against these."""

    @property
    def indexed(self) -> int:
        """Files that would be in the index."""
        return sum(self.languages.values())

    def reasons(self) -> dict[str, int]:
        """Skipped files per reason, the most frequent first."""
        return dict(Counter(reason for _, reason in self.skipped).most_common())


def dry_run_document(plan: DryRun, *, secrets_mode: str, cost: Prices) -> DryRunDocument:
    """The document of `index --dry-run`; `cost` is that of the texts to embed."""
    places = [place for _, place in plan.secrets]
    return DryRunDocument(
        repository=plan.head["repository"],
        url=plan.head["url"],
        ref=plan.head["ref"],
        commit=plan.head["commit"],
        files=PlannedFiles(
            discovered=plan.discovered,
            indexed=plan.indexed,
            skipped=len(plan.skipped),
            failed=len(plan.failed),
            skipped_by_reason=plan.reasons(),
            by_language=dict(plan.languages.most_common()),
        ),
        secrets=PlannedSecrets(
            mode=secrets_mode,
            found=len(places),
            files=len({path for path, _ in plan.secrets}),
            by_kind=counts(places),
            places=[SecretPlace(path=path, line=place.line, kind=place.kind) for path, place in plan.secrets],
        ),
        chunks=PlannedChunks(
            total=plan.chunks,
            texts=plan.texts,
            texts_to_embed=plan.texts_to_embed,
            texts_out=plan.texts_out,
            texts_failed=plan.texts_failed,
        ),
        tokens=PlannedTokens(total=plan.tokens, to_embed=plan.tokens_to_embed),
        cost=PlannedCost(currency="USD", model=cost.model, direct=cost.direct, batch=cost.batch),
        skipped=[PathReason(path=path, reason=reason) for path, reason in plan.skipped],
        failed=[PathReason(path=path, reason=reason) for path, reason in plan.failed],
    )


def estimate_document(plan: DryRun, *, mode: Chosen, cost: Prices) -> EstimateDocument:
    """The document of `estimate`; `mode` and `cost` are those of the texts to embed."""
    return EstimateDocument(
        repository=plan.head["repository"],
        url=plan.head["url"],
        ref=plan.head["ref"],
        commit=plan.head["commit"],
        files=EstimatedFiles(
            discovered=plan.discovered,
            indexed=plan.indexed,
            skipped=len(plan.skipped),
            failed=len(plan.failed),
            skipped_by_reason=plan.reasons(),
        ),
        chunks=plan.chunks,
        tokens=plan.tokens,
        texts=plan.texts,
        duplicates=plan.chunks - plan.texts,
        texts_to_embed=plan.texts_to_embed,
        tokens_to_embed=plan.tokens_to_embed,
        model=cost.model,
        mode=mode,
        price=Price(currency="USD", direct=cost.direct, batch=cost.batch, as_of=cost.as_of),
    )


def dry_run(
    *,
    state: State,
    repository: Repository,
    commit: str,
    settings: CutSettings,
    rules: SkipRules,
    space: Space,
    reporter: Reporter,
    head: Mapping[str, str],
) -> DryRun:
    """Cut and count every file of the commit that no run has cut, in memory, and compare all texts with what was
    embedded before.

    Tokens are counted exactly whatever the token mode: a plan without numbers would be none. The price is that of the
    run, which estimates what its token mode leaves uncounted.
    """
    plan = DryRun(head=head)
    tally = _Tally(state, space, plan)
    pool = ChunkPool(
        jobs=settings.jobs,
        settings=settings.chunking,
        token_mode="all",
        sample_percent=settings.sample_percent,
        seed=SEED,
        secrets=settings.secrets,
    )
    reporter.stage("Reading", None, "files")
    readable = _readable(repository.list_tree(commit), rules, plan)
    unknown = _without_known(readable, tally, head["url"], fingerprint(settings), reporter)
    with pool:
        pool.start()
        for result in pool.run(_tasks(repository, unknown, rules, plan)):
            reporter.advance()
            if result.error is not None:
                plan.failed.append((result.path, result.error))
                continue
            plan.secrets += [(result.path, place) for place in result.secrets or ()]
            if result.secrets and settings.secrets == "skip":
                plan.skipped.append((result.path, str(SkipReason.SECRET)))
                continue
            tally.add(
                result.language,
                ((text_sha(chunk), chunk.tokens or 0, _priced(chunk, settings)) for chunk in result.chunks),
            )
    tally.settle()
    plan.texts = len(tally.seen)
    plan.skipped.sort()
    plan.secrets.sort(key=lambda found: (found[0], found[1].line))
    return plan


@dataclass(slots=True)
class _Tally:
    """Adds up the chunks that a run would have; asks for vectors of many texts at once."""

    state: State
    space: Space
    plan: DryRun
    seen: set[bytes] = field(default_factory=set)
    fresh: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, language: str | None, texts: Iterable[tuple[str, int, int]]) -> None:
        """Count one file by its chunks: (hash of the text, tokens, tokens as a run would count them)."""
        plan = self.plan
        plan.languages[language or "text"] += 1
        for sha, tokens, priced in texts:
            plan.chunks += 1
            plan.tokens += tokens
            digest = bytes.fromhex(sha)
            if digest not in self.seen:
                self.seen.add(digest)
                self.fresh[sha] = tokens, priced
        if len(self.fresh) >= KNOWN_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Count the texts that were not sent yet, those that are on their way and those that failed for good."""
        states = self.state.embeddings.states(self.space, list(self.fresh))
        unsent = [tokens for sha, tokens in self.fresh.items() if states.get(sha, "pending") == "pending"]
        self.plan.texts_to_embed += len(unsent)
        self.plan.tokens_to_embed += sum(exact for exact, _ in unsent)
        self.plan.tokens_to_price += sum(priced for _, priced in unsent)
        found = Counter(states.values())
        self.plan.texts_out += found["processing"]
        self.plan.texts_failed += found["failed"]
        self.fresh.clear()


def _without_known(
    entries: Iterator[TreeEntry], tally: _Tally, url: str, cut_by: str, reporter: Reporter
) -> Iterator[TreeEntry]:
    """Count what an earlier run has cut, and pass on the rest.

    Files with secrets are read again: their places are shown, and they are not stored.
    """
    while some := list(islice(entries, KNOWN_AT_ONCE)):
        known = tally.state.copies.known(url, cut_by, [(entry.path, entry.blob) for entry in some])
        for entry in some:
            cut = known.get((entry.path, entry.blob))
            if cut is None:
                yield entry
                continue
            reporter.advance()
            if cut.skipped is not None:
                tally.plan.skipped.append((entry.path, cut.skipped))
            else:
                tally.add(cut.language, ((sha, tokens, tokens) for sha, tokens in cut.texts))


def _priced(chunk: Chunk, settings: CutSettings) -> int:
    """The tokens of a chunk as a run has them: counted, or estimated where its token mode counts nothing."""
    counted = settings.token_mode == "all" or (
        settings.token_mode == "sample" and is_sampled(chunk.embedding_text, SEED, settings.sample_percent)
    )
    return chunk.tokens or 0 if counted else len(chunk.text) // CAREFUL_BYTES_PER_TOKEN


def _tasks(repository: Repository, entries: Iterator[TreeEntry], rules: SkipRules, plan: DryRun) -> Iterator[ParseTask]:
    """What must be cut; everything else is put down in the plan with its reason."""
    wanted, named = tee(entries)
    contents = repository.blobs(entry.blob for entry in wanted)
    for number, (entry, (_, data)) in enumerate(zip(named, contents, strict=True)):
        reason = rules.by_content(entry.path, data)
        decoded = None if reason else decode(data)
        if decoded is None:
            plan.skipped.append((entry.path, str(reason or SkipReason.UNDECODABLE)))
            continue
        yield ParseTask(key=number, path=entry.path, data=data, language=None, encoding=decoded[0])


def _readable(entries: Iterable[TreeEntry], rules: SkipRules, plan: DryRun) -> Iterator[TreeEntry]:
    for entry in entries:
        plan.discovered += 1
        reason = rules.by_entry(entry)
        if reason is None:
            yield entry
        else:
            plan.skipped.append((entry.path, str(reason)))
