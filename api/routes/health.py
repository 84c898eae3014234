"""Is this process alive, and is the service ready."""

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from sqlalchemy.exc import ProgrammingError

from api.deps import ServicesDep, SessionDep
from api.errors import UnreadyError
from api.parameters import refuse_unknown_query
from jobs import queries
from models.schema import applied

router = APIRouter(tags=["health"], dependencies=[Depends(refuse_unknown_query)])


class Health(BaseModel):
    """All is well."""

    status: str = "ok"


# HEAD is in no schema: it is the GET, less the body, and what some monitors ask
@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Liveness")
async def healthz() -> Health:
    """This process answers."""
    return Health()


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Readiness",
    responses={503: {"description": "Not yet (`unready`), or the database is away (`unavailable`)."}},
)
async def readyz(services: ServicesDep, session: SessionDep, worker: bool = False) -> Health:
    """The database answers and has this code's schema, and the blob store is there.

    With `worker=1`, a worker is online too.
    """
    services.blobs.check()
    try:
        revision = await session.scalar(applied())
    except ProgrammingError:
        revision = None
    if revision != services.schema_head:
        raise UnreadyError(
            f"The database is at schema {revision}, this code needs {services.schema_head}:"
            " run `lensqueue migrate`."
        )
    if worker and not await session.scalar(queries.workers_online()):
        raise UnreadyError("No worker is online: start one with `lensqueue worker --model NAME`.")
    return Health()
