"""What a job found over an image set as files: Parquet tables and JSON Lines, written in slices.

Each Parquet file says under `lensqueue` in its metadata, as JSON, the version of its schema, what computed
it, and the names of its labels in the order of scores. Row groups have 25,000 rows at most, so that a reader
may take one at a time. Scores are float32: Arrow reads lists of float16 slowly.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.sets.facts import UNLABELLED, FailedItem, SetFacts, Truths
from analysis.sets.items import ITEM_COLUMNS
from analysis.sets.label_maps import MeanMaps

SCHEMA_VERSION: Final = 1
ROW_GROUP: Final = 25_000
METADATA: Final = b"lensqueue"
REPEATED: Final = (pa.string(), pa.int32())

Step = Callable[[], None]


ITEMS: Final = pa.schema(
    [
        ("index", pa.int64()),
        ("custom_id", pa.string()),
        ("true_label", pa.string()),
        ("true_labels", pa.list_(pa.string())),
        ("state", pa.string()),
        ("error_code", pa.string()),
        *(ITEM_COLUMNS.field(place) for place in range(1, len(ITEM_COLUMNS))),
    ]
)


def write_items(
    path: Path, facts: SetFacts, columns: Iterable[pa.RecordBatch], step: Step = lambda: None
) -> None:
    """Write a row an item by index, also of those that failed or were dropped.

    `columns` are those of `analysis.sets.items`; `state` is "succeeded", "failed" or "dropped".
    """
    failed, done, row, gone = sorted(facts.failed, key=lambda item: item.index), 0, 0, 0
    with _writer(path, ITEMS, facts) as writer:
        for batch in columns:
            step()
            rows = range(row, row := row + len(batch))
            last = int(facts.index[rows[-1]])
            before = done
            while done < len(failed) and failed[done].index < last:
                done += 1
            first, gone = gone, int(np.searchsorted(facts.dropped.index, last))
            part = pa.concat_tables(
                [
                    _succeeded(facts, rows, batch),
                    _failed(facts, failed[before:done]),
                    _dropped(facts, slice(first, gone)),
                ]
            )
            writer.write_table(part.sort_by("index"), row_group_size=ROW_GROUP)
        rest = pa.concat_tables([_failed(facts, failed[done:]), _dropped(facts, slice(gone, None))])
        if len(rest):
            writer.write_table(rest.sort_by("index"), row_group_size=ROW_GROUP)


def write_layers(path: Path, facts: SetFacts, step: Step = lambda: None) -> None:
    """Write a row for each item that succeeded and each layer: what is on top, margins, and all scores.

    `top_margin` is the best cosine less the second, `true_margin` that of the true label less the best of the
    others, `true_rank` its place among all, 1 the best; null where there is no true label.
    """
    labels, layers = len(facts.labels), len(facts.layers)
    schema = pa.schema(
        [
            ("index", pa.int64()),
            ("layer", pa.int32()),
            ("top", pa.string()),
            ("top_margin", pa.float32()),
            ("true_margin", pa.float32()),
            ("true_rank", pa.int32()),
            ("scores", pa.list_(pa.float32(), labels)),
        ]
    )
    names = pa.array(facts.labels)
    with _writer(path, schema, facts) as writer:
        for rows in _row_slices(len(facts.index), max(1, ROW_GROUP // layers)):
            step()
            cosine = np.asarray(facts.cosine[rows])
            told = _layer_columns(cosine, facts.true_label[rows])
            columns = [
                pa.array(np.repeat(facts.index[rows], layers)),
                pa.array(np.tile(np.array(facts.layers, dtype=np.int32), len(cosine))),
                names.take(pa.array(told["top"].ravel())),
                pa.array(told["top_margin"].ravel(), from_pandas=True),
                pa.array(told["true_margin"].ravel(), from_pandas=True),
                pa.array(told["true_rank"].ravel(), mask=told["true_rank"].ravel() == 0),
                pa.FixedSizeListArray.from_arrays(pa.array(cosine.ravel()), labels),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def write_embeddings(path: Path, facts: SetFacts, step: Step = lambda: None) -> None:
    """Write the final embedding of each item that succeeded, and those of the other layers of sampled ones.

    All are of norm 1.
    """
    width = facts.vectors.shape[1]
    schema = pa.schema([("index", pa.int64()), ("layer", pa.int32()), ("vec", pa.list_(pa.float32(), width))])
    with _writer(path, schema, facts) as writer:
        for rows in _row_slices(len(facts.index), ROW_GROUP):
            step()
            _write_vectors(writer, schema, facts.index[rows], facts.layers[-1], facts.vectors[rows])
        index = facts.index[facts.sampled]
        for place, layer in enumerate(facts.layers[:-1]):
            for rows in _row_slices(len(index), ROW_GROUP):
                step()
                _write_vectors(writer, schema, index[rows], layer, facts.layer_vectors[rows, place])


def write_label_maps(path: Path, facts: SetFacts, means: MeanMaps) -> None:
    """Write a row a label that has images with maps, and others without it: its mean maps, row by row.

    `map` is `mean`, over the label's `n` images, less `mean_other`, over `n_other` images of other labels.
    """
    known = np.flatnonzero((means.n > 0) & (means.n_other > 0))
    rows, cols = means.own.shape[1:]
    maps = {"map": means.difference, "mean": means.own, "mean_other": means.others}
    schema = pa.schema(
        [
            ("label", pa.string()),
            ("n", pa.int64()),
            ("n_other", pa.int64()),
            ("grid_h", pa.int32()),
            ("grid_w", pa.int32()),
            *((name, pa.list_(pa.float32(), rows * cols)) for name in maps),
        ]
    )
    columns = [
        pa.array(facts.labels).take(pa.array(known)),
        pa.array(means.n[known]),
        pa.array(means.n_other[known]),
        *(pa.array(np.full(len(known), side, dtype=np.int32)) for side in (rows, cols)),
        *(
            pa.FixedSizeListArray.from_arrays(pa.array(values[known].astype(np.float32).ravel()), rows * cols)
            for values in maps.values()
        ),
    ]
    with _writer(path, schema, facts) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=ROW_GROUP)


def write_errors(path: Path, facts: SetFacts) -> None:
    """Write a line of JSON for each item without a result: its index, custom_id, and why."""
    with path.open("wb") as file:
        for item in facts.failed:
            line = {
                "index": item.index,
                "custom_id": item.custom_id,
                "error": {"code": item.code, "message": item.message},
            }
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _layer_columns(cosine: NDArray[np.float32], true_label: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
    """Of cosines [row, layer, label], by row and layer; NaN and 0 where there is nothing to tell."""
    shape = cosine.shape[:2]
    top = cosine.argmax(axis=2)
    nothing = np.full(shape, np.nan, dtype=np.float32)
    if cosine.shape[2] < 2:  # noqa: PLR2004 - a margin is between two
        ranked_margin = nothing
    else:
        best = np.partition(cosine, -2, axis=2)
        ranked_margin = best[..., -1] - best[..., -2]
    known = true_label != UNLABELLED
    place = np.broadcast_to(np.where(known, true_label, 0)[:, None, None], (*shape, 1))
    true = np.take_along_axis(cosine, place, axis=2)
    # of labels that tie, the lower index comes first
    before = (cosine > true) | ((cosine == true) & (np.arange(cosine.shape[2]) < place))
    others = cosine.copy()
    np.put_along_axis(others, place, -np.inf, axis=2)
    margin = true[..., 0] - others.max(axis=2)
    return {
        "top": top,
        "top_margin": ranked_margin,
        "true_margin": np.where(known[:, None] & np.isfinite(margin), margin, nothing),
        "true_rank": np.where(known[:, None], before.sum(axis=2) + 1, 0).astype(np.int32),
    }


def _succeeded(facts: SetFacts, rows: range, batch: pa.RecordBatch) -> pa.Table:
    true = facts.true_label[rows.start : rows.stop]
    told = {
        "custom_id": facts.custom_ids.slice(rows.start, len(rows)),
        "true_label": _names(facts, true),
        "true_labels": _several(facts.labels, facts.truths, rows),
        "state": pa.array(["succeeded"] * len(rows)),
        "error_code": pa.nulls(len(rows), pa.string()),
    }
    found = {name: batch.column(name) for name in batch.schema.names}
    return pa.table({**found, **told}).select(ITEMS.names)


def _failed(facts: SetFacts, items: Sequence[FailedItem]) -> pa.Table:
    rows = [
        {
            "index": item.index,
            "custom_id": item.custom_id,
            "true_label": _name(facts, item.true_label),
            "true_labels": [facts.labels[label] for label in item.true_labels] or None,
            "state": "failed",
            "error_code": item.code,
        }
        for item in items
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)


def _dropped(facts: SetFacts, part: slice) -> pa.Table:
    items = facts.dropped
    index = items.index[part]
    rows = range(len(items))[part]
    told = {
        "index": pa.array(index),
        "custom_id": items.custom_ids.slice(rows.start, len(rows)),
        "true_label": _names(facts, items.true_label[part]),
        "true_labels": _several(facts.labels, items.truths, rows),
        "state": pa.array(["dropped"] * len(index)),
    }
    return pa.table({**{field.name: pa.nulls(len(index), field.type) for field in ITEMS}, **told}).cast(ITEMS)


def _names(facts: SetFacts, true: NDArray[np.int32]) -> pa.Array:
    """The names of true labels, null of UNLABELLED."""
    return pa.array(facts.labels, pa.string()).take(pa.array(true, mask=true == UNLABELLED))


def _several(labels: Sequence[str], truths: Truths | None, rows: range) -> pa.Array:
    """The true labels of rows of which several may be true; null where none is known, and in other sets."""
    if truths is None:
        return pa.nulls(len(rows), pa.list_(pa.string()))
    ends = truths.ends[rows.start : rows.stop + 1]
    held = truths.labels[ends[0] : ends[-1]]
    names = pa.array(labels, pa.string()).take(pa.array(held))
    return pa.ListArray.from_arrays(
        pa.array((ends - ends[0]).astype(np.int32)), names, mask=pa.array(np.diff(ends) == 0)
    )


def _name(facts: SetFacts, label: int) -> str | None:
    return None if label == UNLABELLED else facts.labels[label]


def _write_vectors(
    writer: pq.ParquetWriter,
    schema: pa.Schema,
    index: NDArray[np.int64],
    layer: int,
    vectors: NDArray[np.float32],
) -> None:
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    columns = [
        pa.array(index),
        pa.array(np.full(len(index), layer, dtype=np.int32)),
        pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    ]
    writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _writer(path: Path, schema: pa.Schema, facts: SetFacts) -> pq.ParquetWriter:
    told = {
        "schema_version": SCHEMA_VERSION,
        "job_id": facts.origin.job_id,
        "version_id": facts.origin.version_id,
        "manifest_sha256": facts.origin.manifest_sha256,
        "model": dict(facts.origin.model),
        "labels": list(facts.labels),
        "layers": list(facts.layers),
    }
    return pq.ParquetWriter(
        path,
        schema.with_metadata({METADATA: orjson.dumps(told)}),
        compression="zstd",
        # of other columns hardly two values are alike: to look for them takes thrice as long as to write them
        use_dictionary=[field.name for field in schema if field.type in REPEATED],
    )


def _row_slices(rows: int, size: int) -> Iterator[slice]:
    return (slice(first, min(first + size, rows)) for first in range(0, rows, size))
