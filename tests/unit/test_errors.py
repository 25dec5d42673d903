"""Every expected failure says of which kind it is."""

import importlib
import io
import pkgutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from git_helpers import GitRepo
from sqlalchemy.exc import OperationalError

import codechunk
from codechunk import errors
from codechunk.config.settings import Config
from codechunk.errors import CodechunkError, IndexBusy, Kind, NotFound, ProviderError, StateError, UsageError
from codechunk.git.address import parse_source
from codechunk.git.process import GitRunner
from codechunk.git.repository import open_repository
from codechunk.indexing.local_files import cut_local_files
from codechunk.indexing.run import _within
from codechunk.state import State
from codechunk.state.batches import LostClaim
from codechunk.state.database import _told
from codechunk.upkeep.vector_file import _opened
from codechunk.upkeep.vector_file_format import CacheReader


def every(error: type[CodechunkError]) -> set[type[CodechunkError]]:
    """The class and all that extend it, in every room."""
    for module in pkgutil.walk_packages(codechunk.__path__, "codechunk."):
        if not module.name.startswith(("codechunk.__main__", "codechunk.state.migrations")):
            importlib.import_module(module.name)
    found, todo = set[type[CodechunkError]](), [error]
    while todo:
        one = todo.pop()
        found.add(one)
        todo += one.__subclasses__()
    return found


def test_every_error_has_a_kind_that_is_known_and_chosen_for_it() -> None:
    found = every(CodechunkError)
    assert {error.kind for error in found} <= set(get_args(Kind))
    base = set(CodechunkError.__mro__)
    left = {error.__name__ for error in found - base if not any("kind" in vars(one) for one in {*error.__mro__} - base)}
    assert left == set(), "say what kind of failure it is"


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (UsageError, "usage", 2),
        (NotFound, "not_found", 2),
        (IndexBusy, "busy", 1),
        (StateError, "damaged", 1),
        (ProviderError, "provider", 1),
        (errors.Denied, "provider", 1),
        (errors.VectorStoreError, "environment", 1),
        (errors.LedgerError, "bug", 1),
        (CodechunkError, "environment", 1),
    ],
)
def test_the_kind_and_the_exit_code_of_an_error(error: type[CodechunkError], kind: Kind, code: int) -> None:
    assert (error.kind, error.exit_code) == (kind, code)


def opened(folder: Path, ref: str | None) -> None:
    made = GitRepo(folder / "repo")
    if ref is not None:
        made.commit({"a.py": "x = 1\n"})
    open_repository(parse_source(str(made.path)), ref=ref, mirrors=folder, timeout_s=60)


def read_cache(path: Path) -> None:
    with _opened(path):
        pass


FAILURES: list[tuple[Kind, Callable[[Path], object]]] = [
    ("not_found", lambda folder: parse_source(str(folder / "nosuch"))),
    ("not_found", lambda folder: parse_source(str(folder))),  # no repository
    ("usage", lambda _: parse_source("ftp://example.com/a/b")),
    ("not_found", lambda folder: opened(folder, "nosuch")),
    ("not_found", lambda folder: opened(folder, None)),  # no commit yet
    ("usage", lambda folder: opened(folder, "..")),
    ("not_found", lambda folder: cut_local_files(Config(), [folder / "nosuch"])),
    ("not_found", lambda folder: read_cache(folder / "nosuch")),
    ("usage", lambda _: read_cache(Path("/dev/null"))),
    ("usage", lambda _: CacheReader(io.BytesIO(b"something else\n"), "a file")),
    ("damaged", lambda _: CacheReader(io.BytesIO(b"codechunk cache 1\n"), "a file")),
    ("usage", lambda _: _within(1.0, 2.0, 3, "a model")),
    ("environment", lambda folder: State(folder)),  # a folder is no file
]


@pytest.mark.parametrize(("kind", "fail"), FAILURES, ids=[f"{row}-{kind}" for row, (kind, _) in enumerate(FAILURES)])
def test_a_failure_is_of_the_kind_that_a_program_can_act_on(
    tmp_path: Path, kind: Kind, fail: Callable[[Path], object]
) -> None:
    with pytest.raises(CodechunkError) as failed:
        fail(tmp_path)
    assert failed.value.kind == kind, failed.value


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("fatal: couldn't find remote ref nosuch", "not_found"),
        ("fatal: remote error: upload-pack: not our ref 1234", "not_found"),
        ("fatal: repository 'https://example.com/a/b/' not found", "not_found"),
        ("fatal: unable to access: Could not resolve host: example.com", "environment"),
        ("fatal: write error: No space left on device", "environment"),
        ("fatal: something new", "environment"),
    ],
)
def test_the_kind_of_what_git_says(tmp_path: Path, words: str, kind: Kind) -> None:
    assert GitRunner(cwd=tmp_path).error(128, words).kind == kind


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("database is locked", "busy"),
        ("database or disk is full", "environment"),
        ("attempt to write a readonly database", "environment"),
        ("database disk image is malformed", "damaged"),
        ("file is not a database", "damaged"),
        ("connection failed: connection refused", "environment"),
    ],
)
def test_the_kind_of_what_the_database_says(words: str, kind: Kind) -> None:
    assert _told(OperationalError("", None, sqlite3.OperationalError(words)), None).kind == kind


def test_work_that_another_process_took_over_is_busy() -> None:
    assert LostClaim("taken").kind == "busy"


def test_one_error_may_be_of_another_kind_than_its_class() -> None:
    assert StateError("gone", kind="busy").kind == "busy"
    assert StateError("gone").kind == "damaged"
    assert errors.RateLimited("slow", retry_after_s=1.0).kind == "provider"
