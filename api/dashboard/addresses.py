"""Addresses of pages: what is asked for stands in the query, so that each can be kept and passed on."""

from typing import Final
from urllib.parse import urlencode

PAGE: Final = 50
"""Rows of a list."""


def address(path: str, **query: str | int | None) -> str:
    """A page with what is asked of it; what says nothing is left out."""
    said = {name: value for name, value in query.items() if value not in {None, ""}}
    return f"{path}?{urlencode(said)}" if said else path
