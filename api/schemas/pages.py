"""Pages of things that are listed by their ids, newest first."""

import base64
import binascii
import uuid

from jobs.errors import InvalidRequestError


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
