"""From a checked submission to a committed job, once for every key.

The job is admitted and its flow charged, then its pictures are stored, then its rows. What was charged for a
job that is not stored after all is given back.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Session

from api.deps import Services
from api.once import in_turn
from api.schemas.ids import parse_endpoint_id, parse_job_id, parse_version_id
from api.schemas.submissions import AnyRequest, EmbeddingRequest, RescoreRequest, WebhookTarget
from api.spool import Hold
from api.uploads import Upload, hash_pictures, store_pictures
from api.writing import writing
from jobs import endpoints, idempotency, over_sets, rescore, submit
from jobs.admission import admit, check_priority, check_room, give_back, give_back_unless_stored
from jobs.errors import (
    InvalidRequestError,
    NotFoundError,
    QueueFullError,
    QuotaExceededError,
    UnknownImageSetError,
    UnknownJobError,
    UnknownWebhookEndpointError,
)
from jobs.idempotency import Once
from jobs.outlook import Outlook, outlook_of
from jobs.over_sets import find_version
from jobs.remote import Remote
from jobs.rescore import KeptEmbeddings
from jobs.storing import is_quick, store_at_once
from jobs.submission import ImageItem, Item, Source, Submission, Terms, TextItem
from jobs.units import Admission
from models.image import Image
from models.job import Job
from models.types import JobType

log = structlog.get_logger()

FEW_LABELS: Final = 32
"""So many are checked in less time than it takes to give them to a thread."""

Beside = Callable[[Session, Job], None]
"""Writes something in the transaction that stores a job."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A committed job, what it has before it, and whether it is new to its key."""

    job: Job
    outlook: Outlook
    new: bool


async def source_of(services: Services, tenant: str, wanted: AnyRequest) -> Source | None:
    """The job or the version of an image set that a request names; None where it brings its items.

    Raises:
        UnknownJobError, UnknownImageSetError: there is none, or it is another tenant's.
        NotSealedError: the version can still be added to.
        InvalidRequestError: a rescore names another model than the job's.
    """
    if isinstance(wanted, RescoreRequest):
        return await _kept_embeddings(services, tenant, wanted)
    if wanted.input.image_set_version is None:
        return None
    try:
        version_id = parse_version_id(wanted.input.image_set_version)
    except NotFoundError:
        raise UnknownImageSetError(pointer=over_sets.POINTER) from None
    async with services.sessions() as session:
        return await session.run_sync(find_version, tenant, version_id)


async def _kept_embeddings(services: Services, tenant: str, wanted: RescoreRequest) -> KeptEmbeddings:
    try:
        job_id = parse_job_id(wanted.input.from_job)
    except NotFoundError:
        raise UnknownJobError(pointer=rescore.POINTER) from None
    async with services.sessions() as session:
        source = await session.run_sync(rescore.find_source, tenant, job_id)
    if wanted.model not in {None, source.model}:
        raise InvalidRequestError(
            f"The embeddings are those of {source.model}, and so are their scores: leave `model` out.",
            pointer="/model",
        )
    return source


def submission_of(
    wanted: AnyRequest,
    uploads: Sequence[Upload],
    default_model: str,
    key_id: uuid.UUID | None,
    source: Source | None = None,
) -> Submission:
    """What a request asks for, its pictures not yet stored; `source` is where they lie that it names."""
    options: dict[str, Any] = wanted.options.model_dump()
    if not isinstance(wanted, EmbeddingRequest):
        # as they are, but in one way: what means the same is the same submission, and may share a pass
        options["labels"] = [each if isinstance(each, str) else each.model_dump() for each in wanted.labels]
    items: list[Item]
    if isinstance(wanted, RescoreRequest):
        items = []
        options["from_job"] = wanted.input.from_job
    elif source is not None:
        items = []
    else:
        items = [upload.pending() for upload in uploads] or [TextItem(text) for text in wanted.input.texts]
    return Submission(
        type=JobType(wanted.type),
        model=source.model if isinstance(source, KeptEmbeddings) else wanted.model or default_model,
        items=items,
        options=options,
        source=source,
        priority=wanted.priority,
        terms=Terms(
            start_within=_span(wanted.start_within_s),
            run_timeout=_span(wanted.run_timeout_s),
            result_ttl=_span(wanted.result_ttl_s),
        ),
        tags=wanted.tags,
        key_id=key_id,
        webhook_endpoint_id=_endpoint_id(wanted.webhook),
    )


