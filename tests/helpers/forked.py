"""Processes of a test: children of one that has imported what is slow, in a tenth of the time of a new Python."""

import multiprocessing

CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(
    [
        "codechunk.providers.gemini.client",
        "codechunk.sending.direct",
        "codechunk.text.words",
        "engine_helpers",
        "gemini_emulator",
        "google.genai.types",
        "pytest",
    ]
)
