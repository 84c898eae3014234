"""API keys: made here, kept as hashes, found by hash."""

import hashlib
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, Select, column, func, select, text, update
from sqlalchemy.orm import Session

from jobs.errors import LastAdminKeyError, NotFoundError
from models.api_key import ApiKey
from models.types import Scope

PREFIX: Final = "lq_"
DEFAULT_TENANT: Final = "default"
DEFAULT_SCOPES: Final = (Scope.SUBMIT, Scope.READ)
HINT_CHARACTERS: Final = 9
"""Of a key's 46, enough to tell one from another, and of its 256 random bits 36."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new key: its row, and the key itself, which nobody can see again."""

    row: ApiKey
    key: str


def create_key(
    session: Session,
    *,
    name: str,
    tenant: str = DEFAULT_TENANT,
    scopes: Iterable[Scope] = DEFAULT_SCOPES,
    requests_per_minute: int | None = None,
    expires_in: timedelta | None = None,
    key_id: uuid.UUID | None = None,
) -> Made:
    """Make a key for a tenant; the caller commits, and shows the key once."""
    key = PREFIX + secrets.token_urlsafe(32)
    wanted = set(scopes)
    row = ApiKey(
        id=key_id,
        tenant=tenant,
        name=name,
        sha256=hash_key(key),
        hint=key[:HINT_CHARACTERS],
        scopes=[scope for scope in Scope if scope in wanted],
        requests_per_minute=requests_per_minute,
        expires_at=None if expires_in is None else func.now() + expires_in,
    )
    session.add(row)
    session.flush()
    # with the times that the database made of it
    session.refresh(row)
    return Made(row, key)


def is_usable() -> ColumnElement[bool]:
    """Whether a key is neither revoked nor expired."""
    return ApiKey.revoked_at.is_(None) & (ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.now()))


KEY: Final = text("""
    SELECT id, tenant, scopes, requests_per_minute
    FROM api_keys
    WHERE sha256 = :sha256 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
""").columns(*map(column, ("id", "tenant", "scopes", "requests_per_minute")))
"""A key that is neither revoked nor expired, by its hash; every request asks for its own."""


def key_by_id(tenant: str | None, key_id: uuid.UUID) -> Select[ApiKey]:
    """A key, usable or not, if it is the tenant's, or anybody's (None)."""
    found = select(ApiKey).where(ApiKey.id == key_id)
    return found if tenant is None else found.where(ApiKey.tenant == tenant)


def keys_page(tenant: str | None, *, before: uuid.UUID | None, limit: int) -> Select[ApiKey]:
    """A tenant's keys, or all (None), newest first, made before one of them: one more than `limit`."""
    page = select(ApiKey).order_by(ApiKey.id.desc()).limit(limit + 1)
    if tenant is not None:
        page = page.where(ApiKey.tenant == tenant)
    return page if before is None else page.where(ApiKey.id < before)


def all_keys(tenant: str | None) -> Select[ApiKey, bool]:
    """The keys of a tenant, or of all, newest first, and whether each is usable."""
    keys = select(ApiKey, is_usable()).order_by(ApiKey.id.desc())
    return keys if tenant is None else keys.where(ApiKey.tenant == tenant)


def revoke_key(session: Session, tenant: str, key_id: uuid.UUID, *, leave_an_admin: bool = True) -> None:
    """Revoke a key of a tenant, for good; the row stays, and revoking it again changes nothing.

    Raises:
        NotFoundError: the tenant has no such key.
        LastAdminKeyError: no other key could make keys then, and that is not wanted.
    """
    # locked, in one order: of two requests that revoke the last two, the second one sees what the first did
    admins = session.scalars(
        select(ApiKey.id)
        .where(ApiKey.tenant == tenant, ApiKey.scopes.contains([Scope.ADMIN]), is_usable())
        .order_by(ApiKey.id)
        .with_for_update(key_share=True)
    ).all()
    key = session.scalar(key_by_id(tenant, key_id))
    if key is None:
        raise NotFoundError
    if key.revoked_at is not None:
        return
    if leave_an_admin and list(admins) == [key_id]:
        raise LastAdminKeyError
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(revoked_at=func.now()))


def hash_key(key: str) -> str:
    """What is kept of a key."""
    # a key holds 256 random bits: a plain hash cannot be searched, and a slow one would cost every request
    return hashlib.sha256(key.encode()).hexdigest()
