"""The hot tables of the ledger: work that waits, who holds it, and every try at it."""

import uuid
from datetime import timedelta

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Interval, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import AttemptOutcome, CreatedAt, Timestamp, Uuid7Key, one_of


class Lease(Base):
    """A worker's claim on work: valid until a time, renewed by heartbeats up to a hard limit."""

    __tablename__ = "leases"
    __table_args__ = (Index("ix_leases_until", "until"), {"postgresql_with": {"fillfactor": "70"}})

    token: Mapped[Uuid7Key]
    worker_id: Mapped[uuid.UUID]
    until: Mapped[Timestamp]
    hard_until: Mapped[Timestamp]
    ttl: Mapped[timedelta] = mapped_column(Interval)


class Work(Base):
    """A slice of a job that a worker claims whole; the row goes when the slice is done."""

    __tablename__ = "work"
    __table_args__ = (
        CheckConstraint("items > 0", name="items_positive"),
        Index("ix_work_claimable", "model", "vtime", "id", postgresql_where=text("lease_token IS NULL")),
        Index(
            "ix_work_batch",
            "model",
            "batch_key",
            "vtime",
            "id",
            postgresql_where=text("lease_token IS NULL AND items = 1"),
        ),
        Index("ix_work_lease_token", "lease_token", postgresql_where=text("lease_token IS NOT NULL")),
        Index("ix_work_lost", "losses", postgresql_where=text("losses > 0")),
        Index("ix_work_struck", "strikes", postgresql_where=text("strikes > 0")),
        Index("uq_work_job_id_unit", "job_id", "unit", unique=True),
        {
            "postgresql_with": {
                "fillfactor": "70",
                "autovacuum_vacuum_scale_factor": "0.02",
                "autovacuum_vacuum_threshold": "200",
            }
        },
    )

    id: Mapped[Uuid7Key]
    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    unit: Mapped[int]
    model: Mapped[str]
    items: Mapped[int]
    vtime: Mapped[float] = mapped_column(server_default="0")
    """Its place in the queue: start-time-fair virtual time, see `jobs.fairness`."""
    cost: Mapped[float] = mapped_column(server_default="0")
    """Estimated work in GFLOP."""
    batch_key: Mapped[str] = mapped_column(server_default="")
    """Single items with equal keys may share a forward pass."""
    item_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Estimated memory of the device that one item takes in a batch."""
    run_at: Mapped[CreatedAt]
    """Not claimable before this time."""
    attempt: Mapped[int] = mapped_column(server_default="0")
    losses: Mapped[int] = mapped_column(server_default="0")
    """How often a lease on it ended without a result."""
    strikes: Mapped[int] = mapped_column(server_default="0")
    """How often it killed a worker that then passed its canary."""
    lease_token: Mapped[uuid.UUID | None] = mapped_column(
        # deferred: completing deletes the lease first, its work next, in the lock order of the ledger
        ForeignKey("leases.token", deferrable=True, initially="DEFERRED")
    )


class Attempt(Base):
    """One try at a work unit, kept for the job's history."""

    __tablename__ = "attempts"
    __table_args__ = (
        one_of("outcome", AttemptOutcome),
        CheckConstraint("(outcome IS NULL) = (ended_at IS NULL)", name="outcome_when_ended"),
        Index("ix_attempts_lease_token", "lease_token", postgresql_where=text("ended_at IS NULL")),
        Index(
            "ix_attempts_unjudged", "worker_id", postgresql_where=text("outcome = 'crashed' AND NOT judged")
        ),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    unit: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    worker_id: Mapped[uuid.UUID]
    lease_token: Mapped[uuid.UUID]
    started_at: Mapped[CreatedAt]
    ended_at: Mapped[Timestamp | None]
    outcome: Mapped[str | None]
    reason: Mapped[str | None]
    """Why it was released or lost, in words."""
    judged: Mapped[bool] = mapped_column(server_default="false")
    """Of a crash: whether the canary of its worker has spoken."""
