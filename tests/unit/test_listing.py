"""How lists are told where there is room for them, and where there is not."""

import io

import pytest
from rich.console import Console

from cli.listing import print_rows

HEADS = ("job", "type", "model", "state", "created", "tags")
ID = "job_01a2207c570d78df990122077815d967"
ROW = (ID, "logit_lens", "google/siglip-base-patch16-224", "[red]failed[/]", "2026-11-28 03:44", "set:first")


def told(*, width: int, terminal: bool) -> list[str]:
    file = io.StringIO()
    to = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    print_rows(HEADS, [ROW, ROW], to)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [200, 80, 20])
def test_in_a_pipe_each_row_is_a_whole_line(width: int) -> None:
    head, *rows = told(width=width, terminal=False)
    assert head.split() == list(HEADS)
    assert [row.split() for row in rows] == [
        [ID, "logit_lens", ROW[2], "failed", "2026-11-28", "03:44", "set:first"]
    ] * 2


@pytest.mark.parametrize("width", [200, 100, 80, 40])
def test_at_a_terminal_no_id_is_cut_and_no_line_is_too_long(width: int) -> None:
    lines = told(width=width, terminal=True)
    assert sum(line.startswith(ID) for line in lines) == 2
    assert max(len(line) for line in lines) <= width
    text = "".join("".join(lines).split())
    for word in ("logit_lens", "failed", "03:44"):
        assert text.count(word) == 2 or width == 100  # folded, a word may stand on two lines
