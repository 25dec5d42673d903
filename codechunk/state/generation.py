"""Which state of an index is meant: the value that every question about its files, chunks and vectors takes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A state of an index. Its files are those that live at its number; its vectors are those of its vector space.

    Made by an index: `IndexRow.published`, `IndexRow.next`, `IndexRow.at`.
    """

    index_id: int
    space_id: int
    number: int
    """Raised by each run that publishes; 0 before the first one, a generation without files."""
