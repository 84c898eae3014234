"""Webhook endpoints: whether they are told of jobs, and what came of every message."""

import uuid
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from api.dashboard.addresses import PAGE, address, cut_page
from api.dashboard.forms import read_form
from api.dashboard.once import do_once, new_once, once_of
from api.dashboard.pages import go, page
from api.dashboard.visitor import Managing, Visitor
from api.deps import ReadingDep, Services, ServicesDep
from api.schemas import ids
from api.schemas.pages import decode_token
from api.schemas.webhooks import Rotation
from api.verification import verify
from jobs import audit, deliveries, endpoints
from jobs.endpoints import Changes
from jobs.errors import NotFoundError
from models.types import EndpointState, Made
from models.webhook import WebhookDelivery, WebhookEndpoint

router = APIRouter()

HERE: Final = "/admin/webhooks"


@router.get("/webhooks")
async def list_endpoints(
    request: Request, visitor: Managing, session: ReadingDep, page_token: str | None = None
) -> Response:
    """All endpoints that the visitor sees, newest first."""
    return page(request, "webhooks.html", visitor, **await _listed(session, visitor, page_token))


@router.get("/webhooks/rows")
async def list_endpoint_rows(
    request: Request, visitor: Managing, session: ReadingDep, page_token: str | None = None
) -> Response:
    """The table alone, when something has changed."""
    return page(request, "webhooks_rows.html", visitor, **await _listed(session, visitor, page_token))


@router.get("/webhooks/{endpoint_id}")
async def show_endpoint(
    request: Request,
    endpoint_id: str,
    visitor: Managing,
    session: ReadingDep,
    page_token: str | None = None,
) -> Response:
    """An endpoint, and the messages to it with what came of every try."""
    return page(request, "webhook.html", visitor, **await _whole(session, visitor, endpoint_id, page_token))


@router.get("/webhooks/{endpoint_id}/news")
async def show_endpoint_news(
    request: Request,
    endpoint_id: str,
    visitor: Managing,
    session: ReadingDep,
    page_token: str | None = None,
) -> Response:
    """What of it changes while it is looked at."""
    return page(
        request, "webhook_news.html", visitor, **await _whole(session, visitor, endpoint_id, page_token)
    )


@router.post("/webhooks/{endpoint_id}/verify")
async def verify_endpoint(
    request: Request, endpoint_id: str, visitor: Managing, services: ServicesDep
) -> Response:
    """Send the challenge once more."""
    form = await read_form(request)
    async with services.reading() as session:
        row = await _find(session, visitor, endpoint_id)
    row = await verify(services, row, _noting(visitor, row, "endpoint.verified", form.reason()))
    enabled = row.state == EndpointState.ENABLED
    return go(f"{HERE}/{endpoint_id}", "endpoint-verified" if enabled else "endpoint-not-verified")


@router.post("/webhooks/{endpoint_id}/disable")
async def disable_endpoint(
    request: Request, endpoint_id: str, visitor: Managing, services: ServicesDep
) -> Response:
    """Tell it nothing more."""
    await _change(request, endpoint_id, visitor, services, enabled=False)
    return go(f"{HERE}/{endpoint_id}", "endpoint-disabled")


@router.post("/webhooks/{endpoint_id}/enable")
async def enable_endpoint(
    request: Request, endpoint_id: str, visitor: Managing, services: ServicesDep
) -> Response:
    """Tell it again; one that was never verified waits for that."""
    row = await _change(request, endpoint_id, visitor, services, enabled=True)
    enabled = row.state == EndpointState.ENABLED
    return go(f"{HERE}/{endpoint_id}", "endpoint-enabled" if enabled else None)


@router.post("/webhooks/{endpoint_id}/rotate")
async def rotate_secret(
    request: Request, endpoint_id: str, visitor: Managing, services: ServicesDep
) -> Response:
    """Give it another secret and show that, on this answer alone; a form that is sent twice gives it one."""
    form = await read_form(request)
    keep_s = form.whole("keep_previous_s")
    wanted = Rotation.model_validate({} if keep_s is None else {"keep_previous_s": keep_s})
    async with services.reading() as session:
        row = await _find(session, visitor, endpoint_id)

    def rotate(session: Session, _: uuid.UUID | None) -> WebhookEndpoint:
        rotated = endpoints.rotate_secret(session, row.tenant, row.id, wanted.keep())
        _noting(visitor, row, "endpoint.secret_rotated", form.reason())(session)
        return rotated

    once = once_of(form, Made.ENDPOINT, request.url.path, wanted.model_dump(mode="json"))
    rotated = await do_once(services, row.tenant, once, rotate)
    if rotated is None:
        return go(f"{HERE}/{endpoint_id}", "secret-rotated-before")
    return page(
        request,
        "shown_once.html",
        visitor,
        title="The new secret",
        name=rotated.url,
        secret=rotated.secret,
        about="messages are signed with it from now on.",
        back=f"{HERE}/{endpoint_id}",
        back_name="To the endpoint",
    )


