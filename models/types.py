"""Column types and enumerations that several tables share."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from sqlalchemy import CheckConstraint, DateTime, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import mapped_column

# Time-ordered ids, made by the database: a queue ordered by id is ordered by arrival.
Uuid7Key = Annotated[uuid.UUID, mapped_column(primary_key=True, server_default=text("uuidv7()"))]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=text("now()"))]
Timestamp = Annotated[datetime, mapped_column(DateTime(timezone=True))]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
JsonList = Annotated[list[dict[str, Any]], mapped_column(JSONB)]


class JobType(StrEnum):
    """What a job computes."""

    EMBEDDING = "embedding"
    LOGIT_LENS = "logit_lens"
    RESCORE = "rescore"
    INGEST = "ingest"
    SUMMARY = "summary"
    COMPARISON = "comparison"
    DRIFT = "drift"
    INDEX = "index"


class Priority(StrEnum):
    """Who waits for a job: a person, or nobody in particular."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class JobState(StrEnum):
    """Where a job stands; the ones in ENDED never change again."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED = frozenset(
    {JobState.SUCCEEDED, JobState.PARTIAL, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED}
)


class ItemState(StrEnum):
    """How one item of a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


class AttemptOutcome(StrEnum):
    """How one try at a work unit ended: completed, given back, lost with its worker, or crashed with it.

    A crash is the parent's word that its child died of a fatal signal; whether the work is to blame, the
    canary decides.
    """

    COMPLETED = "completed"
    RELEASED = "released"
    LOST = "lost"
    CRASHED = "crashed"


class WorkerState(StrEnum):
    """What a worker last said of itself; one that drains finishes what it holds and claims no more."""

    STARTING = "starting"
    ONLINE = "online"
    DRAINING = "draining"
    FAILED = "failed"
    OFFLINE = "offline"


class Scope(StrEnum):
    """What a key may be used for.

    `admin` is the operator's: it manages keys, and pauses queues and drains workers for everybody.
    """

    SUBMIT = "submit"
    READ = "read"
    ADMIN = "admin"


class Role(StrEnum):
    """What an account of the dashboard may do: look; act on jobs, queues and workers; manage keys and people.

    Each may what the ones before it may, and only with what its tenant has.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Made(StrEnum):
    """What a request with an Idempotency-Key made, or what it was about where it made no row."""

    JOB = "job"
    KEY = "api_key"
    ENDPOINT = "webhook_endpoint"
    ACTION = "job_action"
    IMAGE_SET = "image_set"
    SET_ITEMS = "set_items"


class EndpointState(StrEnum):
    """Whether an endpoint is told anything: it is once it has shown that it wants to be."""

    PENDING = "pending"
    ENABLED = "enabled"
    DISABLED = "disabled"
    DELETED = "deleted"


class DeliveryState(StrEnum):
    """How far a message is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class ActionVerb(StrEnum):
    """What is done to the jobs of an action."""

    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


class ActionState(StrEnum):
    """Whether an action has come to the last of its jobs."""

    RUNNING = "running"
    DONE = "done"


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """The CHECK that holds a text column to an enumeration (native enums cannot lose a value)."""
    allowed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({allowed})", name=f"{column}_known")
