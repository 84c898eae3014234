"""The audit: who did what, noted in the transaction that does it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from models.audit import AuditEntry


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: an account, or whoever runs a command (without an account)."""

    name: str
    account_id: uuid.UUID | None = None


def note(
    session: Session,
    actor: Actor,
    verb: str,
    target: str,
    *,
    tenant: str | None = None,
    reason: str | None = None,
    filter: Mapping[str, Any] | None = None,  # noqa: A002 - its name in the table
    matched: int | None = None,
) -> None:
    """Write down what is done; the caller commits it with the thing itself, or neither."""
    session.add(
        AuditEntry(
            account_id=actor.account_id,
            actor=actor.name,
            tenant=tenant,
            verb=verb,
            target=target,
            filter=None if filter is None else dict(filter),
            matched=matched,
            reason=reason or None,
        )
    )


def audit_page(
    tenant: str | None, *, before: uuid.UUID | None, account_id: uuid.UUID | None = None, limit: int
) -> Select[AuditEntry]:
    """What was done to a tenant's things, or to all (None), newest first: one more than `limit`."""
    page = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit + 1)
    if tenant is not None:
        page = page.where(AuditEntry.tenant == tenant)
    if account_id is not None:
        page = page.where(AuditEntry.account_id == account_id)
    return page if before is None else page.where(AuditEntry.id < before)
