"""People who look at the dashboard, and the browsers that they are signed in with."""

import uuid

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, Role, Timestamp, Uuid7Key, one_of


class Account(Base):
    """A person; of one tenant, or of the operator, who sees them all."""

    __tablename__ = "accounts"
    __table_args__ = (
        one_of("role", Role),
        CheckConstraint("email = lower(email)", name="email_lower"),
        CheckConstraint("tenant <> ''", name="tenant_named"),
        Index("ix_accounts_tenant_id", "tenant", text("id DESC")),
    )

    id: Mapped[Uuid7Key]
    email: Mapped[str] = mapped_column(unique=True)
    """What they sign in with; no message is sent there."""
    role: Mapped[str]
    tenant: Mapped[str | None]
    """Whose things it sees; none for one of the operator's."""
    password_hash: Mapped[str]
    """Argon2id, with its parameters and salt."""
    created_at: Mapped[CreatedAt]
    signed_in_at: Mapped[Timestamp | None]
    disabled_at: Mapped[Timestamp | None]


class AccountSession(Base):
    """One browser that somebody is signed in with; only the SHA-256 of its token is kept."""

    __tablename__ = "account_sessions"
    __table_args__ = (
        Index("ix_account_sessions_account_id", "account_id", text("id DESC")),
        Index("ix_account_sessions_ends_at", "ends_at"),
    )

    id: Mapped[Uuid7Key]
    account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"))
    sha256: Mapped[str] = mapped_column(unique=True)
    agent: Mapped[str] = mapped_column(server_default="")
    """What the browser said that it is, cut off."""
    created_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt]
    """To within a minute."""
    ends_at: Mapped[Timestamp]
    revoked_at: Mapped[Timestamp | None]
