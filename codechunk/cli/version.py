"""`codechunk --version` and `codechunk version`: what runs here, for a report of a bug.

Versions of packages are read from their metadata, not from the packages: importing those takes seconds.
"""

import platform
import sqlite3
from importlib import metadata, resources

from codechunk import __version__
from codechunk.documents import Versions, to_json
from codechunk.errors import GitError
from codechunk.git.process import check_git
from codechunk.versions import CHUNKER_VERSION, HEADER_VERSION

# What decides chunks, vectors and what is stored, with the names they have in the package registry.
PACKAGES = ("tree-sitter", "tree-sitter-language-pack", "chromadb", "google-genai")


def versions() -> Versions:
    """What runs here."""
    return Versions(
        codechunk=__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages={name: _installed(name) for name in PACKAGES},
        sqlite=sqlite3.sqlite_version,
        git=_git(),
        schema=_schema(),
        chunker=CHUNKER_VERSION,
        header=HEADER_VERSION,
    )


def as_text(found: Versions) -> str:
    """The short form for people. The first line is always `codechunk X.Y.Z`."""
    libraries = [f"{name} {version or 'not installed'}" for name, version in found.packages.items()]
    return "\n".join(
        (
            f"codechunk {found.codechunk}",
            f"Python {found.python}, {found.platform}, SQLite {found.sqlite}, git {found.git or 'not found'}",
            ", ".join(libraries),
            f"schema {found.schema}, chunker {found.chunker}, header {found.header}",
        )
    )


def show(*, json: bool) -> None:
    """Print the versions to stdout, as text or as one JSON document."""
    found = versions()
    if json:
        from codechunk.cli.terminal import write_json

        write_json(to_json(found))
    else:
        print(as_text(found))


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git() -> str | None:
    """None also when git is too old to be used; the command that needs it says what to do."""
    try:
        return check_git()
    except GitError:
        return None


def _schema() -> str:
    """Read from the names of the migrations: the state room takes 0.4 s to import."""
    folder = resources.files("codechunk") / "state" / "migrations" / "versions"
    return max(file.name.partition("_")[0] for file in folder.iterdir() if file.name[:1].isdigit())
