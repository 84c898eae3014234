"""Pages of things that are listed by their ids, newest first."""

import base64
import binascii
import uuid
from collections.abc import Sequence
from typing import Protocol, TypeVar

from jobs.errors import InvalidRequestError


class Listed(Protocol):
    """A row that is listed."""

    @property
    def id(self) -> uuid.UUID:
        """By which it is found in its list."""


Row = TypeVar("Row", bound=Listed)


def cut(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], str | None]:
    """The rows of a page, and the token of the next, out of one row more than it may hold."""
    shown = rows[:limit]
    return shown, encode_token(shown[-1].id) if len(rows) > limit else None


def encode_token(last: uuid.UUID) -> str:
    """An opaque token for the page behind the last thing of this one."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def decode_token(token: str | None) -> uuid.UUID | None:
    """The thing that a token stands behind; none without a token.

    Raises:
        InvalidRequestError: it is not a token of ours.
    """
    if token is None:
        return None
    try:
        return uuid.UUID(bytes=base64.b64decode(token + "==", altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise InvalidRequestError(
            "`page_token` is not one that this API gave.", pointer="/page_token"
        ) from None