@router.post("/webhooks/{endpoint_id}/delete")
async def delete_endpoint(
    request: Request, endpoint_id: str, visitor: Managing, services: ServicesDep
) -> Response:
    """Forget it, and its secrets."""
    form = await read_form(request)
    async with services.reading() as session:
        row = await _find(session, visitor, endpoint_id)

    def delete(session: Session) -> None:
        endpoints.delete_endpoint(session, row.tenant, row.id)
        _noting(visitor, row, "endpoint.deleted", form.reason())(session)

    async with services.sessions.begin() as session:
        await session.run_sync(delete)
    return go(HERE, "endpoint-deleted")


@router.post("/webhooks/{endpoint_id}/deliveries/{delivery_id}/send-again")
async def send_again(
    request: Request, endpoint_id: str, delivery_id: str, visitor: Managing, services: ServicesDep
) -> Response:
    """Have a message tried now, whatever became of it; a form that is sent twice has it tried once."""
    form = await read_form(request)
    known = ids.parse_message_id(delivery_id)
    async with services.reading() as session:
        row = await _find(session, visitor, endpoint_id)

    def send(session: Session, _: uuid.UUID | None) -> WebhookDelivery:
        again = deliveries.redeliver(session, row.tenant, row.id, known)
        audit.note(session, visitor.actor, "message.sent_again", ids.message_id(known), tenant=row.tenant)
        return again

    once = once_of(form, Made.ENDPOINT, request.url.path, None)
    sent = await do_once(services, row.tenant, once, send)
    return go(f"{HERE}/{endpoint_id}", "message-sent-again" if sent else "message-sent-before")


async def _change(
    request: Request, endpoint_id: str, visitor: Visitor, services: Services, *, enabled: bool
) -> WebhookEndpoint:
    form = await read_form(request)
    async with services.reading() as session:
        row = await _find(session, visitor, endpoint_id)

    def change(session: Session) -> WebhookEndpoint:
        changed = endpoints.change_endpoint(session, row.tenant, row.id, Changes(enabled=enabled))
        verb = "endpoint.enabled" if enabled else "endpoint.disabled"
        _noting(visitor, row, verb, form.reason())(session)
        return changed

    async with services.sessions.begin() as session:
        return await session.run_sync(change)


def _noting(
    visitor: Visitor, row: WebhookEndpoint, verb: str, reason: str | None
) -> Callable[[Session], None]:
    def note(session: Session) -> None:
        target = ids.endpoint_id(row.id)
        audit.note(session, visitor.actor, verb, target, tenant=row.tenant, reason=reason)

    return note


async def _listed(session: AsyncSession, visitor: Visitor, page_token: str | None) -> dict[str, Any]:
    before = decode_token(page_token)
    found = await session.scalars(endpoints.endpoints_page(visitor.tenant, before=before, limit=PAGE))
    rows, pager = cut_page(found.all(), page_token, HERE)
    return {
        "ids": ids,
        "rows": rows,
        "rows_url": address(f"{HERE}/rows", page_token=page_token),
        **pager,
    }


async def _whole(
    session: AsyncSession, visitor: Visitor, wire_id: str, page_token: str | None
) -> dict[str, Any]:
    before = decode_token(page_token)
    row = await _find(session, visitor, wire_id)
    found = await session.scalars(deliveries.deliveries_page(row.id, before=before, limit=PAGE))
    here = f"{HERE}/{ids.endpoint_id(row.id)}"
    messages, pager = cut_page(found.all(), page_token, here)
    return {
        "ids": ids,
        "row": row,
        "here": here,
        "once": new_once(),
        "messages": messages,
        "news_url": address(f"{here}/news", page_token=page_token),
        **pager,
    }


async def _find(session: AsyncSession, visitor: Visitor, wire_id: str) -> WebhookEndpoint:
    row = await session.scalar(endpoints.endpoint_of(visitor.tenant, ids.parse_endpoint_id(wire_id)))
    if row is None:
        raise NotFoundError
    return row
