"""Asking a webhook endpoint whether it wants to be told anything: it sends a challenge back."""

import secrets
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import orjson
import structlog
from sqlalchemy.orm import Session

from api.deps import Services
from jobs.egress import Answer, Bounds
from jobs.endpoints import note_verification, secrets_of
from jobs.errors import UrlRefusedError, UrlUnreachableError
from jobs.messages import headers_of, verification
from models.types import EndpointState
from models.webhook import WebhookEndpoint

log = structlog.get_logger()

BOUNDS: Final = Bounds(connect_seconds=3.0, read_seconds=5.0, total_seconds=5.0, answer_bytes=4096)


async def verify(
    services: Services, endpoint: WebhookEndpoint, note: Callable[[Session], None] | None = None
) -> WebhookEndpoint:
    """Send an endpoint a challenge and enable it if it comes back; else it says what was wrong.

    With what came of it, in the same transaction, `note` is written down.

    Raises:
        NotFoundError: it was deleted meanwhile.
    """
    if endpoint.state == EndpointState.ENABLED:
        return endpoint
    fault = await _challenge(services, endpoint)
    log.info("webhook.verified" if fault is None else "webhook.not_verified", endpoint=str(endpoint.id))
    async with services.sessions.begin() as session:
        asked = await session.run_sync(note_verification, endpoint, fault)
        if note is not None:
            await session.run_sync(note)
        return asked


async def _challenge(services: Services, endpoint: WebhookEndpoint) -> str | None:
    """None when the challenge came back, else what was wrong."""
    at = datetime.now(UTC)
    challenge = secrets.token_urlsafe(24)
    body = verification(endpoint.id, challenge, at)
    headers = headers_of(uuid.uuid4(), body, secrets_of(endpoint), at)
    try:
        answer = await services.egress.send("POST", endpoint.url, headers=headers, body=body, bounds=BOUNDS)
    except (UrlRefusedError, UrlUnreachableError) as error:
        return f"It could not be asked: {error.message}"
    if answer.status // 100 != 2:  # noqa: PLR2004 - the class of successes
        return f"It answered the challenge with {answer.status}, not with 2xx."
    if not secrets.compare_digest(_said(answer), challenge.encode()):
        return "Its answer does not hold the challenge: send `data.challenge` back."
    return None


def _said(answer: Answer) -> bytes:
    """The challenge in an answer: as JSON `{"challenge": "..."}`, or as it is."""
    try:
        said = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return answer.body.strip()
    challenge = said.get("challenge") if isinstance(said, dict) else said
    return challenge.encode() if isinstance(challenge, str) else b""
