"""The summary of a CI job: what it tells, and that nobody can write in it by giving names."""

import copy
import re
from typing import Any

import pytest
from document_helpers import built
from markdown_it import MarkdownIt

from codechunk.cli import markdown
from codechunk.documents import DryRunDocument, IndexDocument

PLAN: dict[str, Any] = {
    "dry_run": True,
    "repository": "redis",
    "url": "/src/redis",
    "ref": "unstable",
    "commit": "4f8cdc2a1ea5" + 28 * "0",
    "files": {
        "discovered": 1623,
        "indexed": 933,
        "skipped": 689,
        "failed": 1,
        "skipped_by_reason": {"vendored": 680, "too_large": 9},
        "by_language": {"c": 800},
    },
    "secrets": {"mode": "redact", "found": 3, "files": 2, "by_kind": {}, "places": []},
    "chunks": {"total": 15866, "texts": 15825, "texts_to_embed": 1200, "texts_out": 0, "texts_failed": 0},
    "tokens": {"total": 2704347, "to_embed": 204347},
    "cost": {"currency": "USD", "model": "gemini-embedding-001", "direct": 0.0307, "batch": 0.0153},
    "skipped": [],
    "failed": [{"path": "src/a.c", "reason": "the parser crashed"}],
}
RUN: dict[str, Any] = {
    "job_id": "1",
    "repository": "redis",
    "url": "/src/redis",
    "ref": "unstable",
    "commit": "4f8cdc2a1ea5" + 28 * "0",
    "status": "succeeded",
    "published": True,
    "mode": "batch",
    "mode_reason": "1,200 texts are 50 or more",
    "files": {
        "discovered": 1623,
        "indexed": 934,
        "unchanged": 1600,
        "skipped": 689,
        "failed": 0,
        "deleted": 4,
        "skipped_by_reason": {"vendored": 680, "too_large": 9},
    },
    "chunks": {
        "total": 15866,
        "new": 90,
        "reused": 15776,
        "deleted": 7,
        "ready": 15866,
        "pending": 0,
        "processing": 0,
        "failed": 0,
    },
    "changes": {
        "files": {"added": 11, "changed": 12, "moved": 13, "deleted": 14, "unchanged": 1587},
        "chunks": {"added": 21, "changed": 22, "moved": 23, "deleted": 24, "reused": 15800},
        "texts": {"sent": 43, "out": 5, "reused": 15823},
        "saved": {"tokens": 2700000, "usd": 0.2025},
    },
    "tokens": {"mode": "all", "counted": 15866, "total": 2704347, "estimated": False},
    "embedding": {
        "provider": "gemini",
        "model": "gemini-embedding-001",
        "dimensions": 768,
        "requests": 0,
        "texts_sent": 43,
        "batches": 1,
        "fallbacks": 0,
    },
    "secrets": {"mode": "redact", "found": 0, "files": 0},
    "cost": {"currency": "USD", "estimated": 0.0011, "spent": 0.0012},
    "seconds": 12.34,
}
# What somebody who may push could call a branch, a folder or a file.
NAMES = [
    "<script>alert(1)</script><img src=x onerror=y>",
    "[click](https://evil.example) https://evil.example www.evil.example",
    "a | b | c\n| x | y |\n# heading\n---\n- item",
    "`code` ``` <b>bold</b> ``",
    "`",
    "``|``",
    "**bold** _it_ ~~s~~ @everyone #1 &lt;b&gt; $x$",
    "a\\",
    "\u202egnp.exe\x1b[31m\r\x00",
    " ",
    "",
]


def plan_summary(values: dict[str, Any]) -> str:
    """The summary of a plan with these values."""
    return markdown.plan_summary(built(DryRunDocument, values))


def run_summary(values: dict[str, Any]) -> str:
    """The summary of a run with these values."""
    return markdown.run_summary(built(IndexDocument, values))


