"""Which grammar a file is written in: by name, extension, first line, and content where those are ambiguous.

Grammars come inside the wheel of tree-sitter-language-pack; nothing is fetched. What the constructs of a
grammar mean is in `rules`.
"""

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import cast

import tree_sitter_language_pack
from identify import identify
from tree_sitter import Language

TEXT = "text"

# tree-sitter-language-pack ships these under another name, or only through its front.
_FRONT_ONLY = {"csharp", "embeddedtemplate", "yaml"}
_HEAD_BYTES = 8192

# Extensions that `identify` does not know, names wrongly for us, or that need the name of a grammar.
_EXTENSIONS = {
    "agda": "agda", "ada": "ada", "adb": "ada", "ads": "ada", "as": "actionscript", "apex": "apex",
    "trigger": "apex",
    "astro": "astro", "bat": TEXT, "bb": "bitbake", "bbappend": "bitbake", "bbclass": "bitbake",
    "bicep": "bicep",
    "bsl": "bsl", "os": "bsl", "bzl": "starlark", "bazel": "starlark", "star": "starlark", "cairo": "cairo",
    "capnp": "capnp", "cbl": "cobol", "cob": "cobol", "cpy": "cobol", "cc": "cpp", "cjs": "javascript",
    "mjs": "javascript",
    "cl": "commonlisp", "lisp": "commonlisp", "lsp": "commonlisp", "asd": "commonlisp", "clar": "clarity",
    "clj": "clojure", "cljs": "clojure", "cljc": "clojure", "edn": "clojure", "cts": "typescript",
    "mts": "typescript",
    "cu": "cuda", "cuh": "cuda", "cxx": "cpp", "c++": "cpp", "hh": "cpp", "hpp": "cpp", "hxx": "cpp",
    "h++": "cpp",
    "ipp": "cpp", "tpp": "cpp", "txx": "cpp", "inl": "cpp", "ixx": "cpp", "cppm": "cpp", "d": "d", "di": "d",
    "dts": TEXT, "el": "elisp", "emacs": "elisp", "erb": "embeddedtemplate", "ejs": "embeddedtemplate",
    "ex": "elixir",
    "exs": "elixir", "f": "fortran", "f77": "fortran", "f90": "fortran", "f95": "fortran", "f03": "fortran",
    "f08": "fortran", "for": "fortran", "fc": "func", "fir": "firrtl", "fnl": "fennel", "fs": "fsharp",
    "fsx": "fsharp",
    "fsi": "fsharp_signature", "geojson": "json", "gn": "gn", "gni": "gn", "gradle": "groovy", "ha": "hare",
    "hcl": "hcl", "hack": "hack", "hbs": "html", "handlebars": "html", "mustache": "html", "liquid": "html",
    "gohtml": "html", "heex": "heex", "hs": "haskell", "hx": "haxe", "ino": "arduino",
    "ispc": "ispc",
    "janet": "janet", "jsonc": "json", "json5": "json", "jsonl": "json", "ndjson": "json", "jl": "julia",
    "kdl": "kdl", "ld": "linkerscript", "lds": "linkerscript", "libsonnet": "jsonnet", "ll": "llvm",
    "mermaid": "mermaid", "mmd": "mermaid", "mk": "make", "mak": "make", "ml": "ocaml",
    "mli": "ocaml_interface",
    "mdx": "markdown", "mkd": "markdown", "nims": "nim", "nut": "squirrel", "odin": "odin", "opam": TEXT,
    "org": "org", "pas": "pascal", "pp": "puppet", "dpr": "pascal", "pcss": "css", "pgn": "pgn", "php": "php",
    "phtml": "php", "php3": "php", "php5": "php", "pm": "perl", "t": "perl", "pod": "perl", "pony": "pony",
    "proto": "proto", "ps1": "powershell", "psm1": "powershell", "psd1": "powershell", "purs": "purescript",
    "pxd": "python", "pyx": "python", "pyi": "python", "pyw": "python", "r": "r", "rake": "ruby",
    "gemspec": "ruby",
    "ru": "ruby", "rbi": "ruby", "rbw": "ruby", "podspec": "ruby", "re2c": "re2c", "rego": "rego",
    "rkt": "racket",
    "ron": "ron", "rq": "sparql", "sparql": "sparql", "s": "asm", "asm": "asm", "nasm": "asm", "sbt": "scala",
    "sc": "scala", "scm": "scheme", "ss": "scheme", "sld": "scheme", "sh": "bash", "ksh": "bash",
    "bats": "bash",
    "zsh": "bash", "smali": "smali", "smithy": "smithy", "sol": "solidity", "svg": "xml", "sv": "verilog",
    "svh": "verilog", "vh": "verilog", "tcl": "tcl", "td": "tablegen", "tf": "terraform",
    "tfvars": "terraform",
    "tres": "gdscript", "typ": "typst", "vert": "glsl", "frag": "glsl", "geom": "glsl", "comp": "glsl",
    "glsl": "glsl", "vhd": "vhdl", "vhdl": "vhdl", "wast": "wast", "wat": "wat", "wgsl": "wgsl", "xsl": "xml",
    "xslt": "xml", "xhtml": "html", "htm": "html", "yuck": "yuck", "bib": "bibtex", "sty": "latex",
    "ltx": "latex",
    "tsx": "tsx", "jsx": "javascript", "less": "css", "sass": TEXT, "zon": "zig", "qml": "qmljs",
    "cs": "csharp",
    "csx": "csharp", "mm": "objc", "kts": "kotlin", "thrift": "thrift", "prisma": "prisma", "gleam": "gleam",
}  # fmt: skip
# Files of records rather than statements: filled to capacity.
DATA = frozenset(
    {
        "json",
        "yaml",
        "toml",
        "csv",
        "tsv",
        "psv",
        "ini",
        "properties",
        "xml",
        "po",
        "gosum",
        "requirements",
        "pem",
        "kdl",
    }
    | {
        "ron",
        "pgn",
        "beancount",
        "gitattributes",
        "gitignore",
        "pymanifest",
        "bibtex",
        "dtd",
        "cpon",
        "html",
        "css",
        "scss",
    }
)
# Formats that have a reader here and no grammar.
_WITHOUT_GRAMMAR = frozenset({"jupyter"})
# Grammars whose parsers crash the process (d, v) or never return (cobol) on a hundred bytes of broken code, seen with
# 400 random inputs each (2026-11), or whose trees depend on what the process parsed before (cmake, in 5 of 8 runs of
# the property tests): these files are cut by lines. Perl's can hang too, on rarer input, but its files
# are many: it is parsed, and whoever calls must be able to kill the process.
NEVER_PARSED = frozenset({"cmake", "cobol", "d", "v"})
MAY_HANG = frozenset({"perl"})
# Tag of `identify` to grammar, where the two differ. Asked in the order of this table.
_TAGS = {
    "bazel": "starlark", "makefile": "make", "dockerfile": "dockerfile", "gitignore": "gitignore",
    "dockerignore": "gitignore", "gitmodules": "ini", "gitconfig": "ini", "editorconfig": "ini",
    "go-mod": "gomod",
    "go-sum": "gosum", "c++": "cpp", "c#": "csharp", "c#script": "csharp", "f#": "fsharp",
    "f#script": "fsharp",
    "objective-c": "objc", "objective-c++": "objc", "system-verilog": "verilog",
    "tex": "latex",
    "java-properties": "properties", "pofile": "po", "jinja": "twig", "twig": "twig", "csh": TEXT,
    "tcsh": TEXT,
    "shell": "bash", "ts": "typescript", "protobuf": "proto", "jupyter": "jupyter", "geojson": "json",
    "groovy": "groovy", "jenkins": "groovy", "expect": "tcl", "nodejs": "javascript", "inc": "",
    "def": TEXT, "map": TEXT, "header": "", "diff": TEXT, "salt": "yaml", "awk": TEXT, "nunjucks": "twig",
    "xml": "xml", "dtd": "dtd", "scons": "python",
}  # fmt: skip
_NAMES = {
    "kconfig": "kconfig", "cmakelists.txt": "cmake", "requirements.txt": "requirements", "gemfile": "ruby",
    "rakefile": "ruby", "manifest.in": "pymanifest", "build.ninja": "ninja",
    ".gitattributes": "gitattributes",
    "justfile": TEXT, "makefile": "make", "gnumakefile": "make", "dockerfile": "dockerfile",
    ".inputrc": "readline",
    ".xcompose": "xcompose", "qmldir": "qmldir", "tsconfig.json": "json", "emakefile": "erlang",
    "rebar.config": "erlang",
    "go.mod": "gomod", "go.sum": "gosum", "cpanfile": "perl", ".vimrc": "vim", ".emacs": "elisp",
    ".luacheckrc": "lua",
}  # fmt: skip
_CPP_SIGNS = re.compile(
    rb"^[ \t]*(?:class\s+\w|namespace\b|template\s*<|using\s+\w|public\s*:|private\s*:|protected\s*:"
    rb"|#\s*include\s*<(?:string|vector|map|memory|iostream|cstd\w+|utility|functional|algorithm)>)"
    rb"|\bstd::|\boperator\s*[=+\-*<(\[]|\bconstexpr\b|\bvirtual\s",
    re.M,
)
_OBJC_SIGNS = re.compile(rb"^[ \t]*(?:@interface|@implementation|@protocol|@class|@import|#[ \t]*import)\b", re.M)
_GUARDED_CPP = re.compile(rb"#\s*ifdef\s+__cplusplus.*?#\s*endif", re.S)


