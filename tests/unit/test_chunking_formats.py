"""Formats beside program code: what their chunks are called, where they begin and end, and what nothing can break."""

import json
import random
import sqlite3
import time
from hashlib import sha256

import pytest
from chunking_helpers import checked_chunks
from cli_helpers import Cli
from counting import no_hang
from git_helpers import GitRepo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codechunk.chunking import chunk_source, detect_language
from codechunk.text.chunks import with_header
from codechunk.text.notebook_text import source_of_cell
from codechunk.text.tokens import count_tokens

PROSE = "A paragraph of many words that say what there is to say about this part, at some length and with care. "


def fill(indent: int, count: int = 10, end: str = "") -> str:
    """Lines that are about ten tokens each."""
    return "".join(f"{' ' * indent}setting_number_{n}: value of number {n}{end}\n" for n in range(count))


def found(path: str, text: str, max_tokens: int = 512) -> list[tuple[int, int, str, str | None]]:
    chunks = checked_chunks(text.encode(), path=path, max_tokens=max_tokens)
    return [(chunk.start_line, chunk.end_line, chunk.kind.value, chunk.symbol) for chunk in chunks]


def named(path: str, text: str, max_tokens: int = 512) -> set[str]:
    return {f"{kind} {symbol}" for _, _, kind, symbol in found(path, text, max_tokens)}


# YAML, JSON, TOML ----------------------------------------------------------------------------------------


def test_yaml_is_cut_by_keys_and_named_by_their_path():
    text = f"version: 1\nservices:\n  # The site.\n  web:\n{fill(4, 14)}  database:\n{fill(4, 14)}networks:\n{fill(2)}"
    assert found("compose.yaml", text) == [
        (1, 18, "section", "services > web"),
        (19, 33, "section", "services > database"),
        (34, 44, "section", "networks"),
    ]


def test_the_header_of_a_key_says_what_it_is_in():
    text = f"services:\n  web:\n{fill(4, 32)}  database:\n{fill(4, 14)}"
    chunks = checked_chunks(text.encode(), path="compose.yaml")
    assert list(dict.fromkeys((chunk.symbol, chunk.header) for chunk in chunks)) == [
        ("services > web", ""),
        ("services > web", "services > web"),
        ("services > database", "services"),
    ]


def test_small_keys_share_a_chunk():
    text = "".join(f"key_{n}: value\n" for n in range(12))
    assert found("a.yaml", text) == [(1, 12, "block", None)]


def test_records_of_a_yaml_list_are_named_by_their_names():
    text = "".join(f"- name: Step {n} of the play\n  command: run\n{fill(2)}" for n in range(6))
    assert named("tasks.yml", text) == {f"section Step {n} of the play" for n in range(6)}


def test_manifests_are_named_by_kind_and_name():
    manifest = "apiVersion: v1\nkind: {}\nmetadata:\n  labels: {{name: no}}\n  name: {}\nspec:\n" + fill(2)
    text = manifest.format("Service", "web") + "---\n" + manifest.format("Deployment", "shop")
    assert found("all.yaml", text) == [
        (1, 16, "section", "Service web"),
        (17, 33, "section", "Deployment shop"),
    ]


def test_keys_in_a_yaml_block_of_text_are_text():
    text = f"script: |\n  fake:\n{fill(4, 30)}  other:\n{fill(4, 30)}real:\n{fill(2)}"
    assert {symbol for _, _, _, symbol in found("a.yaml", text)} == {"script", "real"}


def test_json_is_cut_by_keys_and_between_records():
    records = [{"name": f"rule {n}", **{f"property_{m}": f"value {m}" for m in range(12)}} for n in range(8)]
    text = json.dumps({"rules": records, "editor": {f"key_{n}": "value" for n in range(20)}}, indent=2)
    symbols = [symbol for _, _, _, symbol in found("settings.json", text)]
    assert symbols == [f"rules > rule {n}" for n in range(8)] + ["editor"]


def test_lines_of_json_are_never_cut_inside_a_record():
    text = "".join(json.dumps({"id": n, "text": PROSE}) + "\n" for n in range(60))
    chunks = checked_chunks(text.encode(), path="events.jsonl")
    assert len(chunks) > 5
    assert all(chunk.text.startswith("{") and chunk.text.endswith("}") for chunk in chunks)


