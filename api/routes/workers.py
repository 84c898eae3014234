"""Workers: who is there, what each has loaded, why one could not, and having one claim no more."""

from fastapi import APIRouter

from api.deps import Admin, Reader, ReadingDep, SessionDep
from api.schemas import workers as schema
from api.schemas.ids import parse_worker_id
from api.schemas.ids import worker_id as wire_worker_id
from jobs import audit, queries, workers

router = APIRouter(prefix="/v1/workers", tags=["workers"])


@router.get("", summary="List workers")
async def list_workers(caller: Reader, session: ReadingDep) -> schema.WorkersPage:
    """The workers of the last day, last seen first, with the error of any that could not load."""
    rows = await session.execute(queries.workers())
    return schema.WorkersPage(items=[schema.view(worker, seen) for worker, seen in rows])


@router.post(
    "/{worker_id}/drain",
    summary="Drain a worker",
    responses={
        404: {"description": "There is no such worker."},
        409: {"description": "It is not online (`worker-not-online`): there is nothing to drain."},
    },
)
async def drain_worker(worker_id: str, caller: Admin, session: SessionDep) -> schema.WorkerView:
    """Have a worker finish what it holds and claim no more; it stays alive until it is ended.

    Started again, it claims again. To be sent again as often as one likes.
    """
    parsed = parse_worker_id(worker_id)
    await session.run_sync(workers.drain_known, parsed)
    row = (await session.execute(queries.worker_of(parsed))).one()
    await session.run_sync(audit.note, caller.actor, "worker.drained", wire_worker_id(parsed))
    await session.commit()
    return schema.view(*row)
