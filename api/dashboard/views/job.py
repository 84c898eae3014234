"""One job: how far it is, every try at it, its items, and what can be done with it."""

import uuid
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from api import cancellation
from api.dashboard.asked_for import asked_for
from api.dashboard.forms import read_form
from api.dashboard.lookup import find_job
from api.dashboard.once import new_once, once_of
from api.dashboard.pages import go, page
from api.dashboard.visitor import Acting, Looking, Visitor
from api.deps import ServicesDep
from api.exports.formats import FORMATS
from api.lookup import check_kept
from api.retrying import Who
from api.retrying import retry_job as retry_once
from api.schemas import ids
from api.schemas import jobs as schema
from api.writing import writing
from jobs import audit, deletion, job_pages, queries
from jobs.errors import InvalidRequestError, ResultsExpiredError
from jobs.ingested import ingested
from jobs.outlook import outlook_of
from jobs.retry import RetryScope
from models.api_key import ApiKey
from models.image_set import ImageSet, ImageSetVersion
from models.job import Job
from models.queue import ANALYSIS
from models.types import Made

# by the prefix of its id: `/jobs/new` and what else lies there are other pages
PREFIX: Final = "/jobs/job_{digits}"
router = APIRouter(prefix=PREFIX)

ITEMS: Final = 50
ATTEMPTS: Final = 25
LABELS_SHOWN: Final = 100
MOST: Final = 2**31 - 1
TYPES: Final = {
    "logit_lens": "Logit lens",
    "embedding": "Embedding",
    "rescore": "Rescore",
    "ingest": "Ingestion",
    "summary": "Summary",
    "comparison": "Comparison",
    "drift": "Drift",
    "index": "Index",
}
SCOPES: Final = {
    RetryScope.FAILED_ITEMS: "Those that failed or were dropped",
    RetryScope.ALL: "All of them",
}


def get_wire_id(digits: str) -> str:
    """The id of the job that a page is about."""
    return f"job_{digits}"


WireId = Annotated[str, Depends(get_wire_id)]
After = Annotated[int, Query(ge=-1, le=MOST)]
Failed = Annotated[bool, Query()]
Tried = Annotated[str, Query(pattern=r"^\d{1,9}\.\d{1,9}$")]


@router.get("")
async def show_job(
    request: Request,
    wire_id: WireId,
    visitor: Looking,
    services: ServicesDep,
    after: After = -1,
    failed: Failed = False,
    tried: Tried = "0.0",
) -> Response:
    """The page."""
    facts = await _facts(services, visitor, wire_id, after=after, failed=failed, tried=tried)
    return page(request, "job.html", visitor, **facts)


@router.get("/parts")
async def show_parts(
    request: Request,
    wire_id: WireId,
    visitor: Looking,
    services: ServicesDep,
    after: After = -1,
    failed: Failed = False,
    tried: Tried = "0.0",
) -> Response:
    """What changes of it while the job runs."""
    facts = await _facts(services, visitor, wire_id, after=after, failed=failed, tried=tried)
    return page(request, "job_parts.html", visitor, **facts)


@router.post("/cancel")
async def cancel_job(request: Request, wire_id: WireId, visitor: Acting, services: ServicesDep) -> Response:
    """Drop what waits of it."""
    form = await read_form(request)
    async with services.sessions() as session:
        job = await find_job(session, visitor, wire_id)
    reason = form.reason()

    def note(session: Session) -> None:
        audit.note(session, visitor.actor, "job.cancelled", wire_id, tenant=job.tenant, reason=reason)

    await cancellation.cancel_job(services, job.tenant, job.id, note)
    return go(f"/admin/jobs/{wire_id}", "job-cancelled")


@router.post("/retry")
async def retry_job(request: Request, wire_id: WireId, visitor: Acting, services: ServicesDep) -> Response:
    """Try it again, as a new job; a form that is sent twice makes one."""
    form = await read_form(request)
    scope = _scope(form.text("scope"))
    async with services.sessions() as session:
        job = await find_job(session, visitor, wire_id)
    reason = form.reason()

    def note(session: Session, new: Job) -> None:
        audit.note(
            session,
            visitor.actor,
            "job.retried",
            wire_id,
            tenant=job.tenant,
            filter={"scope": scope, "new_job": ids.job_id(new.id)},
            reason=reason,
        )

    once = once_of(form, Made.JOB, request.url.path, {"scope": scope})
    accepted = await retry_once(services, Who(job.tenant, None, note), job.id, scope, once)
    if accepted.new:
        services.inviter.invite(accepted.job.model, accepted.job.id)
    return go(f"/admin/jobs/{ids.job_id(accepted.job.id)}", "job-retried")


