"""Whose code answers: which indexes a search asks, and what a person should know of the choice."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codechunk.errors import NotFound, UsageError
from codechunk.git.address import place_of
from codechunk.git.checkout import Checkout
from codechunk.git.worktree import WORKING_TREE_REF
from codechunk.state import Generation, IndexRow, JobRow, Space, State
from codechunk.workspace.references import Named, every

# Branches that speak for a repository whose default branch is not known, the first one first.
USUAL_BRANCHES = ("main", "master", "trunk", "develop")
_COMMIT_LENGTHS = (40, 64)
# More names than these are only counted.
NAMES_TOLD = 5

CheckoutOf = Callable[[Path], Checkout | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whose code somebody asks for.

    Attributes:
        repositories: NAME, NAME@REF, URL, path or glob; none: see `here`.
        here: the folder somebody stands in: its repository is searched when it is indexed; None: all are.
        ref_diff: `OLD..NEW`, two refs of one repository: only what is in the new and not in the old one.
    """

    repositories: Sequence[str] = ()
    here: Path | None = None
    ref_diff: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The indexes that are searched, those first that speak for others when several have the same code.

    Attributes:
        absent_from: only chunks that this generation has not; None: all.
        told: sentences about the choice.
    """

    indexes: Sequence[IndexRow]
    absent_from: Generation | None = None
    told: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mine:
    """What may be searched of one repository.

    Attributes:
        whole: no ref was named, so one speaks for all.
        others: refs that another one speaks for.
    """

    indexes: Sequence[IndexRow]
    whole: bool
    others: Sequence[str] = ()

    @property
    def name(self) -> str:
        return self.indexes[0].repository

    @property
    def url(self) -> str:
        return self.indexes[0].url

    @property
    def refs(self) -> list[str]:
        return [index.ref for index in self.indexes]

    def narrowed(self, checkout: Checkout | None, checkout_of: CheckoutOf) -> "_Mine":
        """The same with one ref; where refs were named, with that one first."""
        if len(self.indexes) == 1:
            return self
        speaker = _speaker(self, checkout, checkout_of)
        if not self.whole:
            return _Mine(indexes=sorted(self.indexes, key=lambda index: index.ref != speaker), whole=False)
        return _Mine(
            indexes=[index for index in self.indexes if index.ref == speaker],
            whole=True,
            others=sorted(ref for ref in self.refs if ref != speaker),
        )


def scope_of(state: State, asked: Asked, preferred: Space, checkout_of: CheckoutOf = Checkout.of) -> Scope:
    """Which indexes are searched.

    1. Those of the repositories that are named; else those of the repository that `here` belongs to; else all.
    2. Of a repository whose ref is not named one ref: the branch that is out where somebody stands, or the default one.
    3. Of a ref the index in the configured vector space, else the newest.

    Args:
        preferred: the vector space of the configuration.

    Raises:
        NotFound: there is nothing of that name, or nothing was indexed yet.
        UsageError: a name means several things.
    """
    begun = state.catalog.embedding_jobs()
    searchable = _one_space_each(_searchable(state, begun), preferred)
    checkout = None if asked.here is None else checkout_of(asked.here)
    told: list[str] = []
    if asked.repositories:
        wanted = [one for name in asked.repositories for one in _named(state, name, searchable)]
    else:
        wanted = _whole(searchable)
        mine = [] if checkout is None else _belonging(wanted, checkout)
        if mine and len(mine) < len(wanted):
            names = " and ".join(one.name for one in mine)
            told.append(f"Searching {names}, where you are; --all searches all {len(wanted)} repositories.")
        wanted = mine or wanted
    if asked.ref_diff is not None:
        return _difference(wanted, asked.ref_diff)
    wanted = [one.narrowed(checkout, checkout_of) for one in wanted]
    told += _other_refs(wanted)
    indexes = list({index.id: index for one in wanted for index in one.indexes}.values())
    return Scope(indexes=indexes, told=[*told, *_unfinished(indexes, {index.id for _, index in begun})])


def is_early(index: IndexRow) -> bool:
    """Whether nothing of it was published yet: its texts are still being embedded, and words are all there is."""
    return index.publications == 0


def _searchable(state: State, begun: Sequence[tuple[JobRow, IndexRow]]) -> list[IndexRow]:
    """The published indexes, and those that only wait for their first vectors, as if they were published."""
    published = state.catalog.indexes()
    known = {(index.repository_id, index.ref) for index in published}
    early = {
        index.id: replace(index, published=index.next, commit=job.commit)
        for job, index in begun
        if index.published.number == 0 and (index.repository_id, index.ref) not in known
    }
    if published or early:
        return [*published, *early.values()]
    names = sorted({f"{index.repository}@{index.ref}" for index in state.catalog.every_index()})
    if names:
        raise NotFound(
            f"The first run for {_some(names)} has not cut every file yet, so nothing can be searched: `codechunk "
            f"jobs list` shows how far it is, `codechunk index` takes it up again."
        )
    raise NotFound("Nothing is indexed yet: run `codechunk index <repo-url-or-path>` first.")


def _whole(indexes: Sequence[IndexRow]) -> list[_Mine]:
    """The indexes by repository."""
    mine: dict[int, list[IndexRow]] = {}
    for index in indexes:
        mine.setdefault(index.repository_id, []).append(index)
    return [_Mine(indexes=some, whole=True) for some in mine.values()]


def _named(state: State, name: str, searchable: Sequence[IndexRow]) -> list[_Mine]:
    """What can be searched of what a name or glob means.

    Raises:
        NotFound: there is no such thing, or nothing of it was published yet.
        UsageError: the name means several things.
    """
    found = [mine for one in every(state, name) if (mine := _of(one, searchable)).indexes]
    if not found:
        known = ", ".join(sorted({f"{index.repository}@{index.ref}" for index in searchable}))
        raise NotFound(
            f"No index of {name!r} is published yet; there is {known}. `codechunk jobs list` shows how far its runs "
            f"are."
        )
    return found


def _of(one: Named, searchable: Sequence[IndexRow]) -> _Mine:
    refs = {index.ref for index in one.indexes}
    mine = [index for index in searchable if index.repository_id == one.repository.id and index.ref in refs]
    return _Mine(indexes=mine, whole=one.whole)


def _belonging(wanted: Sequence[_Mine], checkout: Checkout) -> list[_Mine]:
    """The repositories that a checkout is of: by its folder, else by where its work tree or its remotes come from.

    A folder within an indexed repository that is a repository of its own (a submodule) belongs to itself when it is
    indexed, else to the one around it.
    """
    for root in (checkout.root, checkout.main):
        if found := [one for one in wanted if one.url == str(root)]:
            return found
    places = set(checkout.places)
    if found := [one for one in wanted if places and place_of(one.url) in places]:
        return found
    around = {str(folder) for folder in checkout.root.parents}
    return sorted((one for one in wanted if one.url in around), key=lambda one: -len(one.url))[:1]


def _speaker(mine: _Mine, checkout: Checkout | None, checkout_of: CheckoutOf) -> str:
    """The ref that speaks for a repository: what somebody has before them, else the default branch, else the newest."""
    refs = mine.refs
    wishes: list[str | None] = []
    if checkout is not None and _belonging([mine], checkout):
        wishes += [checkout.branch, checkout.default_branch]
    elif Path(mine.url).is_absolute() and (local := checkout_of(Path(mine.url))) is not None:
        wishes += [local.branch, local.default_branch]
    for wish in (*wishes, *USUAL_BRANCHES):
        if wish in refs:
            return str(wish)
    # The indexes come with the newest first. A commit by its number, or a work tree, speaks only for itself.
    branches = [ref for ref in refs if ref != WORKING_TREE_REF and len(ref) not in _COMMIT_LENGTHS]
    return (branches or refs)[0]


def _other_refs(wanted: Sequence[_Mine]) -> list[str]:
    """Which refs are indexed but not searched, and how to ask for them."""
    several = [one for one in wanted if one.others]
    if not several:
        return []
    if len(several) > 1:
        names = _some([one.name for one in several])
        return [f"Of {names} only one ref each is searched; --repo NAME@REF asks for another, 'NAME@*' for all."]
    [one] = several
    also = "is indexed, too" if len(one.others) == 1 else "are indexed, too"
    return [
        f"Searching {one.name}@{one.refs[0]}; {_some(one.others)} {also}: --repo {one.name}@{one.others[0]}, or "
        f"'{one.name}@*' for all."
    ]


def _unfinished(indexes: Sequence[IndexRow], begun: Collection[int]) -> list[str]:
    """Which indexes have chunks without vectors, because a run is not over."""
    unfinished = [index for index in indexes if index.id in begun and (is_early(index) or not index.whole)]
    early = [f"{index.repository}@{index.ref}" for index in unfinished]
    if not early:
        return []
    has = "has" if len(early) == 1 else "have"
    return [
        f"{_some(early)} {has} not all vectors yet, so words find more than meaning does; `codechunk jobs list` shows "
        f"how far it is."
    ]


def _some(names: Sequence[str]) -> str:
    """Names, the last ones only counted when there are many."""
    shown = list(names[:NAMES_TOLD])
    if len(names) > NAMES_TOLD:
        shown.append(f"{len(names) - NAMES_TOLD} more")
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _difference(wanted: Sequence[_Mine], ref_diff: str) -> Scope:
    """What is in the new ref and not in the old one."""
    if len(wanted) != 1:
        names = _some([one.name for one in wanted])
        raise UsageError(f"--ref-diff compares refs of one repository; name it with --repo: {names}.")
    [one] = wanted
    by_ref = {index.ref: index for index in one.indexes}
    # Refs may contain dots, but never two in a row.
    old, dots, new = ref_diff.partition("..")
    missing = [ref for ref in (old, new) if ref not in by_ref]
    if not dots or missing:
        raise NotFound(
            f"--ref-diff {ref_diff!r} is not OLD..NEW of two indexed refs of {one.name}: there is "
            f"{', '.join(sorted(by_ref))}."
        )
    return Scope(indexes=[by_ref[new]], absent_from=by_ref[old].published)


def _one_space_each(indexes: Sequence[IndexRow], preferred: Space) -> list[IndexRow]:
    """One index per repository and ref: in the configured space where there is one, else the newest."""
    chosen: dict[tuple[int, str], IndexRow] = {}
    for index in indexes:
        key = (index.repository_id, index.ref)
        if key not in chosen or (index.space == preferred and chosen[key].space != preferred):
            chosen[key] = index
    return list(chosen.values())
