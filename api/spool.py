"""How much of bodies one process holds at a time, in memory and in files; half of it for one tenant."""

from collections import Counter
from dataclasses import dataclass, field
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
    by_tenant: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a body may be, how long its client is waited for in all, and of what it holds some.

    `advice` is told of one that is larger.
    """

    limit_bytes: int
    seconds: float
    spool: Spool
    advice: str


class Hold:
    """What one request holds of it."""

    def __init__(self, spool: Spool) -> None:
        self._tenant = ""
        self._spool = spool
        self._bounds: Bounds | None = None
        self._bytes = 0
        self._released = False

    @property
    def tenant(self) -> str:
        """Whose request it is; empty as long as that is not known."""
        return self._tenant

    @property
    def bounds(self) -> Bounds | None:
        """What the request's route allows its body, where that is not what any body may."""
        return self._bounds

    def widen(self, bounds: Bounds) -> None:
        """Have other bounds for a body that is kept elsewhere than others are, before any of it is read.

        Raises:
            RuntimeError: some of it was, and is held of what others hold too.
        """
        if self._bytes:
            raise RuntimeError("a request that holds some of its body cannot hold it elsewhere")
        self._bounds, self._spool = bounds, bounds.spool

    def belong_to(self, tenant: str) -> None:
        """Say whose request it is, before anything of its body is held: what is held counts for somebody.

        Raises:
            RuntimeError: something is, which would never be given back to whom it was counted for.
        """
        if self._bytes:
            raise RuntimeError("a request that holds some of its body cannot be given to a tenant")
        self._tenant = tenant

    def enter(self, scope: Scope) -> None:
        """Be the hold of a request, whose state it is kept in."""
        scope.setdefault("state", {})[_STATE] = self

    def grow_to(self, size_bytes: int) -> None:
        """Hold so much, unless it is less than before.

        Raises:
            UploadsBusyError: others hold too much for that, of all or of the tenant; alone, a request may
                hold any body.
        """
        more = size_bytes - self._bytes
        if more <= 0 or self._released:
            return
        others = self._spool.held_bytes - self._bytes
        own = self._spool.by_tenant[self._tenant] - self._bytes
        limit = self._spool.limit_bytes
        if size_bytes > SMALL_BYTES and (
            (others and others + size_bytes > limit) or (own and own + size_bytes > limit // 2)
        ):
            raise UploadsBusyError
        self._add(more)

    def grow_by(self, more_bytes: int) -> None:
        """Hold so much more, of what the body only names.

        Raises:
            UploadsBusyError: as `grow_to`.
        """
        self.grow_to(self._bytes + more_bytes)

    def _add(self, more: int) -> None:
        self._bytes += more
        self._spool.held_bytes += more
        self._spool.by_tenant[self._tenant] += more
        if not self._spool.by_tenant[self._tenant]:
            del self._spool.by_tenant[self._tenant]

    def release(self) -> None:
        """Hold nothing any more: the body was read, and what is kept of it lies elsewhere."""
        self._add(-self._bytes)
        self._released = True


def hold_of(request: HTTPConnection) -> Hold:
    """What a request holds."""
    return cast("Hold", request.scope["state"][_STATE])


def release_body(request: HTTPConnection) -> None:
    """Say that nothing of a request's body is held any more, before the request itself is over."""
    hold_of(request).release()
