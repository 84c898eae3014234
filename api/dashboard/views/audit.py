"""The audit: who did what, when, to what, and why."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.ext.asyncio import AsyncSession

from api.dashboard.addresses import PAGE, address, cut_page
from api.dashboard.pages import page
from api.dashboard.sheets import MEDIA_TYPE, line
from api.dashboard.visitor import Looking, Visitor
from api.deps import ReadingDep, Services, ServicesDep
from api.schemas.pages import cut, decode_token
from jobs import accounts
from jobs.audit import audit_page
from models.audit import AuditEntry

router = APIRouter()

HERE: Final = "/admin/audit"
MAX_ENTRIES: Final = 100_000
"""Of one sheet, the newest; a spreadsheet has room for ten times as many."""
ENTRIES_AT_ONCE: Final = 1_000
HEADS: Final = ("at", "actor", "verb", "target", "tenant", "matched", "filter", "reason")


@router.get("/audit")
async def list_entries(
    request: Request,
    visitor: Looking,
    session: ReadingDep,
    account: str = "",
    page_token: str | None = None,
) -> Response:
    """What was done, newest first: of one account, if one is named."""
    return page(request, "audit.html", visitor, **await _listed(session, visitor, account, page_token))


@router.get("/audit/rows")
async def list_entry_rows(
    request: Request,
    visitor: Looking,
    session: ReadingDep,
    account: str = "",
    page_token: str | None = None,
) -> Response:
    """The table alone, when something was done."""
    return page(request, "audit_rows.html", visitor, **await _listed(session, visitor, account, page_token))


@router.get("/audit.csv")
async def download_entries(visitor: Looking, services: ServicesDep, account: str = "") -> Response:
    """The same as a sheet."""
    headers = {"Content-Disposition": 'attachment; filename="audit.csv"'}
    return StreamingResponse(_lines(services, visitor, account), media_type=MEDIA_TYPE, headers=headers)


async def _listed(
    session: AsyncSession, visitor: Visitor, email: str, page_token: str | None
) -> dict[str, Any]:
    found = await _read(session, visitor, email, page_token, PAGE)
    rows, pager = cut_page(found, page_token, HERE, account=email)
    return {
        "rows": [(row, _shown(row)) for row in rows],
        "account": email,
        "here": HERE,
        "rows_url": address(f"{HERE}/rows", account=email, page_token=page_token),
        "sheet_url": address(f"{HERE}.csv", account=email),
        **pager,
    }


async def _read(
    session: AsyncSession, visitor: Visitor, email: str, page_token: str | None, limit: int
) -> Sequence[AuditEntry]:
    before, account_id = decode_token(page_token), None
    if email.strip():
        account = await session.scalar(accounts.account_named(email))
        if account is None:
            # nobody's: told as somebody who did nothing here
            return []
        account_id = account.id
    wanted = audit_page(visitor.tenant, before=before, account_id=account_id, limit=limit)
    return (await session.scalars(wanted)).all()


async def _lines(services: Services, visitor: Visitor, email: str) -> AsyncIterator[str]:
    """The sheet, some entries at a time: no connection is held while a browser reads."""
    yield line(HEADS)
    token: str | None = None
    for _ in range(MAX_ENTRIES // ENTRIES_AT_ONCE):
        async with services.reading() as session:
            found = await _read(session, visitor, email, token, ENTRIES_AT_ONCE)
        rows, token = cut(found, ENTRIES_AT_ONCE)
        yield "".join(
            line((row.at.isoformat(), *(getattr(row, name) for name in HEADS[1:-2]), _shown(row), row.reason))
            for row in rows
        )
        if token is None:
            return


def _shown(row: AuditEntry) -> str:
    """A filter in words that a reader can check."""
    return "" if row.filter is None else json.dumps(row.filter, ensure_ascii=False, sort_keys=True)
