"""Learn how much each piece of evidence counts: prints the table of codechunk/search/weights.py.

    scripts/bench learn-ranking --mirrors DIR --work DIR [--lines WEIGHT] [--folds N] [--save FILE | --load FILE]

Two things are learned at once, each on its tuning half alone: which files answer (semble's public questions, see
`scripts/bench search-quality`) and which lines do (the documentation and commit sets of `scripts/bench retrieval`,
weighed by --lines). A file's score is that of its best chunk, so it is one linear model of chunks: the loss is the
negative log of the share that the right files (or chunks) have in a softmax over all candidates, with a small penalty
on large weights, minimised by L-BFGS. With --folds the figures are of repositories that were left out of the learning.

The indexes are those that both benches leave in --work (DIR/data-synthetic and DIR/retrieval).
"""

import argparse
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from bench_retrieval import digest
from bench_search_quality import index_all, opened
from benchmarks.corpus import load as load_corpus
from benchmarks.ours import indexed
from benchmarks.queries import CORPUS, commit_set, doc_set
from benchmarks.semble_set import SNAPSHOT, extracted, load, ndcg, same_path
from scipy.optimize import minimize

from codechunk.progress import Silence
from codechunk.search import ranking
from codechunk.search.evidence import NAMES, evidence
from codechunk.search.ranking import Query

# Of the softmax: differences of a tenth are what answers differ by.
TEMPERATURE = 0.1
PENALTY = 0.002
ROUNDS = 80


@dataclass(slots=True)
class Asked:
    """One question: the evidence of its candidates, what they gain by being named, and which of them are right."""

    repository: str
    kind: str  # files, docs or commits
    rows: np.ndarray  # (candidates, NAMES), sorted by file
    gains: np.ndarray  # (candidates,)
    files: np.ndarray  # (candidates,), ascending
    paths: list[str]
    right: np.ndarray  # (candidates,) of bool
    targets: list[str]  # of kind files: the paths that are wanted


class Recorder:
    """Stands in for the ranking and remembers the candidates it was given."""

    def __init__(self) -> None:
        self.seen = []
        self._ranked = ranking.ranked_hits
        ranking.ranked_hits = self

    def __call__(self, question, candidates, seen):
        self.seen.append((question, candidates))
        return self._ranked(question, candidates, seen)

    def take(self, repository: str, kind: str, is_right, targets: Sequence[str] = ()) -> Asked | None:
        """The last question; None when no candidate is right, so that nothing can be learned of it."""
        question, candidates = self.seen[-1]
        self.seen.clear()
        order = sorted(range(len(candidates)), key=lambda place: candidates[place].chunk.source_id)
        candidates = [candidates[place] for place in order]
        chunks = [candidate.chunk for candidate in candidates]
        return Asked(
            repository=repository,
            kind=kind,
            rows=evidence(question, candidates).rows.astype(np.float64),
            gains=np.array([ranking.named(question, chunk) for chunk in chunks], np.float64),
            files=np.array([chunk.source_id for chunk in chunks], np.int64),
            paths=[chunk.path for chunk in chunks],
            right=np.array([is_right(chunk) for chunk in chunks], bool),
            targets=list(targets),
        )


def gather(args) -> list[Asked]:
    """Ask every question of both tuning halves through the product."""
    recorder, asked = Recorder(), []
    repositories = [each for each in load(args.snapshot, args.mirrors)[0] if each.tuned_on]
    folders = {each.name: extracted(each, args.work / "repositories") for each in repositories}
    with opened(args) as app:
        index_all(app, repositories, folders, again=False)
        for each in repositories:
            with app.searcher(str(folders[each.name]), Silence()) as ask:
                for question in each.questions:
                    ask(Query(text=question.text, limit=1, context=0))
                    paths = [target.path for target in question.targets]
                    right = lambda chunk, paths=paths: any(same_path(chunk.path, path) for path in paths)  # noqa: E731
                    asked.append(recorder.take(each.name, "files", right, paths))
            print(f"asked {each.name}", file=sys.stderr, flush=True)
    for repository in load_corpus(CORPUS, args.mirrors, args.work, "tuning"):
        docs, commits = doc_set(repository), commit_set(repository)
        for kind, files, queries in (("docs", docs.files, docs.queries), ("commits", commits.files, commits.queries)):
            kept = args.work / "retrieval" / f"{repository.name.replace('/', '+')}-{kind}-{digest(files, {})}"
            with indexed(files, None, {}, kept=kept) as index:
                for query in queries:
                    index.search(query.text, answers=1)
                    right = lambda chunk, gold=query.gold: any(  # noqa: E731
                        chunk.path == path and chunk.start_line <= last and first <= chunk.end_line
                        for path, first, last in gold
                    )
                    asked.append(recorder.take(repository.name, kind, right))
            print(f"asked {repository.name} {kind}", file=sys.stderr, flush=True)
    return asked


