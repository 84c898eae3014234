"""Keys by which a client repeats a request that makes something without making it twice."""

import uuid
from typing import Any

from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, Made, one_of


class IdempotencyKey(Base):
    """A key that a tenant made something with; it lives a day."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (one_of("made", Made),)

    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    """SHA-256 of what was asked for: the same key with anything else is refused."""
    made: Mapped[str] = mapped_column(server_default=Made.JOB)
    made_id: Mapped[uuid.UUID]
    """No foreign key: it is taken before the row that it names is written, so that a second request waits."""
    told: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What was answered, where no row of its own tells of what was made."""
    created_at: Mapped[CreatedAt] = mapped_column(index=True)
