"""A part of a file (RFC 9110, 14): single ranges of bytes, so that a download that broke off can go on."""

import re
from http import HTTPStatus
from typing import Annotated

from fastapi import Header

from api.errors import RangeNotSatisfiableError
from jobs.objects import Span

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)

Range = Annotated[
    str | None,
    Header(
        alias="Range",
        description="`bytes=1000-`: what follows the first 1,000 bytes, or any other single range of bytes.",
    ),
]
IfRange = Annotated[
    str | None, Header(description="The ETag of what the client has a part of: else all of it is sent.")
]


def wants_part(range_: str | None, if_range: str | None, etag: str) -> bool:
    """Whether a part is asked for, of what the client began to read.

    Several ranges, or what is none, are ignored, as that is allowed and all of it is an answer to them.
    """
    # only a strong tag that is the same says that the bytes are; a date says nothing here
    return _parse(range_) is not None and (if_range is None or if_range.strip() == etag)


def cut(
    range_: str | None, if_range: str | None, etag: str, size_bytes: int
) -> tuple[Span, HTTPStatus, dict[str, str]]:
    """What is sent of so many bytes, and the status and the headers that say so.

    Raises:
        RangeNotSatisfiableError: a part is asked for, and nothing of it is there.
    """
    headers = {"Accept-Ranges": "bytes"}
    if not wants_part(range_, if_range, etag):
        return Span(0, size_bytes), HTTPStatus.OK, {**headers, "Content-Length": str(size_bytes)}
    span = _part_of(range_, size_bytes)
    last = span.offset + span.length - 1
    headers |= {
        "Content-Length": str(span.length),
        "Content-Range": f"bytes {span.offset}-{last}/{size_bytes}",
    }
    return span, HTTPStatus.PARTIAL_CONTENT, headers


def _part_of(range_: str | None, size_bytes: int) -> Span:
    first, last = _parse(range_) or (0, None)
    if first is None:
        # the last ones
        start, end = max(size_bytes - (last or 0), 0), size_bytes
    else:
        start, end = first, size_bytes if last is None else min(last + 1, size_bytes)
    if start >= end:
        raise RangeNotSatisfiableError(size_bytes)
    return Span(start, end - start)


def _parse(range_: str | None) -> tuple[int | None, int | None] | None:
    """The first and the last byte; without a first one, how many of the last; None for what is no range."""
    found = _RANGE.fullmatch((range_ or "").strip())
    if found is None or found.group(0).endswith("=-"):
        return None
    first, last = (int(digits) if digits else None for digits in found.groups())
    if first is not None and last is not None and first > last:
        return None
    return first, last
