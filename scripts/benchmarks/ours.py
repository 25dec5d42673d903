"""codechunk as its users have it: a git repository, `index`, its own `search`; MiniLM in the place of the provider."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from benchmarks.encoder import DIMENSIONS, Encoder
from benchmarks.measure import Shown
from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.progress import Silence
from codechunk.providers import synthetic
from codechunk.search.ranking import Query
from codechunk.text.tokens import count_tokens


class Indexed:
    """One set of files in codechunk's own index; `search` asks it."""

    def __init__(self, ask, tokens_embedded: int, chunks: int, *, believed: bool) -> None:
        """`believed`: the vectors are a model's, although the product takes them for hash vectors."""
        self._believed = believed
        self._ask = ask
        self.tokens_embedded = tokens_embedded
        self.chunks = chunks

    def search(self, query: str, *, answers: int = 10) -> list[Shown]:
        """What `codechunk search -k answers QUERY` shows and what it costs to read: each file's spans, file by file.

        The symbol that a span is headed with is counted; path and line numbers, which all results have, are not.
        """
        return [
            Shown(
                found.path,
                span.start_line,
                span.end_line,
                count_tokens(span.text) + (count_tokens(span.symbol + "\n") if span.symbol else 0),
            )
            for found in self._ask(Query(text=query, limit=answers, anyway=self._believed))
            for span in (found, *found.spans)
        ]


@contextmanager
def indexed(
    files: Mapping[str, bytes],
    encoder: Encoder | None,
    flags: Mapping[str, object] | None = None,
    *,
    kept: Path | None = None,
) -> Iterator[Indexed]:
    """Index `files` as a repository of one commit, and search them.

    `flags`: settings as on the command line, e.g. {"chunking.max_tokens": 256}. Without an encoder: dev mode's
    synthetic vectors. `kept`: a folder of these files and flags only; its index is used again.
    """
    with _folder(kept) as work, minilm(encoder) if encoder else nullcontext():
        repository = Path(work) / "repository"
        if not (repository / ".git").exists():
            _commit(files, repository)
        loaded = load_config(
            config_file=None,
            flags={
                "data_dir": f"{work}/data",
                "embedding.provider": "synthetic",
                "secrets": "off",
                **({"embedding.dimensions": DIMENSIONS} if encoder else {}),
                **(flags or {}),
            },
            environ={"HOME": os.environ.get("HOME", work)},
            cwd=Path(work),
        )
        app = App(loaded)
        report = app.index(IndexRequest(source=str(repository)), Silence())
        with app.searcher(None, Silence()) as ask:
            yield Indexed(ask, report.tokens.total, report.chunks.total, believed=encoder is not None)


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="codechunk-bench-") as made:
        yield Path(made)


@contextmanager
def minilm(encoder: Encoder) -> Iterator[None]:
    """codechunk embeds with MiniLM where it would make synthetic vectors."""
    before = synthetic.embed
    synthetic.embed = lambda texts, _dimensions=DIMENSIONS: encoder.encode(texts)
    try:
        yield
    finally:
        synthetic.embed = before


def _commit(files: Mapping[str, bytes], folder: Path) -> Path:
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"]
    for arguments in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-qm", "bench"]):
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)
    return folder
