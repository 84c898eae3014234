"""A job's rows, its pictures' too, stored by one statement: nearly every submit is.

Where a picture is not there, or is being deleted, nothing is stored: `jobs.submit` sees to that first.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, Final

import orjson
from sqlalchemy import Row, column, text

from jobs import outlook
from jobs.images import Content
from jobs.origin import origin
from jobs.outlook import Outlook
from jobs.remote import Remote, Unfetched
from jobs.submission import ImageItem, Item, Submission, Terms, TextItem
from jobs.units import STORING_WORK, WORK_COLUMNS, Admission, slices, work_told
from models.image import Image
from models.job import Job
from models.session import Database
from models.types import JobState

MOST_ITEMS: Final = 1_000
"""So many the quick way takes: each unit looks through all pictures, and the time grows with the square."""

STORE: Final = text(f"""
    WITH told AS (
        SELECT *
        FROM jsonb_to_record(CAST(:told AS jsonb)) AS told (
            job_id uuid, tenant text, key_id uuid, type text, options jsonb, tags jsonb, priority text,
            cost double precision, vtime_end double precision, charge_id uuid,
            start_within_s double precision, run_timeout_s double precision, result_ttl_s double precision,
            webhook_endpoint_id uuid, request_id text, traceparent text,
            sent jsonb, named jsonb, units jsonb, {WORK_COLUMNS}
        )
    ), wanted AS (
        SELECT picture.*
        FROM told, jsonb_to_recordset(sent) AS picture (sha256 text, image_bytes bigint, media_type text)
    ), naming AS MATERIALIZED (
        -- apart: beside rows that are locked, all that the submit tells would be carried along for each
        SELECT CAST(image.id AS uuid) AS image_id FROM told, jsonb_array_elements_text(named) AS image (id)
    ), kept AS (
        -- held, as by everyone who names a picture: see `jobs.images`
        SELECT id, sha256, image_bytes
        FROM images
        WHERE tenant = (SELECT tenant FROM told) AND sha256 IN (SELECT sha256 FROM wanted)
          AND dying_at IS NULL
        ORDER BY sha256
        FOR KEY SHARE
    ), new AS (
        -- sorted: two submits that share pictures take the index entries in one order
        INSERT INTO images (tenant, sha256, image_bytes, media_type)
        SELECT tenant, sha256, image_bytes, media_type
        FROM told, wanted
        WHERE sha256 NOT IN (SELECT sha256 FROM kept)
        ORDER BY sha256
        ON CONFLICT DO NOTHING
        RETURNING id, sha256, image_bytes
    ), known AS (
        SELECT id, sha256, image_bytes
        FROM images
        WHERE tenant = (SELECT tenant FROM told)
          AND id IN (SELECT image_id FROM naming)
          AND dying_at IS NULL
        ORDER BY sha256
        FOR KEY SHARE
    ), pictures AS (
        -- by what the items name them by
        SELECT sha256 AS name, kept.* FROM kept
        UNION ALL SELECT sha256, new.* FROM new
        UNION ALL SELECT CAST(id AS text), known.* FROM known
    ), job AS (
        INSERT INTO jobs (
            id, tenant, key_id, type, model, options, tags, priority, total, cost, vtime_end, charge_id,
            input_bytes, start_by, run_timeout, result_ttl, webhook_endpoint_id, request_id,
            traceparent
        )
        SELECT coalesce(job_id, uuidv7()), tenant, key_id, type, model, options, tags, priority, total, cost,
               vtime_end, charge_id, (SELECT coalesce(sum(image_bytes), 0) FROM pictures),
               now() + make_interval(secs => start_within_s), make_interval(secs => run_timeout_s),
               make_interval(secs => result_ttl_s), webhook_endpoint_id, request_id, traceparent
        FROM told
        WHERE (SELECT count(*) FROM kept) + (SELECT count(*) FROM new) = jsonb_array_length(sent)
          AND (SELECT count(*) FROM known) = jsonb_array_length(named)
        RETURNING *
    ), inputs AS (
        INSERT INTO job_inputs (job_id, unit, items, image_ids)
        SELECT job.id, place - 1, filled.*
        FROM job, told, jsonb_array_elements(units) WITH ORDINALITY AS unit (items, place), LATERAL (
            SELECT jsonb_agg(item || CASE WHEN id IS NULL THEN '{{}}' ELSE jsonb_build_object(
                       'sha256', sha256, 'image_id', id
                   ) END ORDER BY number),
                   coalesce(array_agg(DISTINCT id) FILTER (WHERE id IS NOT NULL), '{{}}')
            FROM jsonb_array_elements(items) WITH ORDINALITY AS each (item, number)
            LEFT JOIN pictures ON name = coalesce(item ->> 'sha256', item ->> 'image_id')
        ) AS filled
    ), cut AS (
        {STORING_WORK}
        RETURNING id, job_id, unit, vtime
    )
    SELECT ahead.*, job.input_bytes, job.created_at, job.start_by
    FROM ({outlook.reading("job", "cut")}) AS ahead, job
