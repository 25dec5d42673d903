"""Expected failures, in words for the person who reads them.

Anything raised here reaches the terminal as one sentence; everything else is a bug and exits 70.
"""


class CodechunkError(Exception):
    """An expected failure: the message says what happened and what to do. Exit code 1."""

    exit_code = 1


class UsageError(CodechunkError):
    """Wrong words on the command line or in the configuration. Exit code 2."""

    exit_code = 2


class GitError(CodechunkError):
    """The repository could not be read: wrong URL, missing ref, no access, disk full, git killed."""


class StateError(CodechunkError):
    """The state database cannot be used: damaged, newer than this program, read-only, locked."""


class IndexBusy(CodechunkError):
    """Another process owns the embedded Chroma directory."""


class VectorStoreError(CodechunkError):
    """The vector store refused or is unreachable."""
