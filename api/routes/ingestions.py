"""Adding archives, manifests and prefixes of S3 to an image set, as a job."""

import asyncio
import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from api import bodies
from api.analysing import Submit, submit_analysis
from api.arrivals import Arrivals, arriving
from api.deps import Caller, Services, ServicesDep
from api.errors import BodyTooLargeError, UnsupportedMediaTypeError
from api.once import IDEMPOTENCY_KEY, REPLAYED, key_of
from api.parts import Head, parts_of
from api.room import SubmitterWithRoom
from api.schemas import jobs as schema
from api.schemas.ids import parse_set_id
from api.schemas.ingestions import IngestionOptions, PrefixIngestion
from api.schemas.submissions import MAX_CUSTOM_ID, sanitised
from api.spool import hold_of, release_body
from jobs.errors import DomainError, InvalidRequestError, NotFoundError
from jobs.idempotency import Once, fingerprint_of
from jobs.image_sets import set_of
from jobs.ingesting import NewSource, SourceForm, submit_ingest
from jobs.s3 import parse_prefix
from jobs.sources import Stored, keep_draft, remove_source
from models.job import Job
from models.types import Made

router = APIRouter(prefix="/v1/image-sets/{set_id}/ingestions", tags=["image sets"])

FILES: Final = ("archive", "manifest")
PARTS: Final = {*FILES, "options"}
ARCHIVES: Final = ("application/zip", "application/x-tar", "application/gzip")
"""Media types of a body that is an archive itself."""
_FILE: dict[str, Any] = {"type": "string", "format": "binary"}
BODY: dict[str, Any] = {
    "parameters": [IDEMPOTENCY_KEY],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "anyOf": [{"required": ["archive"]}, {"required": ["manifest"]}],
                    "additionalProperties": False,
                    "properties": {
                        "archive": _FILE,
                        "manifest": _FILE,
                        "options": {"$ref": "#/components/schemas/IngestionOptions"},
                    },
                },
                "encoding": {"options": {"contentType": "application/json"}},
            },
            "application/json": {"schema": {"$ref": "#/components/schemas/PrefixIngestion"}},
            **{media_type: {"schema": _FILE} for media_type in ARCHIVES},
        },
    },
}
FolderLabels = Annotated[
    bool | None, Query(description="Of an archive that is the body itself: as among `options`.")
]
Name = Annotated[
    str | None,
    Query(max_length=MAX_CUSTOM_ID, description="Of an archive that is the body itself: its file's name."),
]


@router.post(
    "",
    status_code=202,
    summary="Add files to an image set",
    openapi_extra=BODY,
    responses={
        202: {"description": "The job is stored and queued. `Location` names it."},
        404: {"description": "There is no such image set."},
        429: {"description": "Too much of yours waits (`quota-exceeded`): try again after `Retry-After`."},
        503: {
            "description": "There is no room for it on the disk (`blob-store-full`), or so much is being sent"
            " that no more is taken (`uploads-busy`): nothing was accepted."
        },
    },
)
async def ingest_files(
    set_id: str,
    request: Request,
    response: Response,
    caller: SubmitterWithRoom,
    services: ServicesDep,
    folder_labels: FolderLabels = None,
    name: Name = None,
) -> schema.JobView:
    """Have an archive (zip, tar, tar.gz, WebDataset), a manifest (JSON Lines, CSV) or a prefix of S3 added.

    An archive may be the body itself. A manifest names images by `image_id`, `sha256` or, in the archive sent
    beside it, by `file`, with `custom_id`, `true_label` and `split`. What is no picture is an item with its
    error; a broken archive fails the job's item, and what was added before stays. What the set has already
    under the same `custom_id`, with the same bytes and labels, is passed over. The result says how many were
    `added`, `there` already, `failed` and `skipped`, and the index of the `first` item. The set cannot be
    sealed meanwhile. Files are stored as they come, and may be much larger than other bodies.
    """
    wanted, media_type, key = parse_set_id(set_id), bodies.media_type_of(request), key_of(request)
    async with services.sessions() as session:
        # before anything of it is read: what comes for a set that is not there is sent for nothing
        if await session.scalar(set_of(caller.tenant, wanted)) is None:
            raise NotFoundError
    if media_type not in ARCHIVES and (folder_labels is not None or name is not None):
        raise InvalidRequestError(
            "`folder_labels` and `name` in the query are of an archive sent as it is.",
            pointer="/folder_labels",
        )
    if media_type == "application/json":
        asked = await bodies.read_small(request, PrefixIngestion)
        prefix = parse_prefix(asked.prefix, services.settings.s3_allowed)
        source = NewSource(prefix.url, SourceForm.S3, folder_labels=asked.folder_labels)
        once = _once(request, key, asked.model_dump(mode="json"))
        submit = _submitting(services, caller, wanted, source, asked)
        return await submit_analysis(services, caller, response, once, submit)
    async with arriving(services.blobs) as arrivals:
        await _make_room(request, services)
        if media_type in ARCHIVES:
            options = IngestionOptions(folder_labels=folder_labels or False)
            await _read_archive(request, arrivals, name)
        else:
            options = await _read_parts(request, arrivals)
        once = _once(
            request,
            key,
            [
                {part: draft.sha256 for part, draft in arrivals.drafts.items()},
                options.model_dump(mode="json"),
            ],
        )
        source = await asyncio.to_thread(_keep, services, caller.tenant, arrivals, options)
    release_body(request)
    submit = _submitting(services, caller, wanted, source, options)
    try:
        shown = await submit_analysis(services, caller, response, once, submit)
    except DomainError:
        # any other error may be that of a commit of which only the answer was lost
        await asyncio.to_thread(_forget, services, caller.tenant, source)
        raise
    if all(name in response.headers for name in REPLAYED):
        await asyncio.to_thread(_forget, services, caller.tenant, source)
    return shown