@router.post("/delete")
async def delete_job(request: Request, wire_id: WireId, visitor: Acting, services: ServicesDep) -> Response:
    """Forget it, and all that it found."""
    form = await read_form(request)
    async with services.sessions() as session:
        job = await find_job(session, visitor, wire_id)
    async with writing(services, services.ending, job.tenant) as session:
        await session.run_sync(_delete, visitor, job, form.reason())
    return go("/admin/jobs", "job-deleted")


def _delete(session: Session, visitor: Visitor, job: Job, reason: str | None) -> None:
    deletion.delete_job(session, job.tenant, job.id)
    wire_id = ids.job_id(job.id)
    audit.note(session, visitor.actor, "job.deleted", wire_id, tenant=job.tenant, reason=reason)


def _scope(value: str) -> RetryScope:
    if value not in set(RetryScope):
        raise InvalidRequestError("Say which items are tried again.", pointer="/scope")
    return RetryScope(value)


async def _facts(
    services: ServicesDep, visitor: Visitor, wire_id: str, *, after: int, failed: bool, tried: str
) -> dict[str, Any]:
    async with services.reading() as session:
        job = await find_job(session, visitor, wire_id)
        outlook = await session.run_sync(outlook_of, job.id)
        expired = await _is_expired(session, job)
        items = []
        if not expired:
            wanted = job_pages.items_page(job.id, after=after, failed=failed, limit=ITEMS)
            items = list(await session.execute(wanted))
        unit, attempt = map(int, tried.split("."))
        behind = (min(unit, MOST), min(attempt, MOST))
        attempts = list(await session.execute(job_pages.attempts_page(job.id, after=behind, limit=ATTEMPTS)))
        lasting = False
        if job.ended_at is not None and job.failed and not job.dropped and not expired:
            lasting = not await session.scalar(job_pages.may_succeed(job.id))
        told = (await session.execute(job_pages.OPTIONS, {"job_id": job.id, "limit": LABELS_SHOWN})).one()
        beside = await _beside(session, job)
        files = await _files(session, job) if job.model == ANALYSIS and not expired else {}
    last = attempts[ATTEMPTS - 1][0] if len(attempts) > ATTEMPTS else None
    return {
        "job": job,
        "shown": schema.view(job, outlook),
        "wire_id": wire_id,
        "type": TYPES.get(job.type, job.type),
        "expired": expired,
        "labels": told.names,
        "label_count": told.labels,
        "options": asked_for(told.options, beside["version"], beside["image_set"]),
        "of_job": _source(told.options),
        "items": items[:ITEMS],
        "next_items": items[ITEMS - 1].index if len(items) > ITEMS else None,
        "attempts": attempts[:ATTEMPTS],
        "next_attempts": None if last is None else f"{last.unit}.{last.attempt}",
        "after": after,
        "failed": failed,
        "tried": tried,
        "query": urlencode({"after": after, "failed": int(failed), "tried": tried}),
        "lasting": lasting,
        "scopes": _scopes(job, expired=expired),
        "formats": [] if job.model == ANALYSIS else list(FORMATS),
        "files": files,
        "ids": ids,
        "ingested": ingested,
        **beside,
    }


async def _is_expired(session: AsyncSession, job: Job) -> bool:
    try:
        await check_kept(session, job)
    except ResultsExpiredError:
        return True
    return False


async def _beside(session: AsyncSession, job: Job) -> dict[str, Any]:
    """What other tables know of it: who submitted it, what it is made of, who tried it again."""
    key = None if job.key_id is None else await session.get(ApiKey, job.key_id)
    version = None if job.version_id is None else await session.get(ImageSetVersion, job.version_id)
    image_set = None if version is None else await session.get(ImageSet, version.set_id)
    retries = (await session.execute(job_pages.retries_of(job.tenant, job.id))).all()
    return {
        "key": key,
        "version": version,
        "image_set": image_set,
        "retries": retries,
        "once": new_once(),
    }


async def _files(session: AsyncSession, job: Job) -> dict[str, Any]:
    result = await session.scalar(queries.result_of(job.id, 0))
    return {} if result is None else (result.payload or {}).get("files", {})


def _source(options: dict[str, Any]) -> str | None:
    """The job whose results it is about, where it is about one's."""
    if "from_job" in options:
        return str(options["from_job"])
    return ids.job_id(uuid.UUID(options["job_id"])) if "job_id" in options else None


def _scopes(job: Job, *, expired: bool) -> dict[str, str]:
    """Which items can be tried again: once results went, nobody knows any more which of them failed."""
    if job.ended_at is None:
        return {}
    unsettled = job.failed + job.dropped
    known = unsettled > 0 and (not expired or unsettled == job.total)
    return {scope: said for scope, said in SCOPES.items() if known or scope is RetryScope.ALL}
