"""Where tenants want to be told of their jobs' ends, and every message on its way there."""

import uuid
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, DeliveryState, EndpointState, Timestamp, Uuid7Key, one_of


class WebhookEndpoint(Base):
    """A URL of a tenant's, and the secret that messages to it are signed with.

    Its row stays when it is deleted: whoever ends a job refers to it while holding the job.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        one_of("state", EndpointState),
        CheckConstraint(
            "(previous_secret IS NULL) = (previous_secret_until IS NULL)", name="previous_secret_ends"
        ),
        Index("ix_webhook_endpoints_tenant_id", "tenant", text("id DESC")),
    )

    id: Mapped[Uuid7Key]
    tenant: Mapped[str]
    url: Mapped[str]
    destination: Mapped[str]
    """Its host and port: so many messages are on their way there at a time, of whichever endpoints."""
    description: Mapped[str] = mapped_column(server_default="")
    secret: Mapped[str]
    """`whsec_` and 32 random bytes in base64; to be read, since it signs."""
    previous_secret: Mapped[str | None]
    """Signs too for a while after a rotation."""
    previous_secret_until: Mapped[Timestamp | None]
    state: Mapped[str] = mapped_column(server_default=EndpointState.PENDING)
    state_reason: Mapped[str | None]
    """Why it is not verified yet, or was disabled, in words."""
    created_at: Mapped[CreatedAt]
    verified_at: Mapped[Timestamp | None]
    failing_since: Mapped[Timestamp | None]
    """The first failure since the last success."""


class WebhookDelivery(Base):
    """One message to one endpoint, through all tries; written in the transaction that it tells of."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        one_of("state", DeliveryState),
        CheckConstraint("(state = 'pending') = (ended_at IS NULL)", name="ended_unless_pending"),
        Index(
            "ix_webhook_deliveries_due", "endpoint_id", "run_at", postgresql_where=text("state = 'pending'")
        ),
        Index("ix_webhook_deliveries_ended_at", "ended_at", postgresql_where=text("state <> 'pending'")),
        Index("ix_webhook_deliveries_endpoint_id", "endpoint_id", text("id DESC")),
        Index("ix_webhook_deliveries_job_id", "job_id"),
    )

    id: Mapped[Uuid7Key]
    endpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhook_endpoints.id"))
    job_id: Mapped[uuid.UUID | None]
    event: Mapped[str]
    """`job.ended`, for one."""
    redelivery_of: Mapped[uuid.UUID | None]
    """The message that is sent once more, by its tenant's wish; its id goes out again."""
    state: Mapped[str] = mapped_column(server_default=DeliveryState.PENDING)
    state_reason: Mapped[str | None]
    """Why it failed for good, in words."""
    attempts: Mapped[int] = mapped_column(server_default="0")
    run_at: Mapped[CreatedAt]
    """Not to be tried before this time; whoever tries sets it to when they must have spoken."""
    tries: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default="[]")
    """The last tries: when, status or error, milliseconds."""
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[Timestamp | None]
