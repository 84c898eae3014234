"""A folder of pictures, as it is added to an image set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lensqueue_client.pictures import readable

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDS: Final = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Of the names of pictures."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file, its name from the folder on, and that of the folder it lies in; None in the first one."""

    path: Path
    name: str
    folder: str | None


def look_through(folder: str | os.PathLike[str]) -> tuple[list[Found], tuple[Path, ...]]:
    """The pictures in a folder and in those inside it, by name; and the files that are none by their names.

    Hidden ones are passed over in silence, links to folders are not followed.

    Raises:
        OSError: it is no folder, or one that cannot be read.
    """
    pictures: list[Found] = []
    others: list[Path] = []
    root = Path(folder)
    for path in _files(root):
        if path.suffix.lower() not in ENDS:
            others.append(path)
            continue
        inside = path.relative_to(root)
        above = readable(inside.parent.name) or None
        pictures.append(Found(path, readable(inside.as_posix()), above))
    return pictures, tuple(others)


def _files(root: Path) -> Iterator[Path]:
    for where, folders, files in os.walk(root, onerror=_raise):
        # in place: these are walked next
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(where, name) for name in sorted(files) if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error
