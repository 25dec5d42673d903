"""The public search benchmark of semble: its repositories, questions and rules, read from a snapshot at run time.

Its rules (benchmarks/data.py and metrics.py there): a target is a file, some have lines too; either path may be the end
of the other; only the folder `benchmark_root` of each repository is indexed; NDCG@10 is binary. Nothing of the snapshot
is committed here.
"""

import json
import math
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.corpus import CorpusError

RANKS = 10
SNAPSHOT = "michalfedyna/semble"
# Ranking is tuned on these only; the others are asked at the end.
TUNING = frozenset(
    (
        "express", "model2vec", "snapkit", "sinatra", "xmonad", "requests", "guzzle", "rack", "flask", "click", "trpc",
        "plug", "monolog", "ktor", "aeson", "cobra", "exposed", "nlohmann-json", "ecto", "http4s", "nvm", "serde",
        "messagepack-csharp", "cats", "libuv", "gson", "zls", "zod", "bash-it", "mini.nvim", "abseil-cpp",
    )
)  # fmt: skip
# Where a repository lives now: a snapshot may be stored under either name, and one of them has the pinned commit.
_MOVED = {
    "echasnovski/mini.nvim": "nvim-mini/mini.nvim",
    "encode/starlette": "Kludex/starlette",
    "neuecc/MessagePack-CSharp": "MessagePack-CSharp/MessagePack-CSharp",
}
_FIXED_DATE = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Span:
    """Lines of a file, 1-based and inclusive: one answer, or what a question wants."""

    path: str
    start_line: int | None = None
    end_line: int | None = None

    def covers(self, target: "Span") -> bool:
        """Whether this answer is one for `target`."""
        if not same_path(self.path, target.path):
            return False
        if target.start_line is None or target.end_line is None or self.start_line is None or self.end_line is None:
            return True
        return self.end_line >= target.start_line and self.start_line <= target.end_line


@dataclass(frozen=True, slots=True)
class Question:
    """One query and what answers it; `category` is architecture, semantic or symbol."""

    text: str
    category: str
    targets: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class Repository:
    """One repository of the benchmark with its questions, and where its commits are."""

    name: str
    language: str
    root: str  # the folder that is indexed, "" for all
    git_dir: Path
    commit: str
    is_pinned: bool  # whether `commit` is the benchmark's own
    questions: tuple[Question, ...]

    @property
    def tuned_on(self) -> bool:
        """Whether it belongs to the half that ranking is tuned on."""
        return self.name in TUNING


def same_path(one: str, other: str) -> bool:
    """Whether two paths mean one file: equal, or one the end of the other."""
    return one == other or one.endswith(f"/{other}") or other.endswith(f"/{one}")


def ranks_of(answers: Sequence[Span], targets: Iterable[Span]) -> list[int]:
    """For each target that is answered, the rank (from 1) of the first answer for it: each span takes a rank."""
    found = (
        next((rank for rank, answer in enumerate(answers, start=1) if answer.covers(target)), None)
        for target in targets
    )
    return [rank for rank in found if rank is not None]


def file_ranks_of(answers: Sequence[Span], targets: Iterable[Span]) -> list[int]:
    """The same when a file takes one rank, that of its first span; a target with lines may be in any of its spans."""
    files = list(dict.fromkeys(answer.path for answer in answers))
    ranks = []
    for target in targets:
        found = [files.index(answer.path) + 1 for answer in answers if answer.covers(target)]
        ranks += [min(found)] if found else []
    return ranks


def ndcg(ranks: Iterable[int], wanted: int, k: int = RANKS) -> float:
    """Binary NDCG@k; `ranks` are those of the targets that were found, `wanted` is how many there are."""
    gained = sum(1 / math.log2(rank + 1) for rank in {rank for rank in ranks if rank <= k})
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, wanted) + 1))
    return gained / ideal if ideal else 0.0


def load(snapshot: Path, mirrors: Path) -> tuple[list[Repository], dict[str, str]]:
    """The repositories that can be asked, smallest name first, and why each of the others cannot.

    `snapshot` is a git directory with the benchmark's folder `benchmarks/`; a mirror is `<mirrors>/owner+name/repo` or
    `<mirrors>/owner/name`. Raises CorpusError when the snapshot is none.
    """
    found, missing = [], {}
    for fields in json.loads(_git(snapshot, "show", "HEAD:benchmarks/repos.json")):
        made = _repository(fields, snapshot, mirrors)
        if isinstance(made, str):
            missing[fields["name"]] = made
        else:
            found.append(made)
    return sorted(found, key=lambda repository: repository.name), missing


def published(snapshot: Path, result: str, mode: str | None = None) -> dict[str, float]:
    """Repository -> NDCG@10 as published in benchmarks/results/`result`*.json, of one mode where there are several."""
    figures: dict[str, float] = {}
    for path in _git(snapshot, "ls-tree", "--name-only", "HEAD", "benchmarks/results/").decode().split():
        if Path(path).name.startswith(result):
            rows = json.loads(_git(snapshot, "show", f"HEAD:{path}"))["repos"]
            figures |= {row["repo"]: row["ndcg10"] for row in rows if mode is None or row["mode"] == mode}
    return figures


