"""Every expected failure says of which kind it is."""

import importlib
import pkgutil
from typing import get_args

import pytest

import codechunk
from codechunk import errors
from codechunk.errors import CodechunkError, IndexBusy, Kind, NotFound, ProviderError, StateError, UsageError


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
