"""Symbols, kinds and scopes per language, and what belongs to a chunk."""

import pytest
from chunking_helpers import checked_chunks

from codechunk.chunking import ChunkSettings, chunk_source
from codechunk.text.tokens import count_tokens

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
        f"""
module A.B (area, draw, Shape) where
import Data.List (sort, nub)

-- | A shape, which can be a circle.
data Shape = Circle Double | Rect {{ width :: Double, height :: Double }}

class Drawable a where
  draw :: a -> String
  draw x = "{SHELL}"

instance Drawable Shape where
  draw (Circle r) = concat "{SHELL}"

-- | The area.
area :: Shape -> Double
area (Circle radius) = compute "{SHELL}" radius
x <+> y = combine "{SHELL}" x y
""",
        {
            "type Shape", "method Drawable.draw", "method Drawable.Shape.draw", "function area", "function <+>",
        },
    ),
    "ocaml": (
        f"""
module Stack = struct
  type t = Empty | Full of int * string * float * bool * char * int list
  let rec push x s = "{SHELL}" ^ push x s
end
module type S = sig val lookup : string -> int -> bool -> string option val x : int end
class point = object method move = print_string "{SHELL}" end
let (>>=) first second = match first with None -> None | Some x -> second x "{SHELL}"
""",
        {"type Stack.t", "function Stack.push", "interface S", "class point", "function >>="},
    ),
    "fsharp": (
        f"""
module A.B
type Person = {{ FirstName: string; LastName: string; Age: int; Address: string }}
let add a b = compute a b "{SHELL}"
""",
        {"struct Person", "function add"},
    ),
    "erlang": (
        f"""
-record(state, {{first_field, second_field, third_field, fourth_field}}).
%% Doc.
-spec handle(integer()) -> integer().
handle(0) -> compute("{SHELL}").
other() -> compute("{SHELL}").
""",
        {"struct state", "function handle", "function other"},
    ),
    "clojure": (
        f"""
(ns foo.bar (:require [x]))
(defn area "doc" [x] (print "{SHELL}"))
(defprotocol Painter (paint [this canvas color brush size position]))
(defmacro twice [x] (print "{SHELL}"))
""",
        {"function area", "interface Painter", "macro twice"},
    ),
    "commonlisp": (
        f"""
(defun area (x) (print "{SHELL}"))
(defclass shape () ((name :initarg :name :accessor name-of-the-shape)))
(defmethod draw ((x shape)) (print "{SHELL}"))
""",
        {"function area", "class shape", "function draw"},
    ),
    "elisp": (
        f"""
(defun area (x) "doc" (print "{SHELL}"))
(cl-defun draw (y) (print "{SHELL}"))
(defmacro twice (x) (print "{SHELL}"))
""",
        {"function area", "function draw", "macro twice"},
    ),
    "scheme": (
        f"""
(define (area x) (print "{SHELL}"))
(define-syntax twice (syntax-rules () ((_) (print "{SHELL}"))))
""",
        {"function area", "macro twice"},
    ),
    "julia": (
        f"""
module Shapes
struct Point
  x::Int; label_of_the_point::String; y::Int; z::Int
end
function area(p::Point)::Int
  print("{SHELL}")
end
double(x) = print("{SHELL}")
macro twice(x) print("{SHELL}") end
end
""",
        {"struct Shapes.Point", "function Shapes.area", "function Shapes.double", "macro Shapes.twice"},
    ),
    "r": (
        f"""
area <- function(x) {{ "{SHELL}" }}
print.shape = function(y) "{SHELL}"
setMethod("draw", "P", function(o) "{SHELL}")
Person <- R6Class("P", public = list(add = function(x) {{ "{SHELL}" }}))
""",
        {"function area", "function print.shape", "method draw", "class Person"},
    ),
    "perl": (
        f"""
package Foo::Bar;
sub new {{ my $c = shift; return bless {{ a => "{SHELL}" }}, $c; }}
my $code = sub {{ return "{SHELL}"; }};
""",
        {"function new", "function code"},
    ),
    "objc": (
        f"""
@interface Foo : NSObject <P>
@property int x;
- (void)bar:(int)a with:(int)b;
@end
@implementation Foo
- (void)bar:(int)a with:(int)b {{ int x = compute("{SHELL}"); }}
+ (id)make {{ return create("{SHELL}"); }}
@end
@implementation Foo (Cat)
- (int)cat {{ return create("{SHELL}"); }}
@end
int main(void) {{ return create("{SHELL}"); }}
""",
        {"class Foo", "method Foo.bar:with:", "method Foo.make", "method Foo.cat", "function main"},
    ),
    "groovy": (
        f"""
class Shape extends Base {{
  int x = 1
  def area(int y) {{ return compute("{SHELL}") }}
}}
def helper(x) {{ println "{SHELL}" }}
task buildAll {{ doLast {{ println "{SHELL}" }} }}
""",
        {"class Shape", "method Shape.area", "function helper", "function buildAll"},
    ),
    "powershell": (
        f"""
function Get-Foo {{ Write-Output "{SHELL}" }}
enum Color {{ Red; Green; Blue; Yellow; Orange; Violet; White; Black }}
""",
        {"function Get-Foo", "enum Color"},
    ),
    "terraform": (
        f"""
resource "aws_s3_bucket" "logs" {{ bucket = "{SHELL}" }}
variable "region" {{ default = "{SHELL}" }}
""",
        {"struct resource.aws_s3_bucket.logs", "struct variable.region"},
    ),
    "graphql": (
        """
type Order implements Node { identifier: ID!, amount: Int!, currency: String }
query FindOrder($id: ID!) { order(id: $id) { identifier amount currency } }
""",
        {"struct Order", "function FindOrder"},
    ),
    "solidity": (
        f"""
contract Token is ERC20 {{ uint x; event Transfer(address indexed from, address indexed to, uint256 value);
 constructor() {{ x = compute("{SHELL}"); }}
 function mint(uint a) public returns (uint) {{ return compute("{SHELL}"); }} }}
library Math {{ function max() internal {{ return compute("{SHELL}"); }} }}
""",
        {"class Token", "method Token.constructor", "method Token.mint", "module Math"},
    ),
    "zig": (
        f"""
pub const Point = struct {{
    x: f32,
    pub fn init(x: f32) Point {{ return compute("{SHELL}"); }}
}};
pub fn add(a: i32) i32 {{ return compute("{SHELL}"); }}
test "adds numbers" {{ try compute("{SHELL}"); }}
""",
        {"struct Point", "method Point.init", "function add", "function adds numbers"},
    ),
    "dart": (
        f"""
class A extends B {{
  final int x;
  A.named(this.x);
  factory A.made() {{ return A("{SHELL}"); }}
  int area(
    int width,
  ) {{ return compute("{SHELL}"); }}
  int get size => compute("{SHELL}");
}}
extension E on String {{
  int shout() {{ return compute("{SHELL}"); }}
}}
enum Color {{ red, green, blue, yellow, orange, violet, white, black, grey }}
int add(int a, int b) {{ return compute("{SHELL}"); }}
""",
        {
            "class A", "method A.made", "method A.area", "method A.size", "method E.shout", "enum Color",
            "function add",
        },
    ),
    "proto": (
        """
message Order { string identifier = 1; message Line { int32 amount = 1; string code = 2; } string more = 3; }
service Shop { rpc GetOrder (GetOrderRequest) returns (GetOrderResponse); rpc List (ListRequest) returns (Lists); }
enum Suit { HEARTS = 0; SPADES = 1; CLUBS = 2; DIAMONDS = 3; JOKER = 4; }
""",
        {"struct Order", "interface Shop", "enum Suit"},
    ),
    "javascript": (
        f"""
$.each(items, function visit(item) {{ {FILL} }});
module.exports = {{
  open: function (path) {{ {FILL} }},
  close(path) {{ {FILL} }},
}};
function outer(list) {{
  const total = list.length, first = list[0];
  const inner = (item) => {{ {FILL} }};
  class Local {{ run() {{ {FILL} }} }}
  return list.map(inner).filter(Boolean).map(String).join(", ");
}}
""",
        {
            "function visit", "method open", "method close", "function outer", "function outer.inner",
            "class outer.Local",
        },
    ),
    "python": (
        f"""
def outer(items):
    \"\"\"Does what has to be done with each of the items.\"\"\"

    @cached
    def inner(item):
        {PY}

    class Local(Base):
        def run(self):
            {PY}

    return [inner(item) for item in items]

try:
    import fast
except ImportError:
    class Slow:
        def work(self):
            {PY}
""",
        {
            "function outer", "function outer.inner", "method outer.Local.run", "method Slow.work",
        },
    ),
    "rust": (
        f"""
#[test]
fn outer_function_with_more() {{
    let first = one_two_three_four(five_six_seven);
    struct Local {{ name: String, value: String, other: String }}
    fn inner(item: u8) {{ {FILL} }}
}}
impl Iterator for Local {{
    fn next(&mut self) -> Option<u8> {{ {FILL} }}
}}
macro_rules! twice {{ ($x:expr) => {{ one_two_three_four!($x, $x, five_six_seven) }} }}
""",
        {
            "function outer_function_with_more", "struct outer_function_with_more.Local",
            "function outer_function_with_more.inner", "method Local.next", "macro twice",
        },
    ),
    "c": (
        f"""
typedef struct point_tag {{ double x_of_the_point, y_of_the_point; char label; }} point;
typedef struct {{ double x_of_the_line, y_of_the_line; char label_of_it; }} line;
#ifdef __cplusplus
extern "C" {{
#endif
int add(int a, int b) {{ {FILL} }}
#ifdef __cplusplus
}}
#endif
TEST_IMPL(adds) {{ {FILL} }}
#define TWICE(x) one_two_three_four(five_six_seven, x, x)
""",
        {"struct point_tag", "struct line", "function add", "function adds", "macro TWICE"},
    ),
    "cpp": (
        f"""#pragma once
LIB_BEGIN_NAMESPACE
namespace lib {{
class LIB_API Shape : public Base {{
 public:
  LIB_NODISCARD
  int area() const {{ {FILL} }}
  LIB_INLINE auto width(int of) -> int {{ {FILL} }}
  operator Action<int>() const {{ {FILL} }}
}};
}}
LIB_END_NAMESPACE
TEST(ShapeTest, Area) {{ {FILL} }}
template <> struct formatter<Shape> : base {{ int x_of_the_formatter, y_of_the_formatter; }};
""",
        {
            "method lib.Shape.area", "method lib.Shape.width", "method lib.Shape.operator Action<int>",
            "function ShapeTest.Area", "struct formatter",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", [name for name, (source, _) in CASES.items() if source])
def test_definitions_have_their_kind_and_qualified_name(language):
    source, expected = CASES[language]
    chunks = checked_chunks(source.encode(), language=language)
    alone = {f"{chunk.kind} {chunk.symbol}" for chunk in chunks}
    # Of definitions that are joined because they are small, the chunk has all names and the kind of one.
    joined = {name for chunk in chunks if chunk.symbol and ", " in chunk.symbol for name in chunk.symbol.split(", ")}
    assert {name for name in expected - alone if name.partition(" ")[2] not in joined} == set()


def symbols(source: str, language: str, **settings: int) -> list[tuple[str | None, int, int]]:
    chunks = chunk_source(source.encode(), path="x", language=language, settings=ChunkSettings(**settings))
    return [(chunk.symbol, chunk.start_line, chunk.end_line) for chunk in chunks]


def test_comments_and_decorators_belong_to_the_definition_below():
    source = f"import os\n\n\n{PY}\n{PY}\n{PY}\n{PY}\n\n"
    source += f"# First.\n# Second.\n@one\n@two\ndef f():\n    {PY}\n\n\n# Third.\n\ndef g():\n    {PY}\n"
    assert symbols(source, "python") == [(None, 1, 7), ("f", 9, 14), ("g", 17, 20)]


def test_closing_braces_belong_to_the_last_piece():
    source = f"class A {{\n  void first() {{ {FILL} }}\n  void second() {{ {FILL} }}\n}}\n"
    assert symbols(source, "java") == [("A, A.first", 1, 2), ("A.second", 3, 4)]


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
    # Records are joined up to about four times min_tokens, like any other small things.
    counts = [count_tokens(chunk.text) for chunk in chunks]
    assert sum(counts) / len(counts) > 150


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


def test_a_definition_however_small_keeps_its_name_beside_loose_statements() -> None:
    loose = "".join(f"{PY}\n" for _ in range(8))
    source = f"{loose}\n\ndef tiny():\n    pass\n\n\n{loose}"
    found = symbols(source, "python")
    assert "tiny" in [symbol for symbol, _, _ in found]


def test_a_comment_makes_a_small_definition_large_enough() -> None:
    method = "  /** Says how many there are in all. */\n  int size() { return n; }\n\n"
    source = "class A {\n" + method + method.replace("size", "length") + "}\n"
    assert [symbol for symbol, _, _ in symbols(source, "java")][1:] == ["A.length"]


def test_small_overloads_are_joined_with_each_other() -> None:
    source = "".join(f"export function of(a: {kind}): A;\n" for kind in ("string", "number", "boolean", "bigint"))
    found = symbols(f"import x from 'y';\n{source}export function other(a: any) {{\n  {FILL}\n}}\n", "typescript")
    assert [symbol for symbol, _, _ in found] == ["of", "other"]


DECORATOR = f"""def decorator(f):
    def wrapper(*arguments):
        {PY}
        return f(*arguments)

    return wrapper
"""


def test_a_small_function_with_another_in_it_is_one_chunk_with_both_names() -> None:
    assert symbols(DECORATOR, "python") == [("decorator, decorator.wrapper", 1, 6)]


def test_a_large_function_with_another_in_it_is_cut_at_it() -> None:
    source = DECORATOR.replace("    return wrapper\n", f"    {PY}\n" * 20 + "    return wrapper\n")
    assert [symbol for symbol, _, _ in symbols(source, "python")][:2] == ["decorator, decorator.wrapper", "decorator"]


def test_the_words_of_a_name_stand_above_its_text_once_each() -> None:
    source = f"class HTTPServer:\n    def setTimeout(self):\n        {PY}\n        {PY}\n\n"
    source += f"    def serve(self):\n        {PY}\n"
    chunks = chunk_source(source.encode(), path="a.py")
    assert [chunk.header for chunk in chunks] == ["http server set timeout", "http server serve\nclass HTTPServer:"]
    plain = chunk_source(source.encode(), path="a.py", settings=ChunkSettings(context_header=False))
    assert {chunk.header for chunk in plain} == {""}


@pytest.mark.parametrize("limit", [16, 24, 40])
def test_deep_keys_in_tiny_chunks_come_to_an_end(limit: int) -> None:
    deep = '{"definitions": {"PhysicalResourceId": {"properties": {"identifier": {"minimum": 1000, "maximum": 2000}}}}}'
    many = '{\n "definitions": {\n' + ",\n".join(f'  "Physical{n}Id": {deep}' for n in range(9)) + "\n }\n}\n"
    checked_chunks(many.encode(), path="x.json", max_tokens=limit)
