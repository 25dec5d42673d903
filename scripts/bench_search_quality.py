"""Whether search brings the right files: semble's public benchmark, asked through the product.

    scripts/bench search-quality --mirrors DIR --work DIR [--half tuning|other|all] [--model synthetic|minilm]
                                 [--repos a,b] [--each] [--peers] [--json FILE] [--compare FILE]
                                 [--index-only | --indexed-only]

Queries, targets and pins are read from a snapshot of michalfedyna/semble below the mirrors (or --snapshot, a git
directory); DIR/owner+name/repo (or DIR/owner/name) are clones of the repositories. Each one's `benchmark_root` becomes
a small repository in --work, and all are indexed into one data directory there, once: what is published is not indexed
again without --index-again. Prints NDCG@10 in two readings, by category and language: "span": each answer takes a rank,
as the benchmark has it; "file": a file takes one, that of its best answer. Tune on `--half tuning` only.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.encoder import DIMENSIONS, Encoder
from benchmarks.ours import minilm
from benchmarks.semble_set import (
    RANKS,
    SNAPSHOT,
    Question,
    Repository,
    Span,
    extracted,
    file_ranks_of,
    head_of,
    load,
    ndcg,
    ranks_of,
)

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.errors import IndexBusy
from codechunk.progress import Silence
from codechunk.search.ranking import Query

OURS = "codechunk"
# So many answers are asked for: enough that ten files are among them.
DEPTH = 40
READINGS = ("span", "file")
CATEGORIES = ("architecture", "semantic", "symbol")
_BUSY_WAIT_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one question got: ranks of the targets that were found, in both readings, and the first ten answers."""

    repository: str
    language: str
    tuned_on: bool
    category: str
    query: str
    targets: list[str]
    span_ranks: list[int]
    file_ranks: list[int]
    span: float
    file: float
    files: list[str]
    spans: list[str]

    @property
    def key(self) -> tuple[str, str]:
        """The question, in any run."""
        return self.repository, self.query


def main() -> None:
    """Extract, index, ask, print."""
    args = arguments()
    repositories, missing = load(args.snapshot, args.mirrors)
    for name, why in missing.items():
        print(f"not there: {name}: {why}", file=sys.stderr)
    wanted = [each for each in repositories if chosen(each, args)]
    folders = {each.name: extracted(each, args.work / "repositories") for each in wanted}
    if args.smallest_first:
        wanted.sort(key=lambda each: size_of(folders[each.name]))
    encoder = Encoder(args.work / "encoder", threads=args.threads) if args.model == "minilm" else None
    with minilm(encoder) if encoder else nullcontext(), opened(args) as app:
        if args.indexed_only:
            wanted = [each for each in wanted if is_published(app, folders[each.name])]
        else:
            index_all(app, wanted, folders, again=args.index_again)
        if args.index_only:
            return
        started = time.perf_counter()
        results = [result for each in wanted for result in ours(app, each, folders[each.name], args.depth)]
        seconds = time.perf_counter() - started
    pinned = sum(each.is_pinned for each in wanted)
    print(
        f"{len(wanted)} repositories ({pinned} at the pinned commit), {len(results):,} questions, "
        f"half: {args.half}, vectors: {args.model}; asked in {seconds:.0f} s\n"
    )
    rows = {OURS: results}
    if args.peers:
        from benchmarks.rivals import rivals  # other people's packages

        rows |= {
            name: [one for each in wanted for one in asked(each, search(folders[each.name]))]
            for name, search in rivals().items()
        }
    print_table(rows)
    if args.peers:
        print_check(rows, args.snapshot)
    print_groups("language", results, lambda result: result.language)
    if args.each:
        print_groups("repository", results, lambda result: result.repository)
    if args.json:
        document = {"model": args.model, "half": args.half, "results": [asdict(result) for result in results]}
        args.json.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
    if args.compare:
        before = [Result(**fields) for fields in json.loads(args.compare.read_text(encoding="utf-8"))["results"]]
        print_comparison(before, results, args.show)


def chosen(repository: Repository, args: argparse.Namespace) -> bool:
    """Whether the command line means this repository."""
    if args.repos:
        return repository.name in args.repos
    return args.half == "all" or repository.tuned_on == (args.half == "tuning")


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[App]:
    """The product with its one data directory for this model, and otherwise as users have it."""
    flags = {"data_dir": str(args.data), "embedding.provider": "synthetic", **args.flags}
    if args.model == "minilm":
        flags["embedding.dimensions"] = DIMENSIONS
    environ = {"HOME": os.environ.get("HOME", str(args.work))}
    with App(load_config(config_file=None, flags=flags, environ=environ, cwd=args.work)) as app:
        yield app


