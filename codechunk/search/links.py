"""Where an answer can be opened: a permalink on the host of its repository, or a file on this disk."""

import re
from pathlib import Path
from urllib.parse import quote, urlsplit

from codechunk.state import IndexRow

# Host -> what stands between the repository and the commit, and how lines are named.
_HOSTS = {
    "github.com": ("/blob/{commit}/{path}", "#L{first}-L{last}"),
    "gitlab.com": ("/-/blob/{commit}/{path}", "#L{first}-{last}"),
    "codeberg.org": ("/src/commit/{commit}/{path}", "#L{first}-L{last}"),
    "gitea.com": ("/src/commit/{commit}/{path}", "#L{first}-L{last}"),
    "bitbucket.org": ("/src/{commit}/{path}", "#lines-{first}:{last}"),
}
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


def permalink(index: IndexRow, path: str, first: int, last: int) -> str | None:
    """The page with these lines at the commit that answered; None for a host whose pages are not known."""
    parts = urlsplit(index.url)
    form = _HOSTS.get(parts.hostname or "")
    if form is None or not _COMMIT.fullmatch(index.commit or ""):
        return None
    page, lines = form
    repository = parts.path.rstrip("/").removesuffix(".git")
    where = page.format(commit=index.commit, path=quote(path))
    return f"https://{parts.hostname}{repository}{where}{lines.format(first=first, last=last)}"


def absolute_path(index: IndexRow, path: str) -> str | None:
    """The file on this disk, when the repository is a local one and has it still."""
    if not index.url.startswith("/"):
        return None
    file = Path(index.url, path)
    return str(file) if file.is_file() else None
