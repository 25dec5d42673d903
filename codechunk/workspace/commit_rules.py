"""Which files of a commit are indexed and how they are cut: the configuration, narrowed by the commit's own files."""

import hashlib
from collections.abc import Mapping

from codechunk.chunking import ChunkSettings
from codechunk.config.settings import Config
from codechunk.git.repository import OpenedRepository
from codechunk.pool.cut_settings import CutSettings
from codechunk.selection.skip import SkipRules

IGNORE_FILE = ".codechunkignore"
ATTRIBUTES_FILE = ".gitattributes"
IGNORE_FILE_BYTES = 1_000_000


def cut_settings(config: Config, jobs: int, attributes: Mapping[str, str]) -> CutSettings:
    """How files are cut and counted under a configuration and the commit's .gitattributes (see `read_attributes`)."""
    counting = config.token_counting
    chunking = config.chunking
    return CutSettings(
        chunking=ChunkSettings(
            max_tokens=chunking.max_tokens,
            min_tokens=chunking.min_tokens,
            context_header=chunking.context_header,
        ),
        token_mode=counting.mode if counting.enabled else "on_demand",
        sample_percent=counting.sample_percent,
        skip_generated=config.git.skip_generated,
        secrets=config.secrets,
        attributes=_linguist_hash(attributes),
        jobs=jobs,
    )


def skip_rules(config: Config, opened: OpenedRepository, attributes: Mapping[str, str]) -> SkipRules:
    """Which files of the commit are indexed: the configuration, narrowed by what the commit itself says."""
    git = config.git
    repository, commit = opened.repository, opened.commit
    ignore = repository.read_path(commit, IGNORE_FILE, max_bytes=IGNORE_FILE_BYTES)
    return SkipRules.build(
        include=git.include,
        exclude=git.exclude,
        ignore_file=None if ignore is None else ignore.decode("utf-8", "replace"),
        gitattributes=attributes,
        skip_generated=git.skip_generated,
        skip_vendored=git.skip_vendored,
        max_file_size=git.max_file_size,
        skip_secret_files=config.secrets != "off",
    )


def files_identity(config: Config) -> str:
    """Short hash of the settings that decide which files are indexed."""
    git = config.git
    text = repr((git.include, git.exclude, git.max_file_size, git.skip_vendored))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_attributes(opened: OpenedRepository) -> dict[str, str]:
    """Every .gitattributes of the commit: folder ("" for the root) -> text; absurdly large ones are left out."""
    found = [
        entry
        for entry in opened.repository.named(opened.commit, ATTRIBUTES_FILE)
        if entry.mode.startswith("100") and (entry.size or 0) <= IGNORE_FILE_BYTES
    ]
    contents = opened.repository.blobs(entry.blob for entry in found)
    return {
        entry.path.removesuffix(ATTRIBUTES_FILE).rstrip("/"): data.decode("utf-8", "replace")
        for entry, (_, data) in zip(found, contents, strict=True)
    }


def _linguist_hash(attributes: Mapping[str, str]) -> str:
    """Short hash of the lines of .gitattributes that say which files are generated or vendored."""
    lines = [
        f"{folder}: {line}"
        for folder, text in sorted(attributes.items())
        for line in text.splitlines()
        if "linguist-" in line
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8] if lines else "none"
