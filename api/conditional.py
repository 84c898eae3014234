"""Conditional requests (RFC 9110, 13): tags of what was answered, and telling whether a client has it."""

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import Header

_TAG = re.compile(r'(?:W/)?("[^"]*")')

REVALIDATED = "private, no-cache"
"""`Cache-Control` of what may be kept, by its client alone, and must be asked for again before each use."""

IfNoneMatch = Annotated[
    list[str] | None,
    Header(description="ETags that the client holds: 304 when one of them is still that of the answer."),
]


def etag_of(*parts: bytes | str, weak: bool = False) -> str:
    """The entity tag of what these parts make up.

    Weak says the same content, perhaps in other bytes; ranges need a strong one.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        # with its length: parts that are cut elsewhere are other parts
        digest.update(len(data).to_bytes(8, "big") + data)
    tag = f'"{digest.hexdigest()[:32]}"'
    return f"W/{tag}" if weak else tag


def matches(if_none_match: Sequence[str] | None, etag: str) -> bool:
    """Whether the client holds this very answer: its header's lines, by weak comparison, `*` for any."""
    lines = if_none_match or ()
    if any(line.strip() == "*" for line in lines):
        return True
    return any(tag == etag.removeprefix("W/") for line in lines for tag in _TAG.findall(line))