@cache
def available_languages() -> list[str]:
    """The names of all grammars that can be loaded here, sorted."""
    names = {
        entry.name.split(".")[0]
        for entry in files(tree_sitter_language_pack).joinpath("bindings").iterdir()
        if entry.name.endswith((".so", ".pyd")) and not entry.name.startswith("_")
    }
    return sorted(names | _FRONT_ONLY)


@cache
def is_available(language: str) -> bool:
    """Whether `language` is the name of a grammar that can be loaded, or of a format that is read without one."""
    return language in available_languages() or language in _WITHOUT_GRAMMAR


@cache
def load_language(language: str) -> Language:
    """The grammar of that name. Raises LookupError when there is none."""
    return tree_sitter_language_pack.get_language(cast("tree_sitter_language_pack.SupportedLanguage", language))


def detect_language(path: str, head: bytes) -> str:
    """The grammar for a file, by its name, its extension, its first line; "text" when none is known.

    `head` is the beginning of the file (8 KiB are enough); ambiguous extensions (`.h`, `.m`, `.pl`, `.v`,
    `.ts`, ...) are decided by it.
    """
    head = head[:_HEAD_BYTES]
    extension, language = language_by_name(path)
    if extension is not None:
        return _existing(_AMBIGUOUS[extension](head))
    if language is None:
        language = _by_first_line(head)
    return _existing(language or TEXT)


