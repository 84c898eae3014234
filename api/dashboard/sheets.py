"""CSV for spreadsheets, which take some text for formulas and run it."""

import csv
import io
from collections.abc import Iterable
from typing import Final

FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r")
MEDIA_TYPE: Final = "text/csv; charset=utf-8"


def line(cells: Iterable[object]) -> str:
    """A row of a sheet; what would begin a formula has an apostrophe before it, and is text."""
    written = io.StringIO()
    csv.writer(written).writerow([_plain(cell) for cell in cells])
    return written.getvalue()


def _plain(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(FORMULAS) else text
