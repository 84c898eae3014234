"""Webhook endpoints: where the ends of jobs are told, and every message on its way there."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from api import bodies
from api.deps import Reader, ReadingDep, ServicesDep, Submitter
from api.once import IDEMPOTENCY_KEY, REPLAYED, in_turn, once_of
from api.schemas import webhooks as schema
from api.schemas.ids import parse_endpoint_id, parse_message_id
from api.schemas.pages import decode_token
from api.verification import verify
from jobs import endpoints
from jobs.deliveries import deliveries_page, redeliver
from jobs.egress import check_url
from jobs.endpoints import Changes, endpoint_of
from jobs.errors import NotFoundError
from jobs.idempotency import make_once
from models.types import EndpointState, Made
from models.webhook import WebhookEndpoint

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"])

MAX_PAGE = 200
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such webhook endpoint."}}
REFUSED: dict[int | str, dict[str, Any]] = {
    **UNKNOWN,
    422: {"description": "The URL may not be asked (`url-refused`), or a field says what it may not."},
}

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]


def _body(name: str, *, required: bool = True) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{name}"}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": reference}}}}


@router.post(
    "",
    status_code=201,
    summary="Make a webhook endpoint",
    openapi_extra={"parameters": [IDEMPOTENCY_KEY], **_body("NewEndpoint")},
    responses={
        422: {
            "description": "The URL may not be asked (`url-refused`), or you have as many endpoints as you"
            " may (`too-many-webhook-endpoints`)."
        }
    },
)
async def create_webhook_endpoint(
    request: Request, response: Response, caller: Submitter, services: ServicesDep
) -> schema.SecretView:
    """Make an endpoint, show its secret once, and ask its URL whether it wants to be told anything.

    It does by answering the message `endpoint.verification` within five seconds with 2xx and its
    `data.challenge`, as `{"challenge": "..."}` or as plain text. Else it stays `pending`, and says why.
    """
    wanted = await bodies.read_small(request, schema.NewEndpoint)
    once = once_of(request, Made.ENDPOINT, wanted)
    url = check_url(wanted.url, services.settings.egress_rules())

    async def make() -> tuple[WebhookEndpoint, bool]:
        async with services.sessions.begin() as session:
            return await session.run_sync(
                lambda sync: make_once(
                    sync,
                    caller.tenant,
                    once,
                    lambda made_id: endpoints.create_endpoint(
                        sync,
                        caller.tenant,
                        url,
                        wanted.description,
                        services.settings.max_tenant_webhook_endpoints,
                        endpoint_id=made_id,
                    ),
                    lambda made_id: sync.scalar(endpoint_of(caller.tenant, made_id)),
                )
            )

    row, new = await in_turn(make)
    secret = row.secret if new else None
    if new:
        row = await verify(services, row)
    else:
        response.headers.update(REPLAYED)
    shown = schema.with_secret(row, secret)
    response.headers.update({"Location": f"/v1/webhook-endpoints/{shown.id}", "Cache-Control": "no-store"})
    return shown


@router.get("", summary="List webhook endpoints")
async def list_webhook_endpoints(
    caller: Reader, session: ReadingDep, limit: Limit = 50, page_token: str | None = None
) -> schema.EndpointsPage:
    """Your endpoints, newest first."""
    before = decode_token(page_token)
    rows = await session.scalars(endpoints.endpoints_page(caller.tenant, before=before, limit=limit))
    return schema.page(rows.all(), limit)


@router.get("/{endpoint_id}", summary="Look at a webhook endpoint", responses=UNKNOWN)
async def read_webhook_endpoint(endpoint_id: str, caller: Reader, session: ReadingDep) -> schema.EndpointView:
    """Whether an endpoint is told anything, and why it is not."""
    row = await session.scalar(endpoint_of(caller.tenant, parse_endpoint_id(endpoint_id)))
    if row is None:
        raise NotFoundError
    return schema.view(row)


@router.patch(
    "/{endpoint_id}",
    summary="Change a webhook endpoint",
    openapi_extra=_body("EndpointChanges"),
    responses=REFUSED,
)
async def change_webhook_endpoint(
    endpoint_id: str, request: Request, caller: Submitter, services: ServicesDep
) -> schema.EndpointView:
    """Change the URL or the description, disable an endpoint or enable it again.

    Another URL is verified at once, as that of a new endpoint, unless the endpoint is disabled; what waits to
    be sent does so for a day.
    """
    wanted = await bodies.read_small(request, schema.EndpointChanges)
    url = None if wanted.url is None else check_url(wanted.url, services.settings.egress_rules())
    changes = Changes(url, wanted.description, wanted.enabled)
    async with services.sessions.begin() as session:
        row = await session.run_sync(
            endpoints.change_endpoint, caller.tenant, parse_endpoint_id(endpoint_id), changes
        )
    if url is not None and row.state == EndpointState.PENDING:
        row = await verify(services, row)
    return schema.view(row)


@router.delete("/{endpoint_id}", status_code=204, summary="Delete a webhook endpoint", responses=UNKNOWN)
async def delete_webhook_endpoint(endpoint_id: str, caller: Submitter, services: ServicesDep) -> None:
    """Forget an endpoint and its secrets; what waits to be sent there fails."""
    async with services.sessions.begin() as session:
        await session.run_sync(endpoints.delete_endpoint, caller.tenant, parse_endpoint_id(endpoint_id))


@router.post("/{endpoint_id}/verify", summary="Verify a webhook endpoint", responses=UNKNOWN)
async def verify_webhook_endpoint(
    endpoint_id: str, caller: Submitter, services: ServicesDep
) -> schema.EndpointView:
    """Send the challenge once more; `state` says whether it came back, `state_reason` why it did not.

    An endpoint that is enabled is asked nothing; one that was disabled is enabled by it.
    """
    async with services.sessions() as session:
        row = await session.scalar(endpoint_of(caller.tenant, parse_endpoint_id(endpoint_id)))
    if row is None:
        raise NotFoundError
    return schema.view(await verify(services, row))


@router.post(
    "/{endpoint_id}/rotate-secret",
    summary="Rotate a secret",
    openapi_extra=_body("Rotation", required=False),
    responses=UNKNOWN,
)
async def rotate_webhook_secret(
    endpoint_id: str, request: Request, response: Response, caller: Submitter, services: ServicesDep
) -> schema.SecretView:
    """Give an endpoint a new secret and show it once; the old one signs too, for as long as is said.

    Meanwhile messages carry two signatures, and verify with either secret.
    """
    wanted = await bodies.read_optional(request, schema.Rotation)
    async with services.sessions.begin() as session:
        row = await session.run_sync(
            endpoints.rotate_secret, caller.tenant, parse_endpoint_id(endpoint_id), wanted.keep()
        )
    response.headers["Cache-Control"] = "no-store"
    return schema.with_secret(row, row.secret)


@router.get("/{endpoint_id}/deliveries", summary="List deliveries", responses=UNKNOWN)
async def list_webhook_deliveries(
    endpoint_id: str,
    caller: Reader,
    session: ReadingDep,
    limit: Limit = 50,
    page_token: str | None = None,
) -> schema.DeliveriesPage:
    """The messages to an endpoint, newest first, with what came of every try; kept for 30 days."""
    before = decode_token(page_token)
    row = await session.scalar(endpoint_of(caller.tenant, parse_endpoint_id(endpoint_id)))
    if row is None:
        raise NotFoundError
    rows = await session.scalars(deliveries_page(row.id, before=before, limit=limit))
    return schema.deliveries(rows.all(), limit)


@router.post(
    "/{endpoint_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    summary="Send a message once more",
    responses={
        404: {"description": "There is no such webhook endpoint, or no such message to it."},
        422: {"description": "The endpoint is not enabled (`webhook-endpoint-not-enabled`)."},
    },
)
async def redeliver_webhook(
    endpoint_id: str, delivery_id: str, caller: Submitter, services: ServicesDep
) -> schema.DeliveryView:
    """Send a message now, by the same `webhook-id`; what fails is tried again as any other message is.

    One that waits for its next try has that one now; asked for again meanwhile, it goes out once.
    """
    send = partial(
        redeliver,
        tenant=caller.tenant,
        endpoint_id=parse_endpoint_id(endpoint_id),
        delivery_id=parse_message_id(delivery_id),
    )
    async with services.sessions.begin() as session:
        return schema.delivery(await session.run_sync(send))
