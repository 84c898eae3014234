"""Forms of pages: small, and read whole."""

from dataclasses import dataclass
from typing import Final

from fastapi import Request

from api.spool import Bounds, Spool, hold_of
from jobs.errors import InvalidRequestError

MAX_FIELDS: Final = 100
MAX_FIELD_CHARACTERS: Final = 100_000
MAX_FORM_BYTES: Final = 1_000_000
BOUNDS: Final = Bounds(MAX_FORM_BYTES, 30.0, Spool(64 * MAX_FORM_BYTES), "shorten what stands in it")
MAX_REASON: Final = 500
MAX_TENANT: Final = 200
MAX_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class Form:
    """What a form says, by the names of its fields."""

    fields: dict[str, list[str]]

    def text(self, name: str, *, required: bool = True) -> str:
        """What stands in a field, without blanks around it.

        Raises:
            InvalidRequestError: nothing does, and something must.
        """
        value = next(iter(self.fields.get(name, ())), "").strip()
        if required and not value:
            raise InvalidRequestError(f"Fill in: {name.replace('_', ' ')}.", pointer=f"/{name}")
        return value

    def texts(self, name: str) -> list[str]:
        """What stands in all fields of a name."""
        return [value for value in self.fields.get(name, ()) if value.strip()]

    def reason(self) -> str | None:
        """Why somebody does something, if they say."""
        return self.text("reason", required=False)[:MAX_REASON] or None

    def tenant(self) -> str:
        """Whose something is to be.

        Raises:
            InvalidRequestError: it does not say, or at length.
        """
        value = self.text("tenant")
        if len(value) > MAX_TENANT:
            raise InvalidRequestError(f"A tenant has at most {MAX_TENANT} characters.", pointer="/tenant")
        return value

    def whole(self, name: str) -> int | None:
        """A number without sign and fraction; none where the field is empty.

        Raises:
            InvalidRequestError: something else stands there.
        """
        value = self.text(name, required=False)
        if not value:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
            raise InvalidRequestError(f"Give a whole number: {name.replace('_', ' ')}.", pointer=f"/{name}")
        return int(value)

    def secret(self, name: str) -> str:
        """What stands in a field, as it is."""
        return next(iter(self.fields.get(name, ())), "")


async def read_form(request: Request) -> Form:
    """The fields of a form that brings no files.

    Raises:
        InvalidRequestError: it is larger than any form here is.
    """
    if int(request.headers.get("Content-Length", "0") or 0) > MAX_FORM_BYTES:
        raise InvalidRequestError("The form is too large.")
    # also of a body that does not say how long it is, and apart from what pictures have room in
    hold_of(request).widen(BOUNDS)
    async with request.form(max_files=0, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_CHARACTERS) as sent:
        fields: dict[str, list[str]] = {}
        for name, value in sent.multi_items():
            if not isinstance(value, str) or len(value) > MAX_FIELD_CHARACTERS or "\0" in value:
                raise InvalidRequestError("This field is too long, or no text.", pointer=f"/{name[:100]}")
            fields.setdefault(name, []).append(value)
    return Form(fields)
