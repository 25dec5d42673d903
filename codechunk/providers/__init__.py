"""Where vectors come from: the providers by name, built in or registered by other packages.

Cheap to import: the module of a provider is loaded when the provider is asked for, its SDK when it is opened. Other
packages register a `Provider` under its name in the entry point group `codechunk.providers`.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from codechunk.errors import UsageError
from codechunk.providers.contract import (
    DOCUMENT_TASK,
    QUERY_TASK,
    BatchClient,
    BatchLimits,
    BatchResult,
    Client,
    ClientSettings,
    Embedded,
    Model,
    Provider,
    TokenCounter,
)

__all__ = [
    "DOCUMENT_TASK",
    "GROUP",
    "QUERY_TASK",
    "BatchClient",
    "BatchLimits",
    "BatchResult",
    "Client",
    "ClientSettings",
    "Embedded",
    "Model",
    "Provider",
    "TokenCounter",
    "get",
    "hint",
    "is_free",
    "is_known",
    "names",
]

GROUP = "codechunk.providers"
SYNTHETIC = "synthetic"
# Name -> module whose PROVIDER it is. Nobody else can register these names.
_BUILT_IN: Mapping[str, str] = {
    "gemini": "codechunk.providers.gemini",
    SYNTHETIC: "codechunk.providers.synthetic",
}


@cache
def get(name: str) -> Provider:
    """The provider of this name.

    Raises:
        UsageError: there is none; or another package registers it, and that cannot be loaded or is not one.
    """
    if name in _BUILT_IN:
        built_in: Provider = import_module(_BUILT_IN[name]).PROVIDER
        return built_in
    points = [point for point in entry_points(group=GROUP) if point.name == name]
    if not points:
        raise UsageError(f"There is no provider {name!r}; {hint(name)}")
    if len(points) > 1:
        packages = " and ".join(sorted(_package(point) for point in points))
        raise UsageError(f"The provider {name!r} is registered twice, by {packages}; uninstall one of them.")
    return _load(points[0])


def names() -> list[str]:
    """The names of all providers, sorted. Loads none of them."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def is_known(name: str) -> bool:
    """Whether there is a provider of this name. Loads none."""
    return name in _BUILT_IN or name in names()


def is_free(name: str) -> bool:
    """Whether the vectors of a provider cost nothing; one that is not installed (any more) counts as paid."""
    return is_known(name) and get(name).free


def _load(point: EntryPoint) -> Provider:
    trouble = f"The provider {point.name!r} of the package {_package(point)} cannot be used"
    try:
        found = point.load()
    except Exception as exc:
        why = f"{type(exc).__name__}: {exc}"
        raise UsageError(f"{trouble}: {point.value} cannot be loaded ({why}). Install it anew, or remove it.") from exc
    if not isinstance(found, Provider):
        raise UsageError(f"{trouble}: {point.value} is a {type(found).__name__}, not a codechunk.providers.Provider.")
    if found.name != point.name:
        raise UsageError(f"{trouble}: it calls itself {found.name!r}.")
    return found


def _package(point: EntryPoint) -> str:
    return "?" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def hint(name: str) -> str:
    """What was probably meant by a name that is none, in one clause."""
    close = get_close_matches(name, names(), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names())}."
