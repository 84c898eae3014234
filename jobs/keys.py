"""API keys: made here, kept as hashes, found by hash."""

import hashlib
import secrets
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session

from models.api_key import ApiKey
from models.types import Scope

PREFIX: Final = "lq_"
DEFAULT_TENANT: Final = "default"
DEFAULT_SCOPES: Final = (Scope.SUBMIT, Scope.READ)
HINT_CHARACTERS: Final = 9
"""Of a key's 46, enough to tell one from another, and of its 256 random bits 36."""

# built once: every request asks for its key
_KEY_OF = select(ApiKey).where(
    ApiKey.sha256 == bindparam("sha256"),
    ApiKey.revoked_at.is_(None),
    ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.now()),
)


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
    row = ApiKey(
        id=key_id,
        tenant=tenant,
        name=name,
        sha256=_hash(key),
        hint=key[:HINT_CHARACTERS],
        scopes=[scope for scope in Scope if scope in set(scopes)],
        requests_per_minute=requests_per_minute,
        expires_at=None if expires_in is None else func.now() + expires_in,
    )
    session.add(row)
    session.flush()
    return Made(row, key)


def key_of(key: str) -> Select[ApiKey]:
    """The row of a key that is neither revoked nor expired."""
    return _KEY_OF.params(sha256=_hash(key))


def _hash(key: str) -> str:
    # a key holds 256 random bits: a plain hash cannot be searched, and a slow one would cost every request
    return hashlib.sha256(key.encode()).hexdigest()
