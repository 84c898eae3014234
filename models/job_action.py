"""What is done to many jobs at once."""

import uuid
from typing import Any

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import ActionState, ActionVerb, CreatedAt, Json, Timestamp, Uuid7Key, one_of


class JobAction(Base):
    """One action over all jobs of a tenant that a filter finds; done in the background, a slice at a time."""

    __tablename__ = "job_actions"
    __table_args__ = (
        one_of("verb", ActionVerb),
        one_of("state", ActionState),
        CheckConstraint("(state = 'running') = (ended_at IS NULL)", name="ended_unless_running"),
        Index("ix_job_actions_tenant_id", "tenant", text("id DESC")),
        Index("ix_job_actions_running", "tenant", "verb", "id", postgresql_where=text("state = 'running'")),
    )

    id: Mapped[Uuid7Key]
    tenant: Mapped[str]
    key_id: Mapped[uuid.UUID | None]
    """Whose wish it was."""
    verb: Mapped[str]
    filter: Mapped[Json]
    reason: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default=ActionState.RUNNING)
    matched: Mapped[int]
    """Jobs that the filter found when it was accepted."""
    done: Mapped[int] = mapped_column(server_default="0")
    skipped: Mapped[int] = mapped_column(server_default="0")
    """Jobs that had come into another state by then, and could not be acted upon."""
    up_to: Mapped[uuid.UUID]
    """The newest job it is about: what is submitted later is left alone."""
    position: Mapped[uuid.UUID | None]
    """The job that it came to last, from the newest to the oldest."""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """The first failure of the service at one of the jobs: its `code`, a `message` and the `job_id`."""
    created_at: Mapped[CreatedAt]
    advanced_at: Mapped[CreatedAt]
    """When it last had its turn, also where there was no room for what it wanted."""
    ended_at: Mapped[Timestamp | None]
