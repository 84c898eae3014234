"""Usage on the wire: what keys did by day, and what of a tenant counts against its quota now."""

import base64
import binascii
import math
import struct
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

from pydantic import BaseModel, Field

from api.schemas.ids import key_id
from jobs.admission import Quota
from jobs.errors import InvalidRequestError
from jobs.reservations import Held
from jobs.usage import Counts, KeyDay
from models.api_key import KeyUsage

_PLACE = struct.Struct(">I16s")


class CountsView(BaseModel):
    """What was done."""

    requests: int
    refused: int = Field(description="Requests answered 429, by a rate limit or a quota.")
    received_bytes: int = Field(description="Of the bodies of requests.")
    sent_bytes: int = Field(description="Of the bodies of answers.")
    jobs: int = Field(description="Jobs accepted; one that was sent again counts once.")
    items: int = Field(description="Items of these jobs.")
    gflop: float = Field(description="Estimated work of these jobs.")


class DayUsage(CountsView):
    """What one key did on one day."""

    key_id: str
    day: date = Field(description="In UTC.")


class QuotaView(BaseModel):
    """What counts against a quota now."""

    held: int
    limit: int


class WorkQuotaView(BaseModel):
    """What counts against the quota of estimated work now."""

    held: float
    limit: float | None = Field(description="Null where there is none.")


class QuotasView(BaseModel):
    """What of the tenant waits or runs, and how much may."""

    items: QuotaView
    input_bytes: QuotaView = Field(description="Bytes of the pictures of jobs that have not ended.")
    gflop: WorkQuotaView = Field(description="Estimated work that waits or runs.")


class UsagePage(BaseModel):
    """A page of days, newest first; what they all come to, on this page and others; and the quotas."""

    first_day: date
    last_day: date
    items: list[DayUsage]
    totals: CountsView
    quotas: QuotasView
    next_page_token: str | None


def page(
    rows: Sequence[KeyUsage], limit: int, first: date, last: date, totals: Counts, held: Held, quota: Quota
) -> UsagePage:
    """The page of one row more than it may hold, if there is one more."""
    shown = rows[:limit]
    names = CountsView.model_fields
    return UsagePage(
        first_day=first,
        last_day=last,
        items=[
            DayUsage(key_id=key_id(row.key_id), day=row.day, **{name: getattr(row, name) for name in names})
            for row in shown
        ],
        totals=CountsView(**asdict(totals)),
        quotas=QuotasView(
            items=QuotaView(held=held.items, limit=quota.items),
            input_bytes=QuotaView(held=held.input_bytes, limit=quota.input_bytes),
            gflop=WorkQuotaView(held=held.gflop, limit=quota.gflop if math.isfinite(quota.gflop) else None),
        ),
        next_page_token=_encode_token(shown[-1]) if len(rows) > limit else None,
    )


def decode_token(token: str | None) -> KeyDay | None:
    """The key and day that a token stands behind; none without a token.

    Raises:
        InvalidRequestError: it is not a token of ours.
    """
    if token is None:
        return None
    try:
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        ordinal, key = _PLACE.unpack(packed)
        return KeyDay(uuid.UUID(bytes=key), date.fromordinal(ordinal))
    except (binascii.Error, ValueError, OverflowError, struct.error):
        raise InvalidRequestError(
            "`page_token` is not one that this API gave.", pointer="/page_token"
        ) from None


def _encode_token(row: KeyUsage) -> str:
    packed = _PLACE.pack(row.day.toordinal(), row.key_id.bytes)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")
