"""How much of bodies one process holds at a time, in memory and in temporary files."""

from dataclasses import dataclass
from typing import cast

from starlette.requests import HTTPConnection
from starlette.types import Scope

from api.errors import UploadsBusyError

SMALL_BYTES = 1024 * 1024
"""A body up to so large is always taken: it is over before the others are."""
_STATE = "hold"


@dataclass(slots=True)
class Spool:
    """What all requests of a process hold together, and how much they may."""

    limit_bytes: int
    held_bytes: int = 0


class Hold:
    """What one request holds of it."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._bytes = 0
        self._released = False

    def enter(self, scope: Scope) -> None:
        """Be the hold of a request, whose state it is kept in."""
        scope.setdefault("state", {})[_STATE] = self

    def grow_to(self, size_bytes: int) -> None:
        """Hold so much, unless it is less than before.

        Raises:
            UploadsBusyError: others hold too much for that; alone, a request may hold any body.
        """
        more = size_bytes - self._bytes
        if more <= 0 or self._released:
            return
        others = self._spool.held_bytes - self._bytes
        if size_bytes > SMALL_BYTES and others and others + size_bytes > self._spool.limit_bytes:
            raise UploadsBusyError
        self._bytes = size_bytes
        self._spool.held_bytes += more

    def release(self) -> None:
        """Hold nothing any more: the body was read, and what is kept of it lies elsewhere."""
        self._spool.held_bytes -= self._bytes
        self._bytes = 0
        self._released = True


def release_body(request: HTTPConnection) -> None:
    """Say that nothing of a request's body is held any more, before the request itself is over."""
    cast("Hold", request.scope["state"][_STATE]).release()
