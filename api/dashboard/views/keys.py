"""API keys: made and shown once, what they did, and revoked."""

import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api.dashboard.addresses import PAGE, cut_page
from api.dashboard.forms import Form, read_form
from api.dashboard.once import do_once, new_once, once_of
from api.dashboard.pages import go, page
from api.dashboard.visitor import Managing, Visitor
from api.deps import ReadingDep, ServicesDep
from api.schemas import ids
from api.schemas.api_keys import NewKey
from api.schemas.pages import decode_token
from jobs import audit, keys, usage
from jobs.errors import NotFoundError, RoleForbidsError
from models.api_key import ApiKey
from models.types import Made, Scope

router = APIRouter()

HERE: Final = "/admin/keys"
USAGE_DAYS: Final = 30


@router.get("/keys")
async def list_keys(
    request: Request, visitor: Managing, session: ReadingDep, page_token: str | None = None
) -> Response:
    """The keys that the visitor sees, newest first, with what they did lately."""
    before = decode_token(page_token)
    found = await session.scalars(keys.keys_page(visitor.tenant, before=before, limit=PAGE))
    rows, pager = cut_page(found.all(), page_token, HERE)
    now = datetime.now(UTC)
    since = now.date() - timedelta(days=USAGE_DAYS - 1)
    used = await session.execute(usage.usage_since([row.id for row in rows], since))
    return page(
        request,
        "keys.html",
        visitor,
        ids=ids,
        rows=[(row, _state(row, now)) for row in rows],
        usage={row.key_id: row for row in used},
        days=USAGE_DAYS,
        scopes=_scopes(visitor),
        default_scopes=keys.DEFAULT_SCOPES,
        default_tenant=keys.DEFAULT_TENANT,
        once=new_once(),
        **pager,
    )


@router.post("/keys")
async def create_key(request: Request, visitor: Managing, services: ServicesDep) -> Response:
    """Make a key and show it, on this answer alone; a form that is sent twice makes one."""
    form = await read_form(request)
    wanted = _read(form)
    if not {Scope(scope) for scope in wanted.scopes} <= set(_scopes(visitor)):
        raise RoleForbidsError(
            "A key with the scope admin may pause queues for everybody: an account of one tenant makes none."
        )
    tenant = form.tenant() if visitor.tenant is None else visitor.tenant

    once = once_of(form, Made.KEY, request.url.path, [tenant, wanted.model_dump(mode="json")])
    made = await do_once(services, tenant, once, partial(_make, visitor, tenant, wanted))
    if made is None:
        return go(HERE, "key-made-before")
    return page(
        request,
        "shown_once.html",
        visitor,
        title="The new key",
        name=made.row.name,
        secret=made.key,
        about="whoever has it can do what its scopes say with everything of its tenant.",
        back=HERE,
        back_name="To the keys",
    )


def _make(
    visitor: Visitor, tenant: str, wanted: NewKey, session: Session, key_id: uuid.UUID | None
) -> keys.Made:
    made = keys.create_key(
        session,
        name=wanted.name,
        tenant=tenant,
        scopes=map(Scope, wanted.scopes),
        requests_per_minute=wanted.requests_per_minute,
        expires_in=wanted.expires_in(),
        key_id=key_id,
    )
    audit.note(session, visitor.actor, "key.created", ids.key_id(made.row.id), tenant=tenant)
    return made


@router.post("/keys/{key_id}/revoke")
async def revoke_key(request: Request, key_id: str, visitor: Managing, services: ServicesDep) -> Response:
    """Refuse a key from now on."""
    form = await read_form(request)
    known = ids.parse_key_id(key_id)
    async with services.sessions.begin() as session:
        await session.run_sync(_revoke, visitor, known, form.reason())
    return go(HERE, "key-revoked")


def _revoke(session: Session, visitor: Visitor, key_id: uuid.UUID, reason: str | None) -> None:
    row = session.scalar(keys.key_by_id(visitor.tenant, key_id))
    if row is None:
        raise NotFoundError
    was_good = row.revoked_at is None
    # an account of all tenants can make another here; that of one cannot
    keys.revoke_key(session, row.tenant, row.id, leave_an_admin=visitor.tenant is not None)
    if was_good:
        target = ids.key_id(row.id)
        audit.note(session, visitor.actor, "key.revoked", target, tenant=row.tenant, reason=reason)


def _read(form: Form) -> NewKey:
    days = form.whole("expires_in_days")
    said: dict[str, Any] = {
        "name": form.text("name"),
        "scopes": form.texts("scope"),
        "requests_per_minute": form.whole("requests_per_minute"),
        "expires_in_s": None if days is None else days * 86_400,
    }
    return NewKey.model_validate(said)


def _scopes(visitor: Visitor) -> tuple[Scope, ...]:
    """Those that a visitor may give: what the operator's does is done for everybody."""
    return tuple(scope for scope in Scope if scope is not Scope.ADMIN or visitor.tenant is None)


def _state(row: ApiKey, now: datetime) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= now else "enabled"