def language_by_name(path: str) -> tuple[str | None, str | None]:
    """All that the name of a file says of its language: (ambiguous extension, None), or (None, language if known).

    Files with the same content for which it is equal have the same language.
    """
    name = PurePosixPath(path.replace("\\", "/")).name
    extension = name.rpartition(".")[2].lower() if "." in name[1:] else ""
    return (extension, None) if extension in _AMBIGUOUS else (None, _by_name(name, extension))


def _existing(language: str) -> str:
    return language if is_available(language) else TEXT


def _by_name(name: str, extension: str) -> str | None:
    lower = name.lower()
    if lower in _NAMES:
        return _NAMES[lower]
    if re.fullmatch(r"(?:.*[-_.])?requirements(?:[-_.].*)?\.(?:txt|in)", lower):
        return "requirements"
    if extension in _EXTENSIONS:
        return _EXTENSIONS[extension]
    # README.md is Markdown and plain text to `identify`: what is more than text comes first.
    tags = identify.tags_from_filename(name) - {"text", "plain-text"}
    known = _by_tags(tags)
    if known is not None:
        return known or None
    if extension and is_available(extension):
        return extension
    return TEXT if tags else None


def _by_tags(tags: set[str]) -> str | None:
    """The grammar for the tags of `identify`; "" for tags that say too little, None when no tag is known."""
    for tag, language in _TAGS.items():
        if tag in tags:
            return language
    return min((tag for tag in tags if is_available(tag)), default=None)


