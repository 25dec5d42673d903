"""The product with some repositories, asked questions, and what it says beside the answers."""

import os
from pathlib import Path
from typing import Any

from git_helpers import GitRepo

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.documents import Answer
from codechunk.progress import Callback, Event, Silence
from codechunk.search.query_vectors import SYNTHETIC
from codechunk.search.ranking import Query

SOUP = "def stir(soup, spoon):\n    for turn in range(9):\n        spoon.turn(soup, turn)\n    return soup\n"
SALT = "def salt(soup):\n    soup.taste += 1\n    return soup.taste > 3 and soup.is_warm()\n"


def app_in(data: Path, key: str | None = None, **flags: str) -> App:
    """The product with its data in that folder, and synthetic vectors; `flags` with `__` for the dot of a key."""
    given = {name.replace("__", "."): value for name, value in flags.items()}
    environ = {**os.environ, **({} if key is None else {"CODECHUNK_GEMINI_API_KEY": key})}
    flags = {"data_dir": str(data), "embedding.provider": "synthetic", **given}
    return App(load_config(config_file=None, flags=flags, environ=environ, cwd=data.parent))


class Asking:
    """The product with some repositories, and what it said."""

    def __init__(self, folder: Path, key: str | None = None, **flags: str) -> None:
        self.folder = folder
        self.app = app_in(folder / "data", key, **flags)
        self.told: list[str] = []
        self.app.workspace.state.queue.first_time(SYNTHETIC)  # told already

    def repo(self, name: str, files: dict[str, bytes | str], *, branch: str = "main") -> GitRepo:
        made = GitRepo(self.folder / "work" / name, branch=branch)
        made.commit(files)
        return made

    def index(self, source: object, ref: str | None = None) -> None:
        self.app.index(IndexRequest(source=str(source), ref=ref), Silence())

    def ask(
        self,
        text: str,
        *repository: str,
        here: Path | None = None,
        ref_diff: str | None = None,
        **restricted: Any,
    ) -> list[Answer]:
        """The answers; what was said beside them is in `told` until the next question."""
        self.told.clear()

        def tell(event: Event) -> None:
            if event.sentence is not None:
                self.told.append(event.sentence)

        query = Query(text=text, context=0, **restricted)
        return self.app.search(
            query, repository=repository or None, reporter=Callback(tell), here=here, ref_diff=ref_diff
        )

    def who(self, text: str, *repository: str, here: Path | None = None) -> set[str]:
        return {f"{answer.repository}@{answer.ref}" for answer in self.ask(text, *repository, here=here)}
