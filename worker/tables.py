"""What a claim found of items of an image set, as the columns of a table, see `jobs.tables`."""

import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import imagehash
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from engine.lens import Lens
from jobs.leases import Claim, Unit
from jobs.objects import ObjectName
from jobs.tables import PICTURED, is_sampled, put_table
from worker.decoding import DecodedItem
from worker.payloads import is_finite
from worker.runtime import Runtime

THUMBNAIL_SIDE: Final = 96
"""The longer side of a thumbnail in pixels."""

Picture = tuple[Unit, DecodedItem]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """An item that succeeded: its picture, and its row in the arrays of the pass it was in."""

    unit: Unit
    found: DecodedItem
    lens: Lens
    row: int


def has_table(unit: Unit) -> bool:
    """Whether a unit is of a job over an image set."""
    return "version" in unit.options


def rows_of(steps: Sequence[tuple[Sequence[Picture], Lens]]) -> dict[uuid.UUID, list[Row]]:
    """The rows of each job's table, one for each item, also of those that share their bytes."""
    rows: dict[uuid.UUID, list[Row]] = {}
    for part, lens in steps:
        for row, (unit, found) in enumerate(part):
            if has_table(unit) and is_finite(lens, row):
                rows.setdefault(unit.job_id, []).append(Row(unit, found, lens, row))
    return rows


def store_table(runtime: Runtime, claim: Claim, job_id: uuid.UUID, rows: Sequence[Row]) -> None:
    """Store the table of what a claim found of a job.

    Raises:
        BlobStoreFullError: the disk is full: the work is worth another try later.
    """
    first = rows[0]
    options, tenant = first.unit.options, first.unit.tenant
    items = int(options["version"]["items"])
    # an item has the numbers of the one that has its bytes
    alike = [(each, item) for each in rows for item in _alike(each)]
    index = np.array([item["index"] for _, item in alike], dtype=np.int32)
    order = np.argsort(index)
    columns: dict[str, Any] = {
        "index": pa.array(index[order]),
        "width": pa.array(np.array([each.found.width for each, _ in alike], dtype=np.int32)[order]),
        "height": pa.array(np.array([each.found.height for each, _ in alike], dtype=np.int32)[order]),
        "phash": pa.array(_hashes(alike)[order]),
        "thumbnail": _thumbnails([alike[place] for place in order], items),
        "vector": _listed(_unit(np.stack([each.lens.pooled[each.row] for each, _ in alike]))[order]),
        "cosine": _listed(np.stack([each.lens.cosine[each.row].ravel() for each, _ in alike])[order]),
        "logit": _listed(np.stack([each.lens.final_logit[each.row] for each, _ in alike])[order]),
        "layer_vectors": _sampled([alike[place] for place in order], items),
    }
    told = {
        "layers": list(first.lens.layers),
        "labels": list(first.lens.labels),
        "width": first.lens.pooled.shape[1],
    }
    put_table(runtime.blobs, ObjectName(tenant, job_id, claim.token), columns, told)


def _alike(row: Row) -> list[dict[str, Any]]:
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


def _listed(rows: Floats) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(rows, dtype=np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
