"""Pictures as people hold them, made ready to be sent: never all of them in memory, never all files open."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_IMAGE_ID = re.compile(r"img_[0-9a-f]{32}")


@runtime_checkable
class Saves(Protocol):
    """What a PIL image does."""

    def save(self, target: IO[bytes], /, *, format: str) -> None:  # noqa: A002 - Pillow's name for it
        """Write the picture to a file."""


Source = str | os.PathLike[str] | bytes | IO[bytes] | Saves
"""A path, an image id (`img_...`), bytes, a file open in binary mode, or a PIL image."""
Picture = Source | tuple[str, Source]
"""A source, or a pair of the name that its result is to have and the source."""


class LazyFile:
    """A file that is open only while it is read, so that a thousand of them need one descriptor."""

    def __init__(self, path: Path) -> None:
        """Look at the file: one that is missing is told before anything is sent."""
        self._path = path
        self._bytes = path.stat().st_size
        with path.open("rb"):
            pass  # a folder, or one that may not be read
        self._open: io.BufferedReader | None = None
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes; at the end the file is closed."""
        if self._open is None:
            self._open = self._path.open("rb")
            self._open.seek(self._at)
        data = self._open.read(size)
        self._at += len(data)
        if not data:
            self.close()
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go on somewhere else: a body that is sent again begins at its start."""
        self.close()
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._bytes}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def close(self) -> None:
        """Give the descriptor back."""
        if self._open is not None:
            self._open.close()
            self._open = None


class ToldFile(LazyFile):
    """A file of which it is told how much was read; sent again, it begins anew."""

    def __init__(self, path: Path, on_progress: Callable[[int, int], object]) -> None:
        """Have the bytes read so far told, and how many there are."""
        super().__init__(path)
        self._on_progress = on_progress

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = super().read(size)
        self._on_progress(self._at, self._bytes)
        return data


@dataclass(frozen=True, slots=True)
class Part:
    """A picture to be sent: its bytes as something to read, or the id of one that the service has."""

    name: str | None
    file: Any = None
    image_id: str | None = None


def parts_of(pictures: Iterable[Picture] | Picture) -> list[Part]:
    """Every picture as a part, in order; a single one may be given as it is.

    Raises:
        OSError: a file cannot be read.
        TypeError: it is none of what a picture may be.
    """
    alone = isinstance(pictures, str | os.PathLike | bytes | Saves) or hasattr(pictures, "read")
    given = cast("Iterable[Picture]", [pictures] if alone else pictures)
    return [_part(index, picture) for index, picture in enumerate(given)]


def size_of(part: Part) -> int:
    """The bytes of a picture that is to be sent, from its start wherever its file stands."""
    part.file.seek(0, os.SEEK_END)
    found: int = part.file.tell()
    part.file.seek(0)
    return found


def _part(index: int, picture: Picture) -> Part:
    name, source = picture if isinstance(picture, tuple) else (None, picture)
    if isinstance(source, str) and _IMAGE_ID.fullmatch(source):
        return Part(name, image_id=source)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return Part(name or readable(path.name), LazyFile(path))
    # a part without a file name would be no file to the service
    name = name or readable(Path(str(getattr(source, "filename", "") or getattr(source, "name", ""))).name)
    name = name or str(index)
    if isinstance(source, bytes):
        return Part(name, io.BytesIO(source))
    if isinstance(source, Saves):
        return Part(name, _encoded(source))
    if hasattr(source, "read"):
        return Part(name, source if _is_seekable(source) else io.BytesIO(source.read()))
    raise TypeError(
        f"a picture is a path, an image id, bytes, a file or a PIL image, not {type(source).__name__}"
    )


def _encoded(image: Any) -> io.BytesIO:
    """A PIL image as PNG, which loses nothing, with the EXIF that may say to turn it."""
    buffer = io.BytesIO()
    exif = {"exif": image.getexif()} if hasattr(image, "getexif") else {}
    image.save(buffer, format="PNG", **exif)
    buffer.seek(0)
    return buffer


def _is_seekable(source: Any) -> bool:
    seekable = getattr(source, "seekable", None)
    return bool(seekable and seekable())


def readable(name: str) -> str:
    """A file's name as text."""
    # a name on disk is bytes, and what is no UTF-8 is escaped
    return os.fsencode(name).decode("utf-8", "backslashreplace")
