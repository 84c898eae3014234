"""API keys: made here, kept as hashes, found by hash."""

import hashlib
import secrets

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from models.api_key import ApiKey

PREFIX = "lq_"
DEFAULT_TENANT = "default"


def create_key(session: Session, *, name: str, tenant: str = DEFAULT_TENANT) -> str:
    """Make a key for a tenant and return it: the only time that it can be seen."""
    key = PREFIX + secrets.token_urlsafe(32)
    session.add(ApiKey(tenant=tenant, name=name, sha256=_hash(key)))
    session.flush()
    return key


def tenant_of(key: str) -> Select[str]:
    """The tenant of a key that is not revoked."""
    return select(ApiKey.tenant).where(ApiKey.sha256 == _hash(key), ApiKey.revoked_at.is_(None))


def _hash(key: str) -> str:
    # a key holds 256 random bits: a plain hash cannot be searched, and a slow one would cost every request
    return hashlib.sha256(key.encode()).hexdigest()
