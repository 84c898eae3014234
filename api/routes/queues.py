"""Queues: what waits for each model, and the operator's hold on it."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.orm import Session

from api.deps import Admin, Caller, Reader, ReadingDep, Services, ServicesDep
from api.errors import problem
from api.inviting import invite_waiting
from api.schemas import queues as schema
from engine.errors import CatalogError
from jobs import audit, queues

router = APIRouter(prefix="/v1/queues", tags=["queues"])

UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such model; `detail` lists those there are."}
}


@router.get("", summary="List queues")
async def list_queues(caller: Reader, session: ReadingDep) -> schema.QueuesPage:
    """What waits for each model, of all tenants together, and which queues are paused."""
    rows = await session.execute(queues.standing())
    return schema.QueuesPage(items=[schema.view(*row) for row in rows])


@router.post(
    "/{owner}/{name}/pause", summary="Pause a queue", response_model=schema.ModelQueueView, responses=UNKNOWN
)
async def pause_queue(
    owner: str, name: str, request: Request, caller: Admin, services: ServicesDep
) -> schema.ModelQueueView | Response:
    """Let nothing more of a model be claimed, for all tenants: jobs are accepted and wait.

    What workers hold already, they finish. Paused again, it stays as it is.
    """
    return await _hold(request, services, caller, f"{owner}/{name}", "queue.paused", queues.pause)


@router.post(
    "/{owner}/{name}/resume",
    summary="Resume a queue",
    response_model=schema.ModelQueueView,
    responses=UNKNOWN,
)
async def resume_queue(
    owner: str, name: str, request: Request, caller: Admin, services: ServicesDep
) -> schema.ModelQueueView | Response:
    """Let a paused queue go on, and invite its workers. One that is not paused stays as it is."""
    return await _resume(request, services, caller, f"{owner}/{name}")


@router.post(
    "/{name}/pause",
    summary="Pause the queue of a model whose name has no owner",
    response_model=schema.ModelQueueView,
    responses=UNKNOWN,
)
async def pause_own_queue(
    name: str, request: Request, caller: Admin, services: ServicesDep
) -> schema.ModelQueueView | Response:
    """The same of a name that the operator gave, which need not have an owner."""
    return await _hold(request, services, caller, name, "queue.paused", queues.pause)


@router.post(
    "/{name}/resume",
    summary="Resume the queue of a model whose name has no owner",
    response_model=schema.ModelQueueView,
    responses=UNKNOWN,
)
async def resume_own_queue(
    name: str, request: Request, caller: Admin, services: ServicesDep
) -> schema.ModelQueueView | Response:
    """The same of a name that the operator gave, which need not have an owner."""
    return await _resume(request, services, caller, name)


async def _resume(
    request: Request, services: Services, caller: Caller, model: str
) -> schema.ModelQueueView | Response:
    answer = await _hold(request, services, caller, model, "queue.resumed", queues.resume)
    await invite_waiting(services, model)
    return answer


async def _hold(
    request: Request,
    services: Services,
    caller: Caller,
    model: str,
    verb: str,
    change: Callable[[Session, str], None],
) -> schema.ModelQueueView | Response:
    try:
        services.catalog.find(model)
    except CatalogError as error:
        # what makes a job unprocessable is here a thing that does not exist
        return problem(request, error.code, str(error), status=HTTPStatus.NOT_FOUND)
    async with services.sessions.begin() as session:
        await session.run_sync(change, model)
        await session.run_sync(audit.note, caller.actor, verb, model)
        row = (await session.execute(queues.standing(model))).one_or_none()
    # one that nobody used or paused before has no row yet
    return schema.ModelQueueView(model=model, paused_at=None) if row is None else schema.view(*row)
