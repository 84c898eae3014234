"""A form that is sent twice and does one thing: its page is given a word that stands in a hidden field."""

import secrets
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from api.dashboard.forms import Form
from api.deps import Services
from api.once import in_turn
from jobs import idempotency
from jobs.idempotency import Once, make_once
from models.types import Made

Thing = TypeVar("Thing")


def new_once() -> str:
    """For the hidden field `once` of a form, another one each time that its page is shown."""
    return secrets.token_hex(16)


def once_of(form: Form, made: Made, where: str, said: Any) -> Once:
    """The key of what a form makes, of its page and of all that it says of the thing.

    So whoever goes back, says something else and sends it makes another thing.

    Raises:
        InvalidRequestError: the field is empty.
        InvalidIdempotencyKeyError: what stands in it comes from no page of ours.
    """
    fingerprint = idempotency.fingerprint_of(where, said)
    key = idempotency.check_key([f"page-{form.text('once')}-{fingerprint}"])
    assert key is not None
    return Once(key, fingerprint, made)


async def do_once(
    services: Services, tenant: str, once: Once, do: Callable[[Session, uuid.UUID | None], Thing]
) -> Thing | None:
    """Do what a form asks for, in a transaction; None where that was done before.

    `do` is given the id that a row which it makes must have.

    Raises:
        IdempotencyKeyInUseError: another request has been at it for long.
    """

    def act(session: Session) -> Thing | None:
        (done, new) = make_once(session, tenant, once, lambda made_id: [do(session, made_id)], lambda _: [])
        return done[0] if new else None

    async def attempt() -> Thing | None:
        async with services.sessions.begin() as session:
            return await session.run_sync(act)

    return await in_turn(attempt)
