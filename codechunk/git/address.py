"""What a person typed as SOURCE, understood: a remote URL in one normal form, or a local repository.

Pure parsing; the only look at the disk is whether a path is a directory that holds a repository.
Everything that could make git run a command (`ext::`, options in place of URLs) is refused here, before git
starts.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import SplitResult, urlsplit

from codechunk.errors import GitError, UsageError

_DEFAULT_PORTS = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
# user@host:path or host:path; a slash before the colon makes it a path, as git decides it.
_SCP_LIKE = re.compile(r"(?:(?P<user>[^@/:\s]+)@)?(?P<host>[^@/:\s]+|\[[0-9A-Fa-f:.]+\]):(?P<path>[^:].*)")
_FORMS = "an https://, ssh://, git@host:path or file:// URL, or the path of a local git repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a repository is.

    `url`: normalised, never with a password (ssh keeps its user name, without which it would be another
    place); for a local repository the absolute path of its root. `name`: `owner/name` of a remote URL, the
    folder's name otherwise. `scheme`: https, ssh, http, git, file; `path` for a local repository.
    """

    kind: Literal["remote", "local"]
    url: str
    name: str
    scheme: str

    @property
    def host(self) -> str:
        """Host name of a remote URL, empty for file:// and local paths."""
        return urlsplit(self.url).hostname or "" if self.kind == "remote" else ""


def parse_source(text: str) -> Source:
    """The source that `text` names.

    Raises UsageError for words that are no acceptable SOURCE (other protocols, options, credentials inside
    the URL) and GitError for a path where no repository is.
    """
    text = text.strip()
    if not text:
        raise UsageError(f"SOURCE is empty; give {_FORMS}.")
    if any(not char.isprintable() for char in text):
        raise UsageError(f"SOURCE contains control characters; give {_FORMS}.")
    if text.startswith("-"):
        raise UsageError(f"SOURCE {text!r} looks like an option; give {_FORMS}.")
    if re.match(r"[A-Za-z0-9+.-]*::", text):
        raise UsageError("SOURCE names a git transport helper ('name::'), which can run commands; "
                         f"give {_FORMS}.")  # fmt: skip
    if "://" in text:
        return _parse_url(text)
    path = Path(text).expanduser()
    if path.is_dir():
        return _local(path)
    if match := _SCP_LIKE.fullmatch(text):
        if "@" in match["path"].split("/")[0]:
            _refuse_credentials()  # user:password@host:path
        user = f"{match['user']}@" if match["user"] else ""
        return _parse_url(f"ssh://{user}{match['host']}/{match['path'].lstrip('/')}")
    hint = f" Did you mean https://{text}?" if re.match(r"[\w-]+(\.[\w-]+)+/\S+/\S+$", text) else ""
    raise GitError(f"{text!r} is neither a URL nor an existing folder.{hint}", kind="not_found")


def _local(path: Path) -> Source:
    """The repository that holds `path`: a (linked) work tree, a folder inside one, or a bare repository."""
    start = path.resolve()
    for folder in (start, *start.parents):
        bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir()
        if bare or (folder / ".git").exists():
            # The path of `x/.git` is the repository x.
            root = folder.parent if folder.name == ".git" else folder
            name = root.name.removesuffix(".git") or root.name or "root"
            return Source(kind="local", url=str(root), name=name, scheme="path")
    raise GitError(
        f"{path} is not inside a git repository; run 'git init' and commit there, or give another path.",
        kind="not_found",
    )


def _parse_url(text: str) -> Source:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise UsageError(f"SOURCE is not a valid URL ({exc}); give {_FORMS}.") from exc
    scheme = parts.scheme.lower()
    if scheme == "file":
        return _file_url(parts)
    if scheme not in _DEFAULT_PORTS:
        raise UsageError(f"SOURCE uses the protocol {scheme or '(none)'!r}, which is not supported; give {_FORMS}.")
    user, _, host = parts.netloc.rpartition("@")
    if (user and scheme != "ssh") or ":" in user:
        _refuse_credentials()
    host = re.sub(r":\d*$", "", host)
    if not _HOST.fullmatch(host) or (user and not _USER.fullmatch(user)):
        raise UsageError(f"SOURCE has no valid host name; give {_FORMS}.")
    path = _plain_path(parts)
    if not path:
        raise UsageError("SOURCE names a host but no repository; the URL needs a path such as /owner/name.")
    where = host.lower() if port in (None, _DEFAULT_PORTS[scheme]) else f"{host.lower()}:{port}"
    login = f"{user}@" if user else ""
    name = path.strip("/").removesuffix(".git").rstrip("/")
    return Source(kind="remote", url=f"{scheme}://{login}{where}{path}", name=name, scheme=scheme)


def _file_url(parts: SplitResult) -> Source:
    if "@" in parts.netloc:
        _refuse_credentials()
    path = _plain_path(parts)
    if parts.netloc not in ("", "localhost") or not path:
        raise UsageError("A file:// SOURCE needs an absolute path, with three slashes: file:///folder/repository.")
    name = Path(path).name.removesuffix(".git")
    if name == "":
        name = Path(path).parent.name
    return Source(kind="remote", url=f"file://{path}", name=name, scheme="file")


def _plain_path(parts: SplitResult) -> str:
    """The path with single slashes and none at its end; UsageError when the URL has a query or a fragment."""
    if parts.query or parts.fragment:
        raise UsageError("SOURCE must be the URL of a repository, without '?' or '#' parts; use --ref for a branch.")
    return re.sub(r"/{2,}", "/", parts.path).rstrip("/")


def _refuse_credentials() -> NoReturn:
    # The text is not repeated: it holds a secret, and git would store it and show it in `ps`.
    raise UsageError("SOURCE contains credentials; remove them from the URL and set CODECHUNK_GIT_TOKEN instead.")


def place_of(url: str) -> str | None:
    """Host and path of a repository, the same for all ways to reach it; None for what is neither a URL nor a full path.

    `git@host:a/b.git`, `https://user:password@host/a/b` and `ssh://git@host/a/b/` are one place, and so are a path and
    its file:// URL.
    """
    url = url.strip()
    if url.startswith("/"):
        host, path = "", url
    else:
        try:
            source = parse_source(re.sub(r"^(https?|git)://[^/@]*@", r"\1://", url))
        except (UsageError, GitError):
            return None
        if source.kind != "remote":
            return None
        parts = urlsplit(source.url)
        host, path = parts.hostname or "", parts.path
    return host + path.rstrip("/").removesuffix(".git").rstrip("/")
