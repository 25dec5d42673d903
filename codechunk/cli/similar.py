"""`codechunk similar`: code like the code at a place."""

from functools import partial

from codechunk.app import App
from codechunk.cli.search import Look, show
from codechunk.cli.session import current_stop
from codechunk.config.load import Loaded


def run(loaded: Loaded, *, place: str, repository: str | None, limit: int, look: Look) -> None:
    """Search and print as `search` does. Raises as `App.similar` does."""
    with App(loaded, stop=current_stop()) as app:
        answers = app.similar(place, repository=repository, limit=limit)
        show(answers, look, several=partial(app.means_several, repository))
