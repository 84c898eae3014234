"""What `lensqueue demo` looks at: the shipped scenes, the shipped photographs, or a folder of one's own."""

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cli.console import console, fail, notes
from cli.ending import FAILED, USAGE
from engine.catalog import DEMO_MODEL
from pictures.sniff import sniff

DEMO = Path(__file__).resolve().parents[1] / "demo"
SCENES_TEMPLATE = "a photo of a {}"  # the wording that the demo checkpoint was trained on
MAX_PICTURES = 1_000
HEADER_BYTES = 64
NAMES_SHOWN = 5


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

    Where there are none, it says so and ends the command with this status.
    """
    if given.startswith("@"):
        try:
            names = Path(given[1:]).read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            fail(f"labels {given}: {error.strerror}", status)
        except UnicodeError:
            fail(f"labels {given}: it is not UTF-8; save it as that", status)
    else:
        names = given.split(",")
    labels = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not labels:
        fail(f"labels {given!r} names no label", status)
    return labels


def spread(given: list[Path]) -> list[Path]:
    """Pictures as they are, and for each folder those that lie in it."""
    return [
        path
        for each in given
        for path in ([picture.path for picture in _read(each, notes, USAGE)] if each.is_dir() else [each])
    ]


def read_folder(folder: Path) -> tuple[Picture, ...]:
    """The pictures that lie in a folder itself, by name; what is no picture is passed over, and said so."""
    if not folder.is_dir():
        fail(f"IMAGES={folder} is not a folder")
    return _read(folder, console, FAILED)


def _read(folder: Path, to: Console, status: int) -> tuple[Picture, ...]:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        found = [path for path in files if _is_picture(path)]
    except OSError as error:
        fail(f"{folder} cannot be read: {error.strerror}", status)
    if passed := [path for path in files if path not in set(found)]:
        more = f" and {len(passed) - NAMES_SHOWN} more" if len(passed) > NAMES_SHOWN else ""
        names = ", ".join(_names(passed[:NAMES_SHOWN]))
        to.print(f"No pictures, passed over: {names}{more}", markup=False, soft_wrap=True)
    if not found:
        fail(f"{folder} holds no pictures (JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF)", status)
    if len(found) > MAX_PICTURES:
        fail(f"{folder} holds {len(found)} pictures; one job takes {MAX_PICTURES} at most", status)
    return tuple(Picture(name, path) for name, path in zip(_names(found), found, strict=True))


def _is_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return sniff(file.read(HEADER_BYTES)) is not None
    except OSError:
        return True  # which picture cannot be read, and why, is told where it is uploaded


def _names(files: list[Path]) -> list[str]:
    """File names as text: a name on disk is bytes, and what is no UTF-8 or cannot be printed is escaped."""
    decoded = (os.fsencode(path.name).decode("utf-8", "backslashreplace") for path in files)
    return [
        "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)
        for name in decoded
    ]


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
