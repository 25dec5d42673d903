"""The list of answers: within a screen and a budget of tokens, at 80 and 120 columns, in wide and narrow scripts."""

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from codechunk.cli.excerpt import best_lines, lines_of, telling_line
from codechunk.cli.listing import MOST_TOKENS, PROMPT_LINES, Screen, listing, screen_of
from codechunk.documents import Answer, Matched
from codechunk.text.tokens import count_tokens

GO = """// Recovery returns a middleware that recovers
// from any panic.
func CustomRecovery(handle RecoveryFunc) HandlerFunc {
\tlogger := newLogger()
\tlogger.Use()

\tfor range 10 {
\t\tlogger.Wait()
\t}
\tdefer func() {
\t\tif rec := recover(); rec != nil {
\t\t\tlog.Printf("panic recovered: %s", rec)
\t\t}
\t}()
}
"""


def answer(text: str = GO, **values: Any) -> Answer:
    first = values.get("start_line", 40)
    last = first + len(text.rstrip("\n").split("\n")) - 1
    made: dict[str, Any] = {
        "score": 0.5,
        "repository": "gin",
        "ref": "main",
        "commit": "c" * 40,
        "path": "recovery.go",
        "language": "go",
        "kind": "function",
        "symbol": "CustomRecovery",
        "start_line": first,
        "end_line": last,
        "text": text,
        "chunk_ids": ["0123456789abcdef"],
        "hit_lines": (first, last),
        "file_rank": 1,
        "content": "code",
        "matched": Matched(words=["panic", "recov"], symbol=False, meaning=None),
        "url": None,
        "absolute_path": None,
        "spans": [],
        **values,
    }
    return Answer(**made)


def shown(answers: list[Answer], *, lines: int = 24, columns: int = 120, several: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), width=columns)
    return [line.plain for line in listing(console, answers, Screen(lines=lines, columns=columns), several=several)]


def many(count: int, text: str = GO, **values: Any) -> list[Answer]:
    return [
        answer(text, file_rank=rank, **{"path": f"src/part{rank}/recovery.go", **values})
        for rank in range(1, count + 1)
    ]


def test_each_answer_has_a_line_with_rank_place_symbol_and_code() -> None:
    lines = shown(many(10))
    assert (
        lines[-1]
        == "10  src/part10/recovery.go:42  CustomRecovery  func CustomRecovery(handle RecoveryFunc) HandlerFunc {"
    )
    assert [line.split()[0] for line in lines if line[:4].strip() and ":42" in line] == [str(n) for n in range(1, 11)]


def test_the_first_answers_show_their_definition_and_the_lines_that_were_asked_for() -> None:
    lines = shown(many(10))
    under = lines[1 : lines.index(next(line for line in lines if line.startswith(" 2")))]
    assert under[0].strip() == "42: func CustomRecovery(handle RecoveryFunc) HandlerFunc {"
    assert any('log.Printf("panic recovered: %s", rec)' in line for line in under)
    assert under[-1].endswith(" more lines")
    assert not any("logger.Use()" in line for line in under)


def test_lines_that_were_found_are_marked_apart_from_those_around_them() -> None:
    text = "def first():\n    pass\n\n\ndef asked():\n    return 1\n\n\ndef last():\n    pass\n"
    [one] = [answer(text, language="python", symbol="asked", hit_lines=(44, 45))]
    lines = shown([one])
    assert "     44: def asked():" in lines
    assert "     48- def last():" in lines


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
@pytest.mark.parametrize("height", [12, 24, 60])
@pytest.mark.parametrize(
    "text",
    [
        GO,
        "def f():\n" + "    value = compute(" + "x, " * 400 + ")\n" * 30,
        "# 日本語の説明\n" + "名前 = 設定を読み込む(経路, 既定値)  # 鍵が見つからないときの失敗\n" * 40,
        "\t\tx\x1b[31m\x00\u202e = '" + "🚀" * 90 + "'\n" * 30,
        "0x7f, 0xa3, 0x11, 0x9c, 0xe4, 0x55, 0x01, 0x77, 0x3d, 0x4b, 0x12, 0x98, 0xfa, 0xbc, 0xde,\n" * 60,
        "x",
        "",
    ],
    ids=["go", "long lines", "wide", "control", "data", "letter", "empty"],
)
def test_a_list_fits_its_screen_and_its_tokens(columns: int, height: int, text: str) -> None:
    lines = shown(many(10), lines=height, columns=columns)
    other = shown(many(10, text), lines=height, columns=columns)
    for laid in (lines, other):
        assert len(laid) <= max(height, 10 + 3)
        assert count_tokens("\n".join(laid)) <= MOST_TOKENS
        assert max(map(cell_len, laid)) <= columns
        assert all(line.isprintable() for line in laid)


