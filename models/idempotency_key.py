"""Keys by which a client repeats a submit without doubling its job."""

import uuid

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt


class IdempotencyKey(Base):
    """A key that a tenant submitted a job with; it lives a day, and no longer than its job."""

    __tablename__ = "idempotency_keys"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    """SHA-256 of what was submitted: the same key with anything else is refused."""
    job_id: Mapped[uuid.UUID] = mapped_column(
        # deferred: the key is taken before its job is written, so that a second submit waits for the first
        ForeignKey("jobs.id", ondelete="CASCADE", deferrable=True, initially="DEFERRED"),
        index=True,
    )
    created_at: Mapped[CreatedAt] = mapped_column(index=True)
