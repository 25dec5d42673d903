"""Several commands on one data directory at once, with a paid provider, and what a newcomer met there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import Cli
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo


def function(name: str) -> str:
    steps = "".join(f"    total += {name}_step(value, {number})\n" for number in range(12))
    return f"def {name}(value):\n    total = 0\n{steps}    return total\n\n\n"


def a_repo(folder: Path, name: str) -> GitRepo:
    repo = GitRepo(folder / name)
    repo.commit({f"{name}_{number}.py": function(f"{name}_{number}") for number in range(4)})
    return repo


@pytest.fixture
def emulator() -> Iterator[GeminiEmulator]:
    with GeminiEmulator(faults=Faults(job_seconds=0.5)) as emulator:
        yield emulator


@pytest.fixture
def env(emulator: GeminiEmulator) -> dict[str, str]:
    return {
        "CODECHUNK_GEMINI_API_KEY": emulator.key,
        "CODECHUNK_EMBEDDING__BASE_URL": emulator.url,
        "CODECHUNK_BATCH_PROCESSING__POLLER_INTERVAL": "200ms",
    }


def test_two_repositories_are_indexed_at_once_in_one_data_directory(
    tmp_path: Path, emulator: GeminiEmulator, env: dict[str, str]
) -> None:
    cli = Cli(tmp_path)
    processes = [
        cli.start("index", a_repo(tmp_path, name).path, "--mode", "batch", "--json", env=env) for name in ("one", "two")
    ]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert set(emulator.paid.values()) == {1}
    assert cli.run("doctor", env=env).code == 0
    found = cli.run("search", "one_2", "--json", env=env).json
    assert {answer["repository"] for answer in found} == {"one", "two"}


def test_a_run_that_is_taken_up_again_tells_how_its_texts_are_really_sent(
    tmp_path: Path, emulator: GeminiEmulator, env: dict[str, str]
) -> None:
    cli, repo = Cli(tmp_path), a_repo(tmp_path, "repo")
    first = cli.run("index", repo.path, "--mode", "batch", "--no-wait", "--json", env=env).json
    again = cli.run("index", repo.path, "--json", env=env).json
    assert again["mode"] == "batch"
    assert "in batch jobs already" in again["mode_reason"]
    assert again["cost"]["estimated"] == pytest.approx(first["cost"]["estimated"])
    assert set(emulator.paid.values()) == {1}


def test_what_is_not_there_is_not_said_to_be_deleted(tmp_path: Path, env: dict[str, str]) -> None:
    done = Cli(tmp_path).run("queue", "remote", "--delete", "batches/nothere", env=env)
    assert done.code == 1
    assert "deleted" not in done.out


def test_doctor_tells_of_an_unreachable_provider_beside_its_other_checks(tmp_path: Path, env: dict[str, str]) -> None:
    cli = Cli(tmp_path)
    cli.index(a_repo(tmp_path, "repo").path)
    done = cli.run("doctor", "--remote", "--json", env=env | {"CODECHUNK_EMBEDDING__BASE_URL": "http://127.0.0.1:9"})
    assert done.code == 1
    found = {finding["check"]: finding["status"] for finding in done.json}
    assert found["remote_jobs"] == "error"
    assert len(found) > 30
