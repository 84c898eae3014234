"""The Idempotency-Key of a request that makes something."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel

from jobs import idempotency
from jobs.errors import IdempotencyKeyInUseError
from jobs.idempotency import Once
from models.types import Made

Thing = TypeVar("Thing")

WAIT_SECONDS: Final = 60.0
"""So long a request waits for another one with its key."""
PAUSE_SECONDS: Final = (0.02, 0.5)
"""Between two looks at first, and at most."""

REPLAYED: Final = {"Idempotency-Replayed": "true"}
"""Headers of an answer that tells of what was made before."""

IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "For a day, this key stands for what is made: send it again without making it twice.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": idempotency.MAX_KEY,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
    },
}
"""For `openapi_extra={"parameters": [IDEMPOTENCY_KEY]}` of a route that takes one."""


def key_of(request: Request) -> str | None:
    """The key that the client sent.

    Raises:
        InvalidIdempotencyKeyError: it sent several, or one that is none.
    """
    return idempotency.check_key(request.headers.getlist("Idempotency-Key"))


def once_of(request: Request, made: Made, body: BaseModel | None = None) -> Once | None:
    """The client's key with the fingerprint of the request, whose body it has read; None without a key.

    Raises:
        InvalidIdempotencyKeyError: it sent several, or one that is none.
    """
    key = key_of(request)
    if key is None:
        return None
    asked = None if body is None else body.model_dump(mode="json")
    return Once(key, idempotency.fingerprint_of(request.url.path, asked), made)


async def in_turn(make: Callable[[], Awaitable[Thing]]) -> Thing:
    """Make a thing in a transaction, or find it, once nobody else with the same key is about to make it.

    Between two tries nothing is held: many that wait for one must not take the connections of all others.

    Raises:
        IdempotencyKeyInUseError: another request has been at it for WAIT_SECONDS.
    """
    clock = asyncio.get_running_loop().time
    until, (pause, longest) = clock() + WAIT_SECONDS, PAUSE_SECONDS
    while True:
        try:
            return await make()
        except IdempotencyKeyInUseError:
            if clock() > until:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, longest)
