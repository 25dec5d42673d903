"""The real command with a provider of another package: index, search, batch jobs, prices, its name in sentences."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import Cli, Done
from paid_helpers import small_repository
from provider_subjects import OUTSIDE
from warm_start import WarmStart

# The package of the provider `tiny` is installed.
INSTALLED = {
    "PYTHONPATH": os.pathsep.join([str(OUTSIDE), os.environ["PYTHONPATH"]]),
    "PYTHONDONTWRITEBYTECODE": "1",
}


class Trial(Cli):
    """codechunk with the package of the provider `tiny` installed, and `tiny` configured."""

    warm: WarmStart | None = None

    def tiny(self, *arguments: str | Path, **more: str) -> Done:
        settings = {
            **INSTALLED,
            "CODECHUNK_EMBEDDING__PROVIDER": "tiny",
            "CODECHUNK_BATCH_PROCESSING__POLLER_INTERVAL": "1s",
            "TINY_API_KEY": "tiny-key",
            **more,
        }
        if self.warm is None:
            return self.run(*arguments, env=settings)
        command = ["--data-dir", str(self.data), *map(str, arguments)]
        process = self.warm.start(command, cwd=self.root, env=self.environment(settings))
        out, err = process.communicate(timeout=180)
        return Done(process.wait(), out, err)


@pytest.fixture(scope="module")
def warm_with_tiny() -> Iterator[WarmStart]:
    with WarmStart({**os.environ, **INSTALLED}) as warm:
        yield warm


@pytest.fixture
def trial(tmp_path: Path, warm_with_tiny: WarmStart) -> Trial:
    made = Trial(tmp_path)
    made.warm = warm_with_tiny
    return made


def test_a_repository_is_indexed_and_searched_with_it(tmp_path: Path) -> None:
    trial = Trial(tmp_path)  # each command is a Python that finds the package by itself
    repo = small_repository(tmp_path / "repo")
    done = trial.tiny("index", repo.path, "--json")
    assert done.code == 0, done.err
    document = done.json
    assert document["status"] == "succeeded"
    assert document["embedding"] == {
        "provider": "tiny", "model": "tiny-1", "dimensions": 64, "requests": 6, "texts_sent": 6, "batches": 0,
        "fallbacks": 0,
    }  # fmt: skip
    assert document["cost"]["estimated"] > 0
    assert document["cost"]["spent"] > 0
    assert "the text of chunks is sent to Tiny Corp (tiny-1) to be embedded" in done.err
    assert "Gemini" not in done.err
    assert "Google" not in done.err
    found = trial.tiny("search", "function number 3 of the great table", "--json")
    assert found.code == 0, found.err
    assert found.json[0]["path"] == "f3.py"


def test_the_plan_the_estimate_and_max_cost_name_the_price_of_its_own_model(trial: Trial, tmp_path: Path) -> None:
    repo = small_repository(tmp_path / "repo")
    plan = trial.tiny("index", repo.path, "--dry-run", "--json").json
    estimate = trial.tiny("estimate", repo.path, "--json").json
    assert plan["cost"]["model"] == estimate["model"] == "tiny-1"
    price = plan["cost"]["direct"]
    assert price == estimate["price"]["direct"] > 0
    refused = trial.tiny("index", repo.path, "--mode", "sequential", "--max-cost", f"{price * 0.99:.12f}")
    assert refused.code == 1
    assert "more than --max-cost" in refused.err
    assert trial.tiny("index", repo.path, "--mode", "sequential", "--max-cost", f"{price * 1.01:.12f}").code == 0


def test_its_batch_jobs_are_used(trial: Trial, tmp_path: Path) -> None:
    repo = small_repository(tmp_path / "repo")
    done = trial.tiny("index", repo.path, "--mode", "batch", "--json")
    assert done.code == 0, done.err
    assert (done.json["mode"], done.json["embedding"]["batches"]) == ("batch", 1)
    assert done.json["chunks"]["ready"] == 6


def test_without_its_key_the_sentence_names_it_and_its_variable(trial: Trial, tmp_path: Path) -> None:
    repo = small_repository(tmp_path / "repo")
    done = trial.tiny("index", repo.path, TINY_API_KEY="")
    assert done.code == 2
    assert "No Tiny key: set TINY_API_KEY, or pass --test-embeddings" in done.err
    wrong = trial.tiny("index", repo.path, TINY_API_KEY="some-other-key")
    assert wrong.code == 1
    assert "Tiny refused the key; check TINY_API_KEY." in wrong.err


def test_a_search_in_what_it_made_says_that_it_is_not_installed_any_more(trial: Trial, tmp_path: Path) -> None:
    repo = small_repository(tmp_path / "repo")
    assert trial.tiny("index", repo.path).code == 0
    done = trial.run("search", "function 3", "--json")
    assert done.code == 0
    assert done.json[0]["path"] == "f3.py", "words find it all the same"
    assert "There is no provider 'tiny', which made the vectors of repo@main; install its package again" in done.err
    assert done.err.endswith("Meanwhile repo@main is searched by words alone.\n")


def test_a_name_that_nobody_registers_is_refused_with_the_nearest(trial: Trial, tmp_path: Path) -> None:
    done = trial.tiny("config", "check", CODECHUNK_EMBEDDING__PROVIDER="tinny")
    assert done.code == 2
    assert "did you mean tiny?" in done.err
