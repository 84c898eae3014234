"""Pictures whose numbers an earlier job over a set has: found before anything is decoded, and copied.

A copy, so that each job owns its files: that the earlier one's results are removed breaks nothing. The copied
rows are of the same model, labels, options and kind of device; see `key_of`.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from engine.errors import EngineError
from engine.version import ENGINE_VERSION
from jobs.errors import BlobStoreMissingError, NumbersMissingError
from jobs.filling import TABLE, Columns, Tables
from jobs.leases import Claim, ItemResult, Unit
from jobs.result_cache import Known, cache_id, find_known
from jobs.tables import PICTURED, SAMPLED, is_sampled
from models.types import JobType
from worker.claims import DATABASE_LOST
from worker.feed import pixel_mode
from worker.label_maps import most_mapped
from worker.runtime import Runtime
from worker.tables import has_table

log = structlog.get_logger()

FORMAT: Final = 1
"""To be raised with any change to the columns of tables: rows of another kind are not to be copied."""
ARITHMETIC: Final = (
    "weights_sha256",
    "dtype",
    "runtime",
    "attention",
    "float32_matmul_precision",
    "openvino",
    "openvino_precision",
    "buckets",
    "pixel_path",
    "device_name",
    "torch",
    "transformers",
    "logit_scale",
    "logit_bias",
)
"""Of an engine's provenance what changes a number, were it the last bit."""
NO_NUMBERS: Final = ("version", "use_cache")
"""Options that change none."""
SAMPLES: Final = {"thumbnail": PICTURED, "layer_vectors": SAMPLED}
"""Columns that have something of so many items of a set at most; label maps are bounded by their labels."""

Content = tuple[uuid.UUID, str]
"""A job, and the SHA-256 of one of its pictures."""


@dataclass(frozen=True, slots=True)
class Reused:
    """A picture's numbers: what the row of an earlier result says, and its row of a table."""

    payload: dict[str, Any]
    columns: Columns
    row: int


@dataclass(frozen=True, slots=True)
class Reuse:
    """What is known of a claim's pictures, and by which `key` they will be: None of what is not kept."""

    key: bytes | None = None
    found: Mapping[Content, Reused] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    """Of how many items of a set at most each of these columns has something."""

    def named(self, unit: Unit, result: ItemResult) -> ItemResult:
        """The result, to be found by later jobs if it has numbers."""
        if self.key is None or result.payload is None:
            return result
        return replace(result, cache_id=cache_id(unit.tenant, self.key, result.item["sha256"]))


def find_reuse(runtime: Runtime, claim: Claim) -> Reuse:
    """What earlier jobs have of a claim's pictures; nothing where that cannot be told.

    Raises:
        BlobStoreMissingError: the store is not there.
    """
    first = claim.units[0]
    key = key_of(runtime, first)
    if key is None or not first.options.get("use_cache", True):
        return Reuse(key)
    found: dict[Content, Reused] = {}
    samples = _samples(runtime, first)
    try:
        for unit in claim.units:
            runtime.heartbeat.step()
            found |= _find(runtime, unit, key, samples)
    except BlobStoreMissingError:
        raise
    except DATABASE_LOST as error:
        log.warning("reuse.not_found", error=str(error))
        return Reuse(key)
    except Exception:
        # whatever is wrong with what was kept, the pictures can be computed
        log.exception("reuse.failed")
        return Reuse(key)
    if found:
        log.info("reuse.found", pictures=len(found))
    return Reuse(key, found, samples)


def key_of(runtime: Runtime, unit: Unit) -> bytes | None:
    """All that a unit's numbers depend on beside the picture; None of what is not kept for others.

    That is a job with arrays of its own, or one of an engine that does not know its weights.
    """
    told, options = runtime.provenance, unit.options
    if not has_table(unit) or not told.get("weights_sha256"):
        return None
    if unit.type == JobType.LOGIT_LENS and options["outputs"] != ["pooled"]:
        return None
    try:
        texts = runtime.labels.keys(options["labels"], options["template"]) if "labels" in options else []
    except EngineError:
        # it is refused where its labels are read
        return None
    arithmetic = {name: told.get(name) for name in ARITHMETIC}
    arithmetic["pixel_path"] = {**told["pixel_path"], "mode": pixel_mode(options)}
    # its type, beside its name: the same precision is other arithmetic on another one
    arithmetic["device"] = str(told["device"]).partition(":")[0]
    asked = {name: value for name, value in options.items() if name not in NO_NUMBERS}
    parts = [FORMAT, ENGINE_VERSION, unit.type, arithmetic, asked, [key.hex() for key in texts]]
    return orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)


