"""Lists of jobs, workers, keys: as wide as they are in a pipe, folded at a terminal, an id never cut."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cli.console import console

FOLDED: Final = 12
"""A column is folded to so many characters, no further: then rows are told one below the other."""
GAP: Final = 2


def print_rows(heads: Sequence[str], rows: Sequence[Sequence[str]], to: Console = console) -> None:
    """A table of cells with markup, whose first column is what people copy."""
    columns = zip(heads, *rows, strict=True)
    widths = [max(1, *(Text.from_markup(cell).cell_len for cell in column)) for column in columns]
    gaps = GAP * (len(widths) - 1)
    if not to.is_terminal:
        # whoever reads a pipe finds each row on a line of its own
        Console(file=to.file, width=sum(widths) + gaps, highlight=False).print(_table(heads, rows))
    elif widths[0] + sum(min(width, FOLDED) for width in widths[1:]) + gaps <= to.width:
        to.print(_table(heads, rows))
    else:
        for first, *others in rows:
            to.print(first, soft_wrap=True)
            told = [f"{head} {cell}".strip() for head, cell in zip(heads[1:], others, strict=True) if cell]
            to.print(Padding(", ".join(told), (0, 0, 0, GAP)))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column(heads[0], no_wrap=True)
    for head in heads[1:]:
        table.add_column(head, overflow="fold", min_width=min(FOLDED, _longest_word(head)))
    for row in rows:
        table.add_row(*row)
    return table


def _longest_word(text: str) -> int:
    return max((len(word) for word in text.split()), default=0)
