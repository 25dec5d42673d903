"""The repositories of the retrieval bench: which there are, and the files of one commit, read out of bare clones.

Only files that codechunk itself would index count, and of these the UTF-8 ones that the corpus file names.
"""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pathspec import GitIgnoreSpec

from codechunk.git.address import parse_source
from codechunk.git.repository import open_repository
from codechunk.selection.skip import SkipRules
from codechunk.workspace.commit_rules import read_attributes

Which = Literal["tuning", "test", "all"]

# A change of what this module or the makers of queries put into the cache.
CACHE_VERSION = 5
_GIT_TIMEOUT_S = 600


class CorpusError(Exception):
    """The corpus file, a mirror or a pinned commit is not what it should be; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """One repository at its pinned commit."""

    name: str  # owner/name
    set: str  # "tuning" or "test"
    language: str
    commit: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    history: int  # commits between the base of the commit set and `commit`
    git_dir: Path
    cache: Path

    def files(self, commit: str | None = None) -> dict[str, bytes]:
        """Path -> content of the files that count at `commit` (default: the pinned one), in the order of their paths.

        Raises CorpusError when the mirror does not have the commit.
        """
        wanted = commit or self.commit
        made = self.cached(f"files-{wanted[:12]}", lambda: self._read(wanted))
        return {path: text.encode() for path, text in made.items()}

    def counts(self, path: str) -> bool:
        """Whether a path belongs to what `include` and `exclude` name."""
        return GitIgnoreSpec.from_lines(self.include).match_file(path) and not GitIgnoreSpec.from_lines(
            self.exclude
        ).match_file(path)

    def cached(self, what: str, make: Callable[[], Any]) -> Any:
        """The JSON value of `make`, from the cache when this repository with these globs has it there."""
        key = json.dumps([CACHE_VERSION, self.commit, self.language, self.include, self.exclude, self.history])
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        path = self.cache / f"{self.name.replace('/', '+')}-{what}-{digest}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        value = make()
        self.cache.mkdir(parents=True, exist_ok=True)
        # Two runs may make the same file: each writes its own and the last one stays.
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        partial.replace(path)
        return value

    def git(self, *words: str, stdin: bytes = b"") -> bytes:
        """What a git command of this repository prints. Raises CorpusError when it fails."""
        return _git(self.git_dir, *words, stdin=stdin)

    def _read(self, commit: str) -> dict[str, str]:
        opened = open_repository(parse_source(str(self.git_dir)), ref=commit, mirrors=self.cache)
        rules = SkipRules.build(include=self.include, exclude=self.exclude, gitattributes=read_attributes(opened))
        entries = opened.repository.list_tree(opened.commit)
        wanted = [entry for entry in entries if rules.by_entry(entry) is None]
        contents = opened.repository.blobs(entry.blob for entry in wanted)
        files = {}
        for entry, (_, data) in zip(wanted, contents, strict=True):
            if rules.by_content(entry.path, data) is None and (text := _utf8(data)) is not None:
                files[entry.path] = text
        return dict(sorted(files.items()))


def load(corpus_file: Path, mirrors: Path, cache: Path, which: Which = "all") -> list[Repository]:
    """The repositories of `corpus_file` that belong to `which`, in its order.

    A mirror is `<mirrors>/owner+name/repo` or `<mirrors>/owner/name`; one that is missing is cloned from GitHub.
    Raises CorpusError for a wrong corpus file, and when a mirror cannot be had or lacks the pinned commit.
    """
    listed = yaml.safe_load(corpus_file.read_text(encoding="utf-8"))["repositories"]
    return [_repository(fields, mirrors=mirrors, cache=cache) for fields in listed if which in ("all", fields["set"])]


def _repository(fields: Mapping[str, Any], *, mirrors: Path, cache: Path) -> Repository:
    try:
        name, commit = str(fields["name"]), str(fields["commit"])
        if fields["set"] not in ("tuning", "test") or len(commit) != 40:
            raise CorpusError(f"{name}: set must be tuning or test, commit a full id.")
        git_dir = _mirror(mirrors, name)
        _git(git_dir, "cat-file", "-e", f"{commit}^{{commit}}")
        return Repository(
            name=name,
            set=fields["set"],
            language=fields["language"],
            commit=commit,
            include=tuple(fields["include"]),
            exclude=tuple(fields.get("exclude", ())),
            history=int(fields["history"]),
            git_dir=git_dir,
            cache=cache,
        )
    except KeyError as exc:
        raise CorpusError(f"A repository of the corpus file has no {exc}.") from exc


def _mirror(mirrors: Path, name: str) -> Path:
    plus = mirrors / name.replace("/", "+") / "repo"
    for path in (plus, mirrors / name):
        if path.is_dir():
            return path
    plus.parent.mkdir(parents=True, exist_ok=True)
    _git(plus.parent, "clone", "--bare", "--quiet", f"https://github.com/{name}", "repo")
    return plus


def _git(folder: Path, *words: str, stdin: bytes = b"") -> bytes:
    # The settings of whoever runs the bench must not change what a diff or a log looks like.
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *words], input=stdin, capture_output=True, env=environment, timeout=_GIT_TIMEOUT_S
    )
    if done.returncode:
        raise CorpusError(f"git {words[0]} failed in {folder}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