def reused_results(claim: Claim, reuse: Reuse) -> list[tuple[Unit, ItemResult]]:
    """The results of items whose pictures are known: each says that it was taken over."""
    return [
        (unit, ItemResult(item, payload={**one.payload, TABLE: claim.token.hex, "cached": True}))
        for unit, item, one in _items(claim, reuse)
    ]


def reused_rows(claim: Claim, reuse: Reuse) -> dict[uuid.UUID, tuple[pa.Table, dict[str, Any]]]:
    """For each job's table the rows that are taken over, and what the metadata says."""
    of_job: dict[uuid.UUID, list[tuple[Unit, dict[str, Any], Reused]]] = {}
    for unit, item, one in _items(claim, reuse):
        of_job.setdefault(unit.job_id, []).append((unit, item, one))
    return {job_id: (_copied(items, reuse.samples), _told(items)) for job_id, items in of_job.items()}


def _items(claim: Claim, reuse: Reuse) -> Iterator[tuple[Unit, dict[str, Any], Reused]]:
    for unit in claim.units:
        for item in unit.items:
            one = reuse.found.get((unit.job_id, item.get("sha256", "")))
            if one is not None:
                yield unit, item, one


def _copied(items: Sequence[tuple[Unit, dict[str, Any], Reused]], samples: Mapping[str, int]) -> pa.Table:
    rows = [one.columns.table.slice(one.row, 1).replace_schema_metadata() for _, _, one in items]
    table = pa.concat_tables(rows)
    index = pa.array([item["index"] for _, item, _ in items], pa.int32())
    table = table.set_column(table.column_names.index("index"), "index", index)
    for name, most in samples.items():
        if name in table.column_names:
            kept = pa.array([_is_sampled(unit, item["index"], most) for unit, item, _ in items])
            column = pc.if_else(kept, table[name], pa.scalar(None, table[name].type))
            table = table.set_column(table.column_names.index(name), name, column)
    return table


def _told(items: Sequence[tuple[Unit, dict[str, Any], Reused]]) -> dict[str, Any]:
    told = [one.columns.told for _, _, one in items]
    # where no item of a table is sampled, it tells of no maps
    return next((each for each in told if each.get("maps")), told[0])


def _find(runtime: Runtime, unit: Unit, key: bytes, samples: Mapping[str, int]) -> dict[Content, Reused]:
    alike: dict[str, list[int]] = {}
    for item in unit.items:
        if "sha256" in item:
            alike.setdefault(item["sha256"], []).append(int(item["index"]))
    ids = {cache_id(unit.tenant, key, sha256): sha256 for sha256 in alike}
    with runtime.sessions() as session:
        known = find_known(session, unit.tenant, ids)
    tables = Tables(runtime.blobs, unit.tenant)
    found: dict[Content, Reused] = {}
    for id_, one in known.items():
        reused = _read(tables, one)
        if reused is not None and _suffices(reused, samples, unit, alike[ids[id_]]):
            found[unit.job_id, ids[id_]] = reused
    return found


def _read(tables: Tables, known: Known) -> Reused | None:
    try:
        columns = tables.find(known.job_id, known.payload[TABLE])
        return Reused(known.payload, columns, columns.row_of(known.index))
    except NumbersMissingError:
        return None


def _suffices(reused: Reused, samples: Mapping[str, int], unit: Unit, indexes: Sequence[int]) -> bool:
    """Whether the row has what is kept of samples, if an item is of one here and was of none there."""
    return all(
        reused.columns.table[name][reused.row].is_valid
        or not any(_is_sampled(unit, index, most) for index in indexes)
        for name, most in samples.items()
        if name in reused.columns
    )


def _samples(runtime: Runtime, unit: Unit) -> dict[str, int]:
    if unit.type != JobType.LOGIT_LENS:
        return {}
    return SAMPLES | {"label_maps": most_mapped(len(unit.options["labels"]), runtime.engine.config.grid)}


def _is_sampled(unit: Unit, index: int, most: int) -> bool:
    return is_sampled(index, int(unit.options["version"]["items"]), most)
