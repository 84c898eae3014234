"""Messages on their way to webhook endpoints: claimed, tried, settled, and tried again for a day.

A claim moves `run_at` to the time until which the claimer may speak: whoever dies meanwhile has the message
tried again after it. A message is delivered at least once, with the same id each time. No verb commits.
"""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Interval, Select, Text, Uuid, bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, defer

from jobs.endpoints import hold_endpoint, secrets_of
from jobs.errors import NotFoundError, WebhookEndpointNotEnabledError
from jobs.messages import job_ended
from models.job import Job
from models.types import DeliveryState, EndpointState
from models.webhook import WebhookDelivery, WebhookEndpoint

LEASE: Final = timedelta(seconds=60)
"""A try takes a quarter of it at most."""
DELAYS: Final = tuple(
    timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200)
)
"""Between the tries: eleven of them in 28 hours."""
JITTER: Final = 0.1
MAX_RETRY_AFTER: Final = timedelta(hours=12)
PATIENCE: Final = timedelta(days=5)
"""An endpoint of which everything failed for so long is disabled."""
GONE: Final = 410
BUSY: Final = frozenset({429, 503})
"""Answers whose `Retry-After` is heard."""

CLAIM = text("""
    WITH RECURSIVE waiting AS (
        -- from one endpoint to the next by the index: how much waits for each is no matter
        (SELECT endpoint_id FROM webhook_deliveries WHERE state = 'pending' ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT (
            SELECT endpoint_id FROM webhook_deliveries
            WHERE state = 'pending' AND endpoint_id > waiting.endpoint_id
            ORDER BY endpoint_id LIMIT 1
        )
        FROM waiting WHERE waiting.endpoint_id IS NOT NULL
    ), due AS MATERIALIZED (
        SELECT one.id, one.run_at, endpoints.destination
        FROM waiting JOIN webhook_endpoints AS endpoints ON endpoints.id = waiting.endpoint_id
        CROSS JOIN LATERAL (
            SELECT id, run_at FROM webhook_deliveries
            WHERE endpoint_id = endpoints.id AND state = 'pending' AND run_at <= now()
            ORDER BY run_at
            LIMIT greatest(:of_endpoint - (
                SELECT count(*) FROM unnest(:endpoints) AS busy (id) WHERE busy.id = endpoints.id
            ), 0)
            FOR UPDATE SKIP LOCKED
        ) AS one
        WHERE endpoints.state = 'enabled'
    ), ranked AS (
        SELECT id, run_at, destination, row_number() OVER (PARTITION BY destination ORDER BY run_at, id) + (
            SELECT count(*) FROM unnest(:destinations) AS busy (name) WHERE busy.name = due.destination
        ) AS place
        FROM due
    ), chosen AS (
        -- in turns: the first of every destination before the second of any
        SELECT id FROM ranked WHERE place <= :of_destination ORDER BY place, run_at LIMIT :limit
    )
    UPDATE webhook_deliveries SET run_at = now() + :lease FROM chosen WHERE webhook_deliveries.id = chosen.id
    RETURNING webhook_deliveries.id, webhook_deliveries.run_at
""").bindparams(
    bindparam("endpoints", type_=ARRAY(Uuid())),
    bindparam("destinations", type_=ARRAY(Text())),
    bindparam("lease", type_=Interval()),
)


@dataclass(frozen=True, slots=True)
class Share:
    """How many messages one process has on their way: in all, to one host and port, to one endpoint."""

    messages: int = 32
    of_destination: int = 4
    of_endpoint: int = 2


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is to be tried now; `tried` times it was before. `id` is the receiver's."""

    delivery_id: uuid.UUID
    leased_until: datetime
    endpoint_id: uuid.UUID
    id: uuid.UUID
    url: str
    destination: str
    secrets: tuple[str, ...]
    body: bytes
    tried: int


@dataclass(frozen=True, slots=True)
class Try:
    """What came of a try: a status, or why there is none."""

    at: datetime
    elapsed_ms: int
    status: int | None = None
    error: str | None = None
    retry_after: timedelta | None = None

    @property
    def succeeded(self) -> bool:
        """Whether it is an answer of 2xx: a redirect is none."""
        return self.status is not None and self.status // 100 == 2  # noqa: PLR2004 - the class of successes


def claim_due(session: Session, under_way: Sequence[Message], share: Share) -> list[Message]:
    """Messages to be tried now, beside those that this process has under way already.

    The caller commits, and then tries each.
    """
    leased = session.execute(
        CLAIM,
        {
            "endpoints": [message.endpoint_id for message in under_way],
            "destinations": [message.destination for message in under_way],
            "of_endpoint": share.of_endpoint,
            "of_destination": share.of_destination,
            "limit": share.messages - len(under_way),
            "lease": LEASE,
        },
    ).all()
    if not leased:
        return []
    until = {row.id: row.run_at for row in leased}
    rows = session.execute(
        select(WebhookDelivery, WebhookEndpoint)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .where(WebhookDelivery.id.in_(until))
        .order_by(WebhookDelivery.id)
    ).all()
    about = [delivery.job_id for delivery, _ in rows]
    found = session.scalars(select(Job).options(defer(Job.options, raiseload=True)).where(Job.id.in_(about)))
    jobs = {job.id: job for job in found}
    messages = []
    for delivery, endpoint in rows:
        job = jobs.get(delivery.job_id) if delivery.job_id else None
        if job is None:
            _end(delivery, DeliveryState.FAILED, "The job is gone.")
            continue
        messages.append(
            Message(
                delivery.id,
                until[delivery.id],
                endpoint.id,
                delivery.redelivery_of or delivery.id,
                endpoint.url,
                endpoint.destination,
                tuple(secrets_of(endpoint)),
                job_ended(job),
                delivery.attempts,
            )
        )
    session.flush()
    return messages


