"""Running the real command with the emulated provider behind it."""

from pathlib import Path

from cli_helpers import Cli, Done
from gemini_emulator import GeminiEmulator
from git_helpers import GitRepo

FUNCTION = 'def function_{0}(value):\n    """Return value number {0} of the great table."""\n    return value + {0}\n'


class Paid(Cli):
    """codechunk with the emulator as its provider."""

    def __init__(self, root: Path, emulator: GeminiEmulator) -> None:
        super().__init__(root)
        self.settings = {
            "CODECHUNK_GEMINI_API_KEY": emulator.key,
            "CODECHUNK_EMBEDDING__BASE_URL": emulator.url,
            "CODECHUNK_EMBEDDING__DIMENSIONS": "128",
            "CODECHUNK_BATCH_PROCESSING__POLLER_INTERVAL": "1s",
            "CODECHUNK_BATCH_PROCESSING__INITIAL_BACKOFF": "1s",
            "CODECHUNK_BATCH_PROCESSING__MAX_RETRIES": "0",
            "CODECHUNK_BATCH_PROCESSING__FALLBACK_TO_SEQUENTIAL": "false",
        }

    def paid(self, *arguments: str | Path, **more: str) -> Done:
        """Run a command to its end; `more` are settings of this command alone."""
        return self.run(*arguments, env={**self.settings, **more})


def small_repository(folder: Path) -> GitRepo:
    """A repository of six files with a function each: six chunks, six texts."""
    made = GitRepo(folder)
    made.commit({f"f{number}.py": FUNCTION.format(number) for number in range(6)}, "first")
    return made
