"""Who looks at a page: an account that is signed in, what it may see, and what it may do."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from fastapi import Depends, Request

from api.dashboard.security import COOKIE
from api.deps import services_of
from jobs.accounts import find_signed_in
from jobs.audit import Actor
from jobs.errors import NotFoundError, RoleForbidsError, SignedOutError
from models.types import Role


class Right(Enum):
    """What a page may let somebody do, beside looking."""

    ACT = "act on jobs and image sets"
    RUN = "pause queues and drain workers, for everybody"
    MANAGE = "manage keys, webhooks and accounts"


@dataclass(frozen=True, slots=True)
class Visitor:
    """An account that is signed in; without a tenant it is the operator's, and sees those of all."""

    account_id: uuid.UUID
    session_id: uuid.UUID
    email: str
    role: Role
    tenant: str | None

    def may(self, right: Right) -> bool:
        """Whether its role allows this."""
        if right is Right.MANAGE:
            return self.role is Role.ADMIN
        if right is Right.RUN and self.tenant is not None:
            return False
        return self.role is not Role.VIEWER

    @property
    def may_act(self) -> bool:
        """For templates, as are the others: what is not allowed is not shown."""
        return self.may(Right.ACT)

    @property
    def may_run(self) -> bool:
        """Whether it may pause queues and drain workers."""
        return self.may(Right.RUN)

    @property
    def may_manage(self) -> bool:
        """Whether it may manage keys, webhooks and accounts."""
        return self.may(Right.MANAGE)

    @property
    def actor(self) -> Actor:
        """Who the audit says that it was."""
        return Actor(self.email, self.account_id)

    def sees(self, tenant: str) -> bool:
        """Whether a tenant's things are shown to it."""
        return self.tenant in {None, tenant}


async def find_visitor(request: Request) -> Visitor:
    """Who is signed in.

    Raises:
        SignedOutError: nobody is.
    """
    token = request.cookies.get(COOKIE)
    if not token:
        raise SignedOutError
    # not by the connections that writers take turns at: whoever looks is to wait for none of them
    async with services_of(request).reading() as session:
        try:
            row = await session.run_sync(find_signed_in, token)
        except NotFoundError:
            raise SignedOutError from None
    return Visitor(row.account_id, row.session_id, row.email, Role(row.role), row.tenant)


def _with(right: Right) -> Callable[..., Awaitable[Visitor]]:
    async def check(visitor: Annotated[Visitor, Depends(find_visitor)]) -> Visitor:
        if not visitor.may(right):
            raise RoleForbidsError(
                f"Your account ({visitor.role}) may not {right.value}: ask whoever manages accounts."
            )
        return visitor

    return check


Looking = Annotated[Visitor, Depends(find_visitor)]
Acting = Annotated[Visitor, Depends(_with(Right.ACT))]
Running = Annotated[Visitor, Depends(_with(Right.RUN))]
Managing = Annotated[Visitor, Depends(_with(Right.MANAGE))]
