"""What a client submitted, its inputs, and what came out."""

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Interval, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base
from models.types import (
    CreatedAt,
    ItemState,
    JobState,
    JobType,
    Json,
    JsonList,
    Priority,
    Timestamp,
    Uuid7Key,
    one_of,
)


class Job(Base):
    """One submitted job.

    Terminal exactly when succeeded + failed + dropped = total; a terminal job is never touched again.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("state", JobState),
        one_of("type", JobType),
        one_of("priority", Priority),
        CheckConstraint("total > 0", name="total_positive"),
        CheckConstraint("succeeded + failed + dropped <= total", name="counts_within_total"),
        CheckConstraint(
            "(state IN ('succeeded', 'partial', 'failed', 'cancelled', 'expired'))"
            " = (succeeded + failed + dropped = total)",
            name="ended_exactly_when_counted",
        ),
        # lists leave out what was deleted, newest first, by what they are filtered by most
        Index("ix_jobs_tenant_id", "tenant", text("id DESC"), postgresql_where=text("deleted_at IS NULL")),
        Index(
            "ix_jobs_tenant_state_id",
            "tenant",
            "state",
            text("id DESC"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        Index(
            "ix_jobs_tenant_model_id",
            "tenant",
            "model",
            text("id DESC"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        # the same for whoever sees the jobs of all tenants
        Index("ix_jobs_state_id", "state", text("id DESC"), postgresql_where=text("deleted_at IS NULL")),
        Index("ix_jobs_model_id", "model", text("id DESC"), postgresql_where=text("deleted_at IS NULL")),
        # also a tenant's of a rare type are found by this one
        Index("ix_jobs_type_id", "type", text("id DESC"), postgresql_where=text("deleted_at IS NULL")),
        Index("ix_jobs_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        Index("ix_jobs_retry_of", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
        Index(
            "ix_jobs_version_id",
            "version_id",
            text("id DESC"),
            postgresql_where=text("version_id IS NOT NULL"),
        ),
        Index("ix_jobs_tags", "tags", postgresql_using="gin", postgresql_ops={"tags": "jsonb_path_ops"}),
        Index("ix_jobs_deleted_at", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
        Index("ix_jobs_open", "tenant", postgresql_where=text("ended_at IS NULL")),
        Index(
            "ix_jobs_start_by", "start_by", postgresql_where=text("state = 'queued' AND start_by IS NOT NULL")
        ),
        Index(
            "ix_jobs_run_until",
            "run_until",
            postgresql_where=text("ended_at IS NULL AND run_until IS NOT NULL"),
        ),
        Index("ix_jobs_cancelling", "id", postgresql_where=text("state = 'cancelling'")),
        Index("ix_jobs_expires_at", "expires_at", postgresql_where=text("results_removed_at IS NULL")),
    )

    id: Mapped[Uuid7Key]
    tenant: Mapped[str]
    key_id: Mapped[uuid.UUID | None]
    """The key that it was submitted with."""
    type: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=JobState.QUEUED)
    model: Mapped[str]
    """Name of the checkpoint in the catalog; also names the queue."""
    options: Mapped[Json]
    """Resolved options of the job: labels, template, normalize, ..."""
    tags: Mapped[Json] = mapped_column(server_default="{}")
    """The client's own names and values, both strings."""
    priority: Mapped[str] = mapped_column(server_default=Priority.INTERACTIVE)
    retry_of: Mapped[uuid.UUID | None]
    """The job whose items it tries again."""
    version_id: Mapped[uuid.UUID | None]
    """The version of an image set whose items it has; no foreign key: the job stays when the set goes."""
    attempt: Mapped[int] = mapped_column(server_default="1")
    """1, and 1 more than that of the job it tries again."""
    webhook_endpoint_id: Mapped[uuid.UUID | None]
    """Where its end is told. No foreign key: its row stays, and who holds the job must wait for nobody."""
    total: Mapped[int]
    cost: Mapped[float] = mapped_column(server_default="0")
    """Estimated work of all items, in GFLOP: what its flow was charged."""
    vtime_end: Mapped[float | None]
    """Where its flow's clock stood when it was charged for it: virtual time by which all of it was begun."""
    request_id: Mapped[str | None]
    """The request that it was submitted with, as logs name it."""
    traceparent: Mapped[str | None]
    """The span of that request, as W3C writes it, where there are traces."""
    charge_id: Mapped[uuid.UUID | None]
    """What that charge is known by, drawn when it was made: before the job's own id, which is drawn later."""
    input_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Bytes of its pictures, for quotas."""
    succeeded: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    dropped: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Timestamp | None]
    ended_at: Mapped[Timestamp | None]
    start_by: Mapped[Timestamp | None]
    """Not started by then, it expires."""
    run_timeout: Mapped[timedelta | None] = mapped_column(Interval)
    run_until: Mapped[Timestamp | None]
    """started_at + run_timeout: what waits then is dropped."""
    result_ttl: Mapped[timedelta | None] = mapped_column(Interval)
    expires_at: Mapped[Timestamp | None]
    """ended_at + result_ttl: its results go, the job stays."""
    results_removed_at: Mapped[Timestamp | None]
    deleted_at: Mapped[Timestamp | None]
    """From then on nothing is left of it but that it was there."""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """Why the first item failed, on a job in which none succeeded; or that its time was over."""
    provenance: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    """What computed the results: weights, versions, device, self-check; written by the first complete."""


class JobInput(Base):
    """The items of one work unit, kept after the unit is done so that it can be retried."""

    __tablename__ = "job_inputs"
    __table_args__ = (Index("ix_job_inputs_image_ids", "image_ids", postgresql_using="gin"),)

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    unit: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[JsonList]
    """One object an item: index, custom_id, and either sha256 and image_id or text."""
    image_ids: Mapped[list[uuid.UUID]] = mapped_column(ARRAY(Uuid), server_default="{}")
    """The pictures of the items: while a row names one, it cannot be deleted."""


class JobEvent(Base):
    """A unit of which results were stored, at its place in the order in which a job's items were counted.

    Whoever follows a job reads on behind the last place that they know, and misses nothing.
    """

    __tablename__ = "job_events"

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    settled: Mapped[int] = mapped_column(primary_key=True)
    """The job's succeeded + failed + dropped with this unit; written by whoever holds the job."""
    unit: Mapped[int]


class Result(Base):
    """How one item ended: a payload when it succeeded, a code and message when it failed."""

    __tablename__ = "results"
    __table_args__ = (
        one_of("state", ItemState),
        CheckConstraint("(state = 'succeeded') = (payload IS NOT NULL)", name="payload_when_succeeded"),
        CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name="error_when_failed"),
        Index("ix_results_failed", "job_id", "index", postgresql_where=text("state = 'failed'")),
    )

    job_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]
    item: Mapped[Json]
    """The item as submitted: custom_id, image_id, kind."""
    payload: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
