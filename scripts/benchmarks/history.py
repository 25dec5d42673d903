"""Queries from a repository's history: what a commit says it did, and where, in the files of an earlier commit."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.corpus import Repository

MIN_WORDS = 4
MAX_WORDS = 40
MOST_OLD_LINES = 60
MOST_FILES = 6

_RECORD = "\x1e"
_FIELD = "\x1f"
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@")


def _one_of(patterns: str) -> str:
    """Alternatives of a regular expression, written one to a line."""
    return "(?:" + "|".join(line.strip() for line in patterns.strip().splitlines()) + ")"


_REFERENCE = re.compile(r"https?://\S+|[\[(]?\b(?=[0-9a-f]*\d)[0-9a-f]{7,40}\b[\])]?")
_TRAILING_NUMBER = re.compile(
    r"\s*\(?(?:(?:closes|fixes|fix|refs?|see|gh|issue|pr)[\s:-]*)?#\d+\)?|\s*\(gh-\d+\)", re.IGNORECASE
)
_DROPPED_TYPES = frozenset(("doc", "docs", "ci", "style", "chore", "build", "deps", "release"))
_KEPT_TYPES = ("feat", "fix", "fixes", "fixed", "refactor", "perf", "test", "tests", "bug", "bugfix")
_TYPES = "|".join((*sorted(_DROPPED_TYPES), *_KEPT_TYPES))
_TYPE_PREFIX = re.compile(rf"^(?:\[[\w ./-]+\]\s*:?\s*)*(?:(?P<type>{_TYPES})(?:\([^)]*\))?!?:\s*)?", re.IGNORECASE)
_BEGINS_OTHERWISE = _one_of(r"""
    merge
    revert
    bump
    release
    prepare
    version
    v?\d+\.\d+
    upgrade
    update (?:dependenc|deps|version|copyright|license|changelog|readme|changes|docs|pre-commit)
    update \S+ to\b
    (?:apply|run) (?:black|ruff|prettier|rustfmt|clang|isort|pyupgrade)
    now working on
    (?:document|clarify|mention|describe|reword|explain)\b
""")
# The base has no tests of later behaviour, so a commit that is about tests has no answer in it.
_SAYS_OTHERWISE = _one_of(r"""
    typos?|spelling|misspell\w*|grammar
    changelog|readme|licen[cs]e|copyright
    docs?|documentation|docstrings?|javadocs?|comments?|parameter descriptions?
    lint(?:er|ing|s)?|prettier|rustfmt|gofmt|clang-format|clang-tidy|clippy|rubocop|checkstyle
    error ?prone|eclipse|eslint|flake8|mypy|isort|pyupgrade|type: ?ignore
    whitespaces?|indentation|re-?format\w*|formatting|code style|coding style
    pre-?commit|github actions?|dependabot|dependency|dependencies
    next (?:development|release)|snapshot
    to (?:typescript|ts)
    (?:unit|regression|fuzz\w*)?[ -]?tests?|test(?:ing|ed|cases?|suite)
    coverage|benchmarks?|flak[ye]