def test_toml_is_cut_by_tables_with_their_full_names():
    body = "".join(f'key_{n} = "value of {n}"\n' for n in range(15))
    text = f"[tool.one]\n{body}\n# About two.\n[tool.two.three]\n{body}\n[[servers]]\n{body}"
    assert found("pyproject.toml", text) == [
        (1, 16, "section", "tool.one"),
        (18, 34, "section", "tool.two.three"),
        (36, 51, "section", "servers"),
    ]


def test_what_looks_like_a_table_in_a_long_toml_string_is_text():
    text = f'[real]\ntext = """\n[fake]\n{fill(0, 10)}"""\nkey = 1\n'
    assert {symbol for _, _, _, symbol in found("a.toml", text)} == {"real"}


# reStructuredText and Markdown ---------------------------------------------------------------------------


def test_rst_sections_are_named_by_the_path_of_headings():
    text = (
        f"=====\nGuide\n=====\n\n{PROSE}\n\n.. _setup:\n\nSet up\n------\n\n{PROSE}\n\n"
        f"Linux\n~~~~~\n\n{PROSE}\n\nUsage\n-----\n\n{PROSE}\n"
    )
    assert found("guide.rst", text) == [
        (1, 5, "section", "Guide"),
        (7, 12, "section", "Guide > Set up"),
        (14, 17, "section", "Guide > Set up > Linux"),
        (19, 22, "section", "Guide > Usage"),
    ]


def test_rules_in_rst_literals_tables_and_transitions_make_no_heading():
    text = (
        f"Title\n=====\n\n{PROSE}::\n\n    Not one\n    =======\n\n"
        f"=====  =====\nA      B\n=====  =====\n1      2\n=====  =====\n\n{PROSE}\n\n----------\n\n{PROSE}\n"
    )
    assert {symbol for _, _, _, symbol in found("a.rst", text)} == {"Title"}


def test_a_heading_without_text_is_part_of_the_section_below_it():
    text = f"# Install the thing on a computer of yours\n\n## Linux\n\n{PROSE}\n\n## macOS\n\n{PROSE}\n"
    assert found("guide.md", text) == [
        (1, 5, "section", "Install the thing on a computer of yours > Linux"),
        (7, 9, "section", "Install the thing on a computer of yours > macOS"),
    ]


def test_headings_are_named_without_links_and_marks():
    text = f"# [v1.2](https://example.org/v1.2) of `shop` {{#top}}\n\n{PROSE}\n"
    assert named("CHANGELOG.md", text) == {"section v1.2 of shop"}


def test_a_large_markdown_list_is_cut_between_its_items():
    text = "# Changes\n\n" + "".join(f"* {PROSE}\n  {PROSE}\n" for _ in range(20))
    chunks = checked_chunks(text.encode(), path="a.md")
    assert len(chunks) > 2
    assert all(chunk.text.startswith("* ") for chunk in chunks[1:])


# SQL -----------------------------------------------------------------------------------------------------

COLUMNS = "".join(f"  column_number_{n} varchar(20) not null,\n" for n in range(6))
SQL = f"""-- Who may log in.
CREATE TABLE IF NOT EXISTS public."users" (
{COLUMNS}  note text default ';'
);

CREATE FUNCTION total(amount integer) RETURNS integer AS $body$
BEGIN
  RETURN amount; -- it's a; comment
END;
$body$ LANGUAGE plpgsql;

CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW
BEGIN
  UPDATE users SET x = CASE WHEN a THEN b ELSE c END WHERE id = NEW.id;
  UPDATE users SET y = 1 WHERE id = NEW.id;
END;

CREATE INDEX users_by_x ON users (x);
CREATE INDEX users_by_y ON users (y);
"""


def test_sql_is_cut_by_statements_and_named_by_their_objects():
    assert found("schema.sql", SQL)[:3] == [
        (1, 10, "struct", "public.users"),
        (12, 16, "function", "total"),
        (18, 22, "function", "stamp"),
    ]


def test_sql_with_delimiters_of_its_own_and_escapes():
    text = (
        "DELIMITER //\nCREATE PROCEDURE `add_user`(IN name VARCHAR(20))\nBEGIN\n  SELECT 'it\\'s; ' FROM users;\n"
        "  INSERT INTO users (name) VALUES (name);\nEND //\nDELIMITER ;\n"
        f"CREATE TABLE orders (\n{COLUMNS}  id int\n);\n"
    )
    assert found("a.sql", text) == [(1, 6, "function", "add_user"), (7, 16, "struct", "orders")]


