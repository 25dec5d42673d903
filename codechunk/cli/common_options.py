"""Options of codechunk itself, accepted behind every command as well: `codechunk search words --data-dir DIR`.

Each command takes what the front (`codechunk [OPTIONS] COMMAND`) declares, so an option that is added there is known
everywhere. They are hidden in the commands' help, which would be twice as long.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from codechunk.cli.session import Session

P = TypeVar("P")
F = TypeVar("F", bound=Callable[..., Any])


def _with_common(context: Any, own: list[P]) -> list[P]:
    """A command's own parameters, and those of the front whose names it does not use."""
    front = context.find_root().command
    taken = {name for param in own for name in param.opts}  # type: ignore[attr-defined]
    common = []
    for param in front.params:
        if param.param_type_name != "option" or taken & set(param.opts):
            continue
        late = copy.copy(param)
        late.hidden, late.expose_value = True, False
        if not param.is_eager:  # `--version` does at once what it does in front
            late.callback = _remember
        common.append(late)
    return [*own, *common]


def _remember(context: Any, param: Any, value: Any) -> Any:
    """Tell the session of an option that was given."""
    if value not in (None, False) and isinstance(context.obj, Session):
        context.obj.choose(param.name, value)
    return value


class Command(TyperCommand):
    """A command that takes the options of the front, too."""

    def get_params(self, ctx: Any) -> Any:
        """Its own options and the common ones."""
        return _with_common(ctx, super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands that takes the options of the front, too."""

    def get_params(self, ctx: Any) -> Any:
        """Its own options and the common ones; the front has its own only."""
        own = super().get_params(ctx)
        return own if ctx.parent is None else _with_common(ctx, own)


class Commands(typer.Typer):
    """A typer.Typer whose commands and groups are these."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=Group, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        """Register a command."""
        return super().command(name, **{"cls": Command, **settings})