def extracted(repository: Repository, work: Path) -> Path:
    """The folder `benchmark_root` as a small git repository of its own, made once; the same files, the same commit."""
    folder = work / repository.name
    made_of = f"{repository.commit}:{repository.root}"
    mark = folder / ".git" / "made-of"
    if mark.is_file() and mark.read_text() == made_of:
        return folder
    if folder.exists():
        raise CorpusError(f"{folder} was made of something else than {made_of}; delete it.")
    folder.mkdir(parents=True)
    # Not `git archive`: it leaves out what .gitattributes says, and the benchmark used checkouts.
    index = {"GIT_INDEX_FILE": str(work / f".{repository.name}.index")}
    _git(repository.git_dir, "read-tree", made_of, environment=index)
    _git(repository.git_dir, f"--work-tree={folder}", "checkout-index", "-a", "-f", environment=index)
    Path(index["GIT_INDEX_FILE"]).unlink()
    who = {
        f"GIT_{role}_{what}": "bench@example.invalid" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    when = {"GIT_AUTHOR_DATE": _FIXED_DATE, "GIT_COMMITTER_DATE": _FIXED_DATE}
    own = folder / ".git"
    _git(folder, "init", "-q", "-b", "main", of=None)
    _git(own, f"--work-tree={folder}", "add", "-A", "-f")
    _git(own, f"--work-tree={folder}", "commit", "-q", "-m", made_of, environment=who | when)
    mark.write_text(made_of)
    return folder


def head_of(folder: Path) -> str:
    """The commit of an extracted repository."""
    return _git(folder / ".git", "rev-parse", "HEAD").decode().strip()


def _repository(fields: Mapping[str, Any], snapshot: Path, mirrors: Path) -> Repository | str:
    address = fields["url"].removeprefix("https://github.com/").removesuffix(".git")
    pin, root = fields["revision"], fields.get("benchmark_root") or ""
    there = [path for name in (address, _MOVED.get(address)) if name and (path := _mirror(mirrors, name))]
    if not there:
        return f"no mirror of {address}"
    pinned = [path for path in there if _has(path, pin)]
    git_dir = (pinned or there)[0]
    commit = pin if pinned else _git(git_dir, "rev-parse", "HEAD").decode().strip()
    if not _has(git_dir, f"{commit}:{root}"):
        return f"no folder {root} in {commit[:12]}, the newest commit there is"
    raw = json.loads(_git(snapshot, "show", f"HEAD:benchmarks/annotations/{fields['name']}.json"))
    return Repository(
        name=fields["name"],
        language=fields["language"],
        root=root,
        git_dir=git_dir,
        commit=commit,
        is_pinned=bool(pinned),
        questions=tuple(_question(item) for item in raw),
    )


def _question(item: Mapping[str, Any]) -> Question:
    wanted = [*item.get("relevant", ()), *item.get("secondary", ())]
    return Question(item["query"], item.get("category") or _category(item["query"]), tuple(map(_target, wanted)))


def _target(raw: str | Mapping[str, Any]) -> Span:
    if isinstance(raw, str):
        return Span(raw)
    lines = [int(raw[name]) if raw.get(name) is not None else None for name in ("start_line", "end_line")]
    return Span(raw["path"], *lines)


def _category(query: str) -> str:
    """What the benchmark says of a question that has no category."""
    if " " not in query.strip():
        return "symbol"
    return "architecture" if query.lower().startswith("how ") else "semantic"


def _mirror(mirrors: Path, name: str) -> Path | None:
    for path in (mirrors / name.replace("/", "+") / "repo", mirrors / name):
        if path.is_dir():
            return path / ".git" if (path / ".git").is_dir() else path
    return None


def _has(git_dir: Path, what: str) -> bool:
    try:
        _git(git_dir, "cat-file", "-e", what)
    except CorpusError:
        return False
    return True


def _git(
    git_dir: Path, *words: str, environment: Mapping[str, str] | None = None, of: str | None = "--git-dir"
) -> bytes:
    """What git prints. The settings of whoever runs the bench must not change it."""
    clean = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(git_dir),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "3",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "GIT_CONFIG_KEY_1": "core.autocrlf",
        "GIT_CONFIG_VALUE_1": "false",
        "GIT_CONFIG_KEY_2": "gc.auto",
        "GIT_CONFIG_VALUE_2": "0",
        "LC_ALL": "C.UTF-8",
        **(environment or {}),
    }
    place = [f"{of}={git_dir}"] if of else ["-C", str(git_dir)]
    done = subprocess.run(["git", *place, *words], capture_output=True, env=clean, timeout=600)
    if done.returncode:
        raise CorpusError(f"git {words[0]} failed in {git_dir}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
