"""One item of a job: its result, its arrays as files, and its maps as numbers and as pictures."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Response

from api import drawing
from api.conditional import IfNoneMatch, etag_of, matches
from api.deps import Reader, Services, ServicesDep
from api.drawing import Choice
from api.lookup import find_kept_job
from api.ranges import IfRange, Range, cut
from api.schemas import results as schema
from api.stored import BYTES, fill, find_result, item_headers, send_array, send_made
from jobs.maps import Maps, maps_of, read_thumbnail
from jobs.outputs import PARTS, array_of
from models.job import Result

router = APIRouter(prefix="/v1/jobs/{job_id}/items/{index}", tags=["items"])

PNG, JPEG, NPY, JSON = "image/png", "image/jpeg", "application/x-npy", "application/json"

Index = Annotated[int, Path(ge=0, le=2**31 - 1, description="The item's place in its job, from 0.")]
MapOf = Annotated[
    Literal["patch", "contribution", "probe_attention", "token_norms"] | None,
    Query(
        alias="map",
        description="Which output is drawn; absent, the first of these that the item has. Of"
        " `probe_attention` the mean of its heads. A lens asks what the final head reads at a layer; low"
        " scores do not show absence, no lens is causal evidence.",
    ),
]
Layer = Annotated[int | None, Query(description="A layer of the maps. Absent: the last one, of scores all.")]
Label = Annotated[
    str | None, Query(description="A label with scores. Absent: the one on top at the end, of scores all.")
]
Contrast = Annotated[
    str | None, Query(description="Subtract this label's scores: where the one is read and not the other.")
]
Low = Annotated[
    float | None,
    Query(
        allow_inf_nan=False, description="The scale's lower end; by default the median of the item's scores."
    ),
]
High = Annotated[
    float | None,
    Query(allow_inf_nan=False, description="The scale's upper end; by default the greatest."),
]
Side = Annotated[int, Query(ge=16, le=1_024, description="The longer side of the picture in pixels.")]


def _binary(*media_types: str, **others: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    content: dict[str, Any] = {media_type: {"schema": schema} for media_type, schema in others.items()}
    content |= {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {
        200: {"content": content},
        304: {"description": "It is as the client knows it."},
        404: {"description": "There is no such item, or it has none of this."},
        410: {"description": "Its arrays were removed, or the results of its job were."},
    }


def _parts(*media_types: str) -> dict[int | str, dict[str, Any]]:
    content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {
        206: {"content": content, "description": "The part that `Range` asked for."},
        416: {"description": "Nothing of it is in that range (`range-not-satisfiable`)."},
    }


def _choice(
    layer: Layer = None,
    label: Label = None,
    contrast: Contrast = None,
    low: Low = None,
    high: High = None,
    side: Side = 512,
) -> Choice:
    return Choice(layer, label, contrast, low, high, side)


ChoiceDep = Annotated[Choice, Depends(_choice)]


@router.get(
    "",
    summary="Fetch one item",
    response_model_exclude_unset=True,
    responses={
        404: {"description": "There is no such item, or no result of it yet."},
        410: {"description": "The results of its job were removed."},
    },
)
async def read_item(job_id: str, index: Index, caller: Reader, services: ServicesDep) -> schema.ItemView:
    """One item's result, as in the pages of results."""
    return schema.item(await _find_filled(services, caller.tenant, job_id, index))


@router.get(
    "/scores",
    summary="Fetch patch scores",
    responses=_binary(NPY, **{JSON: {"$ref": "#/components/schemas/Scores"}}) | _parts(JSON, NPY),
    response_class=Response,
)
async def read_scores(
    job_id: str,
    index: Index,
    caller: Reader,
    services: ServicesDep,
    output: Literal["patch"] = "patch",
    format: Literal["json", "npy"] = "json",  # noqa: A002 - its name on the wire
    layer: Layer = None,
    label: Label = None,
    if_none_match: IfNoneMatch = None,
    range_: Range = None,
    if_range: IfRange = None,
) -> Response:
    """Cosines [layer, label, row, col] of the patch lens as JSON, or float32 as npy."""
    maps = await _find_maps(services, caller.tenant, job_id, index, output)
    write, media_type = (drawing.scores_npy, NPY) if format == "npy" else (drawing.scores_json, JSON)
    headers = item_headers(etag_of(repr((maps, "scores", format, layer, label))))
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    data = await asyncio.to_thread(write, services.blobs, maps, layer, label)
    part, status, said = cut(range_, if_range, headers["ETag"], len(data))
    return Response(
        data[part.offset : part.offset + part.length], status, media_type=media_type, headers=headers | said
    )


