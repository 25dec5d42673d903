"""Workflow: what `index` would do. Reads git and cuts files like it, writes nothing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import tee

from codechunk.git import Repository, TreeEntry
from codechunk.indexing import CutSettings
from codechunk.parsing import ChunkPool, ParseTask
from codechunk.progress import Reporter
from codechunk.sampling import SEED
from codechunk.secrets import Place
from codechunk.skip import SkipReason, SkipRules, decode
from codechunk.state import Space, State

KNOWN_AT_ONCE = 500


@dataclass(slots=True, kw_only=True)
class DryRun:
    """What a run would find. `texts` are distinct; `texts_to_embed` those without a vector so far; `secrets` are
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
    tokens_to_embed: int = 0

    @property
    def indexed(self) -> int:
        """Files that would be in the index."""
        return sum(self.languages.values())

    def reasons(self) -> dict[str, int]:
        """Skipped files per reason, the most frequent first."""
        return dict(Counter(reason for _, reason in self.skipped).most_common())


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
    """Cut and count every file of the commit in memory and compare the texts with what was embedded before.

    Tokens are counted exactly whatever the token mode: a plan without numbers would be none.
    """
    plan = DryRun(head=head)
    pool = ChunkPool(
        jobs=settings.jobs,
        settings=settings.chunking,
        token_mode="all",
        sample_percent=settings.sample_percent,
        seed=SEED,
        secrets=settings.secrets,
    )
    seen: set[bytes] = set()
    fresh: dict[str, int] = {}
    reporter.stage("Reading", None, "files")
    with pool:
        for result in pool.run(_tasks(repository, commit, rules, plan)):
            reporter.advance()
            if result.error is not None:
                plan.failed.append((result.path, result.error))
                continue
            plan.secrets += [(result.path, place) for place in result.secrets or ()]
            if result.secrets and settings.secrets == "skip":
                plan.skipped.append((result.path, str(SkipReason.SECRET)))
                continue
            plan.languages[result.language or "text"] += 1
            plan.chunks += len(result.chunks)
            for chunk in result.chunks:
                tokens = chunk.tokens or 0
                plan.tokens += tokens
                digest = sha256(chunk.embedding_text.encode("utf-8", "surrogatepass"))
                if digest.digest() not in seen:
                    seen.add(digest.digest())
                    fresh[digest.hexdigest()] = tokens
            if len(fresh) >= KNOWN_AT_ONCE:
                _settle(state, space, plan, fresh)
    _settle(state, space, plan, fresh)
    plan.texts = len(seen)
    plan.skipped.sort()
    plan.secrets.sort(key=lambda found: (found[0], found[1].line))
    return plan


def _settle(state: State, space: Space, plan: DryRun, fresh: dict[str, int]) -> None:
    """Count the texts that have no vector yet, and start collecting anew."""
    known = state.embeddings.ready(space, list(fresh))
    plan.texts_to_embed += len(fresh) - len(known)
    plan.tokens_to_embed += sum(tokens for sha, tokens in fresh.items() if sha not in known)
    fresh.clear()


def _tasks(repository: Repository, commit: str, rules: SkipRules, plan: DryRun) -> Iterator[ParseTask]:
    """What must be cut; everything else is put down in the plan with its reason."""
    wanted, named = tee(_readable(repository.list_tree(commit), rules, plan))
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
