"""The corpus of the retrieval benchmark, read from a real mirror."""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "scripts"))

from benchmarks.corpus import load
from benchmarks.queries import DocQuery, commit_set, doc_set


def test_a_corpus_is_read_from_a_mirror_and_made_into_both_sets(tmp_path: Path) -> None:
    mirror = tmp_path / "mirrors" / "some" / "one"
    mirror.mkdir(parents=True)

    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", mirror, *identity, *words], check=True, capture_output=True, text=True
        ).stdout

    def commit(subject: str, body: str) -> str:
        text = f'def work(a):\n    """Count the words of a text."""\n{body}    return a\n'
        (mirror / "a.py").write_text(text, encoding="utf-8")
        (mirror / "b.txt").write_text("left out", encoding="utf-8")
        git("add", ".")
        git("commit", "-q", "-m", subject)
        return git("rev-parse", "HEAD").strip()

    git("init", "-q")
    base = commit("Begin with the work", "    a = a + 1\n")
    last = commit("Count one word more than before", "    a = a + 2\n")
    corpus = tmp_path / "corpus.yaml"
    fields = f"set: test, language: python, commit: {last}, include: ['*.py'], history: 1"
    corpus.write_text(f"repositories:\n  - {{name: some/one, {fields}}}\n", encoding="utf-8")

    assert load(corpus, tmp_path / "mirrors", tmp_path / "cache", "tuning") == []
    for _ in range(2):  # the second time from the cache
        (repository,) = load(corpus, tmp_path / "mirrors", tmp_path / "cache", "test")
        docs, commits = doc_set(repository), commit_set(repository)
        assert docs.files == {"a.py": b"def work(a):\n    a = a + 2\n    return a\n"}
        assert docs.queries == [DocQuery("Count the words of a text", "a.py", 1, 3, "work")]
        assert commits.base == base
        assert [(query.text, query.gold) for query in commits.queries] == [
            ("Count one word more than before", [("a.py", 3, 3)])
        ]
