"""scripts/make_secret_rules.py: our rules for tokens are held against gitleaks', and written with their source."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from codechunk.selection import secret_rules

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "make_secret_rules.py"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_secret_rules", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_nobody_edited_the_generated_table_by_hand(maker: ModuleType) -> None:
    assert [(each.kind, each.begins, each.rest) for each in maker.CHOICES] == list(secret_rules.TOKENS)
    text = Path(secret_rules.__file__).read_text()
    begin = text.index("# Rules of gitleaks with a prefix")
    left = dict(re.findall(r"^#   (\S+): (\S+)$", text[begin:], re.MULTILINE))
    again = maker.rendered(maker.CHOICES, left, data=b"", release="R", date="D")
    source = re.compile(r"(?<=gitleaks ).+ on \S+\n.*sha256 [0-9a-f]+")
    assert source.sub("", text) == source.sub("", again)


def test_the_table_names_its_source_its_date_and_its_licence() -> None:
    text = Path(secret_rules.__file__).read_text()
    assert re.search(
        r"gitleaks v8\.\d+\.\d+.* on 20\d\d-\d\d-\d\d\n# \(config/gitleaks\.toml, sha256 [0-9a-f]{64}\)", text
    )
    assert "Copyright (c) 2019 Zachary Rice" in text


@pytest.mark.parametrize(
    "expression",
    [
        r"\b(ghp_[0-9a-zA-Z]{36})(?:[\x60'\"\s;]|\\[nr]|$)",
        r"duffel_(?:test|live)_(?i)[a-z0-9_\-=]{43}",
        r"\b(pat[[:alnum:]]{14}\.[a-f0-9]{64})\b",
        r"\b(sha256~[\w-]{43})(?:[^\w-]|\z)",
        r"dp\.pt\.(?i)[a-z0-9]{43}",
        r"\b((?:sc|ext)_(?i)[a-z0-9]{5,30}\.(?-i:acc)[_-][a-z0-9-]{10,32})(?:;|$)",
        r"xoxb-[0-9]{10,13}-[0-9]{10,13}[a-zA-Z0-9-]*",
    ],
)
def test_a_sample_is_found_by_the_expression_that_it_was_made_of(expression: str, maker: ModuleType) -> None:
    chance = maker.random.Random(expression)
    for _ in range(50):
        text = maker.sample(expression, chance)
        found = re.search(maker.translated(expression), f"{text} ") or re.search(maker.translated(expression), text)
        assert found is not None, text
        assert text in found[0]


def test_a_rule_that_is_gone_or_that_ours_does_not_find_is_an_error(maker: ModuleType) -> None:
    choices = [maker.Choice("a-token", "ab_", "[0-9a-f]{8,}", ("old", "new"))]
    assert maker.missed(choices, {"new": "ab_[0-9a-f]{10}"}) == ["a-token: gitleaks has no rule old any more"]
    wrong = maker.missed(choices, {"old": "ab_[0-9a-f]{8}", "new": "ab_[A-Z]{10}"})
    assert len(wrong) == 1
    assert wrong[0].startswith("a-token: new finds 'ab_")
    partly = [maker.Choice("a-token", "ab_", "[0-9a-f]{8,}", ("new",), ("new",))]
    assert maker.missed(partly, {"new": "ab_[A-Z]{10}"}) == []


def test_new_rules_with_a_prefix_are_named_and_others_are_not(maker: ModuleType) -> None:
    rules = {"taken": "ab_[0-9]{9}", "new": r"\b(xyz-(?i)[a-z]{9})\b", "by-name": r"(?i)[\w.-]{0,50}?(?:adobe)"}
    choices = [maker.Choice("a-token", "ab_", "[0-9]+", ("taken",))]
    assert maker.not_taken(choices, rules) == {"new": "xyz-"}


def test_nothing_is_written_when_something_is_wrong(maker: ModuleType, tmp_path: Path, monkeypatch) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rules]]\nid = 'github-pat'\nregex = 'ghp_[0-9a-zA-Z]{36}'\n")
    out = tmp_path / "out.py"
    monkeypatch.setattr(sys, "argv", ["x", str(rules), "--release", "v1", "--out", str(out)])
    with pytest.raises(SystemExit, match="nothing was written"):
        maker.main()
    assert not out.exists()
    monkeypatch.setattr(maker, "CHOICES", (maker.Choice("github-token", "ghp_", "[A-Za-z0-9]{36,}", ("github-pat",)),))
    maker.main()
    assert '("github-token", r"ghp_", r"[A-Za-z0-9]{36,}")' in out.read_text()
