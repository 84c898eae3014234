"""What a claim found of items of an image set, as the columns of a table, see `jobs.tables`."""

import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from engine.labels import is_fitted
from engine.lens import Lens
from engine.plan import MAX_SCORED_LABELS
from jobs.blobs import BlobStore
from jobs.leases import Unit
from jobs.objects import ObjectName
from jobs.tables import PICTURED, is_sampled, put_table
from worker.decoding import DecodedItem
from worker.label_maps import LabelMaps
from worker.payloads import is_finite

THUMBNAIL_SIDE: Final = 96
"""The longer side of a thumbnail in pixels."""

TOP: Final = {"tied": pa.bool_(), "margin": pa.float32(), "settle_layer": pa.int32()}

Picture = tuple[Unit, DecodedItem]
Floats = NDArray[np.float32]
TableRows = tuple[pa.Table, dict[str, Any]]
"""Rows of a table, and what its metadata is to tell."""


@dataclass(frozen=True, slots=True)
class Row:
    """An item that succeeded: its picture, and its row in the arrays of the pass it was in."""

    unit: Unit
    found: DecodedItem
    lens: Lens
    row: int


@dataclass(frozen=True, slots=True)
class Vector:
    """An item that was embedded: its picture, and its embedding [width] as it is handed out."""

    unit: Unit
    found: DecodedItem
    vector: Floats


def has_table(unit: Unit) -> bool:
    """Whether a unit is of a job over an image set."""
    return "version" in unit.options


def lens_rows(steps: Sequence[tuple[Sequence[Picture], Lens]], maps: LabelMaps) -> dict[uuid.UUID, TableRows]:
    """The rows of each job's table, one for each item, also of those that share their bytes."""
    rows: dict[uuid.UUID, list[Row]] = {}
    for part, lens in steps:
        for row, (unit, found) in enumerate(part):
            if has_table(unit) and is_finite(lens, row):
                rows.setdefault(unit.job_id, []).append(Row(unit, found, lens, row))
    return {job_id: _of_lens(of_job, maps) for job_id, of_job in rows.items()}


def vector_rows(steps: Sequence[tuple[Sequence[Picture], Floats]]) -> dict[uuid.UUID, TableRows]:
    """The same of embeddings [item, width] as they are handed out."""
    vectors: dict[uuid.UUID, list[Vector]] = {}
    for part, given in steps:
        for (unit, found), vector in zip(part, given, strict=True):
            if has_table(unit) and np.isfinite(vector).all():
                vectors.setdefault(unit.job_id, []).append(Vector(unit, found, vector))
    return {job_id: _of_vectors(of_job) for job_id, of_job in vectors.items()}


def store_table(blobs: BlobStore, name: ObjectName, parts: Sequence[TableRows]) -> None:
    """Store the table of what a claim found of a job, by index.

    What its parts tell is the same, but that one may have label maps where another has none.

    Raises:
        BlobStoreFullError: the disk is full: the work is worth another try later.
    """
    table = pa.concat_tables([rows for rows, _ in parts])
    told = parts[0][1]
    if "maps" in told:
        told = told | {"maps": next((each["maps"] for _, each in parts if each["maps"]), None)}
    put_table(blobs, name, table.take(pc.sort_indices(table["index"])).combine_chunks(), told)


def _of_lens(rows: Sequence[Row], maps: LabelMaps) -> TableRows:
    first = rows[0]
    items = int(first.unit.options["version"]["items"])
    # an item has the numbers of the one that has its bytes
    alike = [(each, item) for each in rows for item in _alike(each)]
    columns: dict[str, Any] = {
        "index": pa.array([item["index"] for _, item in alike], pa.int32()),
        "width": pa.array([each.found.width for each, _ in alike], pa.int32()),
        "height": pa.array([each.found.height for each, _ in alike], pa.int32()),
        "phash": pa.array(_hashes(alike)),
        "thumbnail": _thumbnails(alike, items),
        "vector": _listed(_unit(np.stack([each.lens.pooled[each.row] for each, _ in alike]))),
        "cosine": _listed(np.stack([each.lens.cosine[each.row].ravel() for each, _ in alike])),
        "logit": _listed(np.stack([each.lens.final_logit[each.row] for each, _ in alike])),
        "layer_vectors": _sampled(alike, items),
        "label_maps": maps.column(first.unit.job_id, [(each.found, item) for each, item in alike]),
    }
    tops = [_top(each.lens, each.row) for each, _ in alike]
    for name, kind in TOP.items():
        columns[name] = pa.array([top[name] for top in tops], kind)
    handed_out = [_handed_out(each.lens, each.row) for each, _ in alike]
    for name in handed_out[0]:
        columns[name] = _listed(np.stack([numbers[name] for numbers in handed_out]))
    told = {
        "layers": list(first.lens.layers),
        "labels": list(first.lens.labels),
        "unfitted": [place for place, prompts in enumerate(first.lens.prompts) if not is_fitted(prompts)],
        "width": first.lens.pooled.shape[1],
        "maps": maps.told,
    }
    return pa.table(columns), told