def changed(document: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A copy with other values; `files__failed=1` is the value `failed` of `files`."""
    copied = copy.deepcopy(document)
    for name, value in values.items():
        *folders, last = name.split("__")
        place = copied
        for folder in folders:
            place = place[folder]
        place[last] = value
    return copied


def rendered(markdown: str) -> str:
    """As a web page, with tables and with HTML let through."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown)


def rows(markdown: str) -> dict[str, list[str]]:
    """First cell -> the other cells, of all tables."""
    found = re.findall(r"<tr>(.*?)</tr>", rendered(markdown), re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in found]
    return {row[0]: row[1:] for row in cells}


def test_a_plan_tells_what_would_be_sent_and_what_it_costs() -> None:
    text = plan_summary(PLAN)
    table = rows(text)
    assert text.startswith("### codechunk: ` redis@unstable ` at ` 4f8cdc2a1ea5 `\n")
    assert table["to embed"] == ["1,200 texts, 204,347 tokens"]
    assert table["cost"] == ["<strong>$0.0307</strong> direct, <strong>$0.0153</strong> batch"]
    assert table["skipped"] == ["680 vendored, 9 too large"]
    assert table["secrets in the code"] == ["3 in 2 files (<code>secrets: redact</code>)"]
    assert "- ` src/a.c `: ` the parser crashed `" in text


def test_a_plan_with_many_failures_lists_the_first_and_counts_the_others() -> None:
    failed = [{"path": f"f{number}.c", "reason": "crashed"} for number in range(25)]
    text = plan_summary(changed(PLAN, failed=failed))
    assert text.count("\n- ` f") == 20
    assert "- and 5 more\n" in text


def test_a_result_tells_changes_texts_cost_and_savings() -> None:
    text = run_summary(RUN)
    table = rows(text)
    assert table["files"] == ["1,623 = 934 indexed + 689 skipped + 0 failed"]
    assert "| files | 11 | 12 | 13 | 14 | 1,587 |" in text
    assert "| chunks | 21 | 22 | 23 | 24 | 15,800 |" in text
    assert table["texts"] == ["43 sent, 5 on their way, 15,823 reused"]
    assert table["cost"] == ["<strong>$0.0012</strong> spent, $0.0011 estimated"]
    assert table["saved by reuse"] == ["2,700,000 tokens, $0.2025"]
    assert "**succeeded** in 12.3 s" in text


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"status": "embedding"}, "`codechunk worker start` takes them in"),
        ({"status": "embedding"}, "searches find what is new by its words only"),
        ({"status": "embedding", "published": False}, "searches answer from the commit before"),
        ({"status": "partial", "files__failed": 2}, "2 files, 0 chunks. `codechunk jobs show` has the reasons."),
        ({"status": "embedding"}, "billed so far"),
        ({"status": "partial", "chunks__failed": 2}, "0 files, 2 chunks"),
        ({"embedding__fallbacks": 1}, "1 batch jobs were sent directly, at twice the price"),
        ({"embedding__provider": "synthetic"}, "| cost | nothing: synthetic vectors |"),
        ({"tokens__total": None}, "| tokens | not counted |"),
        ({"tokens__estimated": True}, "2,704,347 in all, estimated"),
        ({"changes__saved": {"tokens": None, "usd": None}}, "not known: tokens were not counted"),
        ({"cost__spent": None, "cost__estimated": None}, "**-** spent, - estimated"),
        ({"secrets__found": 1, "secrets__files": 1}, "| secrets in the code | 1 in 1 file ("),
    ],
)
def test_a_result_tells_what_is_special_about_it(values: dict[str, Any], told: str) -> None:
    assert told in run_summary(changed(RUN, **values))
    assert told not in run_summary(RUN)


@pytest.mark.parametrize("name", NAMES)
def test_names_cannot_bring_markdown_html_links_or_cells_into_a_summary(name: str) -> None:
    plan = plan_summary(changed(PLAN, repository=name, ref=name, failed=[{"path": name, "reason": name}]))
    run = run_summary(changed(RUN, repository=name, ref=name, mode_reason=name))
    plain = [plan_summary(PLAN), run_summary(RUN)]
    for text, without in zip((plan, run), plain, strict=True):
        assert structure(text) == structure(without) or not name.strip()
        assert rows(text) == rows(without)
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "<script" not in rendered(text)


def structure(markdown: str) -> list[str]:
    """The elements of the page in their order, without their words."""
    return re.findall(r"</?[a-z0-9]+", rendered(markdown))


def test_a_name_is_shown_as_it_is_and_cut_when_it_is_endless() -> None:
    assert "<code>a`b|c@&lt;x&gt;</code>" in rendered(run_summary(changed(RUN, repository="a`b|c", ref="<x>")))
    assert len(run_summary(changed(RUN, ref="x" * 5000))) < 2000
