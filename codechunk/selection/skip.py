"""Which files of a commit are not indexed, and why. Pure decisions: no I/O, nothing but the arguments counts.

The rules for vendored and generated files follow github-linguist (lib/linguist/vendor.yml, generated.rb),
made stricter: whole path components and whole names, never substrings, and without the rules that would cost
a code index something worth finding (tests and fixtures, docs, tools/, dist/, cache/, external/, debian/,
.d.ts, Jenkinsfile, Vagrantfile, ...). When in doubt a file is indexed.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from pathspec import GitIgnoreSpec

from codechunk.errors import UsageError
from codechunk.selection.globs import Attributes, IgnoreFile


class SkipReason(StrEnum):
    """Why a file is not indexed; the keys of `skipped_by_reason`."""

    SYMLINK = "symlink"
    SUBMODULE = "submodule"
    LFS_POINTER = "lfs_pointer"
    BINARY = "binary"
    TOO_LARGE = "too_large"
    GENERATED = "generated"
    VENDORED = "vendored"
    EXCLUDED = "excluded"
    SECRET_FILE = "secret_file"
    FILTERED = "filtered"
    SECRET = "secret"
    UNDECODABLE = "undecodable"
    EMPTY = "empty"


class Entry(Protocol):
    """What the rules look at in an entry of a tree."""

    @property
    def path(self) -> str:
        """Path inside the repository, with slashes."""

    @property
    def mode(self) -> str:
        """Git's mode, such as "100644"."""

    @property
    def size(self) -> int | None:
        """Size in bytes, None when unknown."""

    @property
    def valid_path(self) -> bool:
        """Whether `path` is the real path and not an escaped form of it."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# No mode of git: an untracked file in front of which a filter stands (worktree.py).
FILTERED = "filtered"
_MODES = {"120000": SkipReason.SYMLINK, "160000": SkipReason.SUBMODULE, FILTERED: SkipReason.FILTERED}

# Folders of other people's code, wherever they are.
_VENDOR_FOLDERS = _names("""
    node_modules bower_components jspm_packages vendor vendors vendored _vendor _vendored third_party
    third-party thirdparty 3rd_party 3rd-party 3rdparty Godeps Pods site-packages elm-stuff ace-builds MathJax
""")
# Folders that mean it only at the root, or only together.
_VENDOR_PATH = re.compile(
    r"deps/"
    r"|packages/[^/]+\.\d+\.\d[^/]*/"  # NuGet: packages/Name.1.2.3/
    r"|(?:.*/)?Carthage/(?:Build|Checkouts)/"
    r"|(?:.*/)?\.yarn/(?:releases|plugins|cache|unplugged|sdks|versions)/"
    r"|(?:.*/)?\.?(?:venv|virtualenv)/(?:lib|lib64|Lib|bin|Scripts|include|share)/"
    r"|(?:.*/)?gradle/wrapper/"
)
_VENDOR_NAMES = _names("""
    config.guess config.sub aclocal.m4 libtool.m4 ltoptions.m4 ltsugar.m4 ltversion.m4 lt~obsolete.m4
    ltmain.sh install-sh depcomp mkinstalldirs gradlew gradlew.bat mvnw mvnw.cmd ppport.h erlang.mk
""")
_VENDOR_NAME = re.compile(
    r"(?:jquery|jquery-ui|jquery\.mobile|bootstrap|angular|react-dom|vue|d3|lodash|underscore|backbone|moment"
    r"|modernizr|prototype|mootools|ember|require|knockout)"
    r"[.-]v?\d+(?:\.\d+)*(?:[.-](?:slim|bundle|core|full|debug|custom))*\.(?:js|css)"
    r"|(?:jquery|jquery-ui|modernizr|html5shiv|normalize|font-awesome)\.(?:js|css)"
)

_LOCK_FILES = _names("""
    package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb deno.lock Cargo.lock
    go.sum go.work.sum Gopkg.lock glide.lock poetry.lock uv.lock pdm.lock pixi.lock Pipfile.lock
    conda-lock.yml pylock.toml Gemfile.lock gems.locked composer.lock mix.lock rebar.lock pubspec.lock
    Podfile.lock Cartfile.resolved Package.resolved flake.lock packages.lock.json project.assets.json
    paket.lock
    gradle.lockfile buildscript-gradle.lockfile .terraform.lock.hcl Chart.lock esy.lock stack.yaml.lock
    cabal.project.freeze MODULE.bazel.lock shard.lock Berksfile.lock spago.lock dub.selections.json .pnp.js
    .pnp.cjs .pnp.loader.mjs
