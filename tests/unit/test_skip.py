from dataclasses import dataclass
from pathlib import Path

import pytest
from counting import calls_made, no_hang
from hypothesis import given
from hypothesis import strategies as st

import codechunk.selection.skip as module
from codechunk.errors import UsageError
from codechunk.selection.globs import Attributes, IgnoreFile
from codechunk.selection.skip import SkipReason, SkipRules, decode


@dataclass(frozen=True)
class Entry:
    path: str
    mode: str = "100644"
    size: int | None = 100
    valid_path: bool = True


RULES = SkipRules.build()


def _words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(
    "path",
    _words("""
        src/latest.go contest_winner.py log/log.go src/log/mod.rs src/vendor_api.py build.gradle
        test/test_a.py tests/fixtures/data.py spec/fixtures/x.rb src/deps.py app/deps/auth.py
        docs/conf.py tools/gen.py dist/cli.py cache/lru.c src/external/client.py debian/rules
        types/index.d.ts Jenkinsfile Vagrantfile fabfile.py .github/workflows/ci.yml Dockerfile
        Makefile .eslintrc .gitignore .gitattributes configure src/Vendor/Model.cs lib/vendor.rb
        vendoring/a.py src/env/mod.rs src/build/mod.rs lib/generated/parser.py src/third_party.py
        mypackage-lock.json.py src/locks/go.sum.md bootstrap.py src/react.js admin.js src/map.ts
        admin/min.js gemini.js packages/core/index.ts packages/v1/index.ts .idea.md CODEOWNERS
        a.min.py missing go.mod Cargo.toml
    """),
)
def test_files_of_the_project_itself_are_not_lost_to_a_greedy_rule(path):
    assert RULES.by_entry(Entry(path)) is None


@pytest.mark.parametrize(
    "path",
    _words("""
        node_modules/a/index.js web/node_modules/a/b.ts vendor/github.com/x/y.go src/vendor/a.c
        third_party/abseil/a.cc deps/jemalloc/src/a.c bower_components/q.js ios/Pods/A/a.m
        Carthage/Build/a.h Carthage/Checkouts/b/c.swift lib/python3.11/site-packages/six.py
        .yarn/releases/yarn-4.cjs venv/lib/x.py .venv/bin/activate Godeps/x.go pip/_vendor/six.py
        packages/Newtonsoft.Json.12.0.3/lib/a.xml gradlew gradlew.bat static/jquery-3.6.0.js
        static/jquery.js js/bootstrap.4.1.js config.guess build-aux/config.sub m4/libtool.m4
    """),
)
def test_code_of_others_is_skipped_as_vendored(path):
    assert RULES.by_entry(Entry(path)) is SkipReason.VENDORED
    kept = SkipRules.build(skip_vendored=False, skip_generated=False)
    assert kept.by_entry(Entry(path)) is None


@pytest.mark.parametrize(
    "path",
    _words("""
        package-lock.json a/b/yarn.lock Cargo.lock go.sum poetry.lock uv.lock Gemfile.lock
        composer.lock pnpm-lock.yaml Pipfile.lock flake.lock app.min.js style-min.css bundle.js.map
        api.pb.go api_pb2.py api_pb2_grpc.pyi Form.designer.cs model.g.dart __generated__/q.ts
        .idea/workspace.xml .pnp.cjs .terraform.lock.hcl
    """),
)
def test_files_that_programs_write_are_skipped_as_generated(path):
    assert RULES.by_entry(Entry(path)) is SkipReason.GENERATED
    assert SkipRules.build(skip_generated=False).by_entry(Entry(path)) is None


def test_entries_that_are_no_files_are_skipped_by_their_mode():
    assert RULES.by_entry(Entry("link.py", mode="120000")) is SkipReason.SYMLINK
    assert RULES.by_entry(Entry("sub", mode="160000", size=None)) is SkipReason.SUBMODULE
    assert RULES.by_entry(Entry("run.sh", mode="100755")) is None


