"""How a workflow tells whoever watches what it is doing: the terminal, plain lines, or nobody."""

from typing import Protocol


class Reporter(Protocol):
    """Receives stages, counts and sentences."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """A new stage begins and the one before it ends. `total` is None when it is not known."""

    def advance(self, count: int = 1) -> None:
        """`count` more units of the stage are done."""

    def reach(self, current: int, *, total: int | None) -> None:
        """The stage stands at `current` units of `total`, None when that is not known."""

    def say(self, sentence: str) -> None:
        """Something the user should read now."""


class Silence:
    """A reporter that keeps everything to itself."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Nothing."""

    def advance(self, count: int = 1) -> None:
        """Nothing."""

    def reach(self, current: int, *, total: int | None) -> None:
        """Nothing."""

    def say(self, sentence: str) -> None:
        """Nothing."""
