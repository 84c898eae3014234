"""Addresses of pages: what is asked for stands in the query, so that each can be kept and passed on."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

from api.schemas.pages import Row, cut

PAGE: Final = 50
"""Rows of a list."""


def address(path: str, **query: str | int | None) -> str:
    """A page with what is asked of it; what says nothing is left out."""
    said = {name: value for name, value in query.items() if value not in {None, ""}}
    return f"{path}?{urlencode(said)}" if said else path


def cut_page(
    found: Sequence[Row], page_token: str | None, path: str, **query: str | int | None
) -> tuple[Sequence[Row], dict[str, Any]]:
    """The rows of a page, out of one more than it may hold, and what its pager is drawn with."""
    rows, token = cut(found, PAGE)
    return rows, {
        "next_url": token and address(path, **query, page_token=token),
        "first_url": address(path, **query),
        "is_first": page_token is None,
    }
