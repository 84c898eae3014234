"""The commands of `lensqueue`, from the application that runs them."""

from collections.abc import Iterator
from typing import Any, Final

import typer
from typer.core import TyperArgument

from cli.connection import EXITS
from cli.main import app
from handbook.docstrings import in_a_line, row

HEAD: Final = f"""\
# Commands

`lensqueue COMMAND --help` says the same at the terminal; [from the command line](../how-to/command-line.md)
tells how they go together.
{EXITS}
"""
OF_TYPER: Final = {"help", "install_completion", "show_completion"}


def page() -> str:
    """The page, whole."""
    root: Any = typer.main.get_command(app)
    context = root.context_class(root, info_name="lensqueue")
    everywhere = [parameter for parameter in root.params if _is_shown(parameter)]
    shared = f"\n## Before or behind any command\n\n{_table(everywhere)}"
    return HEAD + shared + "".join(_sections(root, context, "lensqueue"))


def _sections(group: Any, context: Any, called: str) -> Iterator[str]:
    for name in sorted(group.list_commands(context)):
        command = group.get_command(context, name)
        inner = command.context_class(command, info_name=name, parent=context)
        title = f"{called} {name}"
        if hasattr(command, "list_commands"):
            yield from _sections(command, inner, title)
        elif not command.hidden:
            yield _section(command, title)


def _section(command: Any, title: str) -> str:
    assert command.help, f"{title} has no docstring"
    parameters = [parameter for parameter in command.params if _is_shown(parameter)]
    options = [_placeholder(parameter) for parameter in parameters if _is_argument(parameter)]
    usage = " ".join([title, "[OPTIONS]", *options])
    table = f"\n{_table(parameters)}" if parameters else ""
    return f"\n## {title}\n\n```text\n{usage}\n```\n\n{_plain(command.help)}\n{table}"


def _table(parameters: list[Any]) -> str:
    rows = [row("", "default", "what it says"), "|---|---|---|", *map(_row, parameters)]
    return "\n".join(rows) + "\n"


def _row(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    shown = [_placeholder(parameter)] if _is_argument(parameter) else names
    text = in_a_line(getattr(parameter, "help", None) or "")
    if parameter.envvar:
        text += f" By the environment: `{parameter.envvar}`."
    return row(", ".join(f"`{name}`" for name in shown), _default(parameter), text)


def _is_shown(parameter: Any) -> bool:
    return parameter.name not in OF_TYPER and not parameter.hidden


def _is_argument(parameter: Any) -> bool:
    return isinstance(parameter, TyperArgument)


def _placeholder(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    several = f"{name}..." if parameter.nargs == -1 else name
    return several if parameter.required else f"[{several}]"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "must be given"
    value = parameter.default
    if value is None or value is False or value == [] or callable(value):
        return ""
    return f"`{value}`"


def _plain(text: str) -> str:
    return text.replace("\b", "").strip()