def _submitting(
    services: Services, caller: Caller, set_id: uuid.UUID, source: NewSource, options: IngestionOptions
) -> Submit:
    def submit(session: Session, job_id: uuid.UUID | None) -> Job:
        return submit_ingest(
            session,
            caller.tenant,
            set_id,
            [source],
            most_items=services.settings.max_set_items,
            tags=options.tags,
            key_id=caller.key_id,
            job_id=job_id,
        )

    return submit


def _once(request: Request, key: str | None, asked: Any) -> Once | None:
    return None if key is None else Once(key, fingerprint_of(request.url.path, asked), Made.JOB)


async def _make_room(request: Request, services: Services) -> None:
    """Have the bounds of archives for the body, which is not held here; refuse one that the disk has not."""
    hold_of(request).widen(services.archives)
    declared = request.headers.get("Content-Length", "")
    size_bytes = int(declared) if declared.isdigit() else 0
    if size_bytes <= services.archives.limit_bytes:
        await asyncio.to_thread(services.blobs.check_room, size_bytes)


async def _read_archive(request: Request, arrivals: Arrivals, name: str | None) -> None:
    await arrivals.begin("archive", name)
    async for chunk in request.stream():
        await arrivals.write(chunk)
    await arrivals.end()


async def _read_parts(request: Request, arrivals: Arrivals) -> IngestionOptions:
    if bodies.media_type_of(request) != "multipart/form-data":
        raise UnsupportedMediaTypeError(
            f"Send files as `multipart/form-data`, an archive as {', '.join(ARCHIVES)}, or a prefix of S3 as"
            " JSON."
        )
    said: bytearray | None = None
    part: str | None = None
    async for found in parts_of(request):
        if isinstance(found, Head):
            part = found.name
            if part == "options" and said is None:
                said = bytearray()
                continue
            _check_part(found, arrivals)
            await arrivals.begin(part, found.filename)
        elif part == "options" and said is not None:
            said += found
            if len(said) > bodies.MAX_SMALL_BYTES:
                raise BodyTooLargeError(f"The part `options` may have {bodies.MAX_SMALL_BYTES} bytes.")
        else:
            await arrivals.write(found)
    await arrivals.end()
    if not arrivals.drafts:
        raise InvalidRequestError("Send an `archive`, a `manifest`, or both.", pointer="/archive")
    return IngestionOptions.model_validate(bodies.from_json(b"{}" if said is None else bytes(said)))


def _check_part(head: Head, arrivals: Arrivals) -> None:
    if head.name not in PARTS:
        raise InvalidRequestError(
            f"Unknown parts: {bodies.names({head.name})}; send `archive` or `manifest`."
        )
    if head.name == "options":
        raise InvalidRequestError("Send one part `options` at most.", pointer="/options")
    if head.filename is None or head.name in arrivals.drafts:
        raise InvalidRequestError(
            f"`{head.name}` is one file: with curl, -F {head.name}=@pictures.zip.", pointer=f"/{head.name}"
        )


def _keep(services: Services, tenant: str, arrivals: Arrivals, options: IngestionOptions) -> NewSource:
    """The source of what has come: all of its files are kept, or none is.

    Raises:
        BlobStoreFullError: the disk is full.
    """
    stored: dict[str, Stored] = {}
    try:
        for name, draft in arrivals.drafts.items():
            stored[name] = keep_draft(services.blobs, tenant, draft)
    except BaseException:
        for each in stored.values():
            remove_source(services.blobs, tenant, each.id)
        raise
    form = SourceForm.MANIFEST if "manifest" in stored else SourceForm.ARCHIVE
    return NewSource(
        name=sanitised(arrivals.filenames[form.value]) or form.value,
        form=form,
        stored=stored[form.value],
        beside=stored.get("archive") if form is SourceForm.MANIFEST else None,
        folder_labels=options.folder_labels,
    )


def _forget(services: Services, tenant: str, source: NewSource) -> None:
    """Remove the files of a source that no job adds."""
    for stored in (source.stored, source.beside):
        if stored is not None:
            remove_source(services.blobs, tenant, stored.id)
