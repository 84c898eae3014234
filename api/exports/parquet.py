"""Results as a Parquet file: a row an item, failed ones too, with nulls where they have nothing."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from api.exports.reading import Export, first_payload, label_names, pages
from api.exports.sink import Sink
from api.schemas.ids import image_id, job_id
from engine.plan import MAX_SCORED_LABELS
from models.job import Result

SCHEMA_VERSION: Final = 1
METADATA_KEY: Final = b"lensqueue"
GROUP_BYTES: Final = 4 * 2**20
GROUP_ROWS: Final = 16_384
"""A row group is held until it is full, in Arrow's form, and a file's footer has an entry for each."""
TEXTS: Final = ("state", "error_code", "error_message", "top_label")
"""Columns in which few values are repeated: only there does a dictionary help."""

FLOATS = pa.list_(pa.float32())
COMMON = (
    pa.field("index", pa.int32(), nullable=False),
    pa.field("custom_id", pa.string()),
    pa.field("image_id", pa.string()),
    pa.field("state", pa.string(), nullable=False),
    pa.field("error_code", pa.string()),
    pa.field("error_message", pa.string()),
)
LENS = (
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("top_label", pa.string()),
    pa.field("top_margin", pa.float32()),
    pa.field("settle_layer", pa.int32()),
    pa.field("cosine", pa.list_(FLOATS)),
    pa.field("final_logit", FLOATS),
    pa.field("final_match_probability", FLOATS),
)
LABELS = pa.field("labels", pa.list_(pa.string()))


def write_parquet(export: Export) -> Iterator[bytes]:
    """The file, row group by row group."""
    schema, sink = _schema(export), Sink()
    dictionary = [name for name in TEXTS if name in schema.names]
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, use_dictionary=dictionary) as writer:
        group: list[pa.RecordBatch] = []
        for page in pages(export):
            group.append(pa.RecordBatch.from_pylist([_row(result) for result in page], schema=schema))
            if _is_full(group):
                writer.write_table(pa.Table.from_batches(group, schema))
                group.clear()
            yield from sink.take()
        if group:
            writer.write_table(pa.Table.from_batches(group, schema))
    yield from sink.take()


def _is_full(group: Sequence[pa.RecordBatch]) -> bool:
    held_bytes = sum(batch.nbytes for batch in group)
    return bool(held_bytes >= GROUP_BYTES or sum(batch.num_rows for batch in group) >= GROUP_ROWS)


def _schema(export: Export) -> pa.Schema:
    """The columns of the job's type; what is the same for all of its items is said once, in the metadata."""
    payload, job = first_payload(export), export.job
    said: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "job_id": job_id(job.id),
        "type": job.type,
        "model": job.model,
        "provenance": job.provenance,
    }
    if export.is_lens:
        names = label_names(export)
        said["layers"] = payload.get("pooled", {}).get("layers")
        said["labels"] = names if len(names) <= MAX_SCORED_LABELS else None
        fields = [*COMMON, *LENS] if said["labels"] else [*COMMON, *LENS, LABELS]
    else:
        # of a width that no item says yet, there is no list of fixed size
        width = payload.get("dimensions", -1)
        fields = [*COMMON, pa.field("embedding", pa.list_(pa.float32(), width))]
    return pa.schema(fields, metadata={METADATA_KEY: orjson.dumps(said)})


def _row(result: Result) -> dict[str, Any]:
    item, error, payload = result.item, result.error or {}, result.payload or {}
    pooled, top = payload.get("pooled", {}), payload.get("top", {})
    final = pooled.get("final", {})
    return {
        "index": result.index,
        "custom_id": item["custom_id"],
        "image_id": image_id(uuid.UUID(item["image_id"])) if "image_id" in item else None,
        "state": result.state,
        "error_code": error.get("code"),
        "error_message": error.get("message"),
        "width": payload.get("width"),
        "height": payload.get("height"),
        "top_label": top.get("label"),
        "top_margin": top.get("margin"),
        "settle_layer": top.get("settle_layer"),
        "cosine": pooled.get("cosine"),
        "final_logit": final.get("logit"),
        "final_match_probability": final.get("match_probability"),
        "labels": pooled.get("labels"),
        "embedding": payload.get("embedding"),
    }
