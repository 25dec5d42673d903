"""The options of `codechunk index`, and of several commands, with their help. As light as the front of the room."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from codechunk.errors import UsageError

Ref = Annotated[str | None, typer.Option(help="Branch, tag or commit.", show_default="HEAD", metavar="REF")]
Mode = Annotated[
    Literal["auto", "batch", "sequential"],
    typer.Option(
        help="How the provider is called: batch (half the price, takes a while), sequential (at once), auto (batch "
        "when there is much to do).",
    ),
]
TokenMode = Annotated[
    str | None,
    typer.Option(help="Count tokens of all chunks, of a sample, or not: all, sample, on_demand.", metavar="MODE"),
]
TestEmbeddings = Annotated[
    bool, typer.Option("--test-embeddings", help="Synthetic vectors: offline, free, deterministic.")
]
Include = Annotated[list[str] | None, typer.Option(help="Index only these files (gitignore glob).", metavar="GLOB")]
Exclude = Annotated[list[str] | None, typer.Option(help="Leave these files out (gitignore glob).", metavar="GLOB")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Processes that cut files.", show_default="all cores", metavar="N")
]
Wait = Annotated[bool, typer.Option(help="Wait for batch jobs, or leave them to `worker start` and `queue sync`.")]
WorkingTree = Annotated[
    bool, typer.Option("--working-tree", help="Also uncommitted changes and untracked files that git does not ignore.")
]
PublishPartial = Annotated[
    bool,
    typer.Option(
        "--publish-partial", help="Let searches use the new commit at once, not when its last vector has come."
    ),
]
Full = Annotated[bool, typer.Option("--full", help="Cut every file again; nothing is paid again.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and why not.")]
MaxCost = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Stop before anything is sent when the estimate is higher; the bill may differ by a fifth.",
        metavar="USD",
    ),
]
Summary = Annotated[
    Path | None,
    typer.Option(
        help='Append a summary in Markdown to this file: "$GITHUB_STEP_SUMMARY" in GitHub Actions.', metavar="FILE"
    ),
]
QueryWords = Annotated[list[str], typer.Argument(help="Words or a question, quoted or not.", metavar="QUERY")]
Limit = Annotated[int, typer.Option("--limit", "-k", "-n", min=1, max=100, help="How many answers.", metavar="N")]
Languages = Annotated[list[str] | None, typer.Option(help="Only these languages.", metavar="L")]
Paths = Annotated[
    list[str] | None,
    typer.Option(help="Only these files (gitignore glob); with ! in front all but these.", metavar="GLOB"),
]
Kinds = Annotated[list[str] | None, typer.Option(help="Only these kinds: function, method, class, ...", metavar="K")]
ContextTokens = Annotated[
    int,
    typer.Option(
        "--context",
        min=0,
        help="Tokens the best answer may hold, with the code around its hit; later ones hold less. 0: hits alone.",
        metavar="TOKENS",
    ),
]
Anyway = Annotated[bool, typer.Option("--anyway", help="The nearest code, when nothing matches well.")]
Locations = Annotated[bool, typer.Option("--locations", "-l", help="Only where: path:start-end, symbol.")]
WholeAnswers = Annotated[bool, typer.Option("--full", help="All lines of every answer, with the code around it.")]
AnswerFormat = Annotated[
    Literal["list", "json", "lines", "md"],
    typer.Option(
        "--format",
        help="list for people; json; lines for editors (path:line: code); md for chats (Markdown with code).",
    ),
]
OpenRank = Annotated[
    int | None,
    typer.Option("--open", min=1, max=100, help="Open this answer in $VISUAL or $EDITOR at its line.", metavar="N"),
]
JsonAnswers = Annotated[bool, typer.Option("--json", help="The same as --format json: one document on stdout.")]
Pager = Annotated[
    bool,
    typer.Option(
        "--pager/--no-pager",
        help="On a terminal, show what is longer than it in $CODECHUNK_PAGER, $PAGER or less.",
    ),
]
Repositories = Annotated[
    list[str] | None,
    typer.Option(
        "--repo", help="Only this repository, or repository@ref: name, path, URL or glob.", metavar="NAME[@REF]"
    ),
]
Everywhere = Annotated[bool, typer.Option("--all", help="Every repository, not only the one of this folder.")]
RefDiff = Annotated[
    str | None, typer.Option(help="Only what the new ref has and the old one has not.", metavar="OLD..NEW")
]


class ContentChoice(StrEnum):
    """Kinds of files, as codechunk.search.content has them, which takes longer to import; a test compares the two."""

    CODE = "code"
    TESTS = "tests"
    EXAMPLES = "examples"
    DOCS = "docs"
    DATA = "data"
    ALL = "all"


ContentOption = Annotated[
    list[ContentChoice] | None,
    typer.Option(help="Only these kinds of files: code, tests, examples, docs, data; or all.", metavar="C"),
]
NoTests = Annotated[bool, typer.Option("--no-tests", help="All but tests.")]


def contents(given: Sequence[ContentChoice], *, no_tests: bool) -> list[str]:
    """The kinds of files that --content and --no-tests mean; empty for all of them. Raises UsageError for none."""
    every = [content for content in ContentChoice if content is not ContentChoice.ALL]
    if no_tests and given and set(given) <= {ContentChoice.TESTS}:
        raise UsageError("--content tests and --no-tests exclude each other.")
    chosen = every if not given or ContentChoice.ALL in given else [content for content in every if content in given]
    kept = [content for content in chosen if content is not ContentChoice.TESTS or not no_tests]
    return [] if kept == every else [content.value for content in kept]
