"""What a client would like (RFC 7240): of `Prefer`, the `wait` that turns a poll into a long one."""

import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import Header

# what stands between commas, or semicolons, that are not inside a quoted string; one that nobody closed
# reaches to the end, and no input makes either go back over what it read
_MEMBER = re.compile(r'(?:[^",]|"(?:\\.|[^"\\])*"?)+')
_PARAMETER = re.compile(r'(?:[^";]|"(?:\\.|[^"\\])*"?)+')

Prefer = Annotated[
    list[str] | None,
    Header(description="`wait=30`: answer once there is news of the job, after 30 seconds at the latest."),
]


def wait_seconds(prefer: Sequence[str] | None, longest: float) -> int | None:
    """The seconds to wait by the first `wait` of the header's lines, `longest` at most.

    None without one, or when it is no number: a preference that cannot be understood is ignored.
    """
    for member in _MEMBER.findall(",".join(prefer or ())):
        preference = _PARAMETER.findall(member) or [""]
        name, _, value = preference[0].partition("=")
        if name.strip().lower() == "wait":
            seconds = value.strip().removeprefix('"').removesuffix('"')
            known = seconds.isascii() and seconds.isdigit()
            # by way of float, which any number of digits fits into
            return int(min(float(seconds), longest)) if known else None
    return None