def _of_vectors(vectors: Sequence[Vector]) -> TableRows:
    alike = [(each, item) for each in vectors for item in _alike(each)]
    columns = {
        "index": pa.array([item["index"] for _, item in alike], pa.int32()),
        "vector": _listed(np.stack([each.vector for each, _ in alike])),
    }
    return pa.table(columns), {"width": len(vectors[0].vector)}


def _top(lens: Lens, row: int) -> dict[str, Any]:
    return {
        "tied": bool(lens.tied[row]),
        "margin": None if lens.top_margin is None else float(lens.top_margin[row]),
        "settle_layer": None if lens.settle_layer is None else int(lens.settle_layer[row]),
    }


def _handed_out(lens: Lens, row: int) -> dict[str, NDArray[Any]]:
    """What a result says beside cosines and logits, flat: see `jobs.tables`."""
    kept, labels = lens.kept[row], len(lens.labels)
    place = np.min_scalar_type(labels)
    numbers = {
        "top": lens.top[row].astype(place),
        "rank": lens.rank[row].ravel().astype(place),
        "match_probability": lens.final_match_probability[row, kept],
    }
    if labels > MAX_SCORED_LABELS:
        numbers["kept"] = kept.astype(place)
    if lens.final_softmax is not None:
        numbers["softmax"] = lens.final_softmax[row, kept]
    if lens.uncalibrated is not None:
        lower = lens.uncalibrated
        numbers["uncalibrated_logit"] = lower.logit[row][:, kept].ravel()
        numbers["uncalibrated_match_probability"] = lower.match_probability[row][:, kept].ravel()
        if lower.softmax is not None:
            numbers["uncalibrated_softmax"] = lower.softmax[row][:, kept].ravel()
    return numbers


def _alike(row: Row | Vector) -> list[dict[str, Any]]:
    item = row.found.item
    return [other for other in row.unit.items if other.get("sha256") == item["sha256"]]


def _hashes(alike: Sequence[tuple[Row, dict[str, Any]]]) -> NDArray[np.uint64]:
    known: dict[str, int] = {}
    for each, item in alike:
        if item["sha256"] not in known:
            known[item["sha256"]] = _perceptual(each.found.pixels)
    return np.array([known[item["sha256"]] for _, item in alike], dtype=np.uint64)


def _perceptual(pixels: NDArray[np.uint8]) -> int:
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return int(str(imagehash.phash(picture)), 16)


def _thumbnails(alike: Sequence[tuple[Row, dict[str, Any]]], items: int) -> pa.Array:
    kept = [
        _thumbnail(each.found) if is_sampled(item["index"], items, PICTURED) else None for each, item in alike
    ]
    return pa.array(kept, pa.binary())


def _thumbnail(found: DecodedItem) -> bytes:
    """A JPEG of what the model read, with the aspect that the picture had before it was squashed."""
    picture = Image.fromarray(np.ascontiguousarray(found.pixels.transpose(1, 2, 0)))
    scale = THUMBNAIL_SIDE / max(found.width, found.height)
    size = (max(1, round(found.width * scale)), max(1, round(found.height * scale)))
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0).save(file, "JPEG", quality=80)
    return file.getvalue()


def _sampled(alike: Sequence[tuple[Row, dict[str, Any]]], items: int) -> pa.Array:
    """Unit embeddings [layers x width] of sampled items, null of the others."""
    first = alike[0][0].lens
    assert first.embeddings is not None
    size = first.embeddings.shape[1] * first.embeddings.shape[2]
    taken = np.array([is_sampled(item["index"], items) for _, item in alike])
    values = np.empty((int(taken.sum()), size), dtype=np.float32)
    for row, place in enumerate(np.flatnonzero(taken).tolist()):
        each = alike[place][0]
        assert each.lens.embeddings is not None
        values[row] = _unit(each.lens.embeddings[each.row]).ravel()
    # lists of any size: those of a fixed one take their place in the file also where there is none
    ends = size * np.concatenate([[0], np.cumsum(taken)])
    offsets = pa.array(ends.astype(np.int32), mask=np.append(~taken, [False]))
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))


def _unit(vectors: Floats) -> Floats:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    # one of norm 0 stays as it is
    scaled: Floats = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return scaled


def _listed(rows: NDArray[Any]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(rows).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