""")
# Files that are there to hold secrets, in any folder; those with `.pub` at the end are not.
_SECRET_NAMES = _names("""
    .netrc _netrc .pgpass .htpasswd .git-credentials .s3cfg .boto .my.cnf .mylogin.cnf .dockercfg .vault-token
    .envrc .env id_rsa id_dsa id_ecdsa id_ed25519 id_ecdsa_sk id_ed25519_sk identity.key master.key
    .terraformrc terraform.rc credentials.tfrc.json
""")
_SECRET_NAME = re.compile(
    r"\.env\.(?!(?:.+\.)?(?:example|sample|template|tpl|dist|defaults?)$).+"
    r"|.+\.(?:pem|p12|pfx|pkcs12|jks|keystore|kdbx|kdb|ppk|keychain|ovpn|agekey|tfstate|tfstate\.backup)"
)
_SECRET_PATH = re.compile(r"(?:.*/)?(?:\.aws/credentials|\.docker/config\.json|\.kube/config|\.gnupg/.+)")
# Names of files that hold secrets or not: their content decides.
_MAYBE_SECRET = re.compile(r"(?:.*/)?(?:[^/]+\.(?:key|json)|\.?npmrc|\.pypirc|\.yarnrc\.yml|kubeconfig)")
_IS_SECRET = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File|AGE-SECRET-KEY-1"
    rb"|(?im:^[^#;\n]*(?:_auth(?:token)?|_password|npmauthtoken|password|client-key-data)[\"']?\s*[=:]\s*[\"']?[^\s\"'${<])"
)
_SERVICE_ACCOUNT = re.compile(rb'"type"\s*:\s*"service_account"')

_GENERATED_NAME = re.compile(
    r".+[.-]min\.(?:js|mjs|cjs|css)"
    r"|.+\.(?:js|mjs|cjs|jsx|ts|tsx|css)\.map"
    r"|.+\.(?:nib|xcworkspacedata|xcuserstate)"
    r"|.+\.(?:designer\.(?:cs|vb)|Designer\.(?:cs|vb)|feature\.cs|g\.cs|g\.i\.cs)"
    r"|.+\.(?:pb\.(?:go|h|cc)|pb\.gw\.go|pbjson\.dart|g\.dart|freezed\.dart)"
    r"|.+_pb2(?:_grpc)?\.pyi?|.+_pb\.(?:js|d\.ts)"
    r"|.+\.zep\.(?:c|h|php)|.+_(?:tlb|TLB)\.pas|.+\.esy\.lock"
)
_GENERATED_FOLDERS = frozenset(("__generated__", ".idea"))

# --- markers in the first lines -------------------------------------------------------------------------

_HEAD_BYTES = 8192
_HEAD_LINES = 40
_NEAR_TOP = 12  # the looser pair of phrases counts only up here

# Only in a comment, and only at the start of what it says: this file names all of them and is not generated.
_COMMENT = rb"^[ \t]*(?://|/\*|#|\*|--|;|%|<!--|\(\*|\{-|dnl\b|@?rem\b|')[^\w@\n]*"
_MARKER = re.compile(
    _COMMENT + rb"(?:"
    rb"@generated\b"
    rb"|code generated [^\n]*do not edit"
    rb"|generated by (?:cython|peg\.js|haxe|gnu autoconf|the grpc|pkgdown|doxygen|roxygen2|coffeescript)\b"
    rb"|autogenerated by thrift compiler|parser generated by jison|generated by jison-lex"
    rb"|[\w./-]*makefile\.in generated by automake|a bison parser, made by gnu bison"
    rb"|a lexical scanner generated by flex|meta object code from reading c\+\+ file"
    rb"|the following code was generated by jflex"
    rb"|this is a generated file[^\n]*not intended for manual editing"
    rb"|this file is (?:automatically )?generated by (?:racc|jooq)\b"
    rb"|this file was auto(?:matically |-)?generated by|generated code\W{1,5}do not (?:edit|modify)"
    rb"|do not edit this file\W{1,4}it is machine generated"
    rb"|automatically created by devel::ppport|microsoft developer studio generated build file"
    rb"|gimp [a-z0-9 -]+c-source image dump|this file is autogenerated by"
    rb")",
    re.IGNORECASE | re.MULTILINE,
)
_SAYS_GENERATED = re.compile(
    _COMMENT + rb"(?:[^\n]*\b(?:auto|automatically|machine|programmatically)[- ]?generated\b"
    rb"|generated\b"
    rb"|(?:this|the) (?:file|code|module|header|source)[^\n]{0,40} (?:is|was|has been) "
    rb"(?:[a-z-]+ ){0,2}generated\b"
    rb"|this is an? (?:[a-z-]+ )?generated\b|do not (?:edit|modify)[^\n]*\bgenerated\b)",
    re.IGNORECASE,
)
_SAYS_KEEP_OFF = re.compile(
    _COMMENT + rb"[^\n]*(?:\b(?:do not|don't|never|please do not) (?:manually |hand[- ])?"
    rb"(?:edit|modify|change|make changes)\b|\bany changes\b[^\n]*\b(?:lost|overwritten)\b)",
    re.IGNORECASE,
)
_SOURCE_MAP = re.compile(rb"^/[*/][#@] source(?:Mapping)?URL=")
# Average length of a line above which a file is one for machines (110 is linguist's).
_MINIFIED_AVERAGE = {
    **dict.fromkeys((".js", ".mjs", ".cjs", ".css"), 110),
    **dict.fromkeys((".json", ".geojson", ".html", ".htm", ".svg", ".xml", ".ts"), 1000),
}
_MINIFIED_LONGEST = 300

_LFS = re.compile(rb"version https://(?:git-lfs|hawser)\.github\.com/spec/v\d")
_WIDE_BOMS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_HIGH = bytes(range(0x80, 0x100))
_C1 = bytes(range(0x80, 0xA0))
_C0 = bytes(code for code in range(0x20) if code not in b"\t\n\v\f\r\x1a\x1b")


class SkipRules:
    """The rules of one run for one commit; made by `build`, asked before a file is read and after."""

    def __init__(
        self,
        *,
        excluded: Callable[[str], bool] | None,
        attributes: Attributes,
        skip_generated: bool,
        skip_vendored: bool,
        max_file_size: int,
        skip_secret_files: bool,
    ) -> None:
        """Use `build`."""
        self._excluded = excluded
        self._attributes = attributes
        self._skip_generated = skip_generated
        self._skip_vendored = skip_vendored
        self._max_file_size = max_file_size
        self._skip_secret_files = skip_secret_files
        # Files of one folder share its answer.
        self._vendored_folders: dict[str, bool] = {}

    @classmethod
    def build(
        cls,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        ignore_file: str | None = None,
        gitattributes: Mapping[str, str] | None = None,
        skip_generated: bool = True,
        skip_vendored: bool = True,
        max_file_size: int = 1024 * 1024,
        skip_secret_files: bool = False,
    ) -> "SkipRules":
        """Compiled rules.

        `include`, `exclude`: globs with gitignore semantics; a non-empty `include` leaves out all that it
        does not match. `ignore_file`: the commit's .codechunkignore. `gitattributes`: folder ("" for the
        root) -> text of its .gitattributes. Sizes in bytes. Neither file of the repository can bring back
        what `include`, `exclude`, the size or the kind of a file leave out. `skip_secret_files`: leave out
        .env files, private keys and the like. UsageError for a glob that is none.
        """
        wanted = _spec("include", include) if include else None
        unwanted = _spec("exclude", exclude) if exclude else None
        ignored = IgnoreFile(ignore_file) if ignore_file else None

        def excluded(path: str) -> bool:
            return (
                (wanted is not None and not wanted.match_file(path))
                or (unwanted is not None and unwanted.match_file(path))
                or (ignored is not None and ignored.matches(path))
            )

        return cls(
            excluded=excluded if wanted or unwanted or ignored else None,
            attributes=Attributes(gitattributes or {}, ("linguist-generated", "linguist-vendored")),
            skip_generated=skip_generated,
            skip_vendored=skip_vendored,
            max_file_size=max_file_size,
            skip_secret_files=skip_secret_files,
        )

    def by_entry(self, entry: Entry) -> SkipReason | None:
        """Why the entry is skipped without being read, None when its content has to decide."""
        if (reason := _MODES.get(entry.mode)) is not None:
            return reason
        if not entry.valid_path:
            # Its escaped form could be another file's real path.
            return SkipReason.UNDECODABLE
        path = entry.path
        if self._excluded is not None and self._excluded(path):
            return SkipReason.EXCLUDED
        if self._skip_secret_files and _is_secret_by_name(path):
            return SkipReason.SECRET_FILE
        if self._skip_vendored and self._is_vendored(path):
            return SkipReason.VENDORED
        if self._skip_generated and self._is_generated_by_name(path):
            return SkipReason.GENERATED
        if entry.size == 0:
            return SkipReason.EMPTY
        if entry.size is not None and entry.size > self._max_file_size:
            return SkipReason.TOO_LARGE
        return None

    def by_content(self, path: str, data: bytes) -> SkipReason | None:
        """Why a file that `by_entry` let pass is skipped now that it was read, None when it is indexed."""
        if len(data) > self._max_file_size:
            return SkipReason.TOO_LARGE
        if self._skip_secret_files and _is_secret_by_content(path, data):
            return SkipReason.SECRET_FILE
        if not data or data.isspace() or data.strip() == b"\xef\xbb\xbf":
            return SkipReason.EMPTY
        if data.startswith(_WIDE_BOMS):
            return SkipReason.UNDECODABLE
        if b"\0" in data:
            return SkipReason.BINARY
        if _LFS.match(data) and b"\noid sha256:" in data[:1024]:
            return SkipReason.LFS_POINTER
        if decode(data) is None:
            return SkipReason.UNDECODABLE
        if self._skip_generated and self._is_generated_by_content(path, data):
            return SkipReason.GENERATED
        return None

    def reads_alike(self, one: str, other: str) -> bool:
        """Whether `by_content` answers the same for both paths, whatever the content; both passed `by_entry`."""
        return (
            _suffix(one) == _suffix(other)
            and bool(_MAYBE_SECRET.fullmatch(one)) == bool(_MAYBE_SECRET.fullmatch(other))
            and self._attributes.value("linguist-generated", one) == self._attributes.value("linguist-generated", other)
        )

    def _is_vendored(self, path: str) -> bool:
        marked = self._attributes.value("linguist-vendored", path)
        if marked is not None:
            return marked
        folder, _, name = path.rpartition("/")
        known = self._vendored_folders.get(folder)
        if known is None:
            known = not _VENDOR_FOLDERS.isdisjoint(folder.split("/")) or bool(_VENDOR_PATH.match(folder + "/"))
            self._vendored_folders[folder] = known
        return known or name in _VENDOR_NAMES or _VENDOR_NAME.fullmatch(name) is not None

    def _is_generated_by_name(self, path: str) -> bool:
        marked = self._attributes.value("linguist-generated", path)
        if marked is not None:
            return marked
        *folders, name = path.split("/")
        return (
            name in _LOCK_FILES
            or _GENERATED_NAME.fullmatch(name) is not None
            or not _GENERATED_FOLDERS.isdisjoint(folders)
        )

    def _is_generated_by_content(self, path: str, data: bytes) -> bool:
        if self._attributes.value("linguist-generated", path) is not None:
            return False  # `by_entry` let it pass, so the repository says that people wrote it
        return _has_marker(data) or _is_minified(path, data)


def decode(data: bytes) -> tuple[str, str] | None:
    """(encoding, text): "utf-8", or "latin-1" for plausible single-byte text; None when it is neither.

    Encoding the text again gives exactly `data`, so a UTF-8 byte order mark stays as the first character
    U+FEFF, and byte offsets stay true. Latin-1 is the guess when at most 30 % of the bytes are high, 5 % are
    C1 controls (Windows-1252 quotes live there) and 1 % are other controls.
    """
    try:
        return "utf-8", data.decode()
    except UnicodeDecodeError:
        size = len(data)
        high, c1, c0 = (size - len(data.translate(None, delete)) for delete in (_HIGH, _C1, _C0))
        if high > 0.3 * size or c1 > 0.05 * size or c0 > 0.01 * size:
            return None
        return "latin-1", data.decode("latin-1")


def _is_secret_by_name(path: str) -> bool:
    name = path[path.rfind("/") + 1 :]
    return name in _SECRET_NAMES or bool(_SECRET_NAME.fullmatch(name)) or bool(_SECRET_PATH.fullmatch(path))


def _is_secret_by_content(path: str, data: bytes) -> bool:
    if _MAYBE_SECRET.fullmatch(path) is None:
        return False
    if path.endswith(".json"):
        return b"PRIVATE KEY" in data and _SERVICE_ACCOUNT.search(data) is not None
    return _IS_SECRET.search(data) is not None


def _spec(option: str, globs: Iterable[str]) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(globs)
    except ValueError as exc:
        raise UsageError(f"--{option}: {exc}") from exc


def _has_marker(data: bytes) -> bool:
    """Whether the first lines say, in a comment, that a program wrote this file."""
    head = data[:_HEAD_BYTES]
    lines = head.split(b"\n", _HEAD_LINES)[:_HEAD_LINES]
    if not re.search(rb"generated|bison|meta object|ppport|gimp", head, re.IGNORECASE):
        return False
    if _MARKER.search(b"\n".join(lines)):
        return True
    said = [at for at, line in enumerate(lines[:_NEAR_TOP]) if _SAYS_GENERATED.match(line)]
    return any(_SAYS_KEEP_OFF.match(line) for at in said for line in lines[max(at - 2, 0) : at + 3])


def _suffix(path: str) -> str:
    dot = path.rfind(".")
    return path[dot:].lower() if dot > path.rfind("/") else ""


def _is_minified(path: str, data: bytes) -> bool:
    average = _MINIFIED_AVERAGE.get(_suffix(path))
    if average is None:
        return False
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if len(data) - lines > average * lines and max(map(len, data.split(b"\n"))) > _MINIFIED_LONGEST:
        return True
    if average > 110:
        return False
    return any(_SOURCE_MAP.match(line) for line in data[-4096:].rstrip().rsplit(b"\n", 2)[-2:])
