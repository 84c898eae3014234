"""One item of a job: what was found of it, and the pictures of that."""

import math
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from api import drawing
from api.conditional import IfNoneMatch
from api.dashboard.lens_view import LABELS_BY_LAYER, MAP_NAMES, lens_view
from api.dashboard.lookup import find_job, find_kept_job
from api.dashboard.pages import page
from api.dashboard.views.job import MOST, PREFIX, WireId
from api.dashboard.visitor import Looking, Visitor
from api.deps import Services, ServicesDep
from api.drawing import Choice
from api.ranges import IfRange, Range
from api.schemas import jobs as job_schema
from api.schemas import results as schema
from api.stored import fill, find_result, send_array, send_made
from jobs.errors import ItemDroppedError, NoResultYetError
from jobs.ingested import ingested
from jobs.job_pages import label_count
from jobs.maps import Maps, maps_of, read_thumbnail
from jobs.outlook import outlook_of
from jobs.outputs import array_of, names_of
from models.image_set import ImageSetItem
from models.job import Job, Result

router = APIRouter(prefix=f"{PREFIX}/items/{{index}}")

NUMBERS_SHOWN: Final = 24
"""Of an embedding."""
SIDE: Final = 640
"""Pixels of a map's longer side."""

Index = Annotated[int, Path(ge=0, le=MOST)]
MapOf = Annotated[
    Literal["patch", "contribution", "probe_attention", "token_norms"] | None, Query(alias="map")
]
Layer = Annotated[int | None, Query()]
Label = Annotated[str | None, Query()]


@router.get("")
async def show_item(
    request: Request,
    wire_id: WireId,
    index: Index,
    visitor: Looking,
    services: ServicesDep,
    layer: Layer = None,
    label: Label = None,
    of: MapOf = None,
) -> Response:
    """The page: a layer and a label of a lens, the beginning of an embedding, or what is waited for."""
    facts: dict[str, Any] = {"wire_id": wire_id, "index": index}
    try:
        job, result = await _find(services, visitor, wire_id, index)
    except (NoResultYetError, ItemDroppedError) as nothing:
        facts |= await _waiting(services, visitor, wire_id)
        return page(request, "item_waiting.html", visitor, nothing=nothing, **facts)
    payload = result.payload or {}
    facts |= {"job": job, "result": result, "payload": payload, "outputs": names_of(payload)}
    if "pooled" in payload:
        lens = lens_view(payload, layer, label, of)
        facts |= {"lens": lens, "map_names": MAP_NAMES, "labels_by_layer": LABELS_BY_LAYER, "side": SIDE}
        facts["truth"] = await _truth(services, job, result)
        async with services.reading() as session:
            facts["label_count"] = await session.scalar(label_count(job.id))
        return page(request, "item_lens.html", visitor, **facts)
    facts["counts"] = ingested(payload) if result.item["kind"] == "source" and payload else None
    vector: list[float] = payload.get("embedding") or []
    facts |= {"numbers": vector[:NUMBERS_SHOWN], "norm": math.sqrt(math.fsum(x * x for x in vector))}
    return page(request, "item.html", visitor, **facts)


@router.get("/result.json")
async def read_item(wire_id: WireId, index: Index, visitor: Looking, services: ServicesDep) -> Response:
    """What the API says of it."""
    _, result = await _find(services, visitor, wire_id, index)
    body = schema.item(result).model_dump_json(exclude_unset=True)
    said = f'inline; filename="{wire_id}-{index}.json"'
    return Response(body, media_type="application/json", headers={"Content-Disposition": said})


@router.get("/heatmap.png")
async def draw_heatmap(
    wire_id: WireId,
    index: Index,
    visitor: Looking,
    services: ServicesDep,
    layer: Layer = None,
    label: Label = None,
    of: MapOf = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A layer of maps, to lie over the picture."""
    maps = await _find_maps(services, visitor, wire_id, index, of)
    choice = Choice(layer, label if maps.labels else None, None, None, None, SIDE)
    return await send_made(
        if_none_match,
        (maps, drawing.VERSION, "heatmap", choice),
        "image/png",
        lambda: drawing.heatmap_png(services.blobs, maps, choice),
    )


@router.get("/thumbnail.jpg")
async def fetch_thumbnail(
    wire_id: WireId, index: Index, visitor: Looking, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """The picture as the worker saw it."""
    maps = await _find_maps(services, visitor, wire_id, index)
    return await send_made(
        if_none_match, (maps, "thumbnail"), "image/jpeg", lambda: read_thumbnail(services.blobs, maps)
    )


@router.get("/outputs/{name}")
async def fetch_output(
    wire_id: WireId,
    index: Index,
    name: Annotated[str, Path(max_length=100)],
    visitor: Looking,
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
    range_: Range = None,
    if_range: IfRange = None,
) -> Response:
    """An array as it was stored."""
    async with services.sessions() as session:
        job = await find_kept_job(session, visitor, wire_id)
        result = await find_result(session, job, index)
    array = array_of(job.tenant, job.id, index, result.payload, name)
    return await send_array(services, array, if_none_match=if_none_match, range_=range_, if_range=if_range)


async def _find(services: Services, visitor: Visitor, wire_id: str, index: int) -> tuple[Job, Result]:
    # a session of its own: no connection is held while files are read or a picture is drawn
    async with services.sessions() as session:
        job = await find_kept_job(session, visitor, wire_id)
        result = await find_result(session, job, index)
    return job, await fill(services, job.tenant, result)


async def _truth(services: Services, job: Job, result: Result) -> list[str]:
    """What the item is known to be, where it is one of an image set."""
    if job.version_id is None:
        return []
    # a retry numbers its items anew
    place = result.item.get("first_index", result.index)
    async with services.reading() as session:
        item = await session.get(ImageSetItem, (job.version_id, place))
    if item is None:
        return []
    return [item.true_label] if item.true_label is not None else list(item.true_labels or ())


async def _find_maps(
    services: Services, visitor: Visitor, wire_id: str, index: int, output: str | None = None
) -> Maps:
    job, result = await _find(services, visitor, wire_id, index)
    return maps_of(job.tenant, job.id, result.payload, output)


async def _waiting(services: Services, visitor: Visitor, wire_id: str) -> dict[str, Any]:
    async with services.reading() as session:
        job = await find_job(session, visitor, wire_id)
        outlook = await session.run_sync(outlook_of, job.id)
    return {"job": job, "shown": job_schema.view(job, outlook)}
