"""What this process measures, for Prometheus: in no document, for it is the operators', not the clients'."""

import hmac
from ipaddress import ip_address
from typing import Final

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api import metrics
from api.deps import Services, ServicesDep
from api.parameters import refuse_unknown_query
from jobs.errors import UnauthenticatedError

router = APIRouter(include_in_schema=False)

OWN_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
FORWARDING: Final = ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP")


async def check_reader(request: Request, services: ServicesDep) -> None:
    """Let in who sends the token; where there is none, who asks from this machine.

    Everybody comes from this machine whom a proxy on it lets through: where it says so, or asks for a name
    of the service as it is known outside, that is nobody's from here.

    Raises:
        UnauthenticatedError: it is another one.
    """
    wanted = services.settings.metrics_token
    if wanted:
        sent = request.headers.get("Authorization", "")
        if not hmac.compare_digest(sent.encode(), f"Bearer {wanted}".encode()):
            raise UnauthenticatedError(
                "Metrics are for who sends `Authorization: Bearer TOKEN`, the operators'."
            )
    elif not _is_from_here(request):
        raise UnauthenticatedError(
            "Metrics are for who asks from the API's own machine, unless LENSQUEUE_METRICS_TOKEN is set."
        )


@router.api_route(
    "/metrics", methods=["GET", "HEAD"], dependencies=[Depends(check_reader), Depends(refuse_unknown_query)]
)
async def read_metrics(services: ServicesDep) -> Response:
    """All of them; the gauges are set by now."""
    await services.readings.refresh()
    _look(services)
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _look(services: Services) -> None:
    for name in ("direct", "quick", "slow", "ending"):
        metrics.TURNS_WAITING.labels(name).set(len(getattr(services, name)))
    for name, spool in (("bodies", services.bodies), ("archives", services.archives.spool)):
        metrics.SPOOL_BYTES.labels(name).set(spool.held_bytes)
        metrics.SPOOL_LIMIT_BYTES.labels(name).set(spool.limit_bytes)
    metrics.STREAMS.set(len(services.streams))
    metrics.POLLS.set(len(services.waiting))


def _is_from_here(request: Request) -> bool:
    if request.url.hostname not in OWN_NAMES or any(name in request.headers for name in FORWARDING):
        return False
    # absent on a unix socket, at which a proxy may listen as well
    if request.client is None:
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False
