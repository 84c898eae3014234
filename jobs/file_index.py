"""The lines of a manifest by the files that they name: on disk, since there may be a million."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Self

import orjson

from jobs.manifests import Line

COLUMNS = "number, custom_id, true_label, true_labels, split, file"


class FileIndex:
    """Made of a manifest and gone with this object; knows of each file whether it was met."""

    def __init__(self, lines: Iterable[Line]) -> None:
        """Take in the lines that name files."""
        # without a name: a file of its own, which goes when it is closed
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(
            "CREATE TABLE lines"
            " (number INTEGER PRIMARY KEY, custom_id, true_label, true_labels, split, file, met)"
        )
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, 0)",
            (
                (
                    line.number,
                    line.custom_id,
                    line.true_label,
                    orjson.dumps(line.true_labels),
                    line.split,
                    line.file,
                )
                for line in lines
                if line.file is not None
            ),
        )
        self._database.execute("CREATE INDEX by_file ON lines (file)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def lines_of(self, file: str, after: int) -> Iterator[Line]:
        """The lines behind a number that name a file, in their order; all of them may name one."""
        rows = self._database.execute(
            f"SELECT {COLUMNS} FROM lines WHERE file = ? AND number > ? ORDER BY number",  # noqa: S608 - a constant
            (file, after),
        )
        return map(_line, rows)

    def meet(self, file: str) -> bool:
        """Remember that the archive has a file; False when it was met before, or no line names it."""
        met = self._database.execute("UPDATE lines SET met = 1 WHERE file = ? AND met = 0", (file,))
        return met.rowcount > 0

    def missing(self, after: int) -> Iterator[Line]:
        """The lines behind a number whose files were not met, in their order."""
        rows = self._database.execute(
            f"SELECT {COLUMNS} FROM lines WHERE met = 0 AND number > ? ORDER BY number",  # noqa: S608 - a constant
            (after,),
        )
        return map(_line, rows)


def _line(row: tuple[int, str | None, str | None, bytes, str | None, str]) -> Line:
    number, custom_id, true_label, true_labels, split, file = row
    return Line(number, custom_id, true_label, split, file=file, true_labels=tuple(orjson.loads(true_labels)))
