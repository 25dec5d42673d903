"""The public search benchmark, from a snapshot and mirrors that are made here, through the product."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))

import bench_search_quality as bench
from benchmarks.semble_set import Span, extracted, head_of, load

FILES = {
    "src/lib/locks.py": "def acquire_lock(name):\n    return name\n",
    "src/lib/words.py": "def count_words(text):\n    return len(text.split())\n",
    "README.md": "acquire a lock\n",
}


def commit(folder: Path, files: dict[str, str]) -> str:
    """The commit that has these files."""

    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True
        ).stdout

    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "all")
    return git("rev-parse", "HEAD").strip()


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """A snapshot with three repositories, and mirrors of two of them; one lacks the pinned commit."""
    mirrors, snapshot = tmp_path / "mirrors", tmp_path / "snapshot"
    pin = commit(mirrors / "some" / "flask", FILES)
    commit(mirrors / "some" / "other", FILES)
    listed = [
        {"name": "flask", "language": "python", "revision": pin, "benchmark_root": "src/lib"},
        {"name": "other", "language": "python", "revision": "0" * 40, "benchmark_root": None},
        {"name": "gone", "language": "python", "revision": "0" * 40},
    ]
    asked = [
        {"query": "acquire_lock", "relevant": ["src/lib/locks.py"], "secondary": []},
        {
            "query": "count the words",
            "relevant": [{"path": "src/lib/words.py", "start_line": 1, "end_line": 2}],
            "category": "semantic",
        },
    ]
    repositories = [each | {"url": f"https://github.com/some/{each['name']}.git"} for each in listed]
    commit(
        snapshot,
        {"benchmarks/repos.json": json.dumps(repositories)}
        | {f"benchmarks/annotations/{each['name']}.json": json.dumps(asked) for each in listed},
    )
    return snapshot / ".git", mirrors


def test_repositories_and_questions_come_from_the_snapshot(places: tuple[Path, Path]) -> None:
    (flask, other), missing = load(*places)
    assert missing == {"gone": "no mirror of some/gone"}
    assert (flask.is_pinned, flask.tuned_on) == (True, True)
    assert (other.is_pinned, other.tuned_on) == (False, False)
    symbol, sentence = flask.questions
    assert (symbol.category, symbol.targets) == ("symbol", (Span("src/lib/locks.py"),))
    assert (sentence.category, sentence.targets) == ("semantic", (Span("src/lib/words.py", 1, 2),))


def test_only_the_folder_that_the_benchmark_names_is_extracted_and_once(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    (flask, _), _ = load(*places)
    folder = extracted(flask, tmp_path / "work")
    assert sorted(path.name for path in folder.iterdir()) == [".git", "locks.py", "words.py"]
    first = head_of(folder)
    assert extracted(flask, tmp_path / "work") == folder
    assert head_of(extracted(flask, tmp_path / "again")) == first  # the same files, the same commit


def test_the_product_is_asked_and_two_runs_are_compared(
    places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot, mirrors = places
    monkeypatch.chdir(tmp_path)
    saved = tmp_path / "first.json"

    def run(*words: str) -> Any:
        base = ["bench", "--mirrors", str(mirrors), "--snapshot", str(snapshot), "--work", str(tmp_path / "work")]
        monkeypatch.setattr(sys, "argv", [*base, *words])
        bench.main()
        return capsys.readouterr()

    told = run("--half", "tuning", "--json", str(saved))
    assert "1 repositories (1 at the pinned commit), 2 questions, half: tuning" in told.out
    assert "indexed 1/1 flask" in told.err
    results = json.loads(saved.read_text(encoding="utf-8"))["results"]
    assert [(each["query"], each["span"], each["file"]) for each in results] == [
        ("acquire_lock", 1.0, 1.0),
        ("count the words", 1.0, 1.0),
    ]
    assert results[0]["files"][0] == "locks.py"

    told = run("--compare", str(saved))
    assert "| all | 2 | +0.0000 | +0.0000 | 0, 0 | 0, 0 |" in told.out
    assert "indexed" not in told.err  # what is published is asked as it is