def index_all(app: App, repositories: Sequence[Repository], folders: Mapping[str, Path], *, again: bool) -> None:
    """Index what is not published yet."""
    for number, each in enumerate(repositories, start=1):
        folder = folders[each.name]
        if not again and is_published(app, folder):
            continue
        started = time.perf_counter()
        report = indexed(app, folder)
        seconds = time.perf_counter() - started
        print(
            f"{time.strftime('%H:%M:%S')} indexed {number}/{len(repositories)} {each.name}: "
            f"{report.chunks.total:,} chunks, {seconds:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def is_published(app: App, folder: Path) -> bool:
    """Whether searches can use this repository as it is."""
    commits = {Path(entry.url).resolve(): entry.commit for entry in app.repositories()}
    return commits.get(folder.resolve()) == head_of(folder)


def indexed(app: App, folder: Path):
    """The report of one run; another process that searches or indexes meanwhile is waited for."""
    while True:
        try:
            return app.index(IndexRequest(source=str(folder)), Silence())
        except IndexBusy:
            time.sleep(_BUSY_WAIT_S)


def ours(app: App, repository: Repository, folder: Path, depth: int) -> list[Result]:
    """The product's answers to all questions about one repository."""
    with app.searcher(str(folder), Silence()) as ask:

        def search(question: Question) -> list[Span]:
            return [span for answer in ask(Query(text=question.text, limit=depth)) for span in spans_of(answer)]

        return asked(repository, search)


def spans_of(answer) -> list[Span]:
    """An answer's lines: those of its best span, then those of its others, when it has some."""
    others = [(span.start_line, span.end_line) for span in answer.spans]
    lines = dict.fromkeys([(answer.start_line, answer.end_line), *others])
    return [Span(answer.path, start, end) for start, end in lines]


def asked(repository: Repository, search: Callable[[Question], Sequence[Span]]) -> list[Result]:
    """Every question of one repository, answered and rated."""
    results = []
    for question in repository.questions:
        answers = search(question)
        span_ranks = ranks_of(answers[:RANKS], question.targets)
        file_ranks = file_ranks_of(answers, question.targets)
        wanted = len(question.targets)
        results.append(
            Result(
                repository=repository.name,
                language=repository.language,
                tuned_on=repository.tuned_on,
                category=question.category,
                query=question.text,
                targets=[shown(target) for target in question.targets],
                span_ranks=span_ranks,
                file_ranks=file_ranks,
                span=ndcg(span_ranks, wanted),
                file=ndcg(file_ranks, wanted),
                files=list(dict.fromkeys(answer.path for answer in answers))[:RANKS],
                spans=[shown(answer) for answer in answers[:RANKS]],
            )
        )
    return results


def shown(span: Span) -> str:
    """PATH:FIRST-LAST, or the path alone."""
    return span.path if span.start_line is None else f"{span.path}:{span.start_line}-{span.end_line}"


def print_table(rows: Mapping[str, Sequence[Result]]) -> None:
    """Everybody's figures: for all questions, the two halves, and each category."""
    some = next(iter(rows.values()))
    halves = {"all": [True] * len(some), "tuning": [each.tuned_on for each in some]}
    halves["other"] = [not tuned_on for tuned_on in halves["tuning"]]
    for half, mask in halves.items():
        if not any(mask) or (half != "all" and all(mask)):
            continue
        print(f"### NDCG@10, {half}: {sum(mask):,} questions\n")
        print("| | reading | all | mean of repositories | " + " | ".join(CATEGORIES) + " |")
        print("|" + "---|" * (len(CATEGORIES) + 4))
        for name, results in rows.items():
            mine = [result for result, is_in in zip(results, mask, strict=True) if is_in]
            for reading in READINGS:
                by_repository = grouped(mine, lambda result: result.repository)
                cells = [mean(mine, reading), average(mean(some, reading) for some in by_repository.values())]
                by_category = grouped(mine, lambda result: result.category)
                cells += [mean(by_category.get(category, []), reading) for category in CATEGORIES]
                print(f"| {name} | {reading} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |")
        print()


def print_groups(title: str, results: Sequence[Result], key: Callable[[Result], str]) -> None:
    """A line for each language or repository."""
    print(f"| {title} | questions | span | file | " + " | ".join(f"{each}, file" for each in CATEGORIES) + " |")
    print("|" + "---|" * (len(CATEGORIES) + 4))
    for name, mine in sorted(grouped(results, key).items()):
        by_category = grouped(mine, lambda result: result.category)
        cells = [f"{mean(mine, reading):.3f}" for reading in READINGS]
        cells += [f"{mean(by_category[each], 'file'):.3f}" if each in by_category else "–" for each in CATEGORIES]
        print(f"| {name} | {len(mine)} | " + " | ".join(cells) + " |")
    print()


def print_check(rows: Mapping[str, Sequence[Result]], snapshot: Path) -> None:
    """Our replicas beside what their makers published of the same repositories."""
    from benchmarks.rivals import PUBLISHED, TOLERANCE
    from benchmarks.semble_set import published

    print("| replica | here, mean of repositories | published, the same repositories | |\n|---|---|---|---|")
    for name, (file, mode) in PUBLISHED.items():
        if name not in rows:
            continue
        theirs = published(snapshot, file, mode)
        here = grouped([result for result in rows[name] if result.repository in theirs], lambda each: each.repository)
        mine = average(mean(some, "span") for some in here.values())
        said = average(theirs[repository] for repository in here)
        verdict = "agrees" if abs(mine - said) <= TOLERANCE else f"DIFFERS by more than {TOLERANCE}"
        print(f"| {name} | {mine:.3f} | {said:.3f} | {verdict} |")
    print()


def print_comparison(before: Sequence[Result], after: Sequence[Result], most: int) -> None:
    """What was gained since an earlier run, on the questions of both."""
    old = {result.key: result for result in before}
    pairs = [(old[result.key], result) for result in after if result.key in old]
    print(f"### Gain on the {len(pairs):,} questions of both runs\n")
    print("| | questions | span | file | wins, losses (span) | wins, losses (file) |\n|---|---|---|---|---|---|")
    groups = {"all": pairs}
    for category in CATEGORIES:
        groups[category] = [pair for pair in pairs if pair[1].category == category]
    for name, some in groups.items():
        gains = {reading: [getattr(new, reading) - getattr(was, reading) for was, new in some] for reading in READINGS}
        cells = [f"{average(gains[reading]):+.4f}" for reading in READINGS]
        cells += [
            f"{sum(gain > 0 for gain in gains[reading])}, {sum(gain < 0 for gain in gains[reading])}"
            for reading in READINGS
        ]
        print(f"| {name} | {len(some)} | " + " | ".join(cells) + " |")
    ordered = sorted(pairs, key=lambda pair: pair[1].file - pair[0].file)
    for title, some in (("lost", ordered[:most]), ("won", ordered[::-1][:most])):
        print(f"\n{title} most (file):")
        for was, new in some:
            if new.file != was.file:
                print(f"  {was.file:.2f} -> {new.file:.2f} {new.repository}: {new.query}")
                print(f"      wants {', '.join(new.targets[:3])}; first {', '.join(new.files[:3])}")


def grouped(results: Iterable[Result], key: Callable[[Result], str]) -> dict[str, list[Result]]:
    """Results by what `key` says of them."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return groups


def mean(results: Sequence[Result], reading: str) -> float:
    """The mean NDCG@10 in one reading."""
    return average(getattr(result, reading) for result in results)


def average(values: Iterable[float]) -> float:
    """Their mean, 0 of none."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def size_of(folder: Path) -> int:
    """Bytes of the files of an extracted repository."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirrors", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="repositories, data directories, embeddings")
    parser.add_argument("--snapshot", type=Path, help="git directory with benchmarks/ (default: below --mirrors)")
    parser.add_argument("--data", type=Path, help="data directory (default: one for each model below --work)")
    parser.add_argument("--half", choices=("tuning", "other", "all"), default="tuning")
    parser.add_argument("--model", choices=("synthetic", "minilm"), default="synthetic")
    parser.add_argument("--repos", help="only these repositories, names with commas between them")
    parser.add_argument("--depth", type=int, default=DEPTH, help="answers asked for")
    parser.add_argument("--each", action="store_true", help="print the figures of each repository too")
    parser.add_argument("--peers", action="store_true", help="ask the replicas of other programs too")
    parser.add_argument("--json", type=Path, help="write what each question got")
    parser.add_argument("--compare", type=Path, help="a file of an earlier --json")
    parser.add_argument("--show", type=int, default=10, help="so many of the most changed questions")
    parser.add_argument("--index-only", action="store_true")
    parser.add_argument("--indexed-only", action="store_true", help="ask what is published now, index nothing")
    parser.add_argument("--index-again", action="store_true", help="also what is published (after a change of chunks)")
    parser.add_argument("--smallest-first", action="store_true", help="index small repositories first")
    parser.add_argument("--threads", type=int, help="of the model")
    parser.add_argument("--flag", action="append", default=[], metavar="KEY=VALUE", help="a setting of codechunk")
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    args.snapshot = args.snapshot or args.mirrors / SNAPSHOT.replace("/", "+") / "repo"
    args.data = args.data or args.work / f"data-{args.model}"
    args.repos = args.repos.split(",") if args.repos else None
    args.flags = {key: json.loads(value) for key, _, value in (flag.partition("=") for flag in args.flag)}
    return args


if __name__ == "__main__":
    main()