""")
_NOT_ABOUT_CODE = re.compile(rf"^{_BEGINS_OTHERWISE}|\b{_SAYS_OTHERWISE}\b", re.IGNORECASE)
TEST_PATH = re.compile(
    _one_of(r"""
    (?:^|/)(?:tests?|specs?|testing|testdata|benches|benchmarks?|examples?|java-test)/
    (?:^|/)test_?utils?\b
    (?:^|/)test(?:_[^/]*|\.c)$
    _test\.(?:go|cc|cpp|py|rb)$
    [._-](?:test|spec)\.[cm]?[jt]sx?$
    _spec\.rb$
    Tests?\.java$
    """)
)
_WORD = re.compile(r"[^\W\d_]\w*(?:['-]\w+)*")
_IMPORT = re.compile(
    r"\s*"
    + _one_of(r"""
    import\b
    from\s+\S+\s+import\b
    \#\s*include\b
    use\s
    (?:const|var|let)\s.*\brequire\(
    require(?:_relative)?\b
    package\s
    """)
)


@dataclass(frozen=True)
class CommitQuery:
    """A commit's subject, and the lines of the base's files (path, first, last; 1-based, inclusive) that it changed."""

    text: str
    gold: list[tuple[str, int, int]]
    commit: str


@dataclass(frozen=True)
class Hunk:
    """A hunk of a diff."""

    path: str
    lines: list[str] = field(default_factory=list)  # each with its " ", "-" or "+"

    @property
    def removed(self) -> list[str]:
        """The old lines that went."""
        return [line[1:] for line in self.lines if line.startswith("-")]

    @property
    def added(self) -> list[str]:
        """The new lines that came."""
        return [line[1:] for line in self.lines if line.startswith("+")]


def commit_queries(repository: Repository) -> tuple[str, list[CommitQuery]]:
    """The base commit's id and the queries of all commits between it and the pinned one, oldest first."""
    base = _base_commit(repository)
    files = {path: data.decode() for path, data in repository.files(base).items()}
    log = repository.git(
        "log", "--no-merges", "--reverse", "--topo-order", f"--format={_RECORD}%H{_FIELD}%s{_FIELD}", "--patch",
        "--unified=3", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv", "--diff-algorithm=histogram",
        "--diff-filter=M", "--src-prefix=a/", "--dst-prefix=b/", f"{base}..{repository.commit}",
    ).decode(errors="replace")  # fmt: skip
    queries = []
    for record in log.split(_RECORD)[1:]:
        commit, subject, diff = record.split(_FIELD, 2)
        text = subject_query(subject)
        gold = gold_lines(parse_diff(diff), files, repository.counts) if text is not None else []
        if text is not None and gold:
            queries.append(CommitQuery(text, gold, commit))
    return base, queries


def _base_commit(repository: Repository) -> str:
    """The newest first parent that has at least `history` commits between it and the pinned one."""
    parents = repository.git("rev-list", "--first-parent", repository.commit).decode().split()
    low, high = 0, len(parents) - 1
    while low < high:
        middle = (low + high) // 2
        between = int(repository.git("rev-list", "--no-merges", "--count", f"{parents[middle]}..{repository.commit}"))
        if between < repository.history:
            low = middle + 1
        else:
            high = middle
    return parents[low]


def subject_query(subject: str) -> str | None:
    """A commit's subject as a query, None when it is not about the code or says too little."""
    text = _REFERENCE.sub("", _TRAILING_NUMBER.sub("", subject)).strip()
    prefix = _TYPE_PREFIX.match(text)
    if prefix is not None:
        if (prefix["type"] or "").lower() in _DROPPED_TYPES:
            return None
        text = text[prefix.end() :]
    text = " ".join(text.replace("`", "").split()).strip(" .:;-")
    words = _WORD.findall(text)
    if len(words) < MIN_WORDS or len(text.split()) > MAX_WORDS or _NOT_ABOUT_CODE.search(text):
        return None
    return text


def parse_diff(diff: str) -> list[Hunk]:
    """The hunks of a unified diff of changed files."""
    hunks: list[Hunk] = []
    path = ""
    old_left = new_left = 0
    for line in diff.split("\n"):
        if old_left > 0 or new_left > 0:
            if line.startswith("\\"):
                continue
            hunks[-1].lines.append(line or " ")
            old_left -= not line.startswith("+")
            new_left -= not line.startswith("-")
        elif line.startswith("--- a/"):
            path = line[6:].rstrip("\t")
        elif header := _HUNK.match(line):
            counts = re.findall(r"[-+]\d+(?:,(\d+))?", header.group())
            old_left, new_left = (int(count or 1) for count in counts)
            hunks.append(Hunk(path))
    return hunks


def gold_lines(
    hunks: list[Hunk], files: Mapping[str, str], counts: Callable[[str], bool]
) -> list[tuple[str, int, int]]:
    """Where the old sides of a commit's hunks are in `files`; empty when the commit makes no fair query.

    Hunks of tests and of files that are none of the corpus (`counts`) are left aside. Not fair: too many files or
    lines, nothing but imports, comments or form, and commits of which less than half of the hunks are still where
    they were.
    """
    counted = [
        hunk for hunk in hunks if counts(hunk.path) and not TEST_PATH.search(hunk.path) and not _is_form_only(hunk)
    ]
    if len({hunk.path for hunk in hunks}) > 3 * MOST_FILES or len({hunk.path for hunk in counted}) > MOST_FILES:
        return []
    if sum(len(hunk.removed) for hunk in counted) > MOST_OLD_LINES:
        return []
    substantial = [hunk for hunk in counted if not _is_import_only(hunk)]
    found = [place for hunk in substantial if (place := _place(hunk, files)) is not None]
    return sorted(set(found)) if 2 * len(found) >= len(substantial) else []


def _place(hunk: Hunk, files: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Where a hunk's old side is: in its file or, if the base has no such path, in one of the same name."""
    name = hunk.path.rpartition("/")[2]
    paths = [hunk.path] if hunk.path in files else [path for path in files if path.rpartition("/")[2] == name]
    found = [(path, *lines) for path in paths if (lines := locate(hunk, files[path])) is not None]
    return found[0] if len(found) == 1 else None


def locate(hunk: Hunk, text: str) -> tuple[int, int] | None:
    """The lines of `text` (1-based, inclusive) that a hunk changes; None unless its old side is there exactly once.

    From the first line that goes to the last; where a hunk only adds lines, the nearest lines that are not blank
    before and after.
    """
    old = [line[1:] for line in hunk.lines if not line.startswith("+")]
    block = "\n" + "\n".join(old) + "\n"
    padded = f"\n{text}\n"
    at = padded.find(block)
    if at < 0 or padded.find(block, at + 1) >= 0:
        return None
    first = padded.count("\n", 0, at + 1)
    changed = _changed_rows(hunk)
    return first + changed[0], first + changed[-1]


def _changed_rows(hunk: Hunk) -> list[int]:
    """The rows of the old side that a hunk changes, counted from 0."""
    row = 0
    old = [line[1:] for line in hunk.lines if not line.startswith("+")]
    rows: set[int] = set()
    previous = " "
    for line in hunk.lines:
        if line.startswith("+"):
            if previous == " ":
                rows.update(_around(old, row))
        else:
            if line.startswith("-"):
                rows.add(row)
            row += 1
        previous = line[:1]
    # A replacement is written as lines that go, then lines that come: only pure insertions look around.
    return sorted(rows)


def _around(old: list[str], row: int) -> list[int]:
    before = next((at for at in range(row - 1, -1, -1) if old[at].strip()), None)
    after = next((at for at in range(row, len(old)) if old[at].strip()), None)
    return [at for at in (before, after) if at is not None]


_COMMENT_LINE = re.compile(
    r"\s*(?://|/\*|\*(?:\s|/|$)|#(?!\s*(?:if|else|elif|endif|define|undef|include|pragma|error))|--\s|$)"
)


def _is_form_only(hunk: Hunk) -> bool:
    """Whether nothing changed but white space or comments."""
    removed, added = ("".join("".join(lines).split()) for lines in (hunk.removed, hunk.added))
    return removed == added or all(_COMMENT_LINE.match(line) for line in hunk.removed + hunk.added)


def _is_import_only(hunk: Hunk) -> bool:
    return all(_IMPORT.match(line) or not line.strip() for line in hunk.removed + hunk.added)
