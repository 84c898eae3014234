"""The request that a job came from, to be sent again."""

import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from api.deps import Reader, Services, ServicesDep
from api.schemas.ids import endpoint_id, image_id, parse_job_id
from jobs import asked, queries
from jobs.deletion import existing
from jobs.errors import JobDeletedError

router = APIRouter(prefix="/v1/jobs/{job_id}/request", tags=["jobs"])

UNITS_AT_ONCE: Final = 64
"""A unit has 128 items at most."""
NAMED = {"text", "image_id", "url"}
REQUEST: dict[str, Any] = {"application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}}}


@router.get(
    "",
    summary="Fetch a job's request",
    response_class=StreamingResponse,
    responses={
        200: {"content": REQUEST, "description": "What can be sent to `POST /v1/jobs`."},
        404: {
            "description": "There is no such job, or it is an ingestion, a summary, a comparison or a drift,"
            " which no body makes (`no-request`)."
        },
        410: {"description": "It was deleted (`job-deleted`)."},
    },
)
async def read_request(job_id: str, caller: Reader, services: ServicesDep) -> StreamingResponse:
    """The body that makes the same job again: pictures by their ids, every option as it was resolved.

    Of a job with more items than an inline job may have, it tells them all the same.
    """
    async with services.sessions() as session:
        job = existing(await session.scalar(queries.whole_job_of(caller.tenant, parse_job_id(job_id))))
        units = list(await session.scalars(asked.units_of(job.id)))
    body = asked.body_of(job)
    if job.webhook_endpoint_id is not None:
        body["webhook"] = {"endpoint_id": endpoint_id(job.webhook_endpoint_id)}
    return StreamingResponse(_pieces(services, job.id, body, units), media_type="application/json")


async def _pieces(
    services: Services, job_id: uuid.UUID, body: dict[str, Any], units: list[int]
) -> AsyncIterator[bytes]:
    """The body with its items, a few units at a time: no connection is held while a client reads."""
    if "input" in body:
        yield orjson.dumps(body)
        return
    yield orjson.dumps(body)[:-1] + b',"input":{'
    name = ""
    for start in range(0, len(units), UNITS_AT_ONCE):
        several = units[start : start + UNITS_AT_ONCE]
        async with services.sessions() as session:
            found = {row.unit: row.items for row in await session.execute(asked.items_of(job_id, several))}
        if len(found) < len(several):
            # it was deleted meanwhile: a body that ends early is no JSON, and nobody takes it for all
            raise JobDeletedError
        # what was no picture in an image set cannot be named again
        items = [item for unit in several for item in found[unit] if NAMED & item.keys()]
        for item in items:
            if not name:
                name = "texts" if item["kind"] == "text" else "images"
                yield f'"{name}":['.encode() + orjson.dumps(_shown(item))
            else:
                yield b"," + orjson.dumps(_shown(item))
    yield b"]}}" if name else b"}}"


def _shown(item: dict[str, Any]) -> dict[str, Any] | str:
    if item["kind"] == "text":
        return str(item["text"])
    # a picture that could not be fetched has a URL alone: whoever asks again has it fetched again
    named = {"url": item["url"]} if "url" in item else {"image_id": image_id(uuid.UUID(item["image_id"]))}
    return named if item["custom_id"] is None else named | {"custom_id": item["custom_id"]}
