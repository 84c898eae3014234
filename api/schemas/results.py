"""Results on the wire: pages of items, each with what the job's type found or why it failed."""

import base64
import binascii
import struct
import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.ids import image_id, job_id
from api.schemas.jobs import ItemError
from jobs.errors import InvalidRequestError
from jobs.maps import KINDS
from jobs.outputs import PARTS
from models.job import Result
from models.types import ItemState


class ItemView(BaseModel):
    """One item; beside these fields, the payload of the job's type.

    That is `embedding`, or `pooled`, `top` and every other output under its own name, with what its array
    holds and where it is fetched. A lens asks what the final head reads at a layer; low scores do not show
    absence, no lens is causal evidence.
    """

    model_config = ConfigDict(extra="allow")

    index: int
    kind: str
    custom_id: str | None
    image_id: str | None = None
    source_index: int | None = Field(
        None, description="Of a rescored item, its index in the job whose embeddings were kept."
    )
    retry_of_index: int | None = Field(
        None, description="Its index in the job that this one tries again; absent in other jobs."
    )
    state: ItemState
    cached: bool = Field(
        False,
        description="Whether an earlier job's numbers were taken over; absent where they were computed.",
    )
    error: ItemError | None = None


class Scores(BaseModel):
    """Scores of a patch lens as numbers."""

    output: Literal["patch"]
    unit: Literal["cosine"]
    layers: list[int]
    labels: list[str]
    grid: Annotated[list[int], Field(min_length=2, max_length=2, description="Patches as [rows, cols].")]
    scores: list[list[list[list[float]]]] = Field(description="[layer, label, row, col]")


class ResultsPage(BaseModel):
    """A page of results, by index."""

    items: list[ItemView]
    next_page_token: str | None = Field(description="Give it as `page_token`; null on the last page so far.")


def page(results: Sequence[Result], limit: int) -> ResultsPage:
    """A page of at most `limit` items out of one more, which tells that another page follows."""
    shown = results[:limit]
    more = len(results) > limit
    return ResultsPage(
        items=[item(result) for result in shown],
        next_page_token=encode_token(shown[-1].index) if more else None,
    )


def item(result: Result) -> ItemView:
    """What the wire shows of one result."""
    submitted = result.item
    stored: dict[str, Any] = dict(result.payload or {})
    for output in dict.fromkeys(output for output, _ in PARTS.values() if output in stored):
        stored[output] = _output(result, stored, output)
    if "image_id" in submitted:
        stored["image_id"] = image_id(uuid.UUID(submitted["image_id"]))
    if "source_index" in submitted:
        stored["source_index"] = submitted["source_index"]
    if "retry_of_index" in submitted:
        stored["retry_of_index"] = submitted["retry_of_index"]
    if result.error:
        stored["error"] = result.error
    return ItemView(
        index=result.index,
        kind=submitted["kind"],
        custom_id=submitted["custom_id"],
        state=ItemState(result.state),
        **stored,
    )


def _output(result: Result, payload: dict[str, Any], output: str) -> dict[str, Any]:
    """What the wire shows of an item's arrays: where they lie in the store is our own affair."""
    here = f"/v1/jobs/{job_id(result.job_id)}/items/{result.index}"
    shown = {name: value for name, value in payload[output].items() if name != "stored"}
    for name, (owner, _) in PARTS.items():
        if owner == output:
            # a part of it is called as the output, an underscore and its own name
            shown[f"{name.removeprefix(output)}_url".lstrip("_")] = f"{here}/outputs/{name}"
    if output in KINDS:
        choice = "" if output == "patch" else f"?map={output}"
        shown["heatmap_url"] = f"{here}/heatmap.png{choice}"
        shown["overlay_url"] = f"{here}/overlay.png{choice}"
        shown["thumbnail_url"] = f"{here}/thumbnail.jpg"
        if KINDS[output].caption is None:
            shown["labels"] = payload["pooled"]["labels"]
    if output == "patch":
        shown["scores_url"] = f"{here}/scores"
    return shown


def encode_token(after: int) -> str:
    """An opaque token for the page behind an index."""
    return base64.urlsafe_b64encode(struct.pack(">I", after)).decode().rstrip("=")


def decode_token(token: str | None) -> int:
    """The index that a token stands behind; -1 without a token.

    Raises:
        InvalidRequestError: it is not a token of ours.
    """
    if token is None:
        return -1
    try:
        (after,) = struct.unpack(">I", base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError, struct.error):
        raise InvalidRequestError(
            "`page_token` is not one that this API gave.", pointer="/page_token"
        ) from None
    # Postgres counts indexes as signed
    return min(int(after), 2**31 - 1)
