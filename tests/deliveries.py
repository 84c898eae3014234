"""What tests of messages in the ledger share: an endpoint, a job of which it is told, and its tries."""

import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
from sqlalchemy.orm import Session, sessionmaker

from jobs.deliveries import Message, Share, Try, claim_due, settle
from jobs.endpoints import create_endpoint, note_verification
from models.types import DeliveryState
from models.webhook import WebhookDelivery, WebhookEndpoint
from tests.faults import change
from tests.ledger import TENANT, claim, complete, submit_texts

Sessions = sessionmaker[Session]
FAILED = {"status": 500}


def add_endpoint(
    sessions: Sessions, url: str = "https://hooks.example.org/in", *, tenant: str = TENANT
) -> uuid.UUID:
    """An enabled endpoint."""
    with sessions.begin() as session:
        endpoint = create_endpoint(session, tenant, httpx.URL(url), "", 1_000)
        return note_verification(session, endpoint, None).id


def add_job(sessions: Sessions, endpoint_id: uuid.UUID, count: int = 1, **options: Any) -> uuid.UUID:
    """A job of which the endpoint is told."""
    job_id = submit_texts(sessions, count, **options)
    change(
        sessions,
        "UPDATE jobs SET webhook_endpoint_id = :endpoint WHERE id = :job",
        endpoint=endpoint_id,
        job=job_id,
    )
    return job_id


def end_job(sessions: Sessions, endpoint_id: uuid.UUID) -> uuid.UUID:
    """A job that has ended, and is to be told of."""
    job_id = add_job(sessions, endpoint_id)
    held = claim(sessions)
    assert held is not None
    assert complete(sessions, held)
    return job_id


def due(sessions: Sessions, *under_way: Message, share: Share | None = None) -> list[Message]:
    with sessions.begin() as session:
        return claim_due(session, under_way, share or Share())


def tell(sessions: Sessions, message: Message, **what: Any) -> DeliveryState | None:
    """Note what came of a try."""
    with sessions.begin() as session:
        return settle(session, message, Try(datetime.now(UTC), 3, **what))


def hurry(sessions: Sessions) -> None:
    """Let the time of the next tries have come."""
    change(sessions, "UPDATE webhook_deliveries SET run_at = now() WHERE state = 'pending'")


def delivery(sessions: Sessions) -> WebhookDelivery:
    with sessions() as session:
        return session.query(WebhookDelivery).one()


def endpoint(sessions: Sessions, endpoint_id: uuid.UUID) -> WebhookEndpoint:
    with sessions() as session:
        return session.get_one(WebhookEndpoint, endpoint_id)