def test_what_is_cut_says_so() -> None:
    long = "func CustomRecovery(" + "argument int, " * 40 + ") {\n}\n"
    lines = shown(many(5, long), columns=80)
    assert all(line.endswith(("…", "...")) for line in lines if "argument" in line)
    assert any("argument" in line for line in lines)


def test_a_path_is_never_cut() -> None:
    path = "a/very/deep/" + "folder/" * 12 + "file.go"
    lines = shown(many(10, path=path), columns=80)
    assert sum(f"{path}:42" in line for line in lines) == 10


def test_the_repository_is_named_where_several_are_searched_and_the_ref_where_it_tells_them_apart() -> None:
    assert "gin" not in shown([answer()])[0]
    assert shown([answer()], several=True)[0].startswith(" 1  gin  recovery.go:42")
    two = [answer(), answer(ref="v2", file_rank=2)]
    assert [line[4:11] for line in shown(two) if "recovery.go" in line] == ["gin@mai", "gin@v2 "]


def test_more_answers_than_a_screen_holds_are_all_listed() -> None:
    lines = shown(many(50))
    assert sum("recovery.go:42" in line for line in lines) == 50
    assert len(lines) <= 53


def test_a_terminal_gives_its_own_size_less_the_prompt() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=90, height=40)
    assert screen_of(terminal) == Screen(lines=40 - PROMPT_LINES, columns=90)
    assert screen_of(Console(file=io.StringIO(), width=10_000)) == Screen(lines=24, columns=120)


def test_a_terminal_gets_colours_and_the_same_words() -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system="256", width=120)
    lines = listing(terminal, many(10), Screen(lines=24, columns=120), several=False)
    assert [line.plain for line in lines] == shown(many(10))
    assert any(len(line.spans) > 5 for line in lines)


@pytest.mark.parametrize(
    ("text", "values", "told"),
    [
        ("# Title\n\nWords.\n", {"language": "markdown", "content": "docs", "symbol": "Title"}, "# Title"),
        ("/* why */\n#define LIMIT 3\n", {"language": "c", "symbol": "LIMIT"}, "#define LIMIT 3"),
        ("@cached\ndef size(self):\n    return 1\n", {"language": "python", "symbol": "A.size"}, "def size(self):"),
        ("}\n\nint x = 3;\n", {"language": "c", "symbol": None}, "int x = 3;"),
        (
            "    words of\n    a docstring\n    about\n    several\n    sizes, see size\n",
            {"language": "python", "symbol": "A.size"},
            "    words of",
        ),
        ("# only a comment\n", {"language": "python", "symbol": None}, "# only a comment"),
    ],
)
def test_the_telling_line_is_the_definition(text: str, values: dict[str, Any], told: str) -> None:
    one = answer(text, **values)
    assert telling_line(one, lines_of(one)).code == told


@pytest.mark.parametrize("rows", range(16))
def test_lines_are_in_order_each_once_and_no_more_than_asked_for(rows: int) -> None:
    numbers = [line.number for line in best_lines(answer(), rows)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) <= rows
    assert rows == 0 or 42 in numbers
