"""What receivers of webhooks are sent: bodies, and headers as the Standard Webhooks specification says."""

import base64
import secrets
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import orjson
from standardwebhooks import Webhook

from models.job import Job

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES: Final = 32
USER_AGENT: Final = "Lensqueue-Webhooks/1"


class Event(StrEnum):
    """What a message tells of."""

    JOB_ENDED = "job.ended"
    VERIFICATION = "endpoint.verification"


def new_secret() -> str:
    """A secret to sign messages with, and to verify them."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers_of(message_id: uuid.UUID, body: bytes, signing: Sequence[str], at: datetime) -> dict[str, str]:
    """The headers of one try, signed with each secret: one that is being replaced signs as well."""
    wire_id = f"msg_{message_id.hex}"
    at = at.astimezone(UTC)
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": wire_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(wire_id, at, body.decode()) for secret in signing),
    }


def verification(endpoint_id: uuid.UUID, challenge: str, at: datetime) -> bytes:
    """A message that asks the receiver to send the challenge back."""
    return _body(Event.VERIFICATION, at, {"endpoint_id": f"whe_{endpoint_id.hex}", "challenge": challenge})


def job_ended(job: Job) -> bytes:
    """That a job ended, and how; always the same bytes, until it is deleted, and its tags with it."""
    assert job.ended_at is not None
    wire_id = f"job_{job.id.hex}"
    data = {
        "id": wire_id,
        "type": job.type,
        "model": job.model,
        "state": job.state,
        "progress": {
            "total": job.total,
            "succeeded": job.succeeded,
            "failed": job.failed,
            "dropped": job.dropped,
        },
        "tags": job.tags,
        "links": {"self": f"/v1/jobs/{wire_id}", "results": f"/v1/jobs/{wire_id}/results"},
    }
    return _body(Event.JOB_ENDED, job.ended_at, data)


def _body(event: Event, at: datetime, data: dict[str, Any]) -> bytes:
    # the database's session may be in another time zone than that of the next try
    told = {"type": event, "timestamp": at.astimezone(UTC), "data": data}
    return orjson.dumps(told, option=orjson.OPT_UTC_Z)
