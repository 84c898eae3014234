"""The Idempotency-Key of a request that makes something."""

from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel

from jobs import idempotency
from jobs.idempotency import Once
from models.types import Made

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
