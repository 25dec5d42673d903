"""`codechunk worker start`: flush and sync in a loop, until it is told to stop."""

from codechunk.app import App
from codechunk.cli.session import current_stop
from codechunk.cli.terminal import reporter, stderr
from codechunk.config.load import Loaded
from codechunk.errors import Stopped


def start(loaded: Loaded, *, interval_s: float | None, once: bool, quiet: bool) -> None:
    """Work until Ctrl-C or SIGTERM, or until everything that is due was done once.

    A signal that comes before the loop has begun, or after it, ends the command like one that comes within: there is
    nothing that would be lost.
    """
    try:
        with reporter(stderr(), quiet=quiet) as progress, App(loaded, stop=current_stop()) as app:
            app.work(progress, interval_s=interval_s, once=once)
    except Stopped:
        return
