"""Submitting a job by a form: the way of POST /v1/jobs, with an audit row beside the job's own."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sqlalchemy.orm import Session
from starlette.datastructures import FormData

from api import bodies
from api.dashboard.forms import Form
from api.dashboard.job_search import JobSearch, JobSearchDep, tags_of
from api.dashboard.once import new_once, once_of
from api.dashboard.pages import go, page
from api.dashboard.visitor import Acting, Visitor
from api.deps import ReadingDep, Services, ServicesDep
from api.errors import STATUS, UnsupportedMediaTypeError
from api.room import refuse_without_room
from api.schemas.ids import job_id
from api.schemas.submissions import JOB_REQUEST
from api.spool import hold_of, release_body
from api.submissions import accept, check_submission, submission_of
from api.uploads import Upload
from engine.catalog import DEFAULT_TEMPLATE
from engine.errors import EngineError
from jobs import audit
from jobs.errors import DomainError, InvalidRequestError, NoLabelsError
from jobs.tenants import ONLY_TENANT, TENANTS, is_known
from models.job import Job
from models.types import Made

router = APIRouter()

HEATMAPS: Final[dict[str, tuple[str, Any]]] = {
    "none": ("none: pooled scores only", None),
    "last": ("of the last layer", None),
    "some": ("of every third layer", {"every": 3}),
    "all": ("of all layers", "all"),
}
"""Of which layers patches are read, in words and as options say it."""
NEW: Final = Form({"type": ["logit_lens"], "template": [DEFAULT_TEMPLATE], "heatmaps": ["some"]})


@router.get("/jobs/new")
async def show_form(
    request: Request, visitor: Acting, services: ServicesDep, session: ReadingDep, search: JobSearchDep
) -> Response:
    """The form; whoever sees all tenants says first whose job it is, where there is more than one."""
    if search.tenant is None:
        only = await session.scalar(ONLY_TENANT)
        if only is not None:
            return _form(request, services, visitor, only, NEW)
        tenants = (await session.scalars(TENANTS)).all()
        return page(request, "new_job_tenant.html", visitor, tenants=tenants)
    await _check_tenant(services, search.tenant)
    return _form(request, services, visitor, search.tenant, NEW)


@router.post("/jobs/new")
async def submit_job(
    request: Request, visitor: Acting, services: ServicesDep, search: JobSearchDep
) -> Response:
    """Accept the job, and go to its page; a form that is sent twice makes one."""
    tenant = await _tenant_of(services, search)
    if bodies.media_type_of(request) != "multipart/form-data":
        raise UnsupportedMediaTypeError("Send the form as `multipart/form-data`.")
    # all of this is known by the cookie and the address: nothing of the body has been read
    hold_of(request).belong_to(tenant)
    await refuse_without_room(request, services, tenant)
    sent = await bodies.read_form(request, services.settings.max_job_items, "/images")
    form = _fields(sent)
    try:
        job = await _submit(request, services, visitor, tenant, form, _pictures(sent))
    except ValidationError as error:
        fault = error.errors()[0]
        where = " ".join(str(part) for part in fault["loc"][1:])
        invalid = InvalidRequestError(f"{where[:100]}: {fault['msg']}"[:500])
        return _form(request, services, visitor, tenant, form, invalid)
    except (DomainError, EngineError) as error:
        return _form(request, services, visitor, tenant, form, error)
    finally:
        await sent.close()
    return go(f"/admin/jobs/{job_id(job.id)}", "job-submitted")


async def _submit(
    request: Request,
    services: Services,
    visitor: Visitor,
    tenant: str,
    form: Form,
    uploads: list[Upload],
) -> Job:
    raw = _job(form)
    bodies.check_counts(raw, bodies.job_limits(services.settings))
    wanted = JOB_REQUEST.validate_python(raw)
    submission = submission_of(wanted, uploads, services.settings.default_model, None)
    await check_submission(services, submission)
    files = [(upload.name, upload.image_bytes) for upload in uploads]
    key = once_of(form, Made.JOB, request.url.path, [tenant, form.fields, files]).key

    def note(session: Session, job: Job) -> None:
        audit.note(session, visitor.actor, "job.submitted", job_id(job.id), tenant=tenant)

    accepted = await accept(services, tenant, submission, uploads, key, hold_of(request), beside=note)
    release_body(request)
    if accepted.new:
        services.inviter.invite(accepted.job.model, accepted.job.id)
    return accepted.job


def _job(form: Form) -> dict[str, Any]:
    """What the form says, as the body of POST /v1/jobs says it."""
    raw: dict[str, Any] = {
        "type": form.text("type"),
        "model": form.text("model", required=False) or None,
        "tags": tags_of(_lines(form, "tags")),
    }
    if raw["type"] != "logit_lens":
        return raw
    labels = _lines(form, "labels")
    if not labels:
        raise NoLabelsError("Give at least one label, one a line.", pointer="/labels")
    heatmaps = form.text("heatmaps", required=False) or "none"
    if heatmaps not in HEATMAPS:
        raise InvalidRequestError("There are no such heatmaps.", pointer="/heatmaps")
    outputs = ["pooled"] if heatmaps == "none" else ["pooled", "patch"]
    options = {"template": form.text("template"), "outputs": outputs, "patch_layers": HEATMAPS[heatmaps][1]}
    return raw | {"labels": labels, "options": options}


def _lines(form: Form, name: str) -> list[str]:
    return [line.strip() for line in form.text(name, required=False).splitlines() if line.strip()]


def _fields(sent: FormData) -> Form:
    fields: dict[str, list[str]] = {}
    for name, value in sent.multi_items():
        if isinstance(value, str):
            fields.setdefault(name, []).append(value)
    return Form(fields)


def _pictures(sent: FormData) -> list[Upload]:
    """The files that were chosen; where none was, browsers send one without a name and bytes."""
    return [upload for upload in bodies.files_of(sent) if upload.name or upload.image_bytes]


async def _tenant_of(services: Services, search: JobSearch) -> str:
    if search.tenant is None:
        raise InvalidRequestError("Say whose job it is: `?tenant=`.", pointer="/tenant")
    await _check_tenant(services, search.tenant)
    return search.tenant


async def _check_tenant(services: Services, tenant: str) -> None:
    """Refuse a tenant whose jobs nobody else would see.

    Raises:
        InvalidRequestError: neither a key nor an account is its.
    """
    async with services.reading() as session:
        if not await session.scalar(is_known(tenant)):
            raise InvalidRequestError(
                "No key and no account is of this tenant: make one first.", pointer="/tenant"
            )


def _form(
    request: Request,
    services: Services,
    visitor: Visitor,
    tenant: str,
    form: Form,
    error: DomainError | EngineError | None = None,
) -> Response:
    settings = services.settings
    return page(
        request,
        "new_job.html",
        visitor,
        status=200 if error is None else int(STATUS.get(error.code, 422)),
        tenant=tenant,
        form=form,
        models=services.catalog.names(),
        default_model=settings.default_model,
        heatmaps={name: words for name, (words, _) in HEATMAPS.items()},
        max_items=settings.max_job_items,
        max_image_bytes=settings.max_image_bytes,
        max_body_bytes=settings.max_body_bytes,
        error=error and str(error),
        once=new_once(),
    )
