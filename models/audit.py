"""Who did what by the dashboard or the command line, and why."""

import uuid
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, Uuid7Key


class AuditEntry(Base):
    """One thing that somebody did; written in the transaction that it tells of."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_tenant_id", "tenant", text("id DESC")),
        Index("ix_audit_entries_account_id", "account_id", text("id DESC")),
    )

    id: Mapped[Uuid7Key]
    at: Mapped[CreatedAt]
    account_id: Mapped[uuid.UUID | None]
    """No foreign key: what was done stays when whoever did it goes. None: by the command line."""
    actor: Mapped[str]
    """Who it was, in words: an email address, or who ran the command."""
    tenant: Mapped[str | None]
    """Whose thing it was done to; none where it is the whole service's."""
    verb: Mapped[str]
    """What was done, as `job.cancelled`."""
    target: Mapped[str]
    """What it was done to: an id as it is on the wire, or a name."""
    filter: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Which jobs, of an action on many."""
    matched: Mapped[int | None]
    """How many these were."""
    reason: Mapped[str | None]
