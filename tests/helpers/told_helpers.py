"""A reporter that remembers what people would be told."""

from codechunk.progress import Silence


class Told(Silence):
    """Keeps every sentence."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        """Keep it."""
        self.sentences.append(sentence)
