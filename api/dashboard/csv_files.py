"""Tables as CSV, to be opened by a spreadsheet: none of their cells is a formula there."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, Final

from fastapi import Response

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""With one of these a cell begins that spreadsheets compute; users name tags, and models."""


def csv_file(name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """A small table as a file to be saved under a name."""
    written = io.StringIO()
    table = csv.writer(written)
    table.writerow(head)
    table.writerows([_guarded(cell) for cell in row] for row in rows)
    return Response(
        written.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _guarded(cell: Any) -> Any:
    if isinstance(cell, int | float):
        return cell
    told = "" if cell is None else str(cell)
    return f"'{told}" if told.startswith(FORMULA) else told
