"""A form that is sent twice and makes one thing: its page is given a word that stands in a hidden field."""

import secrets
from typing import Any

from api.dashboard.forms import Form
from jobs import idempotency
from jobs.idempotency import Once
from models.types import Made


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