def test_batches_of_transact_sql_end_with_go():
    text = (
        "\ufeffCREATE PROCEDURE [dbo].[AddUser] AS\nSELECT one, two, three FROM dbo.Users;\nSELECT 2;\nGO\n"
        f"CREATE TABLE [dbo].[Orders] (\n{COLUMNS}  id int\n);\nGO\n"
    )
    assert found("a.sql", text) == [(1, 4, "function", "dbo.AddUser"), (5, 14, "struct", "dbo.Orders")]


def test_rows_of_a_dump_are_no_statements():
    rows = "".join(f"{n}\tit's; a row\n" for n in range(5))
    text = f"COPY public.users (id, note) FROM stdin;\n{rows}\\.\n\nCREATE TABLE orders (\n{COLUMNS}  id int\n);\n"
    assert (9, 17, "struct", "orders") in found("dump.sql", text)


# Build files and scripts ---------------------------------------------------------------------------------

MAKEFILE = """CC := gcc
CFLAGS = -O2 -Wall \\
    target: looks like one
LDFLAGS += -lm

# Everything that is shipped.
.PHONY: all
all: server client documentation
\t$(CC) $(CFLAGS) -o $@ server.o client.o

build/%.o: src/%.c include/%.h
\t$(CC) $(CFLAGS) -c $< -o $@ && echo done with $@

define install_it
install -m 755 $(1) $(DESTDIR)/usr/bin/$(1) && echo installed
endef
"""


def test_a_makefile_is_cut_by_targets():
    assert found("Makefile", MAKEFILE) == [
        (1, 9, "function", "all"),
        (11, 12, "function", "build/%.o"),
        (14, 16, "macro", "install_it"),
    ]


def test_a_dockerfile_is_cut_by_stages():
    run = "RUN apt-get update \\\n    # a comment\n    && apt-get install --yes " + " \\\n    ".join(["package"] * 20)
    text = (
        f"ARG VERSION=3\n\n# Compiles.\nFROM golang:1.22 AS build\n{run}\n"
        f"FROM --platform=linux/amd64 debian:12\nCOPY <<EOF /etc/motd\nFROM fake\nEOF\n{run}\n"
    )
    assert found("Dockerfile", text) == [(1, 26, "section", "build"), (27, 52, "section", "debian:12")]


def test_commands_of_a_script_are_cut_at_blank_lines():
    block = "first_command --with some --options\nsecond_command --with other --options\nthird_command\n"
    text = "#!/bin/sh\n" + "\n".join(block.replace("_", f"_{n}_") for n in range(30))
    chunks = checked_chunks(text.encode(), path="a.sh")
    assert len(chunks) > 3
    assert all(chunk.text.startswith("first_") for chunk in chunks[1:])


# Markup --------------------------------------------------------------------------------------------------

CODE = "  const answer = compute_something(of_some_length, and_another_value, 42);\n  return answer;\n"
VUE = f"""<script setup lang="ts">
import {{ ref }} from 'vue'

function openPanel(name: string): number {{
{CODE}}}

const closePanel = (name: string): number => {{
{CODE}}}
</script>

<template>
{"".join(f'  <li class="entry-{n}">An entry of the list</li>' + chr(10) for n in range(12))}</template>

<style scoped>
{"".join(f".entry-{n} {{ color: red; margin: {n}px; }}" + chr(10) for n in range(12))}</style>
"""


def test_parts_of_a_component_are_read_in_their_own_languages():
    chunks = checked_chunks(VUE.encode(), path="Panel.vue")
    assert {chunk.language for chunk in chunks} == {"vue"}
    assert {f"{chunk.kind} {chunk.symbol}" for chunk in chunks} >= {
        "function openPanel",
        "function closePanel",
        "section template",
        "block style",
    }
    functions = {chunk.symbol: (chunk.start_line, chunk.text.splitlines()[0]) for chunk in chunks}
    assert functions["closePanel"] == (9, "const closePanel = (name: string): number => {")


def test_svelte_components_name_functions_and_snippets():
    rows = "".join(f'  <li class="entry-{n}">An entry of the list</li>\n' for n in range(12))
    script = f"<script>\n  function load(event) {{\n{CODE * 4}  }}\n</script>\n"
    text = f"{script}\n{{#snippet row(item)}}\n{rows}{{/snippet}}\n"
    assert named("List.svelte", text) == {"function load", "function row"}


