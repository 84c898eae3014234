"""What the database says when something is wrong."""

from sqlalchemy.exc import DBAPIError


def first_line(error: DBAPIError) -> str:
    """What it is, without the hints and positions that follow."""
    return next(iter(str(error.orig).splitlines()), type(error.orig).__name__)
