"""Commands that are imported when they are asked for: what they stand on takes seconds to import."""

from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


class LazyGroup(TyperGroup):
    """A group with commands that are only known by where they lie, as `module:function` or `module:app`.

    The help of the group tells of all, and hence imports all.
    """

    lazy: ClassVar[dict[str, tuple[str, str]]] = {}
    """By name: the panel of the help, and the place."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all, those that are imported late first."""
        return [*self.lazy, *(name for name in super().list_commands(ctx) if name not in self.lazy)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name."""
        if cmd_name in self.lazy and cmd_name not in self.commands:
            panel, place = self.lazy[cmd_name]
            module, _, name = place.partition(":")
            self.commands[cmd_name] = _command(getattr(import_module(module), name), cmd_name, panel)
        return super().get_command(ctx, cmd_name)


def _command(found: Any, name: str, panel: str) -> Any:
    around = typer.Typer()
    # a callback makes it a group, however many commands it has
    around.callback()(lambda: None)
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name, rich_help_panel=panel)
    else:
        around.command(name, rich_help_panel=panel)(found)
    return typer.main.get_group(around).commands[name]