def test_html_is_cut_by_telling_elements_and_ids():
    rows = "".join(f"      <p>A paragraph of number {n} in this part of the page.</p>\n" for n in range(14))
    text = (
        f'<!DOCTYPE html>\n<html>\n  <body>\n    <nav\n      id="menu">\n{rows}    </nav>\n    <!-- Main. -->\n'
        f'    <div id="content">\n{rows}    </div>\n    <footer>\n{rows}    </footer>\n  </body>\n</html>\n'
    )
    assert found("index.html", text) == [
        (1, 20, "section", "body > nav#menu"),
        (21, 37, "section", "body > div#content"),
        (38, 55, "section", "body > footer"),
    ]


@pytest.mark.parametrize("path", ["page.html", "page.html.j2", "page.twig"])
def test_templates_are_cut_by_blocks(path):
    rows = "".join(f"<p>A paragraph of number {n} in this part of the page.</p>\n" for n in range(12))
    text = (
        "{% extends 'base.html' %}\n\n{% block content %}\n{% if user %}\n" + rows + "{% endif %}\n{% endblock %}\n\n"
        "{% macro field(name, value) %}\n" + rows + "{% endmacro %}\n"
    )
    assert found(path, text) == [(1, 18, "section", "content"), (20, 33, "macro", "field")]


def test_a_script_that_is_never_closed_is_the_rest_of_the_page():
    text = f"<div>\n</div>\n<script>\nfunction load(event) {{\n{CODE * 4}}}\n<script>\n<script>\n"
    assert "function load" in named("a.html", text)


# Notebooks -----------------------------------------------------------------------------------------------


def cell(kind: str, source: str, outputs: str = "") -> dict[str, object]:
    body: dict[str, object] = {"cell_type": kind, "metadata": {"source": "no source"}}
    if kind == "code":
        body |= {"execution_count": 1, "outputs": [{"data": {"text/plain": [outputs]}}]}
    return body | {"source": source.splitlines(keepends=True)}