def test_size_decides_before_reading_and_an_empty_file_is_empty():
    rules = SkipRules.build(max_file_size=10)
    assert rules.by_entry(Entry("a.py", size=11)) is SkipReason.TOO_LARGE
    assert rules.by_entry(Entry("a.py", size=10)) is None
    assert rules.by_entry(Entry("a.py", size=0)) is SkipReason.EMPTY
    assert rules.by_content("a.py", b"x" * 11) is SkipReason.TOO_LARGE


def test_a_path_that_is_not_utf8_is_undecodable():
    assert RULES.by_entry(Entry(r"bad\xff.py", valid_path=False)) is SkipReason.UNDECODABLE


def test_globs_have_gitignore_semantics_and_include_narrows():
    rules = SkipRules.build(include=["*.py", "/src/"], exclude=["test_*", "/src/gen/**", "!test_keep.py"])
    paths = _words("a/b.py src/x.go x.go a/src/x.go test_a.py test_keep.py src/gen/a.py")
    kept = [path for path in paths if rules.by_entry(Entry(path)) is None]
    assert kept == ["a/b.py", "src/x.go", "test_keep.py"]


def test_an_impossible_glob_is_a_usage_error_that_names_the_option():
    with pytest.raises(UsageError, match="--exclude"):
        SkipRules.build(exclude=["!"])


def test_the_ignore_file_of_the_commit_narrows_and_cannot_bring_back():
    rules = SkipRules.build(
        exclude=["secret/"], ignore_file="# comment\n*.sql\n!keep.sql\n!secret/\n!node_modules/\n!*\\\n"
    )
    assert rules.by_entry(Entry("a/b.sql")) is SkipReason.EXCLUDED
    assert rules.by_entry(Entry("keep.sql")) is None
    assert rules.by_entry(Entry("secret/a.py")) is SkipReason.EXCLUDED
    assert rules.by_entry(Entry("node_modules/a.js")) is SkipReason.VENDORED


def test_gitattributes_mark_and_unmark_files():
    rules = SkipRules.build(
        gitattributes={
            "": "*.gen.py linguist-generated\n/theirs/** linguist-vendored=true\n"
            "yarn.lock linguist-generated=false\nvendor/ours/* -linguist-vendored\n*.txt text eol=lf\n",
            "sub": "*.gen.py -linguist-generated\n",
        }
    )
    assert rules.by_entry(Entry("a/x.gen.py")) is SkipReason.GENERATED
    assert rules.by_entry(Entry("sub/x.gen.py")) is None
    assert rules.by_content("sub/x.gen.py", b"# @generated\nx = 1\n") is None
    assert rules.by_entry(Entry("theirs/a/b.c")) is SkipReason.VENDORED
    assert rules.by_entry(Entry("yarn.lock")) is None
    assert rules.by_entry(Entry("vendor/ours/a.c")) is None
    assert rules.by_entry(Entry("vendor/other/a.c")) is SkipReason.VENDORED
    assert rules.by_entry(Entry("theirs.c")) is None


@pytest.mark.parametrize(
    "head",
    [
        "// Code generated by protoc-gen-go. DO NOT EDIT.",
        "/*\nCopyright\n*/\n\n// Code generated by client-gen. DO NOT EDIT.\npackage x",
        "# @generated by buck",
        "/**\n * @generated SignedSource<<abc>>\n */",
        "/* Generated by Cython 3.0.0 */",
        "# Generated by the protocol buffer compiler.  DO NOT EDIT!",
        "/* Automatically generated by generate-command-code.py, do not edit. */",
        "# This file is automatically generated by make.\n# Do not edit it by hand.",
        "<!-- This file was auto-generated. Do not modify. -->",
        "// GENERATED CODE - DO NOT MODIFY BY HAND",
        "/* A Bison parser, made by GNU Bison 3.8.2.  */",
        "#! /bin/sh\n# Guess values for system-dependent variables\n# Generated by GNU Autoconf 2.71.",
        "/* DO NOT EDIT THIS FILE - it is machine generated */",
        "-- AUTO-GENERATED FILE, DO NOT EDIT",
        "# Makefile.in generated by automake 1.16 from Makefile.am.",
    ],
)
def test_a_marker_in_the_first_comment_lines_means_generated(head):
    assert RULES.by_content("x/y.c", head.encode() + b"\nint x;\n") is SkipReason.GENERATED
    assert SkipRules.build(skip_generated=False).by_content("x/y.c", head.encode() + b"\nint x;\n") is None