def _endpoint_id(webhook: WebhookTarget | None) -> uuid.UUID | None:
    try:
        return None if webhook is None else parse_endpoint_id(webhook.endpoint_id)
    except NotFoundError:
        raise UnknownWebhookEndpointError(pointer="/webhook/endpoint_id") from None


def _span(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


async def check_submission(services: Services, submission: Submission) -> None:
    """Refuse what can be known to be wrong before anything is charged or stored.

    Raises:
        EngineError, DomainError: as `jobs.submit.check`.
        InvalidRequestError: it is too large for the priority that it asks for.
    """
    limits = services.settings.limits()
    if len(submission.options.get("labels", ())) <= FEW_LABELS:
        submit.check(submission, services.catalog, limits)
    else:
        # in a thread: there may be thousands, and vectors among them
        await asyncio.to_thread(submit.check, submission, services.catalog, limits)
    check_priority(submission)


async def accept(
    services: Services,
    tenant: str,
    submission: Submission,
    uploads: Sequence[Upload],
    key: str | None,
    hold: Hold,
    beside: Beside | None = None,
) -> Accepted:
    """Fetch what it names by URL, admit the job, store its pictures, then its rows.

    Unless its key stands for one already: a job that is sent again is neither charged nor refused for what
    waits, and nothing is fetched for it. What is to be written `beside` a new job is so in its transaction.

    Raises:
        UnknownImageError: an id names no image of the tenant.
        IdempotencyKeyReusedError: the key stands for another submission.
        QueueFullError, QuotaExceededError, OverQuotaError: there is no room for it.
        UploadsBusyError: there is none for the pictures that were fetched, until others are stored.
        UnknownWebhookEndpointError, WebhookEndpointNotEnabledError: its end could not be told.
        DomainError: it is a rescore of a job that has not, or no longer, what it needs.
    """
    named = await named_images(services, tenant, submission)
    once = await _identify(submission, uploads, named, key, services.settings.max_image_bytes)
    if known := await find_known(services, tenant, once):
        return known
    if any(isinstance(upload.source, Remote) for upload in uploads):
        async with services.sessions() as session:
            await session.run_sync(check_room, tenant, services.settings.quota())
        uploads = await services.fetcher.fetch(hold, uploads)
    if submission.source is not None:
        # not before: the job of a key is found again when its source is gone
        submission.source.check(services.catalog)
    input_bytes = submission.source.input_bytes if submission.source else 0
    input_bytes += sum(upload.image_bytes for upload in uploads)
    input_bytes += sum(image.image_bytes for image in named.values())
    try:
        admission = await _admit(services, tenant, submission, input_bytes, once)
    except (QueueFullError, QuotaExceededError):
        # perhaps there is no room because its twin has just taken it
        if known := await find_known(services, tenant, once):
            return known
        raise

    async def store() -> Accepted:
        stored = submission
        if uploads:
            items = await store_pictures(services.blobs, tenant, uploads, services.settings.max_image_bytes)
            stored = replace(submission, items=items)
        return await in_turn(lambda: _store(services, tenant, stored, admission, once, beside))

    return await settle(services, admission, submission.size, store)


async def settle(
    services: Services, admission: Admission, items: int, store: Callable[[], Awaitable[Accepted]]
) -> Accepted:
    """Store what was admitted; what was charged is given back unless a new job came of it."""
    try:
        accepted = await store()
    except BaseException:
        await _undo(services, give_back_unless_stored, admission, items)
        raise
    if accepted.new:
        services.backlog.add(items)
        log.info("job.submitted", job_id=str(accepted.job.id), model=accepted.job.model, items=items)
    else:
        await _undo(services, give_back, admission, items)
    return accepted


async def named_images(services: Services, tenant: str, submission: Submission) -> dict[uuid.UUID, Image]:
    """The images named by id; unknown ones are refused before anything is charged or stored."""
    if not any(
        isinstance(item, ImageItem) and isinstance(item.source, uuid.UUID) for item in submission.items
    ):
        return {}
    async with writing(services, services.quick, tenant) as session:
        return await session.run_sync(submit.check_images, tenant, submission.items)


async def _identify(
    submission: Submission,
    uploads: Sequence[Upload],
    named: Mapping[uuid.UUID, Image],
    key: str | None,
    limit_bytes: int,
) -> Once | None:
    """The key with the fingerprint of what it stands for."""
    if key is None:
        return None
    if uploads:
        submission = replace(submission, items=await hash_pictures(uploads, limit_bytes))
    return Once(key, idempotency.fingerprint(submission, named))


async def find_known(services: Services, tenant: str, once: Once | None) -> Accepted | None:
    """The job that a key stands for already.

    Raises:
        IdempotencyKeyReusedError: it stands for another request.
        JobDeletedError, IdempotencyKeySpentError: the job was deleted, and in the end is gone.
    """
    if once is None:
        return None
    async with services.sessions() as session:
        known = await session.run_sync(idempotency.find_job, tenant, once)
        if known is None:
            return None
        return Accepted(known, await session.run_sync(outlook_of, known.id), new=False)


def reservation_name(once: Once | None) -> str:
    """Under which room is set aside for a job whose items are copied; twins share what one of them has."""
    return uuid.uuid4().hex if once is None else once.key


async def _admit(
    services: Services, tenant: str, submission: Submission, input_bytes: int, once: Once | None
) -> Admission:
    # what is charged is charged at once, and the clock of a flow locked for one statement, but where room is
    # set aside too
    slow = submission.source is not None
    async with writing(services, services.slow, tenant) if slow else _direct(services, tenant) as database:
        if submission.webhook_endpoint_id is not None:
            await database.run_sync(endpoints.check_wanted, tenant, submission.webhook_endpoint_id)
        return await database.run_sync(
            admit,
            tenant,
            submission,
            services.catalog,
            services.settings.quota(),
            input_bytes=input_bytes,
            waiting_items=services.backlog.items,
            reserve_as=reservation_name(once) if slow else None,
        )


async def _store(
    services: Services,
    tenant: str,
    submission: Submission,
    admission: Admission,
    once: Once | None,
    beside: Beside | None,
) -> Accepted:
    quick = is_quick(submission)
    if quick and once is None and beside is None:
        async with _direct(services, tenant) as connection:
            stored = await connection.run_sync(store_at_once, tenant, submission, admission)
        if stored is not None:
            return Accepted(stored.job, stored.outlook, new=True)
        # the general way does what one statement could not
        quick = False
    async with writing(services, services.quick if quick else services.slow, tenant) as session:
        if once is None:
            job, new = await session.run_sync(submit.submit, tenant, submission, admission), True
        else:
            job, new = await session.run_sync(idempotency.submit_once, tenant, submission, admission, once)
        if new and beside is not None:
            await session.run_sync(beside, job)
        return Accepted(job, await session.run_sync(outlook_of, job.id), new)


@asynccontextmanager
async def _direct(services: Services, tenant: str) -> AsyncIterator[AsyncConnection]:
    """A connection on which each statement is a transaction, in a turn of the tenant."""
    async with services.direct.one(tenant), services.engine.connect() as connection:
        yield connection


async def _undo(
    services: Services, undo: Callable[[Session, Admission, int], None], admission: Admission, items: int
) -> None:
    await services.refunds.pay(admission.flow, lambda session: undo(session, admission, items))
