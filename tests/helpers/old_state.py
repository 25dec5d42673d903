"""Data directories as older versions of codechunk left them, made by scripts/make_old_state.py."""

import sqlite3
import tarfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from git_helpers import GitRepo

# Schema of the state database -> the commit of the last version that wrote it.
VERSIONS = {"0002": "7403c67", "0003": "3cd8198"}
# What the versions above were run with, as it stands in the fingerprints of their settings.
GRAMMARS = "grammars=0.13.0 parser=0.26.1 "

PACKED = Path(__file__).parent.parent / "integration" / "data"


def old_repository(folder: Path) -> GitRepo:
    """The repository that was indexed, at its first commit: the same bytes and commit ids each time it is made."""
    made = GitRepo(folder)
    made.commit(
        {
            "README.md": "# Tides\n\nTables of high water for harbours.\n",
            "tides/harbour.py": (
                "def high_water(harbour, day):\n"
                '    """Time of the first high water of a day."""\n'
                "    return harbour.tables[day][0]\n\n\n"
                "def low_water(harbour, day):\n"
                "    return harbour.tables[day][1]\n"
            ),
            "tides/moon.go": "package tides\n\nfunc Phase(day int) string {\n\treturn names[day%29]\n}\n",
            "logo.png": b"\x89PNG\r\n\x1a\n\0\0\0",
        },
        "first",
    )
    return made


def second_commit(repository: GitRepo) -> None:
    """A line changed and a file gone on `main`, and a branch `dev` from there with a file of its own."""
    repository.commit(
        {
            "tides/harbour.py": (
                "def high_water(harbour, day):\n"
                '    """Time of the first high water of a day."""\n'
                "    return harbour.tables[day][0] + harbour.delay\n\n\n"
                "def low_water(harbour, day):\n"
                "    return harbour.tables[day][1]\n"
            ),
        },
        "second",
        delete=["tides/moon.go"],
    )
    repository.git("checkout", "-q", "-b", "dev")
    repository.commit({"tides/current.py": "def set_and_drift(chart, hour):\n    return chart.arrows[hour]\n"}, "third")
    repository.git("checkout", "-q", "main")


def old_data(schema: str, folder: Path) -> tuple[Path, GitRepo]:
    """(data directory, repository) below `folder`, as the version left them; the index was made of that repository."""
    repository = old_repository(folder / "repository")
    second_commit(repository)
    data = folder / "data"
    data.mkdir(mode=0o700)
    with tarfile.open(PACKED / f"state-{schema}.tar.gz") as archive:
        archive.extractall(data, filter="data")
    with closing(sqlite3.connect(data / "state.db")) as connection, connection:
        connection.execute("UPDATE repositories SET url = ?", (str(repository.path),))
        # Other grammars would cut everything again: that is not what an upgrade of codechunk is about.
        grammars = f"grammars={version('tree-sitter-language-pack')} parser={version('tree-sitter')} "
        for table, column in (("indexes", "fingerprint"), ("sources", "fingerprint"), ("jobs", "plan")):
            query = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            connection.execute(query, (GRAMMARS, grammars))
    return data, repository
