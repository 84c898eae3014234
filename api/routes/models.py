"""Models: which there are, who serves them, and what waits for them."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from api.deps import Reader, ReadingDep, Services, ServicesDep
from api.errors import problem
from api.schemas import models as schema
from api.schemas.workers import WorkerError, rate
from engine.errors import CatalogError
from jobs import queries

router = APIRouter(prefix="/v1/models", tags=["models"])

UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such model; `detail` lists those there are."}
}


@router.get("", summary="List models")
async def list_models(caller: Reader, services: ServicesDep, session: ReadingDep) -> schema.ModelsPage:
    """Every model that jobs may name, whether or not anybody serves it now."""
    return schema.ModelsPage(items=await _views(services, session, services.catalog.names()))


@router.get("/{owner}/{name}", summary="Look at a model", response_model=schema.ModelView, responses=UNKNOWN)
async def read_model(
    owner: str, name: str, request: Request, caller: Reader, services: ServicesDep, session: ReadingDep
) -> schema.ModelView | Response:
    """What a model is, who serves it, and what waits for it."""
    return await _read(request, services, session, f"{owner}/{name}")


@router.get(
    "/{name}",
    summary="Look at a model whose name has no owner",
    response_model=schema.ModelView,
    responses=UNKNOWN,
)
async def read_own_model(
    name: str, request: Request, caller: Reader, services: ServicesDep, session: ReadingDep
) -> schema.ModelView | Response:
    """The same of a name that the operator gave, which need not have an owner."""
    return await _read(request, services, session, name)


async def _read(
    request: Request, services: Services, session: AsyncSession, name: str
) -> schema.ModelView | Response:
    try:
        services.catalog.find(name)
    except CatalogError as error:
        # what makes a job unprocessable is here a thing that does not exist
        return problem(request, error.code, str(error), status=HTTPStatus.NOT_FOUND)
    (view,) = await _views(services, session, [name])
    return view


async def _views(services: Services, session: AsyncSession, names: Sequence[str]) -> list[schema.ModelView]:
    online = dict((await session.execute(queries.models_online())).all())
    failures = dict((await session.execute(queries.load_failures())).all())
    queues = {
        model: schema.QueueView(
            waiting_items=waiting,
            running_items=running,
            oldest_s=None if oldest_s is None else round(max(oldest_s, 0.0), 1),
        )
        for model, waiting, running, oldest_s in await session.execute(queries.queue_depths())
    }
    rates = dict((await session.execute(queries.rates())).all())
    found = [services.catalog.find(name) for name in names]
    return [
        schema.ModelView(
            name=model.name,
            default=model.name == services.settings.default_model,
            dimensions=schema.DimensionsView.model_validate(model.dimensions) if model.dimensions else None,
            workers_online=online.get(model.name, 0),
            gflop_per_s=rate(rates.get(model.name)),
            queue=queues.get(model.name, schema.QueueView()),
            error=WorkerError(**failures[model.name])
            if model.name in failures and model.name not in online
            else None,
        )
        for model in found
    ]
