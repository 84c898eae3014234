"""What the workers say of themselves."""

import uuid
from typing import Any

from sqlalchemy import BigInteger, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import CreatedAt, WorkerState, one_of


class Worker(Base):
    """One worker process; its last heartbeat tells whether it is still there."""

    __tablename__ = "workers"
    __table_args__ = (
        one_of("state", WorkerState),
        # by when they were last seen there is none: every heartbeat would have to write it
        Index("ix_workers_started_at_id", text("started_at DESC"), text("id DESC")),
        {"postgresql_with": {"fillfactor": "70"}},
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    hostname: Mapped[str]
    model: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    device: Mapped[str | None]
    dtype: Mapped[str | None]
    revision: Mapped[str | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Code and message of a worker that could not load its checkpoint."""
    seconds_per_gflop: Mapped[float | None]
    """Measured, of the last minutes: by it large jobs are cut into units of about a second."""
    batch_fill: Mapped[float | None]
    """Measured likewise: of the places that its batches have, the share that was taken."""
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Of its device, or of its own process where that is a CPU: what is taken."""
    memory_limit_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """And what there is."""
    finished: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Items that it has finished since it was started."""
    started_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt]
