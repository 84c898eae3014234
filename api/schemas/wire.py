"""What everything has in common that clients send."""

import re
from itertools import combinations
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:$|[Tt ])")


class Wire(BaseModel):
    """What clients send: unknown fields and loose types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


def whole(value: Any) -> Any:
    """The value; as an integer where it is one that was written as 3.0."""
    # to JSON Schema 2.0 is an integer, and to many clients the same number
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)
"""Of an integer that may be written as 3.0; behind its bounds: `Annotated[int, Field(ge=1), WHOLE]`."""


def _given(value: Any) -> Any:
    if value is None:
        raise ValueError("leave it out rather than give null")
    return value


GIVEN = BeforeValidator(_given)
"""Of a field that may be absent but not null: which of the two was meant would be a guess."""


def without_default(schema: dict[str, Any]) -> None:
    """Leave the default out of a field's schema: null is what it has that was not sent, and none to send."""
    schema.pop("default", None)


def not_one_of(*names: str) -> dict[str, Any]:
    """The schema of an object that has several of these fields, or none: what is not to be sent.

    Generated clients would take alternatives for as many types without fields.
    """
    return {
        "anyOf": [
            *(_has(*pair) for pair in combinations(names, 2)),
            {"not": {"anyOf": [_has(name) for name in names]}},
        ]
    }


def _has(*names: str) -> dict[str, Any]:
    return {"required": list(names), "properties": {name: {} for name in names}}


def _dated(value: Any) -> Any:
    # pydantic takes a number for the seconds since 1970
    if not isinstance(value, str) or not _DATE.match(value):
        raise ValueError("give it as RFC 3339 says, like 2026-11-28 or 2026-11-28T01:18:10Z")
    return value


DATED = BeforeValidator(_dated)
"""Of a day or a time."""


def storable(value: str) -> str:
    """The text, unless the database could not hold it."""
    if "\x00" in value:
        raise ValueError("the character NUL is not allowed")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("lone surrogates are not allowed")
    return value
