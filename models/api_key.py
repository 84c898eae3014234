"""Who may call the API, and how much each caller did."""

import uuid
from datetime import date

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, Scope, Timestamp, Uuid7Key

_SCOPES = ", ".join(f"'{scope}'" for scope in Scope)


class ApiKey(Base):
    """A key of a tenant; only its SHA-256 is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(f"scopes <@ ARRAY[{_SCOPES}]", name="scopes_known"),
        CheckConstraint("cardinality(scopes) > 0", name="scopes_given"),
        Index("ix_api_keys_tenant_id", "tenant", text("id DESC")),
    )

    id: Mapped[Uuid7Key]
    tenant: Mapped[str]
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(unique=True)
    hint: Mapped[str] = mapped_column(server_default="")
    """How the key begins, to tell it from others."""
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    requests_per_minute: Mapped[int | None]
    """Its own rate limit, where it is not that of everybody."""
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[Timestamp | None]
    last_used_at: Mapped[Timestamp | None]
    """To within some minutes."""
    revoked_at: Mapped[Timestamp | None]


class KeyUsage(Base):
    """What one key did on one day, UTC."""

    __tablename__ = "key_usage"

    key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True, index=True)
    requests: Mapped[int] = mapped_column(BigInteger, server_default="0")
    refused: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Requests that a rate limit or a quota refused; counted in `requests` too."""
    received_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    sent_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    jobs: Mapped[int] = mapped_column(BigInteger, server_default="0")
    items: Mapped[int] = mapped_column(BigInteger, server_default="0")
    gflop: Mapped[float] = mapped_column(server_default="0")
    """Estimated work of its jobs, as their flows were charged."""
