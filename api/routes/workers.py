"""Workers: who is there, what each has loaded, and why one could not."""

from fastapi import APIRouter

from api.deps import Reader, SessionDep
from api.schemas import workers as schema
from jobs import queries

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", summary="List workers")
async def list_workers(caller: Reader, session: SessionDep) -> schema.WorkersPage:
    """The workers of the last day, last seen first, with the error of any that could not load."""
    rows = await session.execute(queries.workers())
    return schema.WorkersPage(items=[schema.view(worker, seen) for worker, seen in rows])