@pytest.mark.parametrize(
    "text",
    [
        'MARKER = "@generated"\nTEXT = "Code generated by x. DO NOT EDIT."\n',
        '"""Generates commands.def; the generated file says "do not edit"."""\n',
        "# Generates the parser tables. Do not edit the tables, run this script instead.\nimport re\n",
        "// The @generated marker is looked for in the first lines.\n",
        "# ids are generated by the database\nclass Row: ...\n",
        "/* do not edit while holding the lock */\nint f(void);\n",
        "\n" * 60 + "// Code generated by me. DO NOT EDIT.\n",
    ],
)
def test_code_that_writes_about_generated_files_is_not_generated(text):
    assert RULES.by_content("tool.py", text.encode()) is None


def test_the_modules_with_these_rules_are_indexed_themselves():
    assert RULES.by_content("codechunk/selection/skip.py", Path(module.__file__).read_bytes()) is None


def test_minified_files_are_generated_and_long_lines_elsewhere_are_not():
    code = b"function f(a,b){return a+b};" * 100
    assert RULES.by_content("a.js", code) is SkipReason.GENERATED
    assert RULES.by_content("a.css", code) is SkipReason.GENERATED
    assert RULES.by_content("a.json", b'{"k":[' + b"1," * 2000 + b"1]}\n") is SkipReason.GENERATED
    assert RULES.by_content("a.py", b"x = [" + b"1," * 2000 + b"]\n") is None
    assert RULES.by_content("a.js", b"const a = 1;\n" * 500 + b"x" * 400) is None
    assert RULES.by_content("a.js", b"var a;\n//# sourceMappingURL=a.js.map\n") is SkipReason.GENERATED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", SkipReason.EMPTY),
        (b" \n\t\r\n", SkipReason.EMPTY),
        (b"\xef\xbb\xbf\n", SkipReason.EMPTY),
        (b"\x89PNG\r\n\x1a\n\0\0\0", SkipReason.BINARY),
        (b"text with a \0 in it", SkipReason.BINARY),
        ("x = 1".encode("utf-16"), SkipReason.UNDECODABLE),
        ("x = 1".encode("utf-32"), SkipReason.UNDECODABLE),
        (bytes(range(128, 256)) * 4, SkipReason.UNDECODABLE),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n", SkipReason.LFS_POINTER),
        (b"version https://git-lfs.github.com/spec/v1 is the first line of a pointer\n", None),
        ("# café, naïve\n".encode("latin-1"), None),
        (b"\xef\xbb\xbfx = 1\n", None),
        (b"x = 1\r\n", None),
    ],
)
def test_content_decides_what_the_entry_could_not(data, reason):
    assert RULES.by_content("a.py", data) is reason


def test_text_decodes_to_something_that_encodes_to_the_same_bytes():
    assert decode("é = 1".encode()) == ("utf-8", "é = 1")
    assert decode("é = 'plain text'".encode("latin-1")) == ("latin-1", "é = 'plain text'")
    assert decode(b"\xef\xbb\xbfx") == ("utf-8", "\ufeffx")
    assert decode(b"\xff\xfe\x00\x81" * 10) is None


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer_and_decode_without_loss(data):
    RULES.by_content("a.js", data)
    decoded = decode(data)
    if decoded is not None:
        assert decoded[1].encode(decoded[0]) == data


