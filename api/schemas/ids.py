"""Ids on the wire: a prefix that says what it names, then the uuid's 32 hex digits."""

import re
import uuid

from jobs.errors import NotFoundError

_HEX = re.compile(r"[0-9a-f]{32}")

_PREFIXES = {
    "job_id": "job",
    "image_id": "img",
    "worker_id": "wrk",
    "action_id": "act",
    "key_id": "key",
    "endpoint_id": "whe",
    "delivery_id": "msg",
    "set_id": "ims",
    "version_id": "isv",
}
PATTERNS = {name: f"^{prefix}_[0-9a-f]{{32}}$" for name, prefix in _PREFIXES.items()}
"""What a parameter that is an id looks like; one that does not is answered as unknown."""


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


def key_id(value: uuid.UUID) -> str:
    """`key_` and the digits."""
    return f"key_{value.hex}"


def endpoint_id(value: uuid.UUID) -> str:
    """`whe_` and the digits."""
    return f"whe_{value.hex}"


def message_id(value: uuid.UUID) -> str:
    """`msg_` and the digits."""
    return f"msg_{value.hex}"


def set_id(value: uuid.UUID) -> str:
    """`ims_` and the digits."""
    return f"ims_{value.hex}"


def version_id(value: uuid.UUID) -> str:
    """`isv_` and the digits."""
    return f"isv_{value.hex}"


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


def parse_key_id(value: str) -> uuid.UUID:
    """The uuid of a `key_...` id.

    Raises:
        NotFoundError: it is not the id of any key; answered exactly as an id that nobody has.
    """
    return _parse("key", value)


def parse_endpoint_id(value: str) -> uuid.UUID:
    """The uuid of a `whe_...` id.

    Raises:
        NotFoundError: it is not the id of any endpoint; answered exactly as an id that nobody has.
    """
    return _parse("whe", value)


def parse_message_id(value: str) -> uuid.UUID:
    """The uuid of a `msg_...` id.

    Raises:
        NotFoundError: it is not the id of any message; answered exactly as an id that nobody has.
    """
    return _parse("msg", value)


def parse_set_id(value: str) -> uuid.UUID:
    """The uuid of an `ims_...` id.

    Raises:
        NotFoundError: it is not the id of any image set; answered exactly as an id that nobody has.
    """
    return _parse("ims", value)


def parse_version_id(value: str) -> uuid.UUID:
    """The uuid of an `isv_...` id.

    Raises:
        NotFoundError: it is not the id of any version; answered exactly as an id that nobody has.
    """
    return _parse("isv", value)


def _parse(expected: str, value: str) -> uuid.UUID:
    prefix, _, digits = value.partition("_")
    if prefix != expected or not _HEX.fullmatch(digits):
        raise NotFoundError
    return uuid.UUID(digits)
