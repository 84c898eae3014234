"""The map of the code: each module with the first sentence of its docstring, by room and by subject."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from handbook.docstrings import in_a_line, row
from handbook.rooms import ROOMS, SUBJECTS

ROOT: Final = Path(__file__).resolve().parents[1]
UNLISTED: Final = frozenset({"tests"})
HEAD: Final = """\
# Modules

Where things are: every module with what it says of itself, in the order in which imports lead down, then
what stands beside. `tests/` goes by kind and then by what is tested; `migrations/versions/` has the schema's
versions.
[The path of a job](../architecture/1-the-path-of-a-job.md) goes through them once.
"""


def page() -> str:
    """The page, whole."""
    rooms = set(_rooms())
    assert rooms == ROOMS.keys(), f"handbook.rooms knows other rooms: {rooms ^ ROOMS.keys()}"
    return HEAD + "".join(map(_room, ROOMS))


def _rooms() -> Iterator[str]:
    """Every folder with a module that says something."""
    for package in ROOT.glob("*/__init__.py"):
        if package.parent.name not in UNLISTED:
            yield from _within(package.parent)
    yield from _within(ROOT / "client" / "src")


def _within(top: Path) -> Iterator[str]:
    for folder in {found.parent for found in top.rglob("*.py")}:
        if any(map(said_by, folder.glob("*.py"))):
            yield folder.relative_to(ROOT).as_posix()


def _room(room: str) -> str:
    said = {path.stem: said_by(path) for path in sorted((ROOT / room).glob("*.py"))}
    # a package whose __init__ is empty, as they are, says nothing by it
    said = {name: text for name, text in said.items() if text or name != "__init__"}
    begin = f"\n## {room}/\n\n{ROOMS[room]}\n"
    if room not in SUBJECTS:
        return f"{begin}\n{_table(said, said)}"
    placed = [name for names in SUBJECTS[room].values() for name in names.split()]
    assert sorted(placed) == sorted(said), (
        f"handbook.rooms says of {room}/ otherwise: {set(placed) ^ said.keys() or 'a module twice'}"
    )
    return begin + "".join(
        f"\n### {subject}\n\n{_table(said, names.split())}" for subject, names in SUBJECTS[room].items()
    )


def _table(said: dict[str, str], names: Iterable[str]) -> str:
    lines = [row(f"`{name}`", said[name]) for name in names]
    return "\n".join([row("module", "what it is"), "|---|---|", *lines]) + "\n"


def said_by(path: Path) -> str:
    """The first sentence of the module's docstring, in a line; nothing where it has none."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return in_a_line(said.partition("\n\n")[0])
