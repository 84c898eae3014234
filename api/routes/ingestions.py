"""Adding archives, manifests and prefixes of S3 to an image set, as a job."""

import asyncio
import hashlib
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session
from starlette.datastructures import UploadFile

from api import bodies
from api.analysing import submit_analysis
from api.deps import Services, ServicesDep
from api.errors import UnsupportedMediaTypeError
from api.once import IDEMPOTENCY_KEY, key_of
from api.room import SubmitterWithRoom
from api.schemas import jobs as schema
from api.schemas.ids import parse_set_id
from api.schemas.ingestions import IngestionOptions, PrefixIngestion
from api.schemas.submissions import sanitised
from api.spool import release_body
from api.uploads import SPOOLED_IN_MEMORY_BYTES
from jobs.errors import InvalidRequestError, NotFoundError
from jobs.idempotency import Once, fingerprint_of
from jobs.image_sets import set_of
from jobs.ingesting import NewSource, SourceForm, submit_ingest
from jobs.s3 import parse_prefix
from jobs.sources import Stored, put_source
from models.job import Job
from models.types import Made

router = APIRouter(prefix="/v1/image-sets/{set_id}/ingestions", tags=["image sets"])

PARTS = ("archive", "manifest", "options")
MOST_PARTS = 2
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
        },
    },
}


@router.post(
    "",
    status_code=202,
    summary="Add files to an image set",
    openapi_extra=BODY,
    responses={
        202: {"description": "The job is stored and queued. `Location` names it."},
        404: {"description": "There is no such image set."},
        429: {"description": "Too much of yours waits (`quota-exceeded`): try again after `Retry-After`."},
        503: {"description": "The disk is full (`blob-store-full`): nothing was accepted."},
    },
)
async def ingest_files(
    set_id: str, request: Request, response: Response, caller: SubmitterWithRoom, services: ServicesDep
) -> schema.JobView:
    """Have an archive (zip, tar, tar.gz, WebDataset), a manifest (JSON Lines, CSV) or a prefix of S3 added.

    A manifest names images by `image_id`, `sha256` or, in the archive sent beside it, by `file`, with
    `custom_id`, `true_label` and `split`. What is no picture is an item with its error; a broken archive
    fails the job's item, and what was added before stays. The set cannot be sealed meanwhile.
    """
    wanted = parse_set_id(set_id)
    async with services.sessions() as session:
        # before anything of it is read: what is stored for a set that is not there would lie about for days
        if await session.scalar(set_of(caller.tenant, wanted)) is None:
            raise NotFoundError
    if bodies.media_type_of(request) == "application/json":
        asked = await bodies.read_small(request, PrefixIngestion)
        prefix = parse_prefix(asked.prefix, services.settings.s3_allowed)
        options: IngestionOptions = asked
        source = NewSource(prefix.url, SourceForm.S3, folder_labels=asked.folder_labels)
        once = _once(request, asked.model_dump(mode="json"))
    else:
        files, options = await _read_files(request)
        hashes = {name: await asyncio.to_thread(_hash, file) for name, file in files.items()}
        once = _once(request, [hashes, options.model_dump(mode="json")])
        source = await _store(services, caller.tenant, files, options)
        release_body(request)

    def submit(session: Session, job_id: uuid.UUID | None) -> Job:
        return submit_ingest(
            session,
            caller.tenant,
            wanted,
            [source],
            most_items=services.settings.max_set_items,
            tags=options.tags,
            key_id=caller.key_id,
            job_id=job_id,
        )

    return await submit_analysis(services, caller, response, once, submit)


def _once(request: Request, asked: Any) -> Once | None:
    key = key_of(request)
    return None if key is None else Once(key, fingerprint_of(request.url.path, asked), Made.JOB)


async def _read_files(request: Request) -> tuple[dict[str, UploadFile], IngestionOptions]:
    if bodies.media_type_of(request) != "multipart/form-data":
        raise UnsupportedMediaTypeError("Send files as `multipart/form-data`, or a prefix of S3 as JSON.")
    form = await bodies.read_form(request, MOST_PARTS, "/archive")
    if unknown := set(form) - set(PARTS):
        raise InvalidRequestError(f"Unknown parts: {bodies.names(unknown)}; send `archive` or `manifest`.")
    said = await bodies.json_part(form, "options") if "options" in form else b"{}"
    if said is None:
        raise InvalidRequestError("Send one part `options` at most.", pointer="/options")
    options = IngestionOptions.model_validate(bodies.from_json(said))
    files: dict[str, UploadFile] = {}
    for name in ("archive", "manifest"):
        parts = form.getlist(name)
        if len(parts) > 1 or not all(isinstance(part, UploadFile) for part in parts):
            raise InvalidRequestError(
                f"`{name}` is one file: with curl, -F {name}=@pictures.zip.", pointer=f"/{name}"
            )
        files.update((name, part) for part in parts if isinstance(part, UploadFile))
    if not files:
        raise InvalidRequestError("Send an `archive`, a `manifest`, or both.", pointer="/archive")
    return files, options


async def _store(
    services: Services, tenant: str, files: Mapping[str, UploadFile], options: IngestionOptions
) -> NewSource:
    stored: dict[str, Stored] = {}
    for name, file in files.items():
        stored[name] = await asyncio.to_thread(put_source, services.blobs, tenant, _pieces(file))
    form = SourceForm.MANIFEST if "manifest" in files else SourceForm.ARCHIVE
    main = files[form.value]
    return NewSource(
        name=sanitised(main.filename) or form.value,
        form=form,
        stored=stored[form.value],
        beside=stored.get("archive") if form is SourceForm.MANIFEST else None,
        folder_labels=options.folder_labels,
    )


def _hash(file: UploadFile) -> str:
    hashed = hashlib.sha256()
    for piece in _pieces(file):
        hashed.update(piece)
    return hashed.hexdigest()


def _pieces(file: UploadFile) -> Iterator[bytes]:
    file.file.seek(0)
    while piece := file.file.read(SPOOLED_IN_MEMORY_BYTES):
        yield piece