def _by_first_line(head: bytes) -> str | None:
    first = head.partition(b"\n")[0].strip().decode("utf-8", "replace")
    if first.startswith("#!"):
        words = [word for word in first[2:].split() if not word.startswith("-") and "=" not in word]
        command = next((PurePosixPath(word).name for word in words if PurePosixPath(word).name != "env"), "")
        tags = identify.tags_from_interpreter(re.sub(r"^(pypy|python|ruby|perl|lua|php|node)[\d.]*$", r"\1", command))
        known = _by_tags(tags)
        if known is not None:
            return known
        return command if is_available(command) else {"tclsh": "tcl", "Rscript": "r", "wish": "tcl"}.get(command)
    if first.startswith("<?php"):
        return "php"
    if first.startswith("<?xml"):
        return "xml"
    if first.lower().startswith(("<!doctype html", "<html")):
        return "html"
    return None


def _c_header(head: bytes) -> str:
    if _OBJC_SIGNS.search(head):
        return "objc"
    return "cpp" if _CPP_SIGNS.search(_GUARDED_CPP.sub(b"", head)) else "c"


def _one_of(default: str, *choices: tuple[bytes, str]) -> Callable[[bytes], str]:
    patterns = [(re.compile(pattern, re.M), language) for pattern, language in choices]

    def decide(head: bytes) -> str:
        return next((language for pattern, language in patterns if pattern.search(head)), default)

    return decide


_AMBIGUOUS: dict[str, Callable[[bytes], str]] = {
    "h": _c_header,
    "m": _one_of(
        "objc",
        (rb"^\s*(?:@interface|@implementation|@protocol|@class|@import|#\s*import|#\s*include)\b", "objc"),
        (rb"^\s*(?:function\b|classdef\b|%|end\s*;?\s*$|\w+\s*=.*;\s*$)", "matlab"),
    ),
    "pl": _one_of("perl", (rb"^\s*:-\s*\w|^[a-z]\w*\([^)]*\)\s*:-", TEXT)),
    "v": _one_of(
        "verilog",
        (rb"^\s*(?:fn|pub\s+fn|import\s+\w+$|struct\s+\w+\s*\{|mut\s)", "v"),
        (rb"^\s*(?:Require|Theorem|Lemma|Proof)\b", TEXT),
    ),
    "ts": _one_of("typescript", (rb"<!DOCTYPE TS|<TS\b", "xml")),
    "inc": _one_of(
        TEXT,
        (rb"<\?php|<\?=", "php"),
        (rb"^\s*#\s*(?:include|define|ifdef|ifndef)\b", "cpp"),
        (rb"^\s*(?:SRC_URI|DEPENDS|require\s+\S+\.inc)\b", "bitbake"),
        (rb"^\s*(?:unit|procedure|begin)\b", "pascal"),
    ),
    "pro": _one_of(TEXT, (rb"^\s*(?:QT|SOURCES|HEADERS|TARGET)\s*[+=]", "properties")),
    "fs": _one_of("fsharp", (rb"^\s*#version\b|\bgl_FragColor\b|\bvoid\s+main\s*\(", "glsl")),
    "cls": _one_of(
        "apex",
        (rb"\\(?:NeedsTeXFormat|ProvidesClass|documentclass|newcommand)\b", "latex"),
        (rb"^VERSION \d|^Attribute VB_", TEXT),
    ),
    "d": _one_of("d", (rb"^[\w./\\-]+\.o\s*:|^\S+:\s.*\\$", "make")),
    "pp": _one_of("puppet", (rb"^\s*(?:unit|program|uses|procedure)\s+\w", "pascal")),
    "s": _one_of("asm"),
    "t": _one_of("perl", (rb"^\s*(?:var|proc|procedure)\s+\w+\s*:?=?", "perl")),
    "as": _one_of("actionscript"),
    "sc": _one_of("scala"),
    "conf": _one_of("ini", (rb"^\s*\w[\w.-]*\s+[^=\s]", TEXT)),
    "cfg": _one_of("ini"),
}
