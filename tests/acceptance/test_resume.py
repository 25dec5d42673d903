"""kill -9 at random moments: the next run ends in the state of an undisturbed one, and repeats little."""

import json
import random
from pathlib import Path

import pytest
from cli_helpers import Cli, collection_ids
from git_helpers import GitRepo

TALL = "\n\n".join(
    f"def function_number_{n}(value, other):\n    '''Add {n} to the value and scale it by the other.'''\n"
    f"    total = value + {n}\n    for step in range(other):\n        total += step * {n}\n    return total\n"
    for n in range(400)
)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> GitRepo:
    """Real code nobody here wrote, and one file of 400 chunks."""
    made = GitRepo(tmp_path_factory.mktemp("resume") / "stdlib")
    source = Path(json.__file__).parent.parent
    files: dict[str, bytes | str] = {path.name: path.read_bytes() for path in sorted(source.glob("*.py"))[:90]}
    made.commit({**files, "a_tall_file.py": TALL})
    return made


@pytest.fixture(scope="module")
def undisturbed(repo: GitRepo, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    cli = Cli(tmp_path_factory.mktemp("undisturbed"))
    cli.index(repo.path)
    return cli


def assert_same(cli: Cli, undisturbed: Cli) -> None:
    expected, found = undisturbed.final_state(), cli.final_state()
    for name in expected:
        assert found[name] == expected[name], name
    assert collection_ids(cli.data) == collection_ids(undisturbed.data)


def test_killed_while_chunking_it_goes_on_from_the_last_fifty(repo: GitRepo, undisturbed: Cli, tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.kill_when(lambda: cli.count("chunks") >= 150, "index", repo.path, "--test-embeddings")
    saved = cli.count("chunks")
    assert saved >= 150
    # a mark that a recount or a second cut would wipe out
    cli.sql("UPDATE chunks SET tokens = tokens + 1000000")
    document = cli.index(repo.path)
    assert cli.sql("SELECT count(*) FROM chunks WHERE tokens > 1000000") == [(saved,)]
    cli.sql("UPDATE chunks SET tokens = tokens - 1000000 WHERE tokens > 1000000")
    assert document["status"] == "succeeded"
    assert_same(cli, undisturbed)


def test_a_file_of_many_chunks_is_taken_up_in_its_middle(repo: GitRepo, undisturbed: Cli, tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.index(repo.path)
    tall = cli.sql("SELECT id FROM sources WHERE path = 'a_tall_file.py'")[0][0]
    # the state in which kill -9 leaves a file after its second fifty
    cli.sql(
        "DELETE FROM chunk_words WHERE rowid IN (SELECT id FROM chunks WHERE source_id=? AND ordinal>=100)",
        tall,
    )
    cli.sql("DELETE FROM chunks WHERE source_id = ? AND ordinal >= 100", tall)
    cli.sql("UPDATE sources SET status = 'partial' WHERE id = ?", tall)
    cli.sql("UPDATE files SET status = 'planned', source_id = NULL WHERE source_id = ?", tall)
    cli.sql("UPDATE chunks SET tokens = tokens + 1000000 WHERE source_id = ?", tall)
    cli.sql("UPDATE files SET from_generation = 1")
    cli.sql("UPDATE indexes SET generation = 0, commit_sha = NULL, fingerprint = NULL")
    cli.sql("UPDATE jobs SET status = 'running'")
    cli.index(repo.path)
    assert cli.sql("SELECT count(*), min(ordinal), max(ordinal) FROM chunks WHERE tokens > 1000000") == [(100, 0, 99)]
    cli.sql("UPDATE chunks SET tokens = tokens - 1000000 WHERE tokens > 1000000")
    assert_same(cli, undisturbed)


def test_killed_while_storing_it_ends_the_same(repo: GitRepo, undisturbed: Cli, tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.kill_when(lambda: cli.count("index_chunks") > 0, "index", repo.path, "--test-embeddings")
    assert 0 < cli.count("index_chunks") < undisturbed.count("index_chunks")
    embedded = cli.sql("SELECT count(*) FROM embeddings WHERE state = 'ready'")[0][0]
    document = cli.index(repo.path)
    assert document["embedding"]["texts_sent"] == undisturbed.count("embeddings") - embedded
    assert_same(cli, undisturbed)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_killed_again_and_again_at_random_moments_it_ends_the_same(
    repo: GitRepo, undisturbed: Cli, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    cli = Cli(tmp_path)
    goals = sorted(chance.randrange(1, undisturbed.count("chunks")) for _ in range(2))
    for goal in goals:
        cli.kill_when(
            lambda goal=goal: cli.count("chunks") + cli.count("index_chunks") >= goal, "index", repo.path,
            "--test-embeddings",
        )  # fmt: skip
    cli.index(repo.path)
    assert_same(cli, undisturbed)
