"""Webhook endpoints and their deliveries on the wire."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from api.schemas.ids import endpoint_id, job_id, message_id
from api.schemas.pages import cut
from api.schemas.wire import GIVEN, WHOLE, Wire, storable
from jobs.egress import MAX_URL
from models.types import DeliveryState, EndpointState
from models.webhook import WebhookDelivery, WebhookEndpoint

MAX_DESCRIPTION = 500
MAX_KEEP_S = 7 * 86_400

Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_URL,
        description="http or https, on port 80 or 443 of a public address, unless the operator allows more.",
    ),
    AfterValidator(storable),
]
Description = Annotated[
    str, Field(max_length=MAX_DESCRIPTION, description="For people."), AfterValidator(storable)
]


class NewEndpoint(Wire):
    """A URL that wants to be told of the ends of jobs."""

    url: Url
    description: Description = ""


class EndpointChanges(Wire):
    """What is to be different; what is absent stays as it is."""

    url: Annotated[Url | SkipJsonSchema[None], GIVEN] = None
    description: Annotated[Description | SkipJsonSchema[None], GIVEN] = None
    enabled: Annotated[bool | SkipJsonSchema[None], GIVEN] = Field(
        None, description="False: it is told nothing more, and what waits for it fails. True: it is again."
    )


class Rotation(Wire):
    """How a secret is replaced."""

    keep_previous_s: Annotated[int, Field(ge=0, le=MAX_KEEP_S), WHOLE] = Field(
        86_400,
        description="So long messages are signed with the old secret too; 0 where it has leaked.",
    )

    def keep(self) -> timedelta:
        """The same as a span of time."""
        return timedelta(seconds=self.keep_previous_s)


class EndpointView(BaseModel):
    """A webhook endpoint; jobs may name it once it is `enabled`."""

    id: str
    url: str
    description: str
    state: EndpointState
    state_reason: str | None = Field(description="Why it is not verified yet, or was disabled.")
    created_at: datetime
    verified_at: datetime | None = Field(description="When it sent the challenge of its URL back.")
    failing_since: datetime | None = Field(
        description="The first failed try since the last that succeeded; after five days it is disabled."
    )
    previous_secret_until: datetime | None = Field(description="Until then the secret of before signs too.")


class SecretView(EndpointView):
    """An endpoint with its secret, which no other answer shows."""

    secret: str | None = Field(
        description="Messages are signed with it. Null where a request was sent again with its"
        " Idempotency-Key: if the first answer was lost, rotate it."
    )


class EndpointsPage(BaseModel):
    """A page of endpoints, newest first."""

    items: list[EndpointView]
    next_page_token: str | None


class TryView(BaseModel):
    """One try to deliver a message."""

    at: datetime
    elapsed_ms: int
    status: int | None = Field(description="What was answered; null where nothing was.")
    error: str | None = Field(description="Why nothing was answered.")


class DeliveryView(BaseModel):
    """A message to an endpoint, through all its tries."""

    id: str
    webhook_id: str = Field(
        description="The header `webhook-id` of every try: the message's own id, or that of the message that"
        " is sent once more."
    )
    endpoint_id: str
    event: str
    job_id: str | None
    state: DeliveryState
    state_reason: str | None = Field(description="Why it failed for good.")
    attempts: int
    tries: list[TryView]
    next_try_at: datetime | None = Field(description="Null once it is delivered, or has failed.")
    created_at: datetime
    ended_at: datetime | None


class DeliveriesPage(BaseModel):
    """A page of messages, newest first."""

    items: list[DeliveryView]
    next_page_token: str | None


def view(row: WebhookEndpoint) -> EndpointView:
    """What the wire shows of an endpoint."""
    return EndpointView(
        id=endpoint_id(row.id),
        url=row.url,
        description=row.description,
        state=EndpointState(row.state),
        state_reason=row.state_reason,
        created_at=row.created_at,
        verified_at=row.verified_at,
        failing_since=row.failing_since,
        previous_secret_until=row.previous_secret_until,
    )


def with_secret(row: WebhookEndpoint, secret: str | None) -> SecretView:
    """The same with the secret that was just made."""
    return SecretView(**dict(view(row)), secret=secret)


def page(rows: Sequence[WebhookEndpoint], limit: int) -> EndpointsPage:
    """The page of one row more than it may hold, if there is one more."""
    shown, token = cut(rows, limit)
    return EndpointsPage(items=[view(row) for row in shown], next_page_token=token)


def delivery(row: WebhookDelivery) -> DeliveryView:
    """What the wire shows of a message."""
    return DeliveryView(
        id=message_id(row.id),
        webhook_id=message_id(row.redelivery_of or row.id),
        endpoint_id=endpoint_id(row.endpoint_id),
        event=row.event,
        job_id=None if row.job_id is None else job_id(row.job_id),
        state=DeliveryState(row.state),
        state_reason=row.state_reason,
        attempts=row.attempts,
        tries=[TryView(**tried) for tried in row.tries],
        next_try_at=row.run_at if row.state == DeliveryState.PENDING else None,
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def deliveries(rows: Sequence[WebhookDelivery], limit: int) -> DeliveriesPage:
    """The page of one row more than it may hold, if there is one more."""
    shown, token = cut(rows, limit)
    return DeliveriesPage(items=[delivery(row) for row in shown], next_page_token=token)
