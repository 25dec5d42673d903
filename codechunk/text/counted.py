"""Counts as sentences show them. Pure."""


def counted(count: int, things: str) -> str:
    """`1 file`, `2,000 files`: the plural is given, which loses its last letter for one."""
    return f"{count:,} {things.removesuffix('s') if count == 1 else things}"