def settle(session: Session, message: Message, tried: Try) -> DeliveryState | None:
    """Note what came of a try, and when the next one is; None when somebody else has the message by now."""
    # the endpoint first, as whoever sends something once more has it
    endpoint = session.get_one(WebhookEndpoint, message.endpoint_id, with_for_update={"key_share": True})
    delivery = session.scalar(
        select(WebhookDelivery)
        .where(
            WebhookDelivery.id == message.delivery_id,
            WebhookDelivery.state == DeliveryState.PENDING,
            WebhookDelivery.run_at == message.leased_until,
        )
        .with_for_update()
    )
    if delivery is None:
        return None
    delivery.attempts += 1
    delivery.tries = [*delivery.tries, _shown(tried)]
    if tried.succeeded:
        _end(delivery, DeliveryState.DELIVERED, None)
    elif tried.status == GONE:
        _end(delivery, DeliveryState.FAILED, "The receiver answered 410: it wants no more messages.")
    elif delivery.attempts > len(DELAYS):
        _end(delivery, DeliveryState.FAILED, f"All {delivery.attempts} tries failed.")
    else:
        delivery.run_at = func.now() + delay_after(delivery.attempts, tried)
    _judge(endpoint, tried)
    session.flush()
    return DeliveryState(delivery.state)


def delay_after(attempts: int, tried: Try) -> timedelta:
    """How long to wait after so many tries: as scheduled, or longer if the receiver says so."""
    delay = DELAYS[attempts - 1]
    if tried.status in BUSY and tried.retry_after is not None:
        delay = max(delay, min(tried.retry_after, MAX_RETRY_AFTER))
    # with jitter, and never sooner than the receiver wants: messages that failed together part
    return delay * (1 + JITTER * random.random())  # noqa: S311 - it keeps no secret


def deliveries_page(
    endpoint_id: uuid.UUID, *, before: uuid.UUID | None, limit: int
) -> Select[WebhookDelivery]:
    """The messages to an endpoint, newest first: one more than `limit`, to tell what follows."""
    page = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
    if before is not None:
        page = page.where(WebhookDelivery.id < before)
    return page.order_by(WebhookDelivery.id.desc()).limit(limit + 1)


def redeliver(
    session: Session, tenant: str, endpoint_id: uuid.UUID, delivery_id: uuid.UUID
) -> WebhookDelivery:
    """Have a message tried now, whatever became of it; one that waits for a later try has that one at once.

    Raises:
        NotFoundError: the tenant has no such endpoint, or that has no such message.
        WebhookEndpointNotEnabledError: the endpoint is told nothing.
    """
    # held, so that of two requests the second finds what the first one made
    endpoint = hold_endpoint(session, tenant, endpoint_id)
    delivery = session.scalar(
        select(WebhookDelivery).where(
            WebhookDelivery.id == delivery_id, WebhookDelivery.endpoint_id == endpoint.id
        )
    )
    if delivery is None:
        raise NotFoundError
    if endpoint.state != EndpointState.ENABLED:
        raise WebhookEndpointNotEnabledError(
            f"This webhook endpoint is {endpoint.state}: verify or enable it first."
        )
    message_id = delivery.redelivery_of or delivery.id
    waits = session.scalar(
        select(WebhookDelivery)
        .where(
            WebhookDelivery.endpoint_id == endpoint.id,
            WebhookDelivery.state == DeliveryState.PENDING,
            or_(WebhookDelivery.id == message_id, WebhookDelivery.redelivery_of == message_id),
        )
        .with_for_update()
    )
    if waits is not None:
        # what is due within a lease may be under way: it is settled, or tried, soon enough
        session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.id == waits.id, WebhookDelivery.run_at > func.now() + LEASE)
            .values(run_at=func.now())
            .execution_options(synchronize_session=False)
        )
        session.refresh(waits)
        return waits
    again = WebhookDelivery(
        endpoint_id=endpoint.id, job_id=delivery.job_id, event=delivery.event, redelivery_of=message_id
    )
    session.add(again)
    session.flush()
    session.refresh(again)
    return again


def _end(delivery: WebhookDelivery, state: DeliveryState, reason: str | None) -> None:
    delivery.state = state
    delivery.state_reason = reason
    delivery.ended_at = func.now()


def _judge(endpoint: WebhookEndpoint, tried: Try) -> None:
    if tried.succeeded:
        endpoint.failing_since = None
    elif endpoint.state == EndpointState.ENABLED:
        now = datetime.now(UTC)
        endpoint.failing_since = endpoint.failing_since or now
        if tried.status == GONE:
            endpoint.state = EndpointState.DISABLED
            endpoint.state_reason = "It answered 410: it wants no more messages."
        elif endpoint.failing_since < now - PATIENCE:
            endpoint.state = EndpointState.DISABLED
            endpoint.state_reason = f"Every message to it failed for {PATIENCE.days} days."


def _shown(tried: Try) -> dict[str, Any]:
    return {
        "at": tried.at.astimezone(UTC).isoformat(),
        "elapsed_ms": tried.elapsed_ms,
        "status": tried.status,
        "error": tried.error,
    }
