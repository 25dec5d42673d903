"""What is known of Gemini's Developer API without calling it."""

# Input tokens the provider takes per text, from its model pages (gemini-embedding-001 is not 8,192).
INPUT_TOKENS = {"gemini-embedding-001": 2048, "gemini-embedding-2": 8192}
MODELS = tuple(INPUT_TOKENS)
KEY_VARIABLES = ("CODECHUNK_GEMINI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")
MOST_TEXTS = 100
"""Texts in one direct call: the provider refuses more."""
MOST_BATCH_BYTES = 2 * 10**9
"""Bytes of the input file of a batch job (docs/gemini-wire.md, 4); no limit of its rows is known."""
