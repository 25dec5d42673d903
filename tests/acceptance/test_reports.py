"""Acceptance: what was shown to people is not read back. Reports and plans of other versions break nothing."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from git_helpers import GitRepo
from paid_helpers import FUNCTION, small_repository

from codechunk.app import App, IndexRequest
from codechunk.config.load import load_config
from codechunk.documents import to_json
from codechunk.progress import Silence

VOLATILE = {"job_id", "seconds"}


class Home:
    """A data directory with synthetic vectors, and a hand in its database."""

    def __init__(self, folder: Path, repo: GitRepo) -> None:
        self.folder, self.repo = folder, repo

    def index(self, **settings: Any) -> dict[str, Any]:
        """Index, as a command of its own would. Returns the document."""
        with self.app(**settings) as app:
            document: dict[str, Any] = to_json(app.index(IndexRequest(source=str(self.repo.path), jobs=1), Silence()))
        return document

    def app(self, **settings: Any) -> App:
        """The product on this directory."""
        flags = {"data_dir": str(self.folder), "embedding.provider": "synthetic", "embedding.dimensions": 128}
        return App(load_config(flags=flags, settings=settings, environ={}, find_file=False))

    def listed(self) -> Any:
        """`jobs list --json`."""
        with self.app() as app:
            return to_json(app.jobs())

    def shown(self, job_id: str) -> Any:
        """`jobs show --json`."""
        with self.app() as app:
            return to_json(app.job(job_id))

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Read or change the database behind the product's back."""
        with closing(sqlite3.connect(self.folder / "state.db")) as database, database:
            return database.execute(query, values).fetchall()


Spoil = Callable[[Home], object]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = small_repository(tmp_path / "demo")
    made.commit({"empty.py": "", "big.bin": "\0\1\2"}, "with files that are skipped")
    return Home(tmp_path / "data", made)


def renamed(value: Any) -> Any:
    """The JSON with another name for every key."""
    if isinstance(value, dict):
        return {f"{name}_of_tomorrow": renamed(part) for name, part in value.items()}
    return [renamed(part) for part in value] if isinstance(value, list) else value


def rewrite(home: Home, column: str, change: Callable[[Any], Any]) -> None:
    """Change a JSON column of every job behind the product's back."""
    for number, text in home.sql(f"SELECT id, {column} FROM jobs"):
        if text is not None:
            home.sql(f"UPDATE jobs SET {column} = ? WHERE id = ?", json.dumps(change(json.loads(text))), number)


def without_outcome(home: Home) -> None:
    """The rows as codechunk wrote them that kept no outcome."""
    rewrite(home, "plan", lambda plan: {k: v for k, v in plan.items() if k not in {"version", "outcome"}})


def without_plan(home: Home) -> None:
    """As an unchanged run of that codechunk left it."""
    home.sql("UPDATE jobs SET plan = NULL")


SPOILS: dict[str, Spoil] = {
    "the report has other keys": lambda home: rewrite(home, "report", renamed),
    "the report is gone": lambda home: home.sql("UPDATE jobs SET report = NULL"),
    "the report is no JSON": lambda home: home.sql("UPDATE jobs SET report = '{half'"),
    "the plan keeps no outcome": without_outcome,
    "the plan has more keys": lambda home: rewrite(home, "plan", lambda plan: {**plan, "later": {"a": [1]}}),
    "the outcome has other keys": lambda home: rewrite(
        home, "plan", lambda plan: {**plan, "outcome": renamed(plan["outcome"])}
    ),
    "the plan is no JSON": lambda home: home.sql("UPDATE jobs SET plan = 'x'"),
    "there is no plan": without_plan,
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_an_unchanged_run_and_the_list_of_jobs_are_the_same_whatever_a_report_looks_like(
    home: Home, spoil: Spoil
) -> None:
    first = home.index()
    expected = home.index()
    assert expected["mode_reason"] == "nothing changed"
    assert expected["files"] == {**first["files"], "unchanged": first["files"]["discovered"]}
    home.sql("DELETE FROM jobs WHERE id != ?", first["job_id"])
    listed, shown = home.listed(), home.shown(first["job_id"])
    spoil(home)
    assert home.listed() == listed
    again = home.shown(first["job_id"])
    if home.sql("SELECT count(*) FROM jobs WHERE plan LIKE '{%'") == [(1,)]:
        assert again == shown
    else:
        assert again == {**shown, "mode": None, "cost": None}
    document = home.index()
    assert {name: part for name, part in document.items() if name not in VOLATILE} == {
        name: part for name, part in expected.items() if name not in VOLATILE
    }


def test_a_run_that_was_replaced_still_says_how_many_chunks_it_had(home: Home) -> None:
    first = home.index()
    home.repo.commit({"more.py": FUNCTION.format(99)}, "second")
    home.index()
    listed = {job["id"]: job for job in home.listed()}
    assert listed[first["job_id"]]["chunks"] == first["chunks"]
    without_outcome(home)
    assert home.shown(first["job_id"])["chunks"] is None


def test_chunks_that_were_sampled_are_counted_again_when_nobody_knows_how_they_were(home: Home) -> None:
    sampled = {"token_counting": {"mode": "sample"}}
    home.index()
    without_plan(home)
    document = home.index(**sampled)
    assert document["tokens"]["mode"] == "sample"
    assert document["mode_reason"] != "nothing changed"
    assert home.index(**sampled)["mode_reason"] == "nothing changed"


def test_what_a_run_shows_is_kept_for_people_as_it_was_shown(home: Home) -> None:
    document = home.index()
    [(report,)] = home.sql("SELECT report FROM jobs")
    assert json.loads(report) == document
