"""Which grammar a file gets."""

import pytest

from codechunk.chunking import available_languages, detect_language
from codechunk.chunking.languages import load_language


@pytest.mark.parametrize(
    ("path", "head", "language"),
    [
        ("a/b.py", b"", "python"),
        ("a.pyi", b"", "python"),
        ("a.js", b"", "javascript"),
        ("a.mjs", b"", "javascript"),
        ("a.jsx", b"", "javascript"),
        ("a.ts", b"", "typescript"),
        ("a.ts", b'<?xml version="1.0"?>\n<!DOCTYPE TS>\n<TS version="2.1">', "xml"),
        ("a.tsx", b"", "tsx"),
        ("a.go", b"", "go"),
        ("go.mod", b"", "gomod"),
        ("a.rs", b"", "rust"),
        ("a.java", b"", "java"),
        ("a.c", b"", "c"),
        ("a.h", b'#ifdef __cplusplus\nextern "C" {\n#endif\nint f(void);\n', "c"),
        ("a.h", b"#pragma once\n#include <vector>\nnamespace a {\nclass B;\n}\n", "cpp"),
        ("a.h", b"#import <Foundation/Foundation.h>\n@interface A : NSObject\n", "objc"),
        ("a.hpp", b"", "cpp"),
        ("a.cc", b"", "cpp"),
        ("a.cs", b"", "csharp"),
        ("a.rb", b"", "ruby"),
        ("Rakefile", b"", "ruby"),
        ("Gemfile", b"", "ruby"),
        ("a.php", b"", "php"),
        ("a.kt", b"", "kotlin"),
        ("a.swift", b"", "swift"),
        ("a.scala", b"", "scala"),
        ("a.sh", b"", "bash"),
        ("run", b"#!/bin/sh\n", "bash"),
        ("run", b"#!/usr/bin/env python3.11\n", "python"),
        ("run", b"#!/usr/bin/env -S node --harmony\n", "javascript"),
        ("run", b"#!/usr/bin/perl -w\n", "perl"),
        ("run", b"no shebang", "text"),
        ("a.lua", b"", "lua"),
        ("a.m", b"#import <Foundation/Foundation.h>\n", "objc"),
        ("a.m", b"function y = f(x)\n% doc\ny = x;\nend\n", "matlab"),
        ("a.pl", b"use strict;\n", "perl"),
        ("a.v", b"module top(input clk);\n", "verilog"),
        ("a.v", b"module main\n\nfn main() {\n}\n", "v"),
        ("a.sql", b"", "sql"),
        ("a.R", b"", "r"),
        ("a.inc", b"<?php\n", "php"),
        ("a.inc", b"; whatever\n", "text"),
        ("README.md", b"", "markdown"),
        ("README.rst", b"", "rst"),
        ("README", b"", "text"),
        ("LICENSE", b"", "text"),
        ("a.txt", b"", "text"),
        ("a.json", b"", "json"),
        ("a.yml", b"", "yaml"),
        ("a.toml", b"", "toml"),
        ("Dockerfile", b"", "dockerfile"),
        ("Makefile", b"", "make"),
        ("CMakeLists.txt", b"", "cmake"),
        ("a.cmake", b"", "cmake"),
        ("a.html", b"", "html"),
        ("a.css", b"", "css"),
        ("a.vue", b"", "vue"),
        ("a.tcl", b"", "tcl"),
        ("a.ex", b"", "elixir"),
        ("a.hs", b"", "haskell"),
        ("a.zig", b"", "zig"),
        ("a.ml", b"", "ocaml"),
        ("a.proto", b"", "proto"),
        ("a.tf", b"", "terraform"),
        ("a.unknown", b"", "text"),
        ("", b"", "text"),
    ],
)
def test_language_by_name_extension_and_content(path, head, language):
    assert detect_language(path, head) == language


def test_every_listed_grammar_loads():
    languages = available_languages()
    assert len(languages) >= 165
    for language in languages:
        assert load_language(language).node_kind_count > 0
