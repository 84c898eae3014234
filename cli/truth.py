"""Which pictures are to be analysed, and where their true labels come from: folders, a table, or nowhere."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from cli.console import fail
from cli.ending import USAGE
from jobs.members import is_litter, plain
from lensqueue_client import NewItem

PICTURE_ENDS: Final = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
COLUMNS: Final = {"file", "label"}


def read_items(folder: Path, truth: str, ours: Sequence[Path] = ()) -> list[NewItem]:
    """The pictures of a folder in their order; what is wrong with the table of their labels is said.

    `truth` is `folders`, `none`, or the path of a CSV file. What lies in `ours`, folders that this program
    writes to, is none of the pictures, unless a table names it.
    """
    if truth in {"folders", "none"}:
        return list(_walk(folder, truth, ours))
    try:
        with Path(truth).open(encoding="utf-8-sig", newline="") as file:
            return list(_read_table(folder, truth, csv.DictReader(file)))
    except (OSError, UnicodeError, csv.Error) as error:
        fail(f"--truth {truth}: {error}", USAGE)


def _walk(folder: Path, truth: str, ours: Sequence[Path]) -> Iterator[NewItem]:
    inner = _inside(folder, ours)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in PICTURE_ENDS or not path.is_file():
            continue
        place = path.relative_to(folder)
        if is_litter(place.as_posix()) or any(place.is_relative_to(each) for each in inner):
            continue
        label = place.parts[-2] if truth == "folders" and len(place.parts) > 1 else None
        # a name on disk is bytes, and need be no text that could be sent
        yield NewItem(path, plain(place.as_posix()), label and plain(label))


def _inside(folder: Path, ours: Sequence[Path]) -> list[Path]:
    """Those of our folders that lie in this one, by their paths from there; not one that holds it."""
    here = folder.resolve()
    found = (each.resolve() for each in ours)
    return [each.relative_to(here) for each in found if here in each.parents]


def _read_table(folder: Path, truth: str, table: "csv.DictReader[str]") -> Iterator[NewItem]:
    if not set(table.fieldnames or ()) >= COLUMNS:
        fail(f"--truth {truth}: it has no columns `file` and `label`", USAGE)
    for row in table:
        line = f"--truth {truth}, line {table.line_num}"
        # what a row has too much stands under None, what it lacks is None
        if None in row or None in row.values():
            fail(
                f"{line}: it has {'more' if None in row else 'fewer'} fields than the header;"
                " quote a field that holds a comma",
                USAGE,
            )
        if not row["file"]:
            fail(f"{line}: it names no file", USAGE)
        path = folder / row["file"]
        if not path.is_file():
            fail(f"{line}: there is no file {path}", USAGE)
        yield NewItem(path, row.get("custom_id") or row["file"], row["label"] or None)
