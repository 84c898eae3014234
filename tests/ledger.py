"""What tests of the ledger share: submitting, and the invariant that must hold after anything."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from engine.catalog import Catalog
from jobs import leases, submit
from jobs.admission import Quota, admit
from jobs.leases import Appetite, Claim, Holder, ItemResult, UnitResult
from jobs.submission import Submission, Terms, TextItem
from jobs.units import Admission
from models.job import Job
from models.types import JobType, Priority

MODEL = "lensqueue/siglip-tiny-shapes"
TENANT = "tests"
WORKER = uuid.UUID(int=1)


def submit_texts(
    sessions: sessionmaker[Session],
    count: int = 1,
    *,
    model: str = MODEL,
    tenant: str = TENANT,
    priority: Priority | None = None,
    terms: Terms | None = None,
    options: dict[str, Any] | None = None,
) -> uuid.UUID:
    """A queued job over some texts, one item a unit while it is interactive."""
    wanted = Submission(
        type=JobType.EMBEDDING,
        model=model,
        items=[TextItem(f"text {index}") for index in range(count)],
        options=options or {"normalize": True},
        priority=priority,
        terms=terms or Terms(),
    )
    return admit_and_submit(sessions, wanted, tenant)


def admit_and_submit(sessions: sessionmaker[Session], wanted: Submission, tenant: str = TENANT) -> uuid.UUID:
    """Submit as the API does: charged in a transaction of its own, stored in the next."""
    admission = admit_alone(sessions, wanted, tenant)
    with sessions.begin() as session:
        return submit.submit(session, tenant, wanted, admission).id


def admit_alone(sessions: sessionmaker[Session], wanted: Submission, tenant: str = TENANT) -> Admission:
    """The first half of it."""
    catalog = Catalog(model_paths={wanted.model: Path("nowhere")})
    with sessions.begin() as session:
        return admit(session, tenant, wanted, catalog, Quota())


def claim(
    sessions: sessionmaker[Session],
    *,
    worker_id: uuid.UUID = WORKER,
    model: str = MODEL,
    ttl_seconds: float = 30,
    hard_limit_seconds: float = 600,
    appetite: Appetite | None = None,
) -> Claim | None:
    """Claim as a worker does."""
    holder = Holder(
        worker_id,
        timedelta(seconds=ttl_seconds),
        timedelta(seconds=hard_limit_seconds),
        appetite or Appetite(),
    )
    with sessions.begin() as session:
        return leases.claim(session, model, holder)


def results_of(held: Claim, *, failing: Sequence[int] = ()) -> list[UnitResult]:
    """What a worker found, with the items of the given indexes failed."""
    error = {"code": "image-truncated", "message": "torn", "retryable": False}
    return [
        UnitResult(
            unit.job_id,
            unit.unit,
            [
                ItemResult(item, error=error)
                if item["index"] in failing
                else ItemResult(item, payload={"dimensions": 1})
                for item in unit.items
            ],
            {"model": MODEL},
        )
        for unit in held.units
    ]


def complete(sessions: sessionmaker[Session], held: Claim, *, failing: Sequence[int] = ()) -> bool:
    """Complete as a worker does."""
    with sessions.begin() as session:
        return leases.complete(session, held.token, results_of(held, failing=failing))


def read(sessions: sessionmaker[Session], job_id: uuid.UUID) -> Job:
    with sessions() as session:
        return session.get_one(Job, job_id)


def scalar(sessions: sessionmaker[Session], query: str, **values: Any) -> Any:
    with sessions() as session:
        return session.scalar(text(query), values)


def assert_settled(sessions: sessionmaker[Session]) -> None:
    """Every job ended; one result per counted item that was not removed; no work, no lease."""
    with sessions() as session:
        for query in (
            "SELECT count(*) FROM jobs WHERE ended_at IS NULL",
            "SELECT count(*) FROM jobs WHERE succeeded + failed + dropped <> total",
            "SELECT count(*) FROM work",
            "SELECT count(*) FROM leases",
            "SELECT count(*) FROM attempts WHERE ended_at IS NULL",
            """SELECT count(*) FROM jobs WHERE results_removed_at IS NULL AND deleted_at IS NULL
                 AND succeeded <> (
                 SELECT count(*) FROM results WHERE job_id = jobs.id AND results.state = 'succeeded')""",
            """SELECT count(*) FROM jobs WHERE results_removed_at IS NULL AND deleted_at IS NULL
                 AND failed <> (
                 SELECT count(*) FROM results WHERE job_id = jobs.id AND results.state = 'failed')""",
        ):
            assert session.scalar(text(query)) == 0, query