""").columns(*map(column, (*outlook.COLUMNS, "input_bytes", "created_at", "start_by")))  # noqa: S608 - put together of statements of this code, nothing from outside
"""Stores a job, or nothing of it, where a picture could not be held or made; and reads its outlook."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A job that is stored, and what it has before it."""

    job: Job
    outlook: Outlook


def is_quick(submission: Submission) -> bool:
    """Whether one statement may store it: its items come with it, and are not too many."""
    return submission.source is None and submission.size <= MOST_ITEMS


def store_at_once(
    database: Database,
    tenant: str,
    submission: Submission,
    admission: Admission,
    *,
    job_id: uuid.UUID | None = None,
) -> Stored | None:
    """Store an admitted submission as a queued job; None, and it is not, where it takes more than this.

    Of what is not `is_quick`, and where a picture is unknown, dying, or made by another submit just now.
    """
    if not is_quick(submission):
        return None
    sources = {item.source for item in submission.items if isinstance(item, ImageItem)}
    sent = {source.sha256: source for source in sources if isinstance(source, Content)}
    columns = columns_of(tenant, submission, admission)
    told = {
        **columns,
        **work_told(submission.size, admission),
        "job_id": job_id,
        "start_within_s": _seconds(submission.terms.start_within),
        "run_timeout_s": _seconds(submission.terms.run_timeout),
        "result_ttl_s": _seconds(submission.terms.result_ttl),
        "sent": list(sent.values()),
        "named": [source for source in sources if isinstance(source, uuid.UUID)],
        "units": list(slices(map(described, count(), submission.items), admission.unit_items)),
    }
    # one parameter: psycopg parses so long a statement anew each time, and by its placeholders
    row = database.execute(STORE, {"told": orjson.dumps(told).decode(), **outlook.PARAMETERS}).one_or_none()
    return None if row is None else Stored(_job(columns, submission.terms, row), outlook.told(row))


def described(
    index: int, item: Item, rows: Mapping[Content | uuid.UUID, Image] | None = None
) -> dict[str, Any]:
    """An item as it is stored; without `rows`, what its picture is known by is what it was named by."""
    if isinstance(item, TextItem):
        return {"index": index, "kind": "text", "custom_id": item.custom_id, "text": item.text}
    image = {"index": index, "kind": "image", "custom_id": item.custom_id}
    if isinstance(item.source, Unfetched):
        return {**image, "url": item.source.url, "error": item.source.error}
    if isinstance(item.source, Remote):
        raise TypeError("a picture was to be stored before it was fetched")
    if rows is not None:
        row = rows[item.source]
        return {**image, "sha256": row.sha256, "image_id": str(row.id)}
    if isinstance(item.source, Content):
        return {**image, "sha256": item.source.sha256}
    return {**image, "image_id": str(item.source)}


def columns_of(tenant: str, submission: Submission, admission: Admission) -> dict[str, Any]:
    """What the row of a job says that both ways of storing one know."""
    return {
        "tenant": tenant,
        "key_id": submission.key_id,
        "type": submission.type,
        "model": submission.model,
        "options": submission.resolved,
        "tags": dict(submission.tags),
        "priority": admission.flow.priority,
        "total": submission.size,
        "cost": admission.cost(submission.size),
        "vtime_end": admission.end(submission.size),
        "charge_id": admission.charge_id,
        "webhook_endpoint_id": submission.webhook_endpoint_id,
        "version_id": submission.source and submission.source.version_id,
        **origin(),
    }


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _job(columns: Mapping[str, Any], terms: Terms, row: Row[Any]) -> Job:
    # what it was stored with, and what the database made of it: to read all of it back costs as much again
    return Job(
        **columns,
        id=row.id,
        state=JobState.QUEUED,
        attempt=1,
        input_bytes=row.input_bytes,
        succeeded=0,
        failed=0,
        dropped=0,
        created_at=row.created_at,
        start_by=row.start_by,
        run_timeout=terms.run_timeout,
        result_ttl=terms.result_ttl,
    )
