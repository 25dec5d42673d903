"""All code in README and docs is run: commands against a small repository, Python as it is, YAML as configuration.

A command that asks for a provider meets the emulator. What cannot be run is named in NOT_RUN with its reason.
"""

import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from cli_helpers import Cli
from docs_helpers import PAGES, ROOT, Block, blocks, commands
from gemini_emulator import Faults, GeminiEmulator
from git_helpers import GitRepo

from codechunk.chunking import available_languages, rules
from codechunk.config.load import load_config
from codechunk.text.chunks import Kind

# (page, beginning of the command): why no test runs it.
NOT_RUN = {
    ("README.md", "uv tool install ."): "tests/acceptance/test_wheel.py installs the wheel with uv",
    ("README.md", "pip install ."): "tests/acceptance/test_wheel.py installs the wheel with pip",
}
# Blocks in the language of the shell are read by people who set up something; who checks them.
SHELL_PAGES = {
    "CONTRIBUTING.md": "clones from a place that each reader has to name; the scripts are run by test_scripts.py",
    "deploy/README.md": "test_deploy.py holds every codechunk command in it against the command line",
}
# Examples stand for something that a test can reach.
INSTEAD = {"https://github.com/redis/redis": "."}
FILES = {
    "src/retry.py": 'def retry(attempts):\n    """Schedule retries one after the other."""\n    return attempts + 1\n',
    "src/keys.c": "/* Delete the expired key. */\nvoid expire(int key) {\n    drop(key);\n    tell(key);\n}\n",
    "docs/guide.md": "# Guide\n\nRetries are scheduled by the worker.\n",
}


@dataclass
class Reader:
    """Somebody who types what a page shows, from its top to its bottom, in a repository of their own."""

    cli: Cli
    settings: dict[str, str]
    free: dict[str, str] = field(default_factory=lambda: {"CODECHUNK_BATCH_PROCESSING__USE_TEST_EMBEDDINGS": "true"})

    def type(self, words: list[str]) -> str:
        """Run a command; return what is wrong with it, or nothing."""
        if words[0] == "export":
            name = words[1].partition("=")[0]
            if name not in self.settings:
                return f"{name} is not a variable that this test knows"
            self.free = self.settings
            return ""
        if words[0] != "codechunk":
            return "only codechunk and export are run; name it in NOT_RUN with a reason"
        done = self.cli.run(*(INSTEAD.get(word, word) for word in words[1:]), env=self.free)
        return "" if done.code == 0 else f"exit {done.code}: {done.err[-600:]}"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    repo = GitRepo(tmp_path / "project")
    shutil.copytree(ROOT / "configs", repo.path / "configs")
    for name, text in FILES.items():
        (repo.path / name).parent.mkdir(parents=True, exist_ok=True)
        (repo.path / name).write_text(text)
    repo.git("add", "--all")
    repo.commit({"LICENSE": "As you like it.\n"}, "first")
    repo.git("branch", "release")
    cli = Cli(tmp_path / "user")
    cli.root = repo.path
    with GeminiEmulator(faults=Faults(job_seconds=0)) as emulator:
        settings = {
            "CODECHUNK_GEMINI_API_KEY": emulator.key,
            "CODECHUNK_EMBEDDING__BASE_URL": emulator.url,
            "CODECHUNK_BATCH_PROCESSING__POLLER_INTERVAL": "1s",
        }
        yield Reader(cli, settings)


def reason(page: str, words: list[str]) -> str | None:
    line = " ".join(words)
    found = [why for (name, start), why in NOT_RUN.items() if name == page and line.startswith(start)]
    return found[0] if found else None


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "console")])
def test_every_command_that_a_page_shows_works_in_the_order_of_the_page(page: str, reader: Reader) -> None:
    wrong = []
    for block in blocks(page, "console"):
        assert commands(block), f"{block}: a console block without a command; call it text"
        for words in commands(block):
            if reason(page, words) is None and (problem := reader.type(words)):
                wrong.append(f"{block}: {' '.join(words)}: {problem}")
    assert wrong == []