@router.get(
    "/outputs/{name}",
    summary="Fetch an output",
    responses=_binary(BYTES) | _parts(BYTES),
    response_class=Response,
)
async def fetch_output(
    job_id: str,
    index: Index,
    name: Annotated[
        str, Path(max_length=100, description="Which output.", json_schema_extra={"enum": list(PARTS)})
    ],
    caller: Reader,
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
    range_: Range = None,
    if_range: IfRange = None,
) -> Response:
    """An item's array as it was stored: float32 as .npy, the activations as .safetensors.

    Activations are a tensor [token, width] a layer, `hidden_states.<layer>`. The item's result says which
    axes and layers an array has.
    """
    result = await _find_result(services, caller.tenant, job_id, index)
    array = array_of(caller.tenant, result.job_id, index, result.payload, name)
    return await send_array(services, array, if_none_match=if_none_match, range_=range_, if_range=if_range)


@router.get("/heatmap.png", summary="Draw a heatmap", responses=_binary(PNG), response_class=Response)
async def draw_heatmap(
    job_id: str,
    index: Index,
    caller: Reader,
    services: ServicesDep,
    choice: ChoiceDep,
    of: MapOf = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A layer to lay over the picture: opaque where patches cover it, transparent elsewhere."""
    maps = await _find_maps(services, caller.tenant, job_id, index, of)
    return await send_made(
        if_none_match,
        (maps, drawing.VERSION, "heatmap", choice),
        PNG,
        lambda: drawing.heatmap_png(services.blobs, maps, choice),
    )


@router.get("/overlay.png", summary="Draw an overlay", responses=_binary(PNG), response_class=Response)
async def draw_overlay(
    job_id: str,
    index: Index,
    caller: Reader,
    services: ServicesDep,
    choice: ChoiceDep,
    of: MapOf = None,
    opacity: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 0.6,
    legend: bool = True,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The picture under its heatmap, with the scale below; one scale for all layers and labels of an item."""
    maps = await _find_maps(services, caller.tenant, job_id, index, of)
    return await send_made(
        if_none_match,
        (maps, drawing.VERSION, "overlay", choice, opacity, legend),
        PNG,
        lambda: drawing.overlay_png(services.blobs, maps, choice, opacity=opacity, legend=legend),
    )


@router.get("/thumbnail.jpg", summary="Fetch the thumbnail", responses=_binary(JPEG), response_class=Response)
async def fetch_thumbnail(
    job_id: str, index: Index, caller: Reader, services: ServicesDep, if_none_match: IfNoneMatch = None
) -> Response:
    """The picture as the model's worker saw it, upright and small: what heatmaps lie over."""
    maps = await _find_maps(services, caller.tenant, job_id, index)
    return await send_made(
        if_none_match, (maps, "thumbnail"), JPEG, lambda: read_thumbnail(services.blobs, maps)
    )


async def _find_maps(
    services: Services, tenant: str, job_id: str, index: int, output: str | None = None
) -> Maps:
    result = await _find_filled(services, tenant, job_id, index)
    return maps_of(tenant, result.job_id, result.payload, output)


async def _find_filled(services: Services, tenant: str, job_id: str, index: int) -> Result:
    return await fill(services, tenant, await _find_result(services, tenant, job_id, index))


async def _find_result(services: Services, tenant: str, job_id: str, index: int) -> Result:
    # a session of its own: no connection is held while files are read or a picture is drawn
    async with services.sessions() as session:
        return await find_result(session, await find_kept_job(session, tenant, job_id), index)
