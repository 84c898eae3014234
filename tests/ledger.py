"""What tests of the ledger share: submitting, and the invariant that must hold after anything."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from jobs import leases, submit
from jobs.leases import Claim, ItemResult
from models.job import Job
from models.types import JobType

MODEL = "lensqueue/siglip-tiny-shapes"
TENANT = "tests"
WORKER = uuid.UUID(int=1)


def submit_texts(sessions: sessionmaker[Session], count: int = 1, *, model: str = MODEL) -> uuid.UUID:
    """A queued job over some texts."""
    wanted = submit.Submission(
        type=JobType.EMBEDDING,
        model=model,
        items=[submit.TextItem(f"text {index}") for index in range(count)],
        options={"normalize": True},
    )
    with sessions.begin() as session:
        return submit.submit(session, TENANT, wanted).id


def claim(
    sessions: sessionmaker[Session],
    *,
    worker_id: uuid.UUID = WORKER,
    model: str = MODEL,
    ttl_seconds: float = 30,
    hard_limit_seconds: float = 600,
) -> Claim | None:
    """Claim as a worker does."""
    with sessions.begin() as session:
        return leases.claim(
            session,
            model=model,
            worker_id=worker_id,
            ttl=timedelta(seconds=ttl_seconds),
            hard_limit=timedelta(seconds=hard_limit_seconds),
        )


def complete(sessions: sessionmaker[Session], held: Claim, *, failing: Sequence[int] = ()) -> bool:
    """Complete as a worker does, with the items of the given indexes failed."""
    error = {"code": "image-truncated", "message": "torn", "retryable": False}
    results = [
        ItemResult(item, error=error)
        if item["index"] in failing
        else ItemResult(item, payload={"dimensions": 1})
        for item in held.items
    ]
    with sessions.begin() as session:
        return leases.complete(session, held.token, results, {"model": MODEL})


def read(sessions: sessionmaker[Session], job_id: uuid.UUID) -> Job:
    with sessions() as session:
        return session.get_one(Job, job_id)


def scalar(sessions: sessionmaker[Session], query: str, **values: Any) -> Any:
    with sessions() as session:
        return session.scalar(text(query), values)


def assert_settled(sessions: sessionmaker[Session]) -> None:
    """Every job ended; one result per counted item; no work and no lease is left."""
    with sessions() as session:
        for query in (
            "SELECT count(*) FROM jobs WHERE ended_at IS NULL",
            "SELECT count(*) FROM jobs WHERE succeeded + failed + dropped <> total",
            "SELECT count(*) FROM work",
            "SELECT count(*) FROM leases",
            "SELECT count(*) FROM attempts WHERE ended_at IS NULL",
            """SELECT count(*) FROM jobs WHERE succeeded <> (
                 SELECT count(*) FROM results WHERE job_id = jobs.id AND results.state = 'succeeded')""",
            """SELECT count(*) FROM jobs WHERE failed <> (
                 SELECT count(*) FROM results WHERE job_id = jobs.id AND results.state = 'failed')""",
        ):
            assert session.scalar(text(query)) == 0, query
