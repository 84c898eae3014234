"""What everything has in common that clients send."""

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """What clients send: unknown fields and loose types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


def storable(value: str) -> str:
    """The text, unless the database could not hold it."""
    if "\x00" in value:
        raise ValueError("the character NUL is not allowed")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("lone surrogates are not allowed")
    return value
