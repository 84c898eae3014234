"""From what is sought to what is nearest: embedded by a worker where it must be, then compared.

The embedding is an ordinary job of the caller's, charged like any; while it is waited for, nothing is held.
"""

import uuid

from fastapi import Request
from sqlalchemy.orm import Session

from api.deps import Caller, Services
from api.schemas import set_searches as schema
from api.schemas.ids import parse_image_id, parse_job_id
from api.spool import hold_of, release_body
from api.submissions import Accepted, accept
from jobs import searches, submit
from jobs.errors import InsufficientScopeError, NotFoundError, UnknownImageError, UnknownJobError
from jobs.nearest import Filters, Nearest, find_nearest
from jobs.submission import ImageItem, Item, Submission, TextItem
from models.set_vector import SetIndex
from models.types import JobType, Priority, Scope

IMAGE = "/image_id"


async def find_index(
    services: Services, tenant: str, version_id: uuid.UUID, wanted: schema.SearchRequest
) -> SetIndex:
    """What the version is searched by; with a query job and no model, by that job's.

    Raises:
        NotFoundError, NotIndexedError, WrongModelError: see `jobs.searches.find_index`.
        UnknownJobError, JobDeletedError, InvalidRequestError: see `jobs.searches.find_query`.
    """
    job_id = query_of(wanted)

    def find(session: Session) -> SetIndex:
        model = wanted.model
        # first of all whether there is such a version, whatever else is wrong
        searches.check_version(session, tenant, version_id)
        if model is None and job_id is not None:
            model = searches.find_query(session, tenant, job_id).model
        return searches.find_index(session, version_id, model)

    async with services.reading() as session:
        return await session.run_sync(find)


def query_of(wanted: schema.SearchRequest) -> uuid.UUID | None:
    """The job that has embedded what is sought.

    Raises:
        UnknownJobError: it is no job's id.
    """
    try:
        return None if wanted.query_job is None else parse_job_id(wanted.query_job)
    except NotFoundError:
        raise UnknownJobError(pointer=searches.QUERY_JOB) from None


async def embed(
    services: Services, caller: Caller, request: Request, model: str, wanted: schema.SearchRequest
) -> Accepted:
    """Have a worker embed the text or the picture: a committed job.

    Raises:
        InsufficientScopeError: the key may not submit.
        UnknownImageError: the id names no image of the tenant.
        QueueFullError, QuotaExceededError: there is no room for it.
    """
    if Scope.SUBMIT not in caller.scopes:
        raise InsufficientScopeError(
            f"To embed a text or a picture takes a key with the scope `{Scope.SUBMIT}` too: with `like_index`"
            " or `query_job` this one may search."
        )
    submission = Submission(
        type=JobType.EMBEDDING,
        model=model,
        items=[_item(wanted)],
        options={"normalize": True, "pixels": "exact"},
        priority=Priority.INTERACTIVE,
        key_id=caller.key_id,
    )
    submit.check(submission, services.catalog, services.settings.limits())
    try:
        accepted = await accept(services, caller.tenant, submission, [], None, hold_of(request))
    except UnknownImageError:
        raise UnknownImageError(pointer=IMAGE) from None
    release_body(request)
    services.usage.count_job(caller.key_id, accepted.job.total, accepted.job.cost)
    services.inviter.invite(accepted.job.model, accepted.job.id)
    return accepted


async def search(
    services: Services,
    tenant: str,
    head: SetIndex,
    wanted: schema.SearchRequest,
    query_job: uuid.UUID | None,
) -> Nearest:
    """What is nearest to the item that is named, or to what the job has embedded.

    Raises:
        NoVectorError: there is no vector of the item.
        WrongModelError, QueryFailedError, ResultsExpiredError: see `jobs.searches.vector_of_job`.
    """
    filters = Filters(wanted.true_label, wanted.split, wanted.like_index, wanted.min_cosine)

    def find(session: Session) -> Nearest:
        if query_job is None:
            assert wanted.like_index is not None
            vector = searches.vector_of_item(session, head, wanted.like_index)
        else:
            job = searches.find_query(session, tenant, query_job)
            vector = searches.vector_of_job(session, job, head)
        return find_nearest(session, head, vector, limit=wanted.limit, filters=filters)

    # of all vectors of a version it may read hundreds of megabytes
    async with services.slow.one(tenant), services.sessions.begin() as session:
        return await session.run_sync(find)


def _item(wanted: schema.SearchRequest) -> Item:
    if wanted.prompt is not None:
        return TextItem(wanted.prompt)
    try:
        return ImageItem(parse_image_id(wanted.image_id or ""))
    except NotFoundError:
        raise UnknownImageError(pointer=IMAGE) from None
