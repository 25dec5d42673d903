"""The doc sets and the commit sets of the retrieval bench: files to search, queries, and the lines that answer them.

    python scripts/benchmarks/queries.py --mirrors DIR --cache DIR [--corpus FILE] [--set all] [--samples 5]

prints what there is of each repository, and samples.

A doc set: the files of the pinned commit without the documentation comments of their functions; the query is the
first sentence of such a comment with the function's name masked, and the answer is the function. A commit set: the
files of an earlier commit; the query is the subject of a commit that came later, and the answer is the old side of
its hunks.
"""

import argparse
import random
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.corpus import Repository, load
from benchmarks.documented import Function, language_of, remove_comments
from benchmarks.history import TEST_PATH, CommitQuery, commit_queries
from benchmarks.phrases import query_of
from codechunk.text.tokens import count_tokens

CORPUS = Path(__file__).parent / "corpus.yaml"
MOST_DOC_QUERIES = 300
MOST_COMMIT_QUERIES = 130
MIN_GOLD_LINES = 3
_TEST_NAME = re.compile(r"(?:test|Test|Benchmark|Example)(?:[A-Z_0-9]|$)")


@dataclass(frozen=True)
class DocQuery:
    """A first sentence, and the function (1-based lines, inclusive) that its comment stood at."""

    text: str
    path: str
    start_line: int
    end_line: int
    name: str

    @property
    def gold(self) -> list[tuple[str, int, int]]:
        """The answer in the form that a CommitQuery has it in."""
        return [(self.path, self.start_line, self.end_line)]


_Query = TypeVar("_Query", DocQuery, CommitQuery)


@dataclass(frozen=True)
class DocSet:
    """Files without documentation comments, and what their functions' comments said."""

    files: dict[str, bytes]
    queries: list[DocQuery]


@dataclass(frozen=True)
class CommitSet:
    """Files of the base commit, and the commits that changed them later."""

    base: str
    files: dict[str, bytes]
    queries: list[CommitQuery]


def doc_set(repository: Repository) -> DocSet:
    """The doc set of a repository; the same at every call."""
    made = repository.cached("docs", lambda: _make_doc_set(repository))
    files = {path: text.encode() for path, text in made["files"].items()}
    return DocSet(files, [DocQuery(**fields) for fields in made["queries"]])


def commit_set(repository: Repository) -> CommitSet:
    """The commit set of a repository; the same at every call."""
    made = repository.cached("commits", lambda: _make_commit_set(repository))
    queries = [
        CommitQuery(fields["text"], [(path, start, end) for path, start, end in fields["gold"]], fields["commit"])
        for fields in made["queries"]
    ]
    return CommitSet(made["base"], repository.files(made["base"]), queries)


def _make_doc_set(repository: Repository) -> dict[str, Any]:
    files = {}
    queries = []
    for path, data in repository.files().items():
        language = language_of(path, repository.language)
        if language is None:
            files[path] = data.decode()
            continue
        stripped = remove_comments(data, language)
        files[path] = stripped.data.decode()
        if not TEST_PATH.search(path):
            queries += doc_queries(path, stripped.functions, stripped.data)
    return {"files": files, "queries": [asdict(query) for query in drawn(queries, MOST_DOC_QUERIES, repository.name)]}


def doc_queries(path: str, functions: tuple[Function, ...], data: bytes) -> list[DocQuery]:
    """The queries of one file's documented functions, before duplicates go."""
    lines = data.split(b"\n")
    queries = []
    for function in functions:
        gold = lines[function.start_line - 1 : function.end_line]
        if sum(bool(line.strip()) for line in gold) < MIN_GOLD_LINES or _TEST_NAME.match(function.name):
            continue
        text = query_of(function.comment, function.name)
        if text is not None:
            queries.append(DocQuery(text, path, function.start_line, function.end_line, function.name))
    return queries


def drawn(queries: list[_Query], most: int, seed: str) -> list[_Query]:
    """At most `most` of the queries, in their order, without those whose text is there twice."""
    times = Counter(query.text.casefold() for query in queries)
    single = [query for query in queries if times[query.text.casefold()] == 1]
    if len(single) <= most:
        return single
    places = sorted(random.Random(seed).sample(range(len(single)), most))
    return [single[place] for place in places]


def _make_commit_set(repository: Repository) -> dict[str, Any]:
    base, queries = commit_queries(repository)
    return {"base": base, "queries": [asdict(query) for query in drawn(queries, MOST_COMMIT_QUERIES, repository.name)]}


def _print_table(repositories: list[Repository], samples: int) -> None:
    print("| repository | set | language | files | tokens | doc queries | base files | base tokens | commit queries |")
    print("|---|---|---|---|---|---|---|---|---|")
    shown = []
    for repository in repositories:
        docs, commits = doc_set(repository), commit_set(repository)
        tokens = [sum(count_tokens(data.decode()) for data in files.values()) for files in (docs.files, commits.files)]
        print(
            f"| {repository.name} | {repository.set} | {repository.language} | {len(docs.files)} | {tokens[0]:,} | "
            f"{len(docs.queries)} | {len(commits.files)} | {tokens[1]:,} | {len(commits.queries)} |"
        )
        drawer = random.Random(samples)
        for queries in (docs.queries, commits.queries):
            shown.append((repository.name, drawer.sample(queries, min(samples, len(queries)))))
    for name, queries in shown:
        print(f"\n{name}")
        for query in queries:
            about = query.name if isinstance(query, DocQuery) else query.commit[:10]
            print(
                f"  {query.text}\n    [{about}] "
                + "; ".join(f"{path}:{start}-{end}" for path, start, end in query.gold)
            )


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirrors", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    parser.add_argument("--set", choices=("tuning", "test", "all"), default="all")
    parser.add_argument("--samples", type=int, default=5)
    args = parser.parse_args()
    _print_table(load(args.corpus, args.mirrors, args.cache, args.set), args.samples)


if __name__ == "__main__":
    main()
