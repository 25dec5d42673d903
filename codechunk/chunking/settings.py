"""How files are cut, as one value."""

from dataclasses import dataclass

_MIN_MAX_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSettings:
    """What decides how a file is cut. Sizes are cl100k tokens.

    `max_tokens` bounds `embedding_text` (header, newline, text) of every chunk; at least 16.
    `min_tokens`: statements, constants and comments below it join a neighbour; runs of them are filled to about
    four times as much. `context_header`: give each chunk the signatures of the scopes it is in.
    """

    max_tokens: int = 512
    min_tokens: int = 48
    context_header: bool = True

    def __post_init__(self) -> None:
        """Refuse sizes that no chunking can keep. Raises ValueError."""
        if self.max_tokens < _MIN_MAX_TOKENS:
            raise ValueError(f"max_tokens must be at least {_MIN_MAX_TOKENS}, not {self.max_tokens}")
        if self.min_tokens < 0:
            raise ValueError(f"min_tokens must not be negative, not {self.min_tokens}")
