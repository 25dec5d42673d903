"""`python -m codechunk`, and the command `codechunk`: signals are heard before anything slow is imported."""

from codechunk.process.interrupt import leave_on_signals


def main() -> None:
    """Run a command and leave with its exit code."""
    leave_on_signals()
    from codechunk.cli import main as run

    run()


if __name__ == "__main__":
    main()
