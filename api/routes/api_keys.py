"""API keys: made by a key that may, shown once, listed by how they begin, revoked for good."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from api import bodies
from api.deps import Admin, Caller, ReadingDep, ServicesDep, SessionDep
from api.once import IDEMPOTENCY_KEY, REPLAYED, in_turn, once_of
from api.schemas import api_keys as schema
from api.schemas.ids import key_id as wire_key_id
from api.schemas.ids import parse_key_id
from api.schemas.pages import decode_token
from jobs import audit, keys
from jobs.errors import NotFoundError
from jobs.idempotency import Once, make_once
from models.api_key import ApiKey
from models.types import Made, Scope

router = APIRouter(prefix="/v1/api-keys", tags=["api keys"])

MAX_PAGE = 200
BODY: dict[str, Any] = {
    "parameters": [IDEMPOTENCY_KEY],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewKey"}}},
    },
}


@router.post("", status_code=201, summary="Make a key", openapi_extra=BODY)
async def create_key(
    request: Request, response: Response, caller: Admin, services: ServicesDep
) -> schema.MadeKey:
    """Make a key of your tenant and show it: nobody can see it again, since only its hash is kept.

    Sent again with its Idempotency-Key, the request finds the key that it made, with `key: null`.
    """
    wanted = await bodies.read_small(request, schema.NewKey)
    once = once_of(request, Made.KEY, wanted)

    async def make() -> tuple[tuple[ApiKey, str | None], bool]:
        async with services.sessions.begin() as session:
            return await session.run_sync(_make_or_find, caller, once, wanted)

    (row, key), new = await in_turn(make)
    if not new:
        response.headers.update(REPLAYED)
    shown = schema.made(row, key)
    response.headers.update({"Location": f"/v1/api-keys/{shown.id}", "Cache-Control": "no-store"})
    return shown


@router.get("", summary="List keys")
async def list_keys(
    caller: Admin,
    session: ReadingDep,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
    page_token: str | None = None,
) -> schema.KeysPage:
    """The keys of your tenant, newest first, with those that were revoked or expired."""
    before = decode_token(page_token)
    rows = await session.scalars(keys.keys_page(caller.tenant, before=before, limit=limit))
    return schema.page(rows.all(), limit)


@router.get("/{key_id}", summary="Look at a key", responses={404: {"description": "There is no such key."}})
async def read_key(key_id: str, caller: Admin, session: ReadingDep) -> schema.KeyView:
    """What is known of a key."""
    row = await session.scalar(keys.key_by_id(caller.tenant, parse_key_id(key_id)))
    if row is None:
        raise NotFoundError
    return schema.view(row)


@router.delete(
    "/{key_id}",
    status_code=204,
    summary="Revoke a key",
    responses={
        404: {"description": "There is no such key."},
        409: {"description": "It is your last key that can manage keys (`last-admin-key`)."},
    },
)
async def revoke_key(key_id: str, caller: Admin, session: SessionDep) -> None:
    """Refuse a key from now on, for good; to be sent again as often as one likes.

    Its row stays, and its usage. A key may revoke itself, unless it is the last one that can make another.
    """
    parsed = parse_key_id(key_id)

    def revoke(session: Session) -> None:
        keys.revoke_key(session, caller.tenant, parsed)
        audit.note(session, caller.actor, "key.revoked", wire_key_id(parsed), tenant=caller.tenant)

    await session.run_sync(revoke)
    await session.commit()


def _make_or_find(
    session: Session, caller: Caller, once: Once | None, wanted: schema.NewKey
) -> tuple[tuple[ApiKey, str | None], bool]:
    """The row, with the key if it is new; and whether it is."""
    tenant = caller.tenant

    def make(key_id: uuid.UUID | None) -> tuple[ApiKey, str | None]:
        made = keys.create_key(
            session,
            name=wanted.name,
            tenant=tenant,
            scopes=map(Scope, wanted.scopes),
            requests_per_minute=wanted.requests_per_minute,
            expires_in=wanted.expires_in(),
            key_id=key_id,
        )
        audit.note(session, caller.actor, "key.created", wire_key_id(made.row.id), tenant=tenant)
        return made.row, made.key

    def find(key_id: uuid.UUID) -> tuple[ApiKey, str | None] | None:
        row = session.scalar(keys.key_by_id(tenant, key_id))
        return None if row is None else (row, None)

    return make_once(session, tenant, once, make, find)