def test_hostile_patterns_do_not_make_the_search_hang():
    text = "*a" * 100 + "b\n" + "**/a*/" * 50 + "b\n"
    paths = ["a" * 250 + "/" + "a" * 250, "a/" * 1000 + "c", "/".join(["a" * 50] * 40)]
    with no_hang():
        ignored = IgnoreFile(text)
        marked = Attributes({"": "\n".join(f"{line} x" for line in text.splitlines())}, ["x"])
        assert not any(ignored.matches(path) or marked.value("x", path) for path in paths)


def test_ten_thousand_paths_are_classified_with_few_steps_each():
    entries = [Entry(f"src/package_{i % 300}/sub{i % 7}/module_{i}.py") for i in range(10_000)]
    rules = SkipRules.build(ignore_file="*.sql\n/build/\n", gitattributes={"": "*.pb.go linguist-generated\n"})
    reasons = []
    assert calls_made(lambda: reasons.extend(rules.by_entry(entry) for entry in entries)) < 60 * 10_000
    assert reasons == [None] * 10_000


SECRETS_OUT = SkipRules.build(skip_secret_files=True)


@pytest.mark.parametrize(
    "path",
    _words("""
        .env .env.local .env.production.local app/.env deploy/.env.staging server.pem certs/client.p12 a.pfx a.jks
        release.keystore id_rsa .ssh/id_ed25519 .netrc _netrc .pgpass .htpasswd .git-credentials .aws/credentials
        home/.aws/credentials vault.kdbx putty.ppk terraform.tfstate .docker/config.json .kube/config master.key
        .gnupg/secring.gpg .envrc
    """),
)
def test_files_that_are_there_to_hold_secrets_are_skipped_unless_secrets_are_let_be(path):
    assert SECRETS_OUT.by_entry(Entry(path)) is SkipReason.SECRET_FILE
    assert RULES.by_entry(Entry(path)) is None


@pytest.mark.parametrize(
    "path",
    _words("""
        .env.example .env.sample .env.template .env.dist .env.local.example env.py .environment src/.envfile.c
        id_rsa.pub id_ed25519.pub my_id_rsa.py credentials.py aws/credentials.go src/credentials docs/pem.md
        pem/parse.c netrc.py keystore.java jks.rs docs/.netrc.md app/config.json .docker/config.yml kube/config
        config.key.py i18n.key data.json npmrc.md
    """),
)
def test_files_that_only_sound_like_secrets_are_kept(path):
    assert SECRETS_OUT.by_entry(Entry(path)) is None
    assert SECRETS_OUT.by_content(path, b"hello = 1\n") is None


PRIVATE = b"-----BEGIN RSA PRIVATE" + b" KEY-----\nMIIE\n"


@pytest.mark.parametrize(
    ("path", "secret", "harmless"),
    [
        ("server.key", PRIVATE, b"C major\n"),
        (".npmrc", b"//registry.example.org/:_authToken=6f3c1b2e\n", b"registry=https://r/\n_authToken=${TOKEN}\n"),
        (".pypirc", b"[pypi]\nusername = x\npassword = y1\n", b"[pypi]\nusername = __token__\n"),
        ("gcp/robot.json", b'{"type": "service_account", "private_key": "' + PRIVATE + b'"}', b'{"private_key": ""}'),
        ("kubeconfig", b"users:\n- user:\n    client-key-data: LS0t\n", b"clusters: []\n"),
    ],
)
def test_the_content_decides_about_names_that_may_hold_a_secret(path, secret, harmless):
    assert SECRETS_OUT.by_entry(Entry(path)) is None
    assert SECRETS_OUT.by_content(path, secret) is SkipReason.SECRET_FILE
    assert SECRETS_OUT.by_content(path, harmless) is None
    assert RULES.by_content(path, secret) is None
