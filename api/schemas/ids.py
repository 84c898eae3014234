"""Ids on the wire: a prefix that says what it names, then the uuid's 32 hex digits."""

import re
import uuid

from jobs.errors import NotFoundError

_HEX = re.compile(r"[0-9a-f]{32}")


def job_id(value: uuid.UUID) -> str:
    """`job_` and the digits."""
    return f"job_{value.hex}"


def image_id(value: uuid.UUID) -> str:
    """`img_` and the digits."""
    return f"img_{value.hex}"


def worker_id(value: uuid.UUID) -> str:
    """`wrk_` and the digits."""
    return f"wrk_{value.hex}"


def action_id(value: uuid.UUID) -> str:
    """`act_` and the digits."""
    return f"act_{value.hex}"


def parse_job_id(value: str) -> uuid.UUID:
    """The uuid of a `job_...` id.

    Raises:
        NotFoundError: it is not the id of any job; answered exactly as an id that nobody has.
    """
    return _parse("job", value)


def parse_image_id(value: str) -> uuid.UUID:
    """The uuid of an `img_...` id.

    Raises:
        NotFoundError: it is not the id of any image; answered exactly as an id that nobody has.
    """
    return _parse("img", value)


def parse_worker_id(value: str) -> uuid.UUID:
    """The uuid of a `wrk_...` id.

    Raises:
        NotFoundError: it is not the id of any worker; answered exactly as an id that nobody has.
    """
    return _parse("wrk", value)


def parse_action_id(value: str) -> uuid.UUID:
    """The uuid of an `act_...` id.

    Raises:
        NotFoundError: it is not the id of any action; answered exactly as an id that nobody has.
    """
    return _parse("act", value)


def _parse(expected: str, value: str) -> uuid.UUID:
    prefix, _, digits = value.partition("_")
    if prefix != expected or not _HEX.fullmatch(digits):
        raise NotFoundError
    return uuid.UUID(digits)
