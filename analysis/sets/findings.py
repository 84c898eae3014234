"""What is found about a set, as files in a folder: its summary, and the rows behind it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from analysis.sets.beside import NOTHING, BesideFacts, set_beside
from analysis.sets.exports import (
    write_embeddings,
    write_errors,
    write_items,
    write_label_maps,
    write_layers,
)
from analysis.sets.facts import SetFacts
from analysis.sets.items import item_columns
from analysis.sets.schema import Export, Summary
from analysis.sets.summary import study, summarize

SUMMARY: Final = "summary.json"
ITEMS: Final = "items.parquet"
LAYERS: Final = "layers.parquet"
EMBEDDINGS: Final = "embeddings.parquet"
LABEL_MAPS: Final = "label_maps.parquet"
ERRORS: Final = "errors.jsonl"
MEDIA_TYPES: Final = {
    SUMMARY: "application/json",
    ITEMS: "application/vnd.apache.parquet",
    LAYERS: "application/vnd.apache.parquet",
    EMBEDDINGS: "application/vnd.apache.parquet",
    LABEL_MAPS: "application/vnd.apache.parquet",
    ERRORS: "application/x-ndjson",
}
"""All but that of label maps are always there; it where the job kept any."""


def write_findings(
    facts: SetFacts,
    folder: Path,
    step: Callable[[], None] = lambda: None,
    beside: BesideFacts = NOTHING,
) -> Summary:
    """Write the files of MEDIA_TYPES into a folder, the summary last; returns that.

    `step` is called between slices of rows, and may raise to end it.

    Raises:
        IncomparableError: what the facts are to be set `beside` is no match for them.
    """
    studied = study(facts)
    step()
    write_items(folder / ITEMS, facts, item_columns(facts, studied), step)
    write_layers(folder / LAYERS, facts, step)
    write_embeddings(folder / EMBEDDINGS, facts, step)
    write_errors(folder / ERRORS, facts)
    tables = [ITEMS, LAYERS, EMBEDDINGS]
    if studied.maps is not None:
        write_label_maps(folder / LABEL_MAPS, facts, studied.maps)
        tables.append(LABEL_MAPS)
    told = [_export(folder / name, _rows(folder / name)) for name in tables]
    told.append(_export(folder / ERRORS, len(facts.failed)))
    step()
    comparison, drift, warnings = set_beside(facts, studied, beside, step)
    summary = summarize(facts, studied, comparison=comparison, drift=drift, exports=told, warnings=warnings)
    (folder / SUMMARY).write_text(summary.model_dump_json(indent=1), encoding="utf-8")
    return summary


def _rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def _export(path: Path, rows: int) -> Export:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Export(
        name=path.name,
        media_type=MEDIA_TYPES[path.name],
        rows=rows,
        size_bytes=path.stat().st_size,
        sha256=sha256,
    )