BOOK = {
    "cells": [
        cell("markdown", "# Birds"),
        cell("markdown", "## Counting\n\nHow many there are, by year and place."),
        cell("code", 'import csv\n\ntable = csv.reader("größe")\n', outputs="SECRET OUTPUT " * 100),
        cell("code", "def count(rows):\n    return len(list(rows))\n"),
        cell("raw", ""),
    ],
    "metadata": {"kernelspec": {"name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.mark.parametrize("indent", [1, None])
def test_a_notebook_is_cut_by_cells_without_outputs(indent):
    data = json.dumps(BOOK, indent=indent).encode()
    chunks = chunk_source(data, path="birds.ipynb")
    assert [(chunk.kind, chunk.symbol, chunk.header) for chunk in chunks] == [
        ("section", "Birds > Counting", "Birds"),
        ("block", "Birds > Counting", "Birds > Counting"),
        ("function", "count", "Birds > Counting"),
    ]
    for chunk in chunks:
        assert data[chunk.start_byte : chunk.end_byte].decode() == chunk.text
        assert chunk.start_line == data.count(b"\n", 0, chunk.start_byte) + 1
        assert chunk.end_line == data.count(b"\n", 0, chunk.end_byte) + 1


def test_cells_are_embedded_as_they_were_typed():
    chunks = chunk_source(json.dumps(BOOK, indent=1).encode(), path="birds.ipynb")
    assert chunks[1].embedding_text == 'Birds > Counting\nimport csv\n\ntable = csv.reader("größe")'
    assert chunks[1].text.startswith('"import csv\\n"')


@pytest.mark.parametrize("indent", [1, None])
def test_small_cells_share_a_chunk_when_no_output_is_between(indent):
    silent = {**cell("code", "y = 2"), "outputs": []}
    cells = [cell("markdown", "First"), silent, cell("markdown", 'So "y" is 2.'), cell("code", "y", outputs="2")]
    chunks = chunk_source(json.dumps({**BOOK, "cells": cells}, indent=indent).encode(), path="a.ipynb")
    assert [chunk.embedding_text for chunk in chunks] == ['First\n\ny = 2\n\nSo "y" is 2.', "y"]


def test_every_line_of_every_cell_is_in_a_chunk():
    lines = [f"value_{n} = compute(of={n}, text='{PROSE}')\n" for n in range(200)]
    book = {**BOOK, "cells": [cell("code", "".join(lines)), cell("markdown", "# The end")]}
    chunks = chunk_source(json.dumps(book, indent=1).encode(), path="a.ipynb")
    assert "".join(source_of_cell(chunk.text) + "\n" for chunk in chunks) == "".join(lines) + "# The end\n"
    assert all(count_tokens(chunk.embedding_text) <= 512 for chunk in chunks)


def test_a_stored_notebook_gives_the_text_that_its_chunks_said(tmp_path):
    repo = GitRepo(tmp_path / "birds")
    data = json.dumps(BOOK, indent=1)
    repo.commit({"birds.ipynb": data}, "first")
    cli = Cli(tmp_path)
    cli.index(repo.path)
    with sqlite3.connect(cli.data / "state.db") as state:
        stored = state.execute(
            "SELECT c.header, c.text, s.language, c.text_sha FROM chunks c JOIN sources s ON s.id = c.source_id"
            " ORDER BY c.ordinal"
        ).fetchall()
    said = [chunk.embedding_text for chunk in chunk_source(data.encode(), path="birds.ipynb")]
    assert [with_header(header, text, language) for header, text, language, _ in stored] == said
    assert [text_sha for _, _, _, text_sha in stored] == [sha256(text.encode()).hexdigest() for text in said]


@pytest.mark.parametrize("data", [b"{", b"[" * 100_000, b'{"cells": 1, "nbformat": 4}', b"\xff{}", b'{"a": 1}'])
def test_what_is_no_notebook_is_cut_as_json(data):
    assert detect_language("a.ipynb", data) == "jupyter"
    assert {chunk.language for chunk in checked_chunks(data, path="a.ipynb")} == {"json"}


def test_the_source_of_a_cut_cell_keeps_what_can_be_read():
    assert source_of_cell('"a = 1\\n",\n    "b = \\"x') == 'a = 1\n    "b = \\"x'
    assert source_of_cell('"\\ud83d half a pair"') == '"\\ud83d half a pair"'
    assert source_of_cell('[REDACTED:key]",\n "b"') == '[REDACTED:key]",\nb'


# Whatever comes ------------------------------------------------------------------------------------------

FILES = [
    "a.yaml", "a.json", "a.toml", "a.rst", "a.md", "a.sql", "Makefile", "Dockerfile", "a.sh", "a.html", "a.vue",
    "a.svelte", "a.astro", "a.twig", "a.erb", "a.xml",
]  # fmt: skip
WORDS = st.sampled_from([
    "\n", "\n\n", "\n  ", "\n\t", "- ", "key: ", "key:", "|", "---\n", "# x\n", "{", "}", "[", "]",
    '"key": ', '"""', "'",
    "`",
    "[table]\n", "k = 1\n", "Title\n", "=====\n", "-----\n", ".. _a:\n", "::\n", "CREATE TABLE a (\n", ";", "BEGIN\n",
    "END", "CASE", "$$", "DELIMITER //\n", "//", "GO\n", "COPY a FROM stdin;\n", "\\.\n", "/*", "*/", "--", "all: x\n",
    "define a\n", "endef\n", "\\\n", "FROM a AS b\n", "RUN <<EOF\n",
    "EOF\n", "<div id='a'>\n", "</div>\n", "<script>\n",
    "<script lang=ts>\n", "</script>\n", "<style>", "</style>", "<!--", "-->", "{% block a %}\n", "{% endblock %}\n",
    "{{#if a}}\n", "{{/if}}\n", "{#each x}\n", "{/each}\n", "{#", "#}", "function f() { return 1 }\n", "```\n", "é",
    "word " * 20, "\r\n", "\ufeff",
])  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(words=st.lists(WORDS, max_size=120), path=st.sampled_from(FILES), limit=st.sampled_from([16, 40, 128, 512]))
def test_any_words_of_these_formats_keep_the_promises(words, path, limit):
    checked_chunks("".join(words).encode(), path=path, max_tokens=limit)


HOSTILE = {
    "nested keys": ("a.yaml", b"".join(b" " * n + b"k:\n" for n in range(1500))),
    "keys": ("a.yaml", b"k: v\n" * 100_000),
    "documents": ("a.yaml", b"---\nkind: A\n" * 50_000),
    "one long key": ("a.yaml", b"a" * 3_000_000),
    "dashes": ("a.yaml", b"- " * 500_000),
    "dashes on lines": ("a.yaml", b"- - - a: b\n" * 50_000),
    "open brackets": ("a.json", b"[{" * 500_000),
    "open brackets on lines": ("a.json", b"".join(b" " * n + b"[\n" for n in range(1500))),
    "open strings": ("a.toml", b'a = """\n' * 100_000),
    "rules": ("a.rst", b"====\n" * 100_000),
    "headings": ("a.rst", b"a\n====\n\n" * 50_000),
    "many heading styles": ("a.rst", b"".join(b"a\n" + bytes([c]) * 4 + b"\n\n" for c in range(33, 48)) * 5_000),
    "open link": ("a.md", b"# " + b"[" * 300_000 + b"\n"),
    "open quotes": ("a.sql", b"SELECT 'a\" ` $x$ /* ;\n" * 50_000),
    "dollar quotes": ("a.sql", b"".join(b"$q%d$ " % n for n in range(50_000))),
    "open comments": ("a.sql", b"/* " * 300_000),
    "statements": ("a.sql", b"CREATE OR REPLACE TEMP TABLE x;" * 30_000),
    "delimiters": ("a.sql", b"DELIMITER //\nDELIMITER ;\n" * 20_000),
    "blocks": ("a.sql", b"CREATE PROCEDURE x() BEGIN\n" * 30_000),
    "copies": ("a.sql", b"COPY a " + b" FROM x" * 200_000),
    "targets": ("Makefile", b"a b c d e f" * 100_000 + b"\n" + b"a: b\n" * 100_000),
    "stages": ("Dockerfile", b"FROM a\n" * 100_000),
    "open documents": ("Dockerfile", b"RUN <<A\n" * 100_000),
    "open tags": ("a.html", b"<div\n" * 100_000),
    "open comments in markup": ("a.html", b"<!--\n{#\n" * 100_000),
    "scripts": ("a.html", b"<script>\n</script>\n" * 50_000),
    "open scripts": ("a.html", b"<script>\n" * 100_000),
    "open blocks": ("a.twig", b"{% block a %}\n" * 100_000),
    "ends": ("a.twig", b"{% endblock %}\n" * 100_000),
    "random bytes": ("a.sql", random.Random(2).randbytes(500_000)),
    "cells": ("a.ipynb", json.dumps({"nbformat": 4, "cells": [cell("code", "x")] * 3_000}).encode()),
    "one cell": ("a.ipynb", json.dumps({"nbformat": 4, "cells": [cell("code", "x = 1\n" * 50_000)]}).encode()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_do_not_hang_the_cutting(name):
    path, data = HOSTILE[name]
    with no_hang():
        assert chunk_source(data, path=path)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("a.sql", b"DELIMITER x%d\n"),
        ("a.rst", b"a:"),
        ("a.ipynb", b" "),
        ("a.cpp", b" "),
    ],
)
def test_repeated_marks_take_time_in_proportion(path: str, unit: bytes) -> None:
    def made(count: int) -> bytes:
        many = b"".join(unit % n for n in range(count)) if b"%" in unit else unit * count
        if path == "a.rst":
            return many + b"\n" + b"=" * len(many) + b"\n"
        if path == "a.ipynb":
            source = b'"source": ["a"' + many + b',"b"]'
            return b'{"cells": [{"cell_type": "code", ' + source + b'}], "nbformat": 4, "metadata": {}}'
        return b"int a;\nFOO" + many + b"x\n" if path == "a.cpp" else many

    def seconds(count: int) -> float:
        data = made(count)
        started = time.process_time()
        chunk_source(data, path=path)
        return time.process_time() - started

    # Quadratic time would be sixteen times as much; half a second is what a busy machine may add.
    assert seconds(40_000) < 8 * seconds(10_000) + 0.5


def test_when_parsing_is_given_up_a_notebook_is_cut_by_lines_too() -> None:
    cells = [{"cell_type": "code", "source": [f"def f{n}():\n", "    return 1\n"]} for n in range(40)]
    book = json.dumps({"cells": cells, "nbformat": 4, "metadata": {}}, indent=1).encode()
    assert any(chunk.symbol for chunk in chunk_source(book, path="a.ipynb"))
    assert {chunk.symbol for chunk in chunk_source(book, path="a.ipynb", parse=False)} == {None}


def test_when_parsing_is_given_up_no_format_is_looked_at() -> None:
    for path in ("a.sql", "a.rst", "a.ipynb", "a.yaml", "a.html", "a.md"):
        chunks = chunk_source(b"# One\n\nkey: 1\n" * 40, path=path, parse=False)
        assert {chunk.symbol for chunk in chunks} == {None}
