"""Pictures and labels as they are given: files and folders of one's own, or what ships with the project."""

import csv
import io
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from cli.console import console, fail, notes
from cli.ending import FAILED, USAGE
from engine.catalog import DEMO_MODEL
from lensqueue_client.errors import counted
from pictures.sniff import sniff

DEMO = Path(__file__).resolve().parents[1] / "demo"
SCENES_TEMPLATE = "a photo of a {}"  # the wording that the demo checkpoint was trained on
MAX_PICTURES = 1_000
HEADER_BYTES = 64
NAMES_SHOWN = 5
RECURSIVE = "--recursive takes the pictures in them too"
STRAY: Final = re.compile("""^['\u2018\u201c\u201e]|[^0-9]"$|\u201d$""")
"""A quote at an end of a label is none of its own: but for an apostrophe, and inches."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, the name it goes by, and what it shows where that is known."""

    name: str
    path: Path
    true_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Collection:
    """Pictures and the labels that compete in them; the service's own template where None is given."""

    title: str
    pictures: tuple[Picture, ...]
    labels: tuple[str, ...]
    template: str | None = None


def choose(model: str, images: Path | None, labels: str | None) -> Collection:
    """The pictures that were asked for, or those that ship with the project and suit the model."""
    if images is not None:
        if not labels:
            fail('say what may be in your pictures: LABELS="a cat,a dog", or LABELS=@file with one a line')
        template = SCENES_TEMPLATE if model == DEMO_MODEL else None
        return Collection(images.resolve().name, read_folder(images), read_labels(labels), template)
    shipped = _scenes() if model == DEMO_MODEL else _photographs()
    if not labels:
        return shipped
    return Collection(shipped.title, shipped.pictures, read_labels(labels), shipped.template)


def read_labels(given: str, status: int = 1) -> tuple[str, ...]:
    """The labels of a list with commas, or of a file named as `@file` that holds one a line.

    A label that holds commas itself stands in double quotes, as in CSV. Where there are none, or one twice,
    it says so and ends the command with this status.
    """
    if given.startswith("@"):
        try:
            names = Path(given[1:]).read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            fail(f"labels {given}: {error.strerror}", status)
        except UnicodeError:
            fail(f"labels {given}: it is not UTF-8; save it as that", status)
    else:
        try:
            rows = csv.reader(io.StringIO(given, newline=""), skipinitialspace=True, strict=True)
            names = [name for row in rows for name in row]
        except csv.Error as error:
            fail(f"""labels {given!r}: {error}; write "a cat, sitting",a dog""", status)
        if stray := [name for name in names if STRAY.search(name.strip())]:
            fail(
                f"labels {given!r}: a quote would be part of {stray[0].strip()!r}; quote a label whole as in"
                ' "a cat, sitting",a dog, and keep labels that have quotes in a file: @labels.txt',
                status,
            )
    labels = tuple(name.strip() for name in names if name.strip())
    if not labels:
        fail(f"labels {given!r} names no label", status)
    # as the service does: results tell labels by their names
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        fail(f"labels {given!r}: {twice[0]!r} is there twice; each label needs a name of its own", status)
    return labels


def spread(given: list[Path], *, recursive: bool = False) -> list[tuple[str, Path]]:
    """Pictures as they are, and for each folder those that lie in it, with the names of their results.

    Names are those of the files, in a folder the path from there; if any two were the same, the paths.
    """
    found = [
        (picture.name, picture.path)
        for each in given
        for picture in (
            _read(each, notes, USAGE, recursive=recursive, hint=RECURSIVE)
            if each.is_dir()
            else [Picture(_text(each.name), each)]
        )
    ]
    if len({name for name, _ in found}) < len(found):
        return [(_text(str(path)), path) for _, path in found]
    return found


def read_folder(folder: Path) -> tuple[Picture, ...]:
    """The pictures that lie in a folder itself, by name; what is no picture is passed over, and said so."""
    if not folder.is_dir():
        fail(f"IMAGES={folder} is not a folder")
    return _read(folder, console, FAILED)


def _read(
    folder: Path, to: Console, status: int, *, recursive: bool = False, hint: str = ""
) -> tuple[Picture, ...]:
    try:
        files, inner = _walk(folder, recursive=recursive)
        found = [path for path in files if _is_picture(path)]
    except OSError as error:
        fail(f"{error.filename or folder} cannot be read: {error.strerror}", status)
    pictures = tuple(Picture(_text(path.relative_to(folder).as_posix()), path) for path in found)
    if passed := sorted(set(files) - set(found)):
        more = f" and {len(passed) - NAMES_SHOWN} more" if len(passed) > NAMES_SHOWN else ""
        names = ", ".join(_text(path.relative_to(folder).as_posix()) for path in passed[:NAMES_SHOWN])
        to.print(f"No pictures, passed over: {names}{more}", markup=False, soft_wrap=True)
    if inner:
        what = f"{counted(inner, 'folder')} in {_text(str(folder))} passed over"
        to.print(f"{what}; {hint}" if hint else what, markup=False, soft_wrap=True)
    if not found:
        fail(f"{folder} holds no pictures (JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF)", status)
    if len(found) > MAX_PICTURES:
        fail(f"{folder} holds {len(found)} pictures; one job takes {MAX_PICTURES} at most", status)
    return pictures


def _walk(folder: Path, *, recursive: bool) -> tuple[list[Path], int]:
    """The files, less hidden ones, and how many folders were not looked into."""
    files: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        found = (Path(place, name) for name in names if not name.startswith("."))
        files += [path for path in found if path.is_file()]
        folders[:] = [name for name in folders if not name.startswith(".")]
        if not recursive:
            return sorted(files), len(folders)
    return sorted(files), 0


def _raise(error: OSError) -> None:
    raise error


def _is_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return sniff(file.read(HEADER_BYTES)) is not None
    except OSError:
        return True  # which picture cannot be read, and why, is told where it is uploaded


def _text(name: str) -> str:
    """A file's name as text: on disk it is bytes, and what is no UTF-8 or cannot be printed is escaped."""
    decoded = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in decoded)


def _scenes() -> Collection:
    samples = DEMO / "samples"
    with (samples / "labels.csv").open(encoding="utf-8", newline="") as file:
        pictures = tuple(
            Picture(
                row["custom_id"],
                samples / row["file"],
                tuple(f"{thing['colour']} {thing['shape']}" for thing in json.loads(row["objects"])),
            )
            for row in csv.DictReader(file)
        )
    labels = sorted({label for picture in pictures for label in picture.true_labels})
    return Collection("Scenes of coloured shapes", pictures, tuple(labels), SCENES_TEMPLATE)


def _photographs() -> Collection:
    folder = DEMO / "photographs"
    labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    pictures = tuple(Picture(path.stem, path) for path in sorted(folder.glob("*.jpg")))
    return Collection("Photographs", pictures, tuple(labels))
