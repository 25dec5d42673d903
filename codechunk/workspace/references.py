"""What a person means by NAME or NAME@REF."""

from collections.abc import Sequence

from codechunk.errors import UsageError
from codechunk.state import IndexRow


def published_as(indexes: Sequence[IndexRow], name: str) -> list[IndexRow]:
    """Those of the published indexes that NAME or NAME@REF means: what `--repo` restricts a command to.

    Raises:
        UsageError: it means none of them; the sentence lists what there is.
    """
    named = [index for index in indexes if name in {index.repository, f"{index.repository}@{index.ref}"}]
    if not named:
        known = ", ".join(sorted({f"{index.repository}@{index.ref}" for index in indexes}))
        raise UsageError(f"No index of {name!r}; there is {known or 'none at all yet'}.")
    return named