PYTHON = [block for page in PAGES for block in blocks(page, "python")]
# Parts of a file that is explained around them, not programs.
FRAGMENTS = {"docs/languages.md": "an entry of a table"}


@pytest.mark.parametrize("block", [block for block in PYTHON if block.page not in FRAGMENTS], ids=str)
def test_every_program_that_a_page_shows_runs(
    block: Block, reader: Reader, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reader.cli.root)
    monkeypatch.setenv("HOME", str(reader.cli.home))
    exec(compile(block.text, str(block), "exec"), {"__name__": "example"})
    assert "print(" not in block.text or "in cc." in block.text or capsys.readouterr().out


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python") and page in FRAGMENTS])
def test_an_entry_of_a_table_is_one(page: str) -> None:
    for block in blocks(page, "python"):
        words = {name: getattr(rules, name) for name in ("RuleTable", "InnerWords", "define")} | {"Kind": Kind}
        for language, table in eval(f"{{{block.text}}}", words).items():
            assert language in available_languages()
            assert isinstance(table, rules.RuleTable)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")])
def test_every_configuration_that_a_page_shows_is_valid(page: str, tmp_path: Path) -> None:
    for block in blocks(page, "yaml"):
        file = tmp_path / "codechunk.yaml"
        # Where a number depends on the model, the page has three dots.
        text = re.sub(r"\w+: \.\.\.,? ?", "", block.text)
        file.write_text(text)
        assert yaml.safe_load(text), str(block)
        load_config(config_file=file, flags={}, environ={"HOME": os.environ["HOME"]}, cwd=tmp_path)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "json", "toml")])
def test_every_document_that_a_page_shows_can_be_read(page: str) -> None:
    for block in blocks(page, "json"):
        json.loads(block.text)
    for block in blocks(page, "toml"):
        assert tomllib.loads(block.text), str(block)


def test_every_shell_script_in_a_page_has_somebody_who_checks_it() -> None:
    assert {page for page in PAGES if blocks(page, "sh")} == set(SHELL_PAGES)
    known = {"", "text", "console", "python", "yaml", "json", "toml", "sh"}
    strange = [f"{block}: {block.language}" for page in PAGES for block in blocks(page) if block.language not in known]
    assert strange == []


def test_what_is_not_run_is_still_in_the_page_that_it_is_excused_for() -> None:
    shown = {
        (page, " ".join(words)) for page in PAGES for block in blocks(page, "console") for words in commands(block)
    }
    gone = [excuse for excuse in NOT_RUN if not any(p == excuse[0] and w.startswith(excuse[1]) for p, w in shown)]
    assert gone == []
    assert set(FRAGMENTS) <= {block.page for block in PYTHON}


def test_the_readme_fits_on_its_page() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 120] == []


def test_the_design_and_the_decisions_are_at_most_120_columns_wide() -> None:
    pages = ["docs/design.md", "docs/glossary.md", *(page for page in PAGES if page.startswith("docs/decisions/"))]
    wide = [
        f"{page}:{number}"
        for page in pages
        for number, line in enumerate((ROOT / page).read_text().splitlines(), 1)
        if len(line) > 120 and not line.startswith("|")
    ]
    assert wide == []


def test_every_link_within_the_repository_leads_somewhere() -> None:
    gone = []
    for page in PAGES:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / page).read_text(), flags=re.DOTALL)
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
        folder = (ROOT / page).parent
        gone += [f"{page}: {target}" for target in targets if "://" not in target and not (folder / target).exists()]
    assert gone == []


def test_every_decision_is_in_the_list_under_its_title() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = dict(re.findall(r"\[([^]]+)\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text()))
    files = {path.name: path.read_text() for path in folder.glob("[0-9]*.md")}
    assert {text.splitlines()[0].removeprefix("# "): name for name, text in files.items()} == listed
    numbers = sorted(int(name[:4]) for name in files)
    assert numbers == list(range(1, len(numbers) + 1))
    for name, text in files.items():
        assert re.match(r"# .+\n\n\d{4}-\d\d-\d\d\n\n\*\*Decision\.\*\* ", text), name
        assert "**Why.** " in text, name
