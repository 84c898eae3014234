"""Usage: what keys did by day, and what of their tenant counts against its quotas now."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from api.deps import ReaderOrAdmin, ReadingDep, ServicesDep
from api.schemas import usage as schema
from api.schemas.ids import parse_key_id
from api.schemas.wire import DATED
from jobs import keys, usage
from jobs.admission import read_held
from jobs.errors import InvalidRequestError, NotFoundError
from models.types import Scope

router = APIRouter(prefix="/v1/usage", tags=["usage"])

MAX_PAGE = 1_000
DEFAULT_DAYS = 30
MAX_DAYS = 366


@router.get("", summary="Look at usage", responses={404: {"description": "There is no such key."}})
async def read_usage(
    caller: ReaderOrAdmin,
    session: ReadingDep,
    services: ServicesDep,
    first: Annotated[date | None, DATED, Query(alias="from", description="The first day, in UTC.")] = None,
    last: Annotated[
        date | None, DATED, Query(alias="to", description="The last day; today unless given.")
    ] = None,
    key_id: Annotated[str | None, Query(description="Of this key only.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 200,
    page_token: str | None = None,
) -> schema.UsagePage:
    """What your key did by day; of a key with the scope `admin`, what all keys of its tenant did.

    The last 30 days unless other days are given. What was done in the last seconds may be missing.
    """
    last = last or datetime.now(UTC).date()
    first = first or last - min(timedelta(DEFAULT_DAYS - 1), last - date.min)
    _check_days(first, last)
    asked = None if key_id is None else parse_key_id(key_id)
    if Scope.ADMIN not in caller.scopes:
        if asked not in {None, caller.key_id}:
            raise NotFoundError
        asked = caller.key_id
    elif asked is not None and await session.scalar(keys.key_by_id(caller.tenant, asked)) is None:
        raise NotFoundError
    behind = schema.decode_token(page_token)
    rows = await session.scalars(
        usage.usage_page(caller.tenant, asked, first, last, behind=behind, limit=limit)
    )
    totals = await session.run_sync(usage.read_total, caller.tenant, asked, first, last)
    held = await session.run_sync(read_held, caller.tenant)
    return schema.page(rows.all(), limit, first, last, totals, held, services.settings.quota())


def _check_days(first: date, last: date) -> None:
    if first > last:
        raise InvalidRequestError("`from` is later than `to`.", pointer="/from")
    if (last - first).days >= MAX_DAYS:
        raise InvalidRequestError(f"At most {MAX_DAYS} days at a time.", pointer="/from")
