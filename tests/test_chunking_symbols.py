"""Symbols, kinds and scopes per language, and what belongs to a chunk."""

import pytest
from chunking_helpers import checked_chunks

from codechunk.chunking import ChunkSettings, chunk_source

FILL = "one_two_three_four(five_six_seven, eight_nine_ten); eleven_twelve(thirteen, fourteen);"
SHELL = "one_two_three_four five_six_seven eight_nine_ten eleven_twelve thirteen"
PY = "result = one_two_three_four(five_six_seven, eight_nine_ten)"

CASES = {
    "kotlin": (
        f"""
package a
/** Doc. */
class Shape(val name: String) : Base() {{
    fun area(): Double {{ return {FILL} }}
    companion object {{
        fun create(): Shape {{ return {FILL} }}
    }}
}}
interface Painter {{ fun paint(shape: Shape, color: Color, brush: Brush): Boolean }}
object Registry {{
    fun find(name: String): Shape? {{ return {FILL} }}
}}
fun String.shout(times: Int): String {{ return {FILL} }}
""",
        {
            "class Shape", "method Shape.area", "method Shape.Companion.create", "interface Painter",
            "method Registry.find", "function String.shout",
        },
    ),
    "swift": (
        f"""
// Doc.
class Shape: Base {{
    var title: String = "a shape that has no other title than this"
    init(name: String) {{ {FILL} }}
    func area() -> Double {{ return {FILL} }}
}}
extension Shape {{
    func draw(on canvas: Canvas) {{ {FILL} }}
}}
protocol Painter {{ func paint(shape: Shape, color: Color, brush: Brush) -> Bool }}
struct Point {{ let x: Double; let y: Double; let labelOfThePoint: String }}
enum Blend {{ case opaque, additive, multiply, screen, overlay, darken }}
""",
        {
            "class Shape", "method Shape.init", "method Shape.area", "method Shape.draw", "interface Painter",
            "struct Point", "enum Blend",
        },
    ),
    "scala": (
        f"""
package a
object Main {{
  def start(arguments: Array[String]): Unit = {{ {FILL} }}
}}
case class Point(x: Double, y: Double) extends Shape with Serializable {{
  def distance(other: Point): Double = {{ {FILL} }}
}}
trait Shape {{
  def area(scale: Double): Double = {{ {FILL} }}
}}
""",
        {"method Main.start", "class Point", "method Point.distance", "method Shape.area"},
    ),
    "php": (
        f"""<?php
namespace App\\Http;

/** Handles requests. */
#[Route]
class Handler extends Base {{
    private $timeout = 30; private $retries = 3; private $verify = true;
    public function handle($request) {{ return {FILL} }}
}}
interface Renders {{ public function render(string $template, array $values, int $mode): string; }}
trait Logs {{
    protected function log($message) {{ {FILL} }}
}}
enum Suit: string {{ case Hearts = 'hearts'; case Spades = 'spades'; case Clubs = 'clubs'; }}
function helper_function($value) {{ return {FILL} }}
$compare = function ($left, $right) {{ return {FILL} }};
""",
        {
            "class Handler", "method Handler.handle", "interface Renders", "method Logs.log", "enum Suit",
            "function helper_function", "function compare",
        },
    ),
    "lua": (
        f"""
-- Doc.
local function private(a) {FILL} end
function M.open(path) {FILL} end
function M:close(force) {FILL} end
M.read = function(size) {FILL} end
local write = function(data) {FILL} end
""",
        {"function private", "function M.open", "function M.close", "function M.read", "function write"},
    ),
    "tsx": (
        f"""
export const Button: React.FC<Props> = ({{ label, onClick }}) => <button onClick={{onClick}}>{{label}}</button>;
export default function App() {{ return <Button label="one" onClick={{() => {FILL[:-1]}}} />; }}
""",
        {"function Button", "function App"},
    ),
    "bash": (
        f"# Doc.\nfirst() {{\n  {SHELL}\n}}\nfunction second {{\n  {SHELL}\n}}\n",
        {"function first", "function second"},
    ),
    "elixir": (
        f"""
defmodule Shop.Cart do
  @moduledoc "Holds what a customer wants to buy, until it is paid or forgotten."
  def add(cart, item) do
    {FILL}
  end
  defp total(cart) when is_map(cart) do
    {FILL}
  end
end
""",
        {"module Shop.Cart", "method Shop.Cart.add", "method Shop.Cart.total"},
    ),
    "haskell": (
        "module A where\n\n-- | Doc.\n"
        "data Shape = Circle Double Double Double | Rectangle Double Double Double Double\n",
        {"type Shape"},
    ),
    "zig": (f"pub fn add(a: i32, b: i32) i32 {{\n    return {FILL}\n}}\n", {"function add"}),
    "dart": (
        "class Shape {\n  final String name = 'a name that is long enough to stand for itself';\n}\n",
        {"class Shape"},
    ),
    "proto": (
        "message Order { string identifier = 1; int64 amount_in_cents = 2; string currency = 3; }\n",
        {"struct Order"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", [name for name, (source, _) in CASES.items() if source])
def test_definitions_have_their_kind_and_qualified_name(language):
    source, expected = CASES[language]
    chunks = checked_chunks(source.encode(), language=language)
    assert expected <= {f"{chunk.kind} {chunk.symbol}" for chunk in chunks}


def symbols(source: str, language: str, **settings: int) -> list[tuple[str | None, int, int]]:
    chunks = chunk_source(source.encode(), path="x", language=language, settings=ChunkSettings(**settings))
    return [(chunk.symbol, chunk.start_line, chunk.end_line) for chunk in chunks]


def test_comments_and_decorators_belong_to_the_definition_below():
    source = f"import os\n\n\n{PY}\n{PY}\n{PY}\n{PY}\n\n"
    source += f"# First.\n# Second.\n@one\n@two\ndef f():\n    {PY}\n\n\n# Third.\n\ndef g():\n    {PY}\n"
    assert symbols(source, "python") == [(None, 1, 7), ("f", 9, 14), ("g", 17, 20)]


def test_closing_braces_belong_to_the_last_piece():
    source = f"class A {{\n  void first() {{ {FILL} }}\n  void second() {{ {FILL} }}\n}}\n"
    assert symbols(source, "java") == [("A.first", 1, 2), ("A.second", 3, 4)]


def test_pieces_of_a_long_function_keep_its_symbol_and_show_its_signature():
    source = "def long(argument):\n" + f"    {PY}\n" * 100
    chunks = checked_chunks(source.encode(), language="python", max_tokens=256)
    assert len(chunks) > 4
    assert {chunk.symbol for chunk in chunks} == {"long"}
    assert [chunk.header for chunk in chunks] == ["", *["def long(argument):"] * (len(chunks) - 1)]


def test_functions_in_a_function_too_long_for_a_chunk_are_found():
    inner = "".join(f"  function part{i}(a) {{ {FILL} {FILL} }}\n" for i in range(30))
    found = symbols(f"function outer() {{\n{inner}}}\n", "javascript", max_tokens=256)
    assert [symbol for symbol, _, _ in found][1:] == [f"outer.part{i}" for i in range(1, 30)]


def test_long_code_is_cut_between_statements():
    body = "".join(f"  if (a > {i}) {{\n    {FILL}\n    {FILL}\n  }}\n" for i in range(40))
    for language in ("c", "javascript", "java"):
        source = (
            f"int outer(int a) {{\n{body}}}\n"
            if language == "c"
            else f"class A {{\nvoid outer(int a) {{\n{body}}}\n}}\n"
        )
        if language == "javascript":
            source = f"function outer(a) {{\n{body}}}\n"
        chunks = checked_chunks(source.encode(), language=language, max_tokens=256)
        assert len(chunks) > 3
        assert all(chunk.text.lstrip().startswith("if (a >") for chunk in chunks[1:]), language


def test_headers_can_be_left_out():
    source = "class A:\n    def f(self):\n        " + f"{PY}\n        " * 3
    settings = ChunkSettings(context_header=False)
    assert {chunk.header for chunk in chunk_source(source.encode(), path="x.py", settings=settings)} == {""}


def test_a_header_never_eats_the_limit():
    source = f"class {'A' * 300}({'B' * 300}):\n    def f(self):\n        " + f"{PY}\n        " * 30
    for limit in (16, 32, 64):
        checked_chunks(source.encode(), language="python", max_tokens=limit)


def test_data_files_are_filled_to_capacity():
    data = "{\n" + ",\n".join(f'  "key{i}": ["value", {i}]' for i in range(400)) + "\n}\n"
    chunks = checked_chunks(data.encode(), path="x.json")
    assert {str(chunk.kind) for chunk in chunks} == {"block"}
    assert sum(len(chunk.text) for chunk in chunks) / len(chunks) > 500


def test_markdown_headings_in_fences_do_not_count():
    text = "# One\n\n```\n# not one\n```\n\n" + "word " * 20 + "\n\nTwo\n---\n\n" + "word " * 20
    assert symbols(text, "markdown") == [("One", 1, 7), ("One > Two", 9, 12)]


def test_parse_false_cuts_by_lines_only():
    chunks = checked_chunks((f"def f():\n    {PY}\n\n" * 60).encode(), path="x.py", parse=False)
    assert {chunk.symbol for chunk in chunks} == {None}
    assert {chunk.language for chunk in chunks} == {"python"}


@pytest.mark.parametrize(
    ("path", "text", "symbol"),
    [
        ("a.py", "def tiny():\n    return 1\n", "tiny"),
        ("a.go", "func tiny() int { return 1 }\n", "tiny"),
        ("a.c", "int tiny(void) { return 1; }\n", "tiny"),
        ("a.js", "function tiny() { return 1 }\n", "tiny"),
        ("a.rs", "pub fn main() { run() }\n", "main"),
        ("a.rb", "class A\n  def b; 1; end\nend\n", "A"),
    ],
)
def test_a_small_definition_on_the_first_line_keeps_its_name(path: str, text: str, symbol: str) -> None:
    (chunk,) = chunk_source(text.encode(), path=path)
    assert chunk.symbol == symbol