class Loss:
    """The loss over questions of one kind, and its gradient. Flat arrays: a segment is a file, or a chunk."""

    def __init__(self, asked: Sequence[Asked], *, by_file: bool) -> None:
        asked = [one for one in asked if one.right.any()]
        starts, targets, sizes, rows = [], [], [], 0
        for one in asked:
            first = np.flatnonzero(np.r_[True, np.diff(one.files) != 0]) if by_file else np.arange(len(one.files))
            starts.append(first + rows)
            right = np.maximum.reduceat(one.right.astype(float), first)
            targets.append(right / right.sum() if by_file else right)
            sizes.append(len(first))
            rows += len(one.files)
        self._by_file, self.questions = by_file, len(asked)
        self._rows = np.concatenate([one.rows for one in asked])
        self._gains = np.concatenate([one.gains for one in asked])
        self._starts, self._targets = np.concatenate(starts), np.concatenate(targets)
        self._questions = np.cumsum([0, *sizes[:-1]])
        self._question_of = np.repeat(np.arange(self.questions), sizes)
        self._segment_of = np.repeat(np.arange(len(self._starts)), np.diff(np.r_[self._starts, rows]))

    def __call__(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """(loss, gradient), means over questions."""
        scores = (self._rows @ weights + self._gains) / TEMPERATURE
        best, rows = scores, np.arange(len(scores))
        if self._by_file:
            best = np.maximum.reduceat(scores, self._starts)
            tops = np.flatnonzero(scores == best[self._segment_of])
            rows = tops[np.unique(self._segment_of[tops], return_index=True)[1]]
        high = np.maximum.reduceat(best, self._questions)[self._question_of]
        shares = np.exp(best - high)
        shares /= np.add.reduceat(shares, self._questions)[self._question_of]
        if self._by_file:  # each right file is wanted
            loss = -(np.log(shares + 1e-300) * self._targets).sum()
            slope = shares - self._targets
        else:  # any right chunk will do
            right = np.add.reduceat(shares * self._targets, self._questions) + 1e-12
            loss = -np.log(right).sum()
            slope = shares - shares * self._targets / right[self._question_of]
        return loss / self.questions, self._rows[rows].T @ slope / self.questions / TEMPERATURE


def learned(asked: Sequence[Asked], lines: float) -> np.ndarray:
    """The weights that minimise the loss."""
    of_kind = {kind: [one for one in asked if one.kind == kind] for kind in ("files", "docs", "commits")}
    parts = [(Loss(some, by_file=kind == "files"), 1.0 if kind == "files" else lines) for kind, some in of_kind.items()]

    def whole(weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = PENALTY * weights @ weights, 2 * PENALTY * weights
        for part, share in parts:
            some, gradient = part(weights)
            loss, slope = loss + share * some, slope + share * gradient
        return loss, slope

    start = np.zeros(len(NAMES))
    return minimize(whole, start, jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS}).x


def figures(asked: Sequence[Asked], weights_of: dict[str, np.ndarray]) -> dict[str, float]:
    """NDCG@10 of files; MRR@10 of single chunks in the documentation and commit sets."""
    sums: dict[str, list[float]] = {}
    for one in asked:
        scores = one.rows @ weights_of[one.repository] + one.gains
        order = np.argsort(-scores, kind="stable")
        if one.kind == "files":
            paths = list(dict.fromkeys(one.paths[place] for place in order))
            ranks = [
                next((rank for rank, path in enumerate(paths, 1) if same_path(path, target)), 99)
                for target in one.targets
            ]
            value = ndcg(ranks, len(one.targets))
        else:
            places = np.flatnonzero(one.right[order])
            value = 1 / (places[0] + 1) if len(places) and places[0] < 10 else 0.0
        sums.setdefault(one.kind, []).append(value)
    return {kind: float(np.mean(values)) for kind, values in sums.items()}


def main() -> None:
    """Gather, learn, print."""
    args = arguments()
    if args.load:
        asked = pickle.loads(args.load.read_bytes())
    else:
        asked = gather(args)
        if args.save:
            args.save.write_bytes(pickle.dumps(asked))
    names = sorted({one.repository for one in asked})
    if args.folds:
        weights_of = {}
        for fold in range(args.folds):
            left_out = set(names[fold :: args.folds])
            weights = learned([one for one in asked if one.repository not in left_out], args.lines)
            weights_of |= dict.fromkeys(left_out, weights)
        print(f"left out, {args.folds} folds:", {kind: round(x, 4) for kind, x in figures(asked, weights_of).items()})
    weights = learned(asked, args.lines)
    print("learned on all:", {kind: round(x, 4) for kind, x in figures(asked, dict.fromkeys(names, weights)).items()})
    for name, value in zip(NAMES, weights, strict=True):
        print(f'    "{name}": {value:.3f},')
    answered(asked, weights)


def answered(asked: Sequence[Asked], weights: np.ndarray) -> None:
    """Print how often the first answer is right, by its weighed evidence: MIDDLE and STEEPNESS of the ranking."""
    best = [(one.rows @ weights + one.gains) for one in asked if len(one.rows)]
    right = [
        bool(one.right[scores.argmax()]) for one, scores in zip([o for o in asked if len(o.rows)], best, strict=True)
    ]
    tops = np.array([scores.max() for scores in best])
    bounds = np.quantile(tops, np.linspace(0, 1, 9))
    for low, high in pairwise(bounds):
        some = (tops >= low) & (tops <= high)
        print(f"# first answer between {low:.2f} and {high:.2f}: {np.mean(np.array(right)[some]):.2f} right")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench learn-ranking", description=__doc__.split("\n")[0])
    parser.add_argument("--mirrors", type=Path, required=True, metavar="DIR", help="clones of all repositories")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where both benches keep indexes")
    parser.add_argument("--snapshot", type=Path, metavar="DIR", help="git directory of the benchmark")
    parser.add_argument("--lines", type=float, default=0.4, metavar="WEIGHT", help="weight of the two line sets (0.4)")
    parser.add_argument("--folds", type=int, default=0, metavar="N", help="also measure on what was left out")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the gathered evidence there")
    parser.add_argument("--load", type=Path, metavar="FILE", help="learn from evidence that was kept")
    args = parser.parse_args()
    if args.snapshot is None:
        folder = args.mirrors / SNAPSHOT.replace("/", "+")
        args.snapshot = next((path for path in (folder / "repo", args.mirrors / SNAPSHOT) if path.exists()), folder)
    args.model, args.flags, args.data = "synthetic", {}, args.work / "data-synthetic"
    return args


if __name__ == "__main__":
    main()
