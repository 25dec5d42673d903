"""What the tests of `repos` and `gc` share: quick commands, a repository with three branches, and a look at the end."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos_helpers import Trial, WarmStart
from cli_helpers import Done
from gemini_emulator import GeminiEmulator
from git_helpers import GitRepo
from paid_helpers import Paid, small_repository

from codechunk.state import State
from codechunk.views.doctor import check_invariants


class Keeper(Trial):
    """codechunk with the emulator as its provider, each command forked from one that has imported everything."""

    def __init__(self, root: Path, warm: WarmStart, emulator: GeminiEmulator, repo: GitRepo) -> None:
        super().__init__(root, warm, emulator, Paid(root, emulator).settings, repo=repo)

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """Run a command to its end."""
        kept, self.env = self.env, {**self.env, **(env or {})}
        try:
            return self.do(*arguments)
        finally:
            self.env = kept

    def document(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Any:
        """The JSON document of a command that must succeed."""
        done = self.run(*arguments, "--json", env=env)
        assert done.code == 0, done.err
        return done.json

    def bought(self, ref: str = "main", *more: str, source: str | Path = "") -> Any:
        """Index with vectors of the provider, by direct calls."""
        return self.document("index", source or self.repo.path, "--ref", ref, "--mode", "sequential", *more)

    def listed(self) -> list[tuple[str, str]]:
        """What `repos list` shows: repository and ref."""
        return [(index["repository"], index["ref"]) for index in self.document("repos", "list")]

    def held(self) -> Sequence[str]:
        """Ids of all vectors in Chroma; none when there is no Chroma any more."""
        return self.ids() if (self.data / "chroma" / "chroma.sqlite3").exists() else []

    def cache(self) -> list[tuple[Any, ...]]:
        """Every stored vector by its text."""
        return self.sql(
            "SELECT e.text_sha, v.vector FROM vectors v JOIN embeddings e ON e.id = v.embedding_id ORDER BY 1"
        )

    def errors(self) -> list[str]:
        """What doctor finds wrong in the state database."""
        with State(self.data / "state.db") as state:
            return [finding.message for finding in check_invariants(state) if finding.status == "error"]


def three_branches(folder: Path) -> GitRepo:
    """Six files with a function each; main and release are equal, feature has one file more."""
    made = small_repository(folder)
    made.git("branch", "release")
    made.git("checkout", "-q", "-b", "feature")
    made.commit({"extra.py": "def only_in_feature(value):\n    return value * 77\n"})
    made.git("checkout", "-q", "main")
    return made


def age(folder: Path) -> None:
    """Let everything below a folder, and itself, look as if nobody had touched it for a day."""
    then = time.time() - 86_400
    for root, folders, files in os.walk(folder, topdown=False):
        for name in (*files, *folders):
            os.utime(Path(root, name), (then, then))
    if folder.exists():
        os.utime(folder, (then, then))
